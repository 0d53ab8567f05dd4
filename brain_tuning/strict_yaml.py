"""YAML as people mean it: no key twice, and 1e-4 is a number."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where 1e-4 is text, and keeps the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, yaml.Node] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in seen:
                raise yaml.constructor.ConstructorError(
                    f"the key {name!r} is given", seen[name].start_mark, "and given again", key.start_mark
                )
            if isinstance(name, Hashable):
                seen[name] = key
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> Any:
    """What a YAML text says.

    Args:
        text: one document; numbers with an exponent are read as in YAML 1.2, with or without a point.

    Raises:
        yaml.YAMLError: it cannot be parsed, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=_Loader)

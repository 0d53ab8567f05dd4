"""A value of a YAML file that knows its key, so that every error can name it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from brain_tuning.errors import BrainTuningError, CorpusError


class YamlNode:
    """A value and where it stands.

    Args:
        value: what ``parse_yaml`` gave.
        key: where it stands, e.g. ``"subjects.s1.runs[0].split"``; empty for the whole file.
        file: the YAML file; paths in it are relative to its folder.
    """

    def __init__(self, value: object, key: str, file: Path) -> None:
        self.value, self.key, self.file = value, key, file

    def error(self, what: str, expected: str = "", remedy: str = "") -> CorpusError:
        """An error about this value, to be raised by the caller."""
        where = f"{self.file}: {self.key}" if self.key else self.file
        return CorpusError(what, where=where, expected=expected, remedy=remedy)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Add this key to any error of ours that the block raises."""
        try:
            yield
        except BrainTuningError as error:
            where = f"{self.file}: {self.key}: {error.where}"
            raise type(error)(error.what, where=where, expected=error.expected, remedy=error.remedy) from error

    def __contains__(self, name: str) -> bool:
        return isinstance(self.value, dict) and name in self.value

    def __getitem__(self, name: str) -> YamlNode:
        """The value under a key; raises CorpusError where it is missing."""
        if name not in self:
            raise self.error(f"the key {name} is missing")
        assert isinstance(self.value, dict)
        return self._child(self.value[name], f".{name}" if self.key else name)

    def checked(self, known: Sequence[str]) -> YamlNode:
        """This value, if it is a mapping whose keys are all among ``known``."""
        for name in self._mapping():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                raise self.error(
                    f"unknown key {name!r}",
                    expected=f"one of {', '.join(known)}",
                    remedy=f"did you mean {near[0]}?" if near else "",
                )
        return self

    def items(self) -> Iterator[tuple[str, YamlNode]]:
        """(key, value) pairs of a mapping whose keys are texts."""
        for name, child in self.pairs():
            if not isinstance(name, str):
                # YAML reads 02 as the number 2 and 010 as 8: such a name would be changed without a word.
                raise self.error(f"the name {name!r} is not a text", remedy="put it in quotes")
            yield name, child

    def pairs(self) -> Iterator[tuple[object, YamlNode]]:
        """(key, value) pairs of a mapping with keys of any kind."""
        for name, value in self._mapping().items():
            yield name, self._child(value, f".{name}" if self.key else str(name))

    def elements(self) -> list[YamlNode]:
        """Elements of a list."""
        if not isinstance(self.value, list):
            raise self.error(f"{self.value!r} is not a list", expected="- a list")
        return [self._child(value, f"[{index}]") for index, value in enumerate(self.value)]

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            raise self.error(f"{self.value!r} is not a text", expected="a text", remedy="put it in quotes")
        return self.value

    def number(self) -> float:
        """A number."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.error(f"{self.value!r} is not a number", expected="a number")
        return float(self.value)

    def count(self) -> int:
        """A whole number of at least 0."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self.error(f"{self.value!r} is not a whole number", expected="0, 1, 2, ...")
        return self.value

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            raise self.error(f"{self.value!r} is neither true nor false", expected="true or false")
        return self.value

    def path(self) -> Path:
        """An existing file, given relative to the YAML file."""
        path = self.file.parent / self.text()
        if not path.is_file() and not path.is_symlink():
            raise self.error(f"no such file: {self.text()}", expected=f"the file {path}")
        return path

    def _mapping(self) -> dict[object, object]:
        if not isinstance(self.value, dict):
            raise self.error(f"{self.value!r} is not a mapping", expected="key: value")
        return self.value

    def _child(self, value: object, suffix: str) -> YamlNode:
        return YamlNode(value, self.key + suffix, self.file)


def read_yaml(file: Path) -> YamlNode:
    """The whole of a YAML file; raises CorpusError where it is missing or cannot be parsed."""
    import yaml

    from brain_tuning.strict_yaml import parse_yaml

    if not file.is_file():
        raise CorpusError("no such file", where=file, expected="a description of the data in YAML")
    try:
        return YamlNode(parse_yaml(file.read_text(encoding="utf-8")), "", file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorpusError(f"the YAML cannot be parsed: {error}", where=file) from error

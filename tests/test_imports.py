"""Imports within the package run downwards only; the layers are written out below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "brain_tuning"

#: from top to bottom; a module may import what stands below its own line
LAYERS = (
    ("__init__",),
    ("cli",),
    ("demo",),
    ("report", "hub", "app"),
    ("analysis", "superb", "tuning"),
    ("models", "features", "encoding", "cortex"),
    ("corpus",),
    ("timing",),
    ("shared_files", "strict_yaml", "processes", "atomic", "terminal"),
    ("errors", "versions"),
)
#: neighbours on one line do not import each other, but for these: importer -> module
EXCEPTIONS = {"features": "brain_tuning.models", "analysis": "brain_tuning.tuning.recipe"}
LEVEL = {part: len(LAYERS) - k for k, line in enumerate(LAYERS) for part in line}


def imported(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a module imports from this package, wherever in it."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            # What is imported from the package itself, or from a folder, may be a module.
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "brain_tuning")


def part_of(name: str) -> str:
    """First name below the package: ``brain_tuning.models.stem`` -> ``models``."""
    return [*name.split("."), "__init__"][1]


def complaint(module: str, name: str) -> str:
    """What is wrong with ``module`` importing ``name``; empty if nothing is."""
    importer, wanted = part_of(module), part_of(name)
    if wanted not in LEVEL:
        return f"{name} is nothing of this package's layers: import the module that defines it"
    if importer == wanted or LEVEL[wanted] < LEVEL[importer]:
        return ""
    exception = EXCEPTIONS.get(importer)
    if exception and f"{name}.".startswith(f"{exception}."):
        return ""
    return f"{importer} may not import {name}"


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_part_of_the_package_has_its_layer() -> None:
    found = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert found - {"__pycache__"} <= set(LEVEL)


def test_imports_run_downwards() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {problem}"
        for path, module in modules()
        for line, name in imported(path.read_text(), module, is_package=path.name == "__init__.py")
        if (problem := complaint(module, name))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "line", "text"),
    [
        (
            "brain_tuning.corpus.store",
            "from brain_tuning.models.frozen_cache import FrozenCache",
            "corpus may not import",
        ),
        ("brain_tuning.timing.runs", "def f():\n    from ..corpus import store", "timing may not import"),
        ("brain_tuning.encoding.ridge", "from ..models import adapters", "encoding may not import"),
        ("brain_tuning.models.frozen", "import brain_tuning.features.story", "models may not import"),
        ("brain_tuning.tuning.loop", "from brain_tuning.analysis.alignment import align", "tuning may not import"),
        ("brain_tuning.analysis.alignment", "from brain_tuning.tuning.loop import tune", "analysis may not import"),
        ("brain_tuning.analysis.alignment", "from brain_tuning.tuning import loop", "analysis may not import"),
        ("brain_tuning.report.html", "from brain_tuning.hub.push import push", "report may not import"),
        ("brain_tuning.hub.push", "from brain_tuning import cli", "hub may not import"),
        ("brain_tuning.errors", "from .atomic import whole_file", "errors may not import"),
        ("brain_tuning.hub.push", "from brain_tuning import WindowPlan", "is nothing of this package's layers"),
        ("brain_tuning.analysis.alignment", "from brain_tuning.tuning.recipe import Recipe", ""),
        ("brain_tuning.features.story", "from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding", ""),
        ("brain_tuning.models.frozen", "from .families import family_of", ""),
        ("brain_tuning.models", "from .configuration import BrainWavLMConfig", ""),
        ("brain_tuning.hub.push", "import numpy", ""),
        ("brain_tuning.cli", "from .demo import run_demo", ""),
    ],
)
def test_the_rule_itself(module: str, line: str, text: str) -> None:
    is_package = module == "brain_tuning.models"
    found = [complaint(module, name) for _, name in imported(line, module, is_package=is_package)]
    if text:
        assert any(text in problem for problem in found), found
    else:
        assert not any(found), found

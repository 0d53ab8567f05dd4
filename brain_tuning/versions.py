"""Versions of everything that a result may depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("brain-tuning", "torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Package name -> version, Python included; packages that are not installed are left out."""
    installed = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **{name: v for name, v in installed.items() if v is not None}}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

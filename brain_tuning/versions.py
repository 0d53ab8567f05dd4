"""Versions of everything that a result may depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("brain-tuning", "torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Package name -> version, Python included; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

"""A real disk that is soon full: a tmpfs of given size, where this system lets tests mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SmallDisk = Callable[[int], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A function (size in KiB) -> folder of a fresh file system of that size."""
    mounted: list[Path] = []

    def mount(size_kib: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command, so no disk can be filled")
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here ({done.stderr.strip()}), so no disk can be filled")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # Lazily: tables that were read from it may still be mapped into memory.
        subprocess.run(["umount", "-l", str(folder)], check=True)

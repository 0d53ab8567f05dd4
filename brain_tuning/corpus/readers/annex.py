"""Finds the files of a DataLad data set that were cloned but not fetched."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from brain_tuning.errors import AnnexPointerError

_POINTER_BYTES = 4096
_SHOWN = 5


def is_annex_pointer(path: Path) -> bool:
    """Whether a path is a git-annex pointer: a broken link, or a small text that names an annex object."""
    if path.is_symlink() and not path.exists():
        return True
    if not path.is_file() or path.stat().st_size > _POINTER_BYTES:
        return False
    start = path.read_bytes()[:200].replace(b"\\", b"/")
    return start.startswith((b"/annex/objects/", b"../", b".git/")) and b"annex/objects/" in start


def check_fetched(root: Path, files: Iterable[Path]) -> None:
    """See to it that every file needed is there in contents.

    Args:
        root: the data set's folder.
        files: files below ``root`` that will be read.

    Raises:
        AnnexPointerError: some are git-annex pointers; says how many, which, and how to get them.
    """
    pointers = [path for path in files if is_annex_pointer(path)]
    if not pointers:
        return
    names = [os.path.relpath(path, root) for path in pointers]
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    wanted = names if len(names) <= _SHOWN else sorted({os.path.dirname(name) or name for name in names})
    raise AnnexPointerError(
        f"{len(names)} file(s) are git-annex pointers, their contents were not fetched: {shown}",
        where=root,
        expected="the files themselves",
        remedy=f"cd {root} && datalad get {' '.join(wanted)}",
    )

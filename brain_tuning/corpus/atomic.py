"""A folder that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brain_tuning.errors import CorpusError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def whole_folder(destination: Path, *, overwrite: bool, marker: str) -> Iterator[Path]:
    """Write a folder under a temporary name beside its destination and rename it at the end.

    Args:
        destination: the folder to make.
        overwrite: replace an existing folder, but only one that is empty or holds ``marker``.
        marker: file name by which a folder of our own is known, e.g. ``"corpus.json"``.

    Yields:
        The temporary folder ``<destination>.partial-<pid>``; whatever ends the block early, Ctrl-C
        included, removes it.

    Raises:
        CorpusError: the destination exists and ``overwrite`` is False, or it is not ours to replace.
        StorageError: the disk is full or the destination cannot be written.
    """
    destination = Path(os.path.realpath(destination))
    partial = destination.with_name(f"{destination.name}.partial-{os.getpid()}")
    _check_destination(destination, overwrite, marker)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        yield partial
        _put_in_place(partial, destination)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        storage_error = _storage_error(error, partial, destination)
        if storage_error is None:
            raise
        raise storage_error from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_destination(destination: Path, overwrite: bool, marker: str) -> None:
    if not os.path.lexists(destination):
        return
    if not overwrite:
        raise CorpusError(
            "the destination exists",
            where=destination,
            remedy="pass --overwrite to replace it, or name another folder",
        )
    ours = destination.is_dir() and ((destination / marker).is_file() or not any(destination.iterdir()))
    if not ours:
        raise CorpusError(
            "the destination exists and is not a corpus, so it is not replaced",
            where=destination,
            expected=f"an empty folder or one that holds {marker}",
            remedy="name another folder",
        )


def _put_in_place(partial: Path, destination: Path) -> None:
    if not destination.exists():
        os.replace(partial, destination)
        return
    # A folder that is not empty cannot be replaced in one step: the old one steps aside first and comes
    # back if the new one cannot take its place.
    old = destination.with_name(f"{destination.name}.partial-old-{os.getpid()}")
    os.replace(destination, old)
    try:
        os.replace(partial, destination)
    except BaseException:
        os.replace(old, destination)
        raise
    shutil.rmtree(old)


def _storage_error(error: OSError, partial: Path, destination: Path) -> StorageError | None:
    """The error of our own that ``error`` amounts to, or None if it is not about writing here."""
    if error.errno in _FULL:
        return StorageError(
            f"there is no room left ({_free_bytes(destination):,} bytes free)",
            where=destination,
            remedy="free some space or name a folder on another disk; nothing half-written was left",
        )
    about = Path(os.fsdecode(error.filename)) if error.filename is not None else destination.parent
    ours = about == destination.parent or about in destination.parents or partial in (about, *about.parents)
    if error.errno in _FORBIDDEN and ours:
        return StorageError(
            f"the destination cannot be written: {error.strerror} ({_free_bytes(destination):,} bytes free)",
            where=destination,
            remedy="name a folder that you may write to",
        )
    return None


def _free_bytes(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free

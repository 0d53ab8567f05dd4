"""Files and folders that appear whole or not at all, and full disks that are reported as such."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from brain_tuning.errors import CorpusError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
#: a file lies where a folder is needed, or the other way round, or nothing can be made there (a dangling link, /proc)
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT}
#: how libraries that wrap the operating system's errors spell a full disk
_FULL_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "os error 28",
    "os error 122",
    "os error 27",
)


@contextmanager
def storage_errors(destination: Path, *partials: Path) -> Iterator[None]:
    """Remove partial files when the block ends early, and report a full or forbidden disk as StorageError.

    Args:
        destination: what is being written, named in the error.
        *partials: files or folders to remove on any failure, Ctrl-C included.
    """
    try:
        yield
    except BaseException as error:
        for partial in partials:
            if os.path.isdir(partial):
                shutil.rmtree(partial, ignore_errors=True)
            else:
                # It may be that nothing can be made, or removed, where it was to be.
                with suppress(OSError):
                    partial.unlink()
        storage_error = _storage_error(error, destination, partials)
        if storage_error is None:
            raise
        raise storage_error from error


@contextmanager
def whole_file(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``destination`` that takes its place when the block ends well.

    Raises:
        StorageError: the disk is full or the destination cannot be written.
    """
    partial = destination.with_name(f"{destination.name}.partial-{os.getpid()}")
    with storage_errors(destination, partial):
        destination.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, destination)


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
    destination = check_destination(destination, overwrite=overwrite, marker=marker)
    partial = destination.with_name(f"{destination.name}.partial-{os.getpid()}")
    with storage_errors(destination, partial):
        destination.parent.mkdir(parents=True, exist_ok=True)
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        yield partial
        _put_in_place(partial, destination)


def check_destination(destination: Path, *, overwrite: bool, marker: str) -> Path:
    """Where :func:`whole_folder` would write, links resolved; for those who work long before they write.

    Args:
        destination, overwrite, marker: see there.

    Raises:
        CorpusError: the destination exists and ``overwrite`` is False, or it is not ours to replace.
    """
    destination = Path(os.path.realpath(destination))
    if not os.path.lexists(destination):
        return destination
    if not overwrite:
        raise CorpusError(
            "the destination exists",
            where=destination,
            remedy="pass --overwrite to replace it, or name another folder",
        )
    ours = destination.is_dir() and ((destination / marker).is_file() or not any(destination.iterdir()))
    if not ours:
        raise CorpusError(
            f"the destination exists and holds no {marker}, so it is not replaced",
            where=destination,
            expected=f"an empty folder or one that holds {marker}",
            remedy="name another folder",
        )
    return destination


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
    try:
        shutil.rmtree(old)
    finally:
        shutil.rmtree(old, ignore_errors=True)  # once more, if Ctrl-C came in between


def _storage_error(error: BaseException, destination: Path, partials: tuple[Path, ...]) -> StorageError | None:
    """The error of our own that ``error`` amounts to, or None if it is not about writing here."""
    full = isinstance(error, OSError) and error.errno in _FULL
    wrapped = isinstance(error, Exception) and any(words in str(error) for words in _FULL_WORDS)
    if full or wrapped:
        return StorageError(
            f"there is no room left ({_free_bytes(destination):,} bytes free)",
            where=destination,
            remedy="free some space or name a folder on another disk; nothing half-written was left",
        )
    if not isinstance(error, OSError) or error.errno not in _FORBIDDEN | _IN_THE_WAY:
        return None
    about = Path(os.fsdecode(error.filename)) if error.filename is not None else destination.parent
    inside = any(partial in (about, *about.parents) for partial in partials)
    if about == destination.parent or about in destination.parents or inside:
        return StorageError(
            f"the destination cannot be written: {error.strerror} ({_free_bytes(destination):,} bytes free)",
            where=destination,
            remedy="name a folder that you may write to",
        )
    return None


def _free_bytes(path: Path) -> int:
    # os.path.exists is False, where Path.exists raises, for what may not even be looked at.
    while not os.path.exists(path):
        path = path.parent
    return shutil.disk_usage(path).free

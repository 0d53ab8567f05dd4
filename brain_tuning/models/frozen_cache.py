"""A bounded memory of tensors by content: in RAM, and on disk if a folder is given."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from brain_tuning.atomic import whole_file
from brain_tuning.errors import StorageError

log = logging.getLogger(__name__)


@dataclass
class _Sizes:
    """Sizes in bytes by key, least recently used first, never more than ``most`` in all."""

    most: int
    total: int = 0
    known: OrderedDict[bytes, int] = field(default_factory=OrderedDict)

    def add(self, key: bytes, size: int) -> list[bytes]:
        """Take in a key; returns those that have to go."""
        self.known[key] = size
        self.total += size
        gone = []
        while self.total > self.most:
            old, old_size = self.known.popitem(last=False)
            self.total -= old_size
            gone.append(old)
        return gone

    def forget(self, key: bytes) -> None:
        self.total -= self.known.pop(key, 0)


def _files_of(folder: Path) -> list[tuple[float, bytes, int]]:
    """Time, key and size in bytes of the outputs in a folder, least recently used first."""
    found = []
    for file in folder.glob("??/*.safetensors"):
        # It may be of another kind, or another process has just removed it.
        with suppress(ValueError, FileNotFoundError):
            key, now = bytes.fromhex(file.stem), file.stat()
            found.append((now.st_mtime, key, now.st_size))
    return sorted(found)


class FrozenCache:
    """Outputs of the frozen part of a backbone, least recently used out first.

    Several processes may share a folder: files are written whole under their content's name, and one that another
    process removed is computed again. Each process keeps the folder within bounds as far as it knows of its files.

    Args:
        max_bytes: of RAM.
        folder: where outputs are kept from run to run; None for RAM alone.
        max_disk_bytes: of the folder.
        holds, remedy: what is kept here, and what to do when the disk is full, for errors.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(
        self,
        max_bytes: int,
        folder: Path | None = None,
        max_disk_bytes: int = 0,
        *,
        holds: str = "frozen outputs",
        remedy: str = "free some space, lower --disk-cache-gb, or leave --disk-cache out",
    ) -> None:
        self._holds, self._remedy = holds, remedy
        self._memory = _Sizes(max_bytes)
        self._tensors: dict[bytes, torch.Tensor] = {}
        self._disk = _Sizes(max_disk_bytes)
        self._folder = folder
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"the folder of {holds} cannot be made ({error.strerror})",
                    where=folder,
                    remedy="name a folder that you may write to",
                ) from error
            for _, key, size in _files_of(folder):
                for gone in self._disk.add(key, size):
                    self._path(gone).unlink(missing_ok=True)

    @property
    def n_bytes(self) -> int:
        """RAM in use."""
        return self._memory.total

    @property
    def n_disk_bytes(self) -> int:
        """Disk in use, as far as this process knows."""
        return self._disk.total

    def get(self, key: bytes) -> torch.Tensor | None:
        """The remembered output, or None."""
        found = self._tensors.get(key)
        if found is not None:
            self._memory.known.move_to_end(key)
            return found
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            found = load(path.read_bytes())["output"]
        except FileNotFoundError:
            self._disk.forget(key)
            return None
        except OSError as error:
            raise StorageError(
                f"the cache of {self._holds} cannot be read ({error.strerror})", where=path, remedy=self._remedy
            ) from error
        except (SafetensorError, KeyError) as error:
            log.warning("%s is damaged (%s): it is computed anew", path, error)
            self._disk.forget(key)
            path.unlink(missing_ok=True)
            return None
        if key in self._disk.known:
            self._disk.known.move_to_end(key)
        with suppress(OSError):  # another process may have removed it, or own it
            os.utime(path)
        self._remember(key, found)
        return found

    def put(self, key: bytes, value: torch.Tensor) -> None:
        """Remember an output, forgetting old ones if need be."""
        if key not in self._tensors:
            self._remember(key, value)
        if self._folder is None or key in self._disk.known:
            return
        size = value.numel() * value.element_size()
        if size > self._disk.most:
            return
        path = self._path(key)
        try:
            with whole_file(path) as partial:
                save_file({"output": value.contiguous()}, partial)
                size = partial.stat().st_size
        except StorageError as error:
            raise StorageError(
                f"the cache of {self._holds} cannot be written",
                where=self._folder,
                expected="room for it",
                remedy=self._remedy,
            ) from error
        for gone in self._disk.add(key, size):
            self._path(gone).unlink(missing_ok=True)

    def _remember(self, key: bytes, value: torch.Tensor) -> None:
        size = value.numel() * value.element_size()
        if size > self._memory.most:
            return
        self._tensors[key] = value
        for gone in self._memory.add(key, size):
            del self._tensors[gone]

    def _path(self, key: bytes) -> Path:
        assert self._folder is not None
        name = key.hex()
        return self._folder / name[:2] / f"{name}.safetensors"

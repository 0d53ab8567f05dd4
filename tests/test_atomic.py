"""Files and folders appear whole or not at all; full and forbidden disks are named."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_disk import SmallDisk, small_disk

from brain_tuning.atomic import storage_errors, whole_file, whole_folder
from brain_tuning.errors import CorpusError, StorageError

__all__ = ["small_disk"]


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "new" / "folder" / "a.json"
    with whole_file(place) as path:
        path.write_text("1")
        assert not place.exists()
    assert place.read_text() == "1"
    with whole_file(place) as path:
        path.write_text("2")
        assert place.read_text() == "1"
    assert place.read_text() == "2"
    assert os.listdir(place.parent) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_ends_a_file_early_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    place = tmp_path / "a.json"
    place.write_text("old")
    with pytest.raises(type(error)), whole_file(place) as path:  # noqa: PT012  the file is cut short
        path.write_text("half")
        raise error
    assert place.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_is_renamed_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "made"
    with whole_folder(place, overwrite=False, marker="corpus.json") as folder:
        (folder / "corpus.json").write_text("{}")
        assert not place.exists()
    assert os.listdir(tmp_path) == ["made"]
    with whole_folder(place, overwrite=True, marker="corpus.json") as folder:
        (folder / "corpus.json").write_text("new")
        assert (place / "corpus.json").read_text() == "{}"
    assert (place / "corpus.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["made"]


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    """A dangling link is no folder, and no folder can be made in its place."""
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "away")
    with (
        pytest.raises(StorageError, match=r"the destination cannot be written: .*link/a\.json"),
        whole_file(tmp_path / "link" / "a.json"),
    ):
        pass
    with (
        pytest.raises(StorageError, match="the destination cannot be written: No such file or directory"),
        whole_file(Path("/proc/nowhere/a.json")),
    ):
        pass


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_ends_a_folder_early_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    place = tmp_path / "made"
    place.mkdir()
    (place / "corpus.json").write_text("old")
    with pytest.raises(type(error)), whole_folder(place, overwrite=True, marker="corpus.json") as folder:  # noqa: PT012
        (folder / "corpus.json").write_text("half")
        raise error
    assert (place / "corpus.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["made"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "made"
    place.mkdir()
    (place / "corpus.json").write_text("old")
    replace = os.replace

    def fails_for_the_new(source: Path, destination: Path) -> None:
        if ".partial-" in str(source) and ".partial-old-" not in str(source):
            raise OSError(errno.EIO, "broken")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fails_for_the_new)
    with (
        pytest.raises(OSError, match="broken"),
        whole_folder(place, overwrite=True, marker="corpus.json") as folder,
    ):
        (folder / "corpus.json").write_text("new")
    assert (place / "corpus.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["made"]


def test_nothing_of_others_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CorpusError, match=r"the destination exists \[.*\]; remedy: pass --overwrite"):
        whole_folder(tmp_path, overwrite=False, marker="corpus.json").__enter__()
    with pytest.raises(CorpusError, match=r"holds no corpus.json, so it is not replaced.*remedy: name another folder"):
        whole_folder(tmp_path, overwrite=True, marker="corpus.json").__enter__()
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A path through a file cannot be made, and a folder is not replaced by a file."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "a.json", tmp_path / "file" / "below" / "a.json"):
        with pytest.raises(StorageError, match=r"cannot be written: .*remedy: name a folder that you may write to"):
            whole_file(place).__enter__()
        with pytest.raises(StorageError, match=r"cannot be written: "):
            whole_folder(place, overwrite=False, marker="x").__enter__()
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(StorageError, match=r"cannot be written: Is a directory"),
        whole_file(tmp_path / "folder") as path,
    ):
        path.write_text("1")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@contextmanager
def nobody() -> Iterator[None]:
    """Not to be root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_forbidden_folder_is_named(tmp_path: Path, mode: int) -> None:
    """Also one that may not even be looked into."""
    tmp_path.chmod(mode)
    with nobody():
        for place in (tmp_path / "a.json", tmp_path / "below" / "a.json"):
            with (
                pytest.raises(StorageError, match=r"cannot be written: Permission denied .*remedy: name a folder"),
                whole_file(place) as path,
            ):
                path.write_text("1")
            with pytest.raises(StorageError, match=r"cannot be written: Permission denied"):
                whole_folder(place, overwrite=False, marker="x").__enter__()
    tmp_path.chmod(0o700)
    assert os.listdir(tmp_path) == []


def test_errors_of_reading_elsewhere_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.json"):
        (tmp_path / "elsewhere").read_text()
    denied = PermissionError(errno.EACCES, "denied", "/somewhere/else")
    with pytest.raises(PermissionError), whole_file(tmp_path / "a.json"):
        raise denied


def write_text(path: Path, values: np.ndarray) -> None:
    path.write_text("x" * values.nbytes)


def write_safetensors(path: Path, values: np.ndarray) -> None:
    save_file({"a": values}, path)


def write_hdf5(path: Path, values: np.ndarray) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["a"] = values


def write_arrow(path: Path, values: np.ndarray) -> None:
    import pyarrow as pa

    table = pa.table({"a": values})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


@pytest.mark.parametrize("write", [write_text, write_safetensors, write_hdf5, write_arrow])
def test_a_full_disk_is_named_whoever_writes(small_disk: SmallDisk, write: Callable[[Path, np.ndarray], None]) -> None:
    """Libraries report a full disk in words of their own; all become one error, and nothing is left."""
    disk = small_disk(256)
    (disk / "before.json").write_text(json.dumps("kept"))
    with (
        pytest.raises(StorageError, match=r"no room left \([\d,]+ bytes free\) \[.*large.*\]; remedy: free some space"),
        whole_folder(disk / "large", overwrite=False, marker="x") as folder,
    ):
        write(folder / "a", np.arange(200_000, dtype=np.float64))
    assert os.listdir(disk) == ["before.json"]


def test_partial_files_and_folders_are_removed(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("")
    folder.mkdir()
    with pytest.raises(ValueError, match="no"), storage_errors(tmp_path / "place", file, folder, tmp_path / "absent"):
        raise ValueError("no")
    assert os.listdir(tmp_path) == []

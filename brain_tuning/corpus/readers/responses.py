"""Reads a table of responses: .npy, one array of an .npz, or a .csv with a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brain_tuning.errors import CorpusError


def split_key(reference: str) -> tuple[str, str]:
    """File name and array name of ``"bold.npz:run1"``; the array name may be empty."""
    name, separator, key = reference.rpartition(":")
    return (name, key) if separator and name.endswith(".npz") else (reference, "")


def read_array(path: Path, key: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
    """Read an array of numbers.

    Args:
        path: .npy (memory-mapped), .npz or .csv file.
        key: name of the array in an .npz; may be left out if there is one only.

    Returns:
        (array, column names of a .csv or an empty tuple).

    Raises:
        CorpusError: the file is missing, of another kind, damaged, or holds no numbers.
    """
    if not path.is_file():
        raise CorpusError("no such file", where=path)
    try:
        if path.suffix == ".npy":
            return _numbers(np.load(path, mmap_mode="r", allow_pickle=False), path), ()
        if path.suffix == ".npz":
            return _numbers(_from_npz(path, key), path), ()
        if path.suffix == ".csv":
            return _from_csv(path)
    except (ValueError, OSError, EOFError) as error:
        raise CorpusError(f"the file cannot be read: {error}", where=path, expected="numbers") from error
    raise CorpusError(f"unknown kind of file {path.suffix!r}", where=path, expected=".npy, .npz or .csv")


def _from_npz(path: Path, key: str) -> np.ndarray:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not key and len(arrays.files) == 1:
                key = arrays.files[0]
            if key not in arrays.files:
                raise CorpusError(
                    f"no array {key!r}" if key else "it is not said which array",
                    where=path,
                    expected=f"{path.name}:<one of {', '.join(arrays.files)}>",
                )
            return arrays[key]
    except zipfile.BadZipFile as error:
        raise CorpusError(f"the file is damaged: {error}", where=path) from error


def _from_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    with path.open(encoding="utf-8-sig") as lines:
        columns = tuple(name.strip().strip('"') for name in next(lines, "").rstrip("\r\n").split(","))
        if all(_is_number(name) for name in columns):
            raise CorpusError("the first line holds numbers", where=path, expected="a header of column names")
        values = np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float64)
    if values.shape[1] != len(columns):
        raise CorpusError(
            f"{values.shape[1]} columns of numbers", where=path, expected=f"{len(columns)} as in the header"
        )
    return values, columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise CorpusError(f"the array is of type {array.dtype}", where=path, expected="real numbers")
    return array

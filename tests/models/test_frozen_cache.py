"""Outputs that are remembered: in RAM, on disk, by several processes, and on a disk that is full or damaged."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import textwrap
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import torch
from safetensors.torch import save_file
from small_disk import SmallDisk, small_disk

from brain_tuning.errors import StorageError
from brain_tuning.models.frozen_cache import FrozenCache

__all__ = ["small_disk"]

MB = 2**20
#: bytes of a file that holds 1,000 floats: the tensor and safetensors' header
FILE_BYTES = 4_000 + 80


def key_of(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def value_of(name: str, n: int = 1_000) -> torch.Tensor:
    return torch.full((n,), float(len(name)) + sum(map(ord, name)))


def filled(folder: Path, names: str, **sizes: int) -> FrozenCache:
    """A cache that was given one output for each letter, in order, as if a second apart."""
    cache = FrozenCache(sizes.get("max_bytes", MB), folder, sizes.get("max_disk_bytes", MB))
    for k, name in enumerate(names):
        cache.put(key_of(name), value_of(name))
        os.utime(file_of(folder, name), (k, k))
    return cache


def file_of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"??/{key_of(name).hex()}.safetensors")
    return found


def kept(cache: FrozenCache, names: str) -> str:
    """Those of some names that the cache remembers, with their values."""
    found = {name: cache.get(key_of(name)) for name in names}
    assert all(torch.equal(value, value_of(name)) for name, value in found.items() if value is not None)
    return "".join(name for name, value in found.items() if value is not None)


# RAM


def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    cache = FrozenCache(3 * 40)
    for key in (b"a", b"b", b"c"):
        cache.put(key, torch.zeros(10))
    assert cache.get(b"a") is not None
    cache.put(b"d", torch.zeros(10))
    assert cache.n_bytes == 120
    assert cache.get(b"b") is None
    assert all(cache.get(key) is not None for key in (b"a", b"c", b"d"))
    cache.put(b"e", torch.zeros(20))
    assert cache.n_bytes == 120
    assert [cache.get(key) is not None for key in (b"a", b"c", b"d", b"e")] == [False, False, True, True]
    cache.put(b"f", torch.zeros(31))
    assert cache.get(b"f") is None
    assert cache.n_bytes == 120
    cache.put(b"e", torch.ones(20))
    assert cache.n_bytes == 120
    assert cache.n_disk_bytes == 0


# Disk


def test_the_disk_keeps_outputs_from_instance_to_instance(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "cache"
    first = filled(folder, "abc")
    again = FrozenCache(MB, folder, MB)
    assert (again.n_bytes, again.n_disk_bytes) == (0, first.n_disk_bytes)
    assert first.n_disk_bytes == sum(file_of(folder, name).stat().st_size for name in "abc")
    assert kept(again, "abcd") == "abc"
    assert again.n_bytes == 3 * 4_000
    # What is in RAM is not read again.
    for name in "abc":
        file_of(folder, name).unlink()
    assert kept(again, "abc") == "abc"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_disk_gives_back_every_bit_and_the_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    value = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype).transpose(0, 2)
    FrozenCache(MB, tmp_path, MB).put(key_of("a"), value)
    found = FrozenCache(MB, tmp_path, MB).get(key_of("a"))
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, value)


def test_the_disk_is_bounded_and_forgets_the_least_recently_used(tmp_path: Path) -> None:
    cache = filled(tmp_path, "abc", max_bytes=0, max_disk_bytes=3 * FILE_BYTES)
    assert kept(cache, "a") == "a"
    cache.put(key_of("d"), value_of("d"))
    assert kept(cache, "abcd") == "acd"
    on_disk = {path.stem for path in tmp_path.rglob("*.safetensors")}
    assert on_disk == {key_of(name).hex() for name in "acd"}
    assert cache.n_disk_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 3 * FILE_BYTES
    # An output larger than all of it leaves the others alone.
    cache.put(key_of("e"), value_of("e", 10_000))
    assert kept(cache, "acde") == "acd"
    cache.put(key_of("a"), value_of("a"))
    assert cache.n_disk_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))


def test_a_smaller_bound_is_kept_from_the_start(tmp_path: Path) -> None:
    filled(tmp_path, "abcd")
    smaller = FrozenCache(MB, tmp_path, 2 * FILE_BYTES)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert kept(smaller, "abcd") == "cd"


def test_reading_a_file_makes_it_the_newest(tmp_path: Path) -> None:
    """For the next process, too, which knows nothing but the files' times."""
    filled(tmp_path, "abc")
    assert kept(FrozenCache(MB, tmp_path, MB), "a") == "a"
    assert kept(FrozenCache(MB, tmp_path, 2 * FILE_BYTES), "abc") == "ac"


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_file_is_computed_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    filled(tmp_path, "ab")
    file = file_of(tmp_path, "a")
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:2_000])
        case "empty":
            file.write_bytes(b"")
        case "other":
            save_file({"input": torch.zeros(3)}, file)
    cache = FrozenCache(MB, tmp_path, MB)
    with caplog.at_level(logging.WARNING):
        assert kept(cache, "ab") == "b"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{file} is damaged (")
    assert record.getMessage().endswith("): it is computed anew")
    assert not file.exists()
    cache.put(key_of("a"), value_of("a"))
    assert kept(FrozenCache(MB, tmp_path, MB), "ab") == "ab"
    assert cache.n_disk_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))


def test_a_file_that_another_process_removed_is_written_again(tmp_path: Path) -> None:
    cache = filled(tmp_path, "ab", max_bytes=0)
    file_of(tmp_path, "a").unlink()
    assert kept(cache, "ab") == "b"
    assert cache.n_disk_bytes == file_of(tmp_path, "b").stat().st_size
    cache.put(key_of("a"), value_of("a"))
    assert kept(cache, "ab") == "ab"


def test_files_that_are_not_the_caches_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, "a")
    strangers = [tmp_path / "notes.txt", file_of(tmp_path, "a").parent / "mine.safetensors"]
    for stranger in strangers:
        stranger.write_bytes(b"x" * 10_000)
    cache = FrozenCache(MB, tmp_path, 2 * FILE_BYTES)
    assert kept(cache, "a") == "a"
    assert all(stranger.exists() for stranger in strangers)


def test_a_full_disk_is_named(small_disk: SmallDisk) -> None:
    folder = small_disk(64) / "cache"
    cache = FrozenCache(MB, folder, 100 * MB)
    cache.put(key_of("a"), value_of("a"))
    with pytest.raises(StorageError) as caught:
        cache.put(key_of("b"), value_of("b", 50_000))
    assert str(caught.value) == (
        f"the cache of frozen outputs cannot be written [{folder}]; expected room for it; "
        "remedy: free some space, lower --disk-cache-gb, or leave --disk-cache out"
    )
    assert [path.stem for path in folder.rglob("*") if path.is_file()] == [key_of("a").hex()]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(
            StorageError, match=r"the folder of frozen outputs cannot be made \(.*\) \[.*file.*\]; remedy"
        ):
            FrozenCache(MB, folder, MB)


SHARER = """
    import sys
    from pathlib import Path

    import torch

    from brain_tuning.models.frozen_cache import FrozenCache

    cache = FrozenCache(0, Path(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(12):
        for k in range(20):
            key = k.to_bytes(16, "big")
            found = cache.get(key)
            if found is None:
                cache.put(key, torch.full((1_000,), float(k)))
            else:
                assert torch.equal(found, torch.full((1_000,), float(k))), k
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    """Half of what they need fits: each keeps removing what the other is about to read."""
    command = [sys.executable, "-c", textwrap.dedent(SHARER), str(tmp_path), str(10 * FILE_BYTES)]
    both = [Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert not errors
    files = list(tmp_path.rglob("*.*"))
    assert files
    assert all(file.suffix == ".safetensors" for file in files)
    cache = FrozenCache(0, tmp_path, 10 * FILE_BYTES)
    assert 0 < cache.n_disk_bytes <= 10 * FILE_BYTES

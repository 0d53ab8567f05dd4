"""Windows of responses out of a corpus on disk.

Workload: windows of 40 TRs at random places of runs of 300 TRs, float32, files in the page cache: of a region of 5 %
of the voxels, and of the whole cortex. In full 10,000 TRs x 95,556 voxels (ds003020, subject UTS03: 3.8 GB).
Peer: the same responses in one ``.npy`` file, memory-mapped by numpy, which knows neither runs nor voxels by name.
Goal: at least 0.6 times the peer's speed, the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import Build, Case, Goal, Side, Work
from brain_tuning.corpus import open_corpus, write_corpus
from brain_tuning.corpus.schema import RunInput, StoryInput, SubjectInput

DEVICES = ("cpu",)
_SUBJECT, _REGION, _REGION_SHARE = "anna", "AC", 0.05
_TR_S = 0.1  # short stories: their audio is not what is read here


@dataclass(frozen=True)
class Sizes:
    """Of the workload."""

    n_runs: int = 8
    run_trs: int = 300
    n_voxels: int = 20_000
    window_trs: int = 40
    n_windows: int = 50


FULL = Sizes(n_runs=34, n_voxels=95_556)


def _runs(sizes: Sizes) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(sizes.n_runs):
        yield rng.standard_normal((sizes.run_trs, sizes.n_voxels), dtype=np.float32)


def _write(sizes: Sizes, folder: Path) -> tuple[Path, Path]:
    """The corpus, and the one file of the peer, unless they are there."""
    place, file = folder / "corpus", folder / "bold.npy"
    if place.exists():
        return place, file
    rng = np.random.default_rng(1)
    names = [f"story{k}" for k in range(sizes.n_runs)]
    n_samples = round(sizes.run_trs * _TR_S * 16_000)
    region = np.sort(rng.choice(sizes.n_voxels, round(_REGION_SHARE * sizes.n_voxels), replace=False))
    write_corpus(
        place,
        name="benchmark",
        source="random numbers",
        licence="CC0-1.0",
        stories=(StoryInput(name, rng.uniform(-0.1, 0.1, n_samples).astype(np.float32)) for name in names),
        subjects=[
            SubjectInput(
                _SUBJECT,
                sizes.n_voxels,
                (
                    RunInput(name, 0, 0, "train", _TR_S, 0.0, bold)
                    for name, bold in zip(names, _runs(sizes), strict=True)
                ),
                regions={_REGION: region},
            )
        ],
    )
    shape = (sizes.n_runs * sizes.run_trs, sizes.n_voxels)
    whole = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    for k, bold in enumerate(_runs(sizes)):
        whole[k * sizes.run_trs : (k + 1) * sizes.run_trs] = bold
    whole.flush()
    return place, file


def _case(sizes: Sizes, folder: Path, region: bool) -> Case:
    place, file = _write(sizes, folder)
    corpus = open_corpus(place)
    runs = corpus.runs(_SUBJECT)
    voxels = corpus.region(_SUBJECT, _REGION) if region else np.arange(sizes.n_voxels)
    rng = np.random.default_rng(2)
    of_run = rng.integers(sizes.n_runs, size=sizes.n_windows)
    first = rng.integers(sizes.run_trs - sizes.window_trs + 1, size=sizes.n_windows)
    mapped = np.load(file, mmap_mode="r")

    def taken(window: np.ndarray) -> np.ndarray:
        return window[:, voxels] if region else np.array(window)

    # A window is let go before the next one is read, as when batches are made of them.
    def ours() -> np.ndarray:
        last = np.empty(0)
        for k, begin in zip(of_run, first, strict=True):
            last = taken(corpus.bold(runs[k])[begin : begin + sizes.window_trs])
        return last

    def peer() -> np.ndarray:
        last = np.empty(0)
        for begin in of_run * sizes.run_trs + first:
            last = taken(mapped[begin : begin + sizes.window_trs])
        return last

    return Case(
        ours=Side("corpus in Arrow", ours),
        peer=Side("numpy memmap", peer),
        goal=Goal(ratio=0.6),
        # Read once; a window is soon overwritten by the next one, so that writing it need not leave the caches.
        work=Work(bytes=4.0 * sizes.n_windows * sizes.window_trs * len(voxels)),
        differences=lambda ours, peer: {"responses": np.abs(ours - peer).max()},
        tolerances={"responses": 0.0},
    )


CASES: dict[str, Build] = {
    "region": lambda sizes, folder, device: _case(sizes, folder, region=True),
    "cortex": lambda sizes, folder, device: _case(sizes, folder, region=False),
}

"""Frames to TRs for one story.

Workload: features of 6,000 frames (10 a second) and 768 columns to 300 TRs of 2 s; the matrix is built and applied,
as for each story and layer that is evaluated.
Peer: the field's dense matrix: every TR against every frame, weights of zero included, then one matrix product.
Goal: 5 times faster, equal to 1e-9.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import Build, Case, Goal, Side, Work
from brain_tuning.timing.lanczos import lanczos_matrix

DEVICES = ("cpu",)
_LOBES = 3


@dataclass(frozen=True)
class Sizes:
    """Of the workload."""

    n_frames: int = 6000
    width: int = 768
    n_trs: int = 300


FULL = Sizes()


def dense_resampling(frames: np.ndarray, frame_times_s: np.ndarray, tr_times_s: np.ndarray) -> np.ndarray:
    """Lanczos resampling by a dense matrix.

    Args:
        frames: (n_frames, width).
        frame_times_s: (n_frames,).
        tr_times_s: (n_trs,).

    Returns:
        (n_trs, width).

    Source: the definition used by Huth et al. (2016); dense as in the published scripts.
    """
    cutoff_hz = 1.0 / np.mean(np.diff(tr_times_s))
    matrix = np.zeros((len(tr_times_s), len(frame_times_s)))
    for row, tr_time_s in zip(matrix, tr_times_s, strict=True):
        u = (tr_time_s - frame_times_s) * cutoff_hz
        row[:] = np.sinc(u) * np.sinc(u / _LOBES)
        row[np.abs(u) > _LOBES] = 0.0
    return matrix @ frames


def _build(sizes: Sizes, folder: Path, device: str) -> Case:
    frames = np.random.default_rng(0).standard_normal((sizes.n_frames, sizes.width), dtype=np.float32)
    duration_s = 2.0 * sizes.n_trs
    frame_times_s = (np.arange(sizes.n_frames) + 1) * (duration_s / sizes.n_frames)
    tr_times_s = (np.arange(sizes.n_trs) + 0.5) * 2.0
    return Case(
        ours=Side("sparse matrix", lambda: lanczos_matrix(frame_times_s, tr_times_s, lobes=_LOBES) @ frames),
        peer=Side("dense matrix", lambda: dense_resampling(frames, frame_times_s, tr_times_s)),
        goal=Goal(ratio=5.0),
        # Each frame is read and each TR is written once, whatever the program does in between.
        work=Work(bytes=frames.nbytes + 8.0 * sizes.n_trs * sizes.width),
        differences=lambda ours, peer: {"features": np.abs(ours - peer).max() / np.abs(peer).max()},
        tolerances={"features": 1e-9},
    )


CASES: dict[str, Build] = {"story": _build}

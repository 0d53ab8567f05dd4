"""Pearson correlation of each voxel, as an ``evaluate`` metric.

Workload: 300 TRs x 80,000 voxels (in full; 20,000 as it comes), predictions and references as float32 arrays.
Peer: a metric written as ``evaluate`` documents it: ``compute`` hands every row through an Arrow file.
Goal: 30 times faster, r equal to 1e-5.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np

from benchmarks.harness import Build, Case, Goal, Side, Work
from brain_tuning.shared_files import shared_file

DEVICES = ("cpu",)


@dataclass(frozen=True)
class Sizes:
    """Of the workload."""

    n_trs: int = 300
    n_voxels: int = 20_000


FULL = Sizes(n_voxels=80_000)


class ArrowPearson(evaluate.Metric):
    """The peer: only what a metric must define."""

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description="Pearson correlation of each voxel.",
            citation="",
            inputs_description="Rows are TRs.",
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        x, y = np.asarray(predictions, dtype=np.float32), np.asarray(references, dtype=np.float32)
        x, y = x - x.mean(0), y - y.mean(0)
        return {"per_voxel": (x * y).sum(0) / np.sqrt((x * x).sum(0) * (y * y).sum(0))}


def _build(sizes: Sizes, folder: Path, device: str) -> Case:
    rng = np.random.default_rng(0)
    measured = rng.standard_normal((sizes.n_trs, sizes.n_voxels), dtype=np.float32)
    predicted = 0.3 * measured + rng.standard_normal(measured.shape, dtype=np.float32)
    cache = tempfile.mkdtemp(dir=folder)
    place = shared_file("evaluation/metrics/voxelwise_pearson")
    ours = evaluate.load(str(place), cache_dir=cache)
    peer = ArrowPearson(cache_dir=cache)
    given = {"predictions": predicted, "references": measured}
    return Case(
        ours=Side("voxelwise_pearson", functools.partial(ours.compute, **given, return_per_voxel=True)),
        peer=Side("evaluate through Arrow", functools.partial(peer.compute, **given)),
        goal=Goal(ratio=30.0),
        work=Work(bytes=float(predicted.nbytes + measured.nbytes)),
        differences=lambda ours, peer: {"r": np.abs(ours["per_voxel"] - peer["per_voxel"]).max()},
        tolerances={"r": 1e-5},
    )


CASES: dict[str, Build] = {"pearson": _build}

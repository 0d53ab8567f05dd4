"""Intervals over the stories that were predicted: how far a region's mean would move with other stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from brain_tuning.corpus import Run
from brain_tuning.encoding.intervals import MIN_CLUSTERS, bootstrap_interval
from brain_tuning.encoding.scores import pearson_r_by_run

LEVEL = 0.95
_N_RESAMPLES = 5000


def story_lengths(pieces: Sequence[Run]) -> list[int]:
    """TRs of each story; the pieces of one, which stand together, are one story and not several.

    Args:
        pieces: runs, in the order of the rows.
    """
    return [sum(run.n_trs for run in of_one) for _, of_one in groupby(pieces, key=lambda run: run.story)]


def mean_by_story(
    prediction: npt.NDArray[np.floating[Any]],
    measured: npt.NDArray[np.floating[Any]],
    lengths_trs: Sequence[int],
    voxels: npt.NDArray[np.integer[Any]],
) -> npt.NDArray[np.float64]:
    """Mean over voxels of r within each story, (n_stories,); NaN where no voxel has one.

    Args:
        prediction, measured: (n_trs, n_voxels), stories one after another.
        lengths_trs: TRs of each.
        voxels: indices.
    """
    r = pearson_r_by_run(prediction[:, voxels], measured[:, voxels], lengths_trs)
    n = np.isfinite(r).sum(1)
    return np.divide(np.nansum(r, axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def mean_interval(by_story: npt.NDArray[np.float64]) -> dict[str, Any]:
    """``r_low``, ``r_high`` and ``interval`` of a mean over stories, by a BCa bootstrap of the stories.

    Args:
        by_story: one value each (n_stories,).

    Returns:
        95 % interval and its method; or None, None and why there is none.
    """
    found = bootstrap_interval(by_story, level=LEVEL)
    if found.reason:
        return {"r_low": None, "r_high": None, "interval": _in_stories(found.reason)}
    return {"r_low": found.low, "r_high": found.high, "interval": f"{found.method} of {len(by_story)} stories' means"}


def region_intervals(
    prediction: npt.NDArray[np.floating[Any]],
    measured: npt.NDArray[np.floating[Any]],
    lengths_trs: Sequence[int],
    regions: Mapping[str, npt.NDArray[np.integer[Any]]],
    r: npt.NDArray[np.floating[Any]],
) -> dict[str, dict[str, Any]]:
    """:func:`mean_interval` of each region's mean over the voxels that have an r.

    Args:
        prediction, measured, lengths_trs: see :func:`mean_by_story`.
        regions: name -> voxel indices.
        r: of all stories together, (n_voxels,).
    """
    scored = {name: voxels[np.isfinite(r[voxels])] for name, voxels in regions.items()}
    return {
        name: mean_interval(mean_by_story(prediction, measured, lengths_trs, voxels)) for name, voxels in scored.items()
    }


def drop_interval(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> dict[str, Any]:
    """``low``, ``high`` and ``interval`` of the drop ``100 (1 - mean(after) / mean(before))``, stories drawn in pairs.

    Args:
        before, after: one value a story each (n_stories,).

    Returns:
        95 % BCa bootstrap interval in per cent and its method; or None, None and why there is none.
    """
    why = _why_not(before, after)
    if not why:

        def drop(x: Any, y: Any, axis: int = -1) -> Any:
            return 100 * (1 - y.mean(axis) / x.mean(axis))

        found = stats.bootstrap(
            (before, after), drop, paired=True, vectorized=True, confidence_level=LEVEL, n_resamples=_N_RESAMPLES,
            method="BCa", random_state=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        if np.isfinite([found.low, found.high]).all():
            method = f"BCa bootstrap of {len(before)} stories"
            return {"low": float(found.low), "high": float(found.high), "interval": method}
        why = "BCa is degenerate on these values"
    return {"low": None, "high": None, "interval": why}


def _why_not(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> str:
    # A sample of stories is divided by its mean: that must stay away from 0 whichever stories are drawn.
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return "a story has no value"
    if len(before) < MIN_CLUSTERS:
        return f"{len(before)} {'story' if len(before) == 1 else 'stories'}; an interval needs {MIN_CLUSTERS}"
    if before.min() <= 0:
        return "r of a story is not above 0"
    if np.ptp(after / before) == 0:
        return "all stories are equal"
    return ""


def _in_stories(reason: str) -> str:
    return reason.replace("1 clusters", "1 story").replace("clusters", "stories")

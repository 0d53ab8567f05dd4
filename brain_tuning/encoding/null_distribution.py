"""An observed statistic of each voxel against the same statistic of rearranged data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.scores import region_members
from brain_tuning.errors import EncodingError

#: Working memory of a permutation test, beyond its inputs and results.
WORK_BYTES = 32 * 2**20
_MOST_VOXELS_PER_BLOCK = 256

FloatArray = npt.NDArray[np.floating[Any]]
Tail = Literal["greater", "less", "two-sided"]
#: Large values of these speak against the null hypothesis.
_EXTREMENESS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "greater": np.positive,
    "less": np.negative,
    "two-sided": np.abs,
}


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """Result of a permutation test, by voxel and, where asked for, by region.

    ``p = (1 + number of rearrangements at least as extreme as the data) / (1 + n_permutations)``: the data as they
    are count as one rearrangement, so p is never 0 (Phipson and Smyth 2010).

    Attributes:
        observed: the statistic of the data (n_voxels,), NaN where there is none.
        p: p-value of each voxel by itself (n_voxels,), NaN where there is no statistic.
        p_max: p-value of each voxel against the most extreme voxel of each rearrangement (n_voxels,): below 0.05
            with probability 0.05 for ANY voxel if there is no effect (Nichols and Holmes 2002).
        n_permutations: rearrangements without that of the data.
        exact: all rearrangements there are, not a random choice.
        tail: ``"greater"``, ``"less"`` or ``"two-sided"`` (of the absolute statistic).
        region_observed: mean statistic of each region's voxels that have one; NaN for a region without.
        region_p: p-value of that mean, its voxels rearranged together.
        n_alike: rearrangements that are as extreme as the data whatever these are, the data among them: 2 of all swaps
            of two labels for two sides, as swapping everything only changes the sign.
    """

    observed: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]
    p_max: npt.NDArray[np.float64]
    n_permutations: int
    exact: bool
    tail: Tail
    region_observed: dict[str, float] = field(default_factory=dict)
    region_p: dict[str, float] = field(default_factory=dict)
    n_alike: int = 1

    @property
    def smallest_p(self) -> float:
        """The least p-value these rearrangements can give."""
        return self.n_alike / (1 + self.n_permutations)


def compare_with_null(
    statistics: Callable[[slice], tuple[FloatArray, FloatArray]],
    n_voxels: int,
    n_permutations: int,
    *,
    exact: bool,
    tail: Tail,
    regions: Mapping[str, npt.ArrayLike] | None,
    bytes_per_voxel: int,
    n_alike: int = 1,
) -> PermutationTest:
    """Count, a block of voxels at a time, how often rearranged data are as extreme as the data.

    Args:
        statistics: of a slice of voxels, the statistic of the data (n_voxels,) and of each rearrangement
            (n_permutations, n_voxels); NaN in the former where there is none.
        n_voxels: number of voxels.
        n_permutations: number of rearrangements.
        exact: they are all there are.
        tail: which statistics are extreme.
        regions: name -> indices or boolean mask (n_voxels,).
        bytes_per_voxel: what ``statistics`` needs for one voxel; blocks are chosen to stay within ``WORK_BYTES``.
        n_alike: see :class:`PermutationTest`.

    Returns:
        The test.

    Raises:
        EncodingError: the tail is unknown.
        RegionError: a region is empty or names voxels that do not exist.
    """
    if tail not in _EXTREMENESS:
        raise EncodingError(f"the tail {tail!r} is unknown", expected=", ".join(_EXTREMENESS))
    extremeness = _EXTREMENESS[tail]
    names = list(regions or {})
    inside = np.zeros((n_voxels, len(names)))
    for k, name in enumerate(names):
        inside[region_members(name, (regions or {})[name], n_voxels), k] = 1.0
    observed, p = np.full(n_voxels, np.nan), np.full(n_voxels, np.nan)
    extreme = np.full(n_permutations, -np.inf)
    region_sums = np.zeros((1 + n_permutations, len(names)))
    region_sizes = np.zeros(len(names))
    tolerance = 1e-12
    step = int(np.clip(WORK_BYTES // bytes_per_voxel, 1, _MOST_VOXELS_PER_BLOCK))
    for begin in range(0, n_voxels, step):
        block = slice(begin, min(begin + step, n_voxels))
        of_data, of_null = statistics(block)
        scored = np.isfinite(of_data)
        if not scored.any():
            continue
        voxels = begin + np.flatnonzero(scored)
        of_data, null = of_data[scored], of_null if scored.all() else of_null[:, scored]
        if null.dtype == np.float32:
            tolerance = 1e-6
        observed[voxels] = of_data
        region_sums[0] += of_data @ inside[voxels]
        region_sums[1:] += null @ inside[voxels].astype(null.dtype)
        region_sizes += inside[voxels].sum(0)
        null = extremeness(null)
        threshold = (extremeness(of_data) - tolerance).astype(null.dtype)
        p[voxels] = (1 + np.count_nonzero(null >= threshold, axis=0)) / (1 + n_permutations)
        np.maximum(extreme, null.max(1), out=extreme)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = region_sums / region_sizes
    at_least = extremeness(means[1:]) >= extremeness(means[0]) - tolerance
    region_p = np.where(region_sizes > 0, (1 + at_least.sum(0)) / (1 + n_permutations), np.nan)
    return PermutationTest(
        observed=observed,
        p=p,
        p_max=_p_of_maximum(extremeness(observed) - tolerance, extreme),
        n_permutations=n_permutations,
        exact=exact,
        tail=tail,
        region_observed=dict(zip(names, means[0].tolist(), strict=True)),
        region_p=dict(zip(names, region_p.tolist(), strict=True)),
        n_alike=n_alike,
    )


def _p_of_maximum(threshold: FloatArray, extreme: FloatArray) -> npt.NDArray[np.float64]:
    """Share of rearrangements whose most extreme voxel reaches each voxel's threshold; NaN stays NaN."""
    below = np.searchsorted(np.sort(extreme), threshold, side="left")
    return np.where(np.isfinite(threshold), (1 + extreme.size - below) / (1 + extreme.size), np.nan)

"""Does tuning predict a voxel better? Labels swapped within blocks of TRs, for a few stories and every voxel.

Example:
    >>> test = paired_block_p(tuned_prediction, untuned_prediction, bold, run_lengths_trs)
    >>> fdr_bh(test.p).rejected.sum(), test.observed.mean(), test.region_p["auditory cortex"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.autocorrelation import BLOCK_TRS
from brain_tuning.encoding.null_distribution import PermutationTest, Tail, compare_with_null
from brain_tuning.encoding.rearrangements import sign_patterns
from brain_tuning.encoding.scores import pearson_r, same_shape, zscore
from brain_tuning.errors import EncodingError

FloatArray = npt.NDArray[np.floating[Any]]


def paired_block_p(
    tuned: npt.ArrayLike,
    untuned: npt.ArrayLike,
    bold: npt.ArrayLike,
    run_lengths_trs: Sequence[int],
    *,
    block_trs: int = BLOCK_TRS,
    n_permutations: int = 1000,
    seed: int = 0,
    tail: Tail = "two-sided",
    regions: Mapping[str, npt.ArrayLike] | None = None,
) -> PermutationTest:
    """Test r(tuned) - r(untuned) of each voxel by swapping the two predictions within blocks of TRs.

    Both predictions are z-scored over all TRs, which leaves r as it is and makes them exchangeable in scale. The
    null hypothesis: within a block it makes no difference which prediction is called tuned. The result holds for
    the stories tested; whether it holds for other stories is what :mod:`brain_tuning.encoding.paired_stories` asks.

    The mean, the power and the product with the response of a swapped prediction are linear in the signs of the
    swaps, so all permutations are three matrix products of (n_permutations, n_blocks) with (n_blocks, n_voxels).

    Args:
        tuned: predicted responses (n_trs, n_voxels), stories one after another; of a model that was fitted on none of
            these responses. Those of cross-validation were, and p is then too small (docs/statistics.md).
        untuned: predicted responses of the model it is compared with (n_trs, n_voxels).
        bold: measured responses (n_trs, n_voxels).
        run_lengths_trs: TRs of each story; blocks do not cross stories.
        block_trs: least TRs of a block (a shorter story is one block).
        n_permutations: most swaps; all ``2^n_blocks - 1`` if there are no more.
        seed: of the random swaps.
        tail: ``"two-sided"``, ``"greater"`` (tuned is better) or ``"less"``.
        regions: name -> indices or boolean mask (n_voxels,); the mean difference of each is tested as well.

    Returns:
        The test; statistic r(tuned) - r(untuned), NaN where either is NaN.

    Raises:
        EncodingError: shapes or lengths do not fit.
        RegionError: a region is empty or names voxels that do not exist.

    Source: permutation of condition labels, Nichols and Holmes (2002); within blocks to keep autocorrelation.
    """
    first, y = same_shape(tuned, bold)
    second, _ = same_shape(untuned, bold)
    starts = _block_starts(run_lengths_trs, block_trs, first.shape[0])
    signs, exact = sign_patterns(starts.size, n_permutations, seed)

    def statistics(voxels: slice) -> tuple[FloatArray, FloatArray]:
        difference = pearson_r(first[:, voxels], y[:, voxels]) - pearson_r(second[:, voxels], y[:, voxels])
        scored = np.isfinite(difference)
        null = np.zeros((len(signs), difference.size))
        if scored.any():
            a, b, response = (zscore(v[:, voxels][:, scored], min_std=0.0) for v in (first, second, y))
            null[:, scored] = _swapped_differences(a, b, response, starts, signs)
        return difference, null

    return compare_with_null(
        statistics,
        first.shape[1],
        len(signs),
        exact=exact,
        tail=tail,
        regions=regions,
        bytes_per_voxel=8 * (8 * first.shape[0] + 8 * len(signs)),
        n_alike=2 if exact and tail == "two-sided" else 1,
    )


def _block_starts(run_lengths_trs: Sequence[int], block_trs: int, n_trs: int) -> npt.NDArray[np.intp]:
    lengths = [int(length) for length in run_lengths_trs]
    if sum(lengths) != n_trs or min(lengths, default=0) < 1 or block_trs < 1:
        raise EncodingError(
            "the stories' lengths or the block do not fit the responses",
            where=f"{len(lengths)} stories, {sum(lengths)} TRs in all, blocks of {block_trs} TRs",
            expected=f"positive lengths that add up to {n_trs}, and blocks of at least 1 TR",
        )
    starts, begin = [], 0
    for length in lengths:
        n_blocks = max(1, length // block_trs)
        starts.append(begin + np.arange(n_blocks) * length // n_blocks)
        begin += length
    return np.concatenate(starts)


def _swapped_differences(
    first: FloatArray, second: FloatArray, y: FloatArray, starts: npt.NDArray[np.intp], signs: FloatArray
) -> FloatArray:
    """r difference for each pattern of signs, of z-scored series: with +1 a block keeps its labels, -1 swaps them.

    The swapped predictions are ``m + s d`` and ``m - s d`` with ``m, d = (first + second) / 2, (first - second) / 2``.
    """
    n_trs = y.shape[0]
    middle, half = (first + second) / 2, (first - second) / 2
    mean = signs @ np.add.reduceat(half, starts, axis=0) / n_trs
    cross = signs @ np.add.reduceat(half * y, starts, axis=0) / n_trs
    power = signs @ np.add.reduceat(2 * middle * half, starts, axis=0) / n_trs
    common_cross = np.mean(middle * y, axis=0)
    common_power = np.mean(middle**2 + half**2, axis=0)
    # A prediction put together from both may be constant: its r is 0, as for no relation at all.
    std = [np.sqrt(np.maximum(common_power + sign * power - mean**2, 1e-12)) for sign in (1, -1)]
    return np.asarray((common_cross + cross) / std[0] - (common_cross - cross) / std[1])

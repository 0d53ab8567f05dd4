"""Is a voxel predicted better than chance? Permutation tests of r that respect autocorrelation.

Example:
    >>> test = circular_shift_p(prediction, bold, run_lengths_trs, n_permutations=1000)
    >>> found = fdr_bh(test.p, q=0.05)
    >>> found.rejected.sum(), test.smallest_p, test.region_p["auditory cortex"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.autocorrelation import BLOCK_TRS
from brain_tuning.encoding.null_distribution import PermutationTest, Tail, compare_with_null
from brain_tuning.encoding.rearrangements import BlockShuffles, CircularShifts, Rearrangements
from brain_tuning.encoding.scores import pearson_r, same_shape, zscore
from brain_tuning.errors import EncodingError

FloatArray = npt.NDArray[np.floating[Any]]


def circular_shift_p(
    prediction: npt.ArrayLike,
    bold: npt.ArrayLike,
    run_lengths_trs: Sequence[int],
    *,
    min_shift_trs: int = 0,
    n_permutations: int = 1000,
    seed: int = 0,
    tail: Tail = "greater",
    regions: Mapping[str, npt.ArrayLike] | None = None,
) -> PermutationTest:
    """Test Pearson's r of each voxel against responses rotated within their stories.

    Each story's response is rotated by a random lag, the same for all voxels. All autocorrelation is kept but
    for one seam a story. The null hypothesis: prediction and response are unrelated, and where the response
    begins relative to the prediction does not matter (it is stationary within a story).

    One story of T TRs has only T - 1 rotations: then all are used and no p is below 1 / T. Cost per voxel: one
    FFT a story and ``n_permutations * n_stories`` additions.

    Args:
        prediction: predicted responses (n_trs, n_voxels), stories one after another; of a model that was fitted on
            none of these responses. Those of cross-validation were, and p is then too small (docs/statistics.md).
        bold: measured responses (n_trs, n_voxels).
        run_lengths_trs: TRs of each story.
        min_shift_trs: least lag in either direction. Leave it at 0: a story's sums over all lags add up to a
            constant, so without the small lags, which resemble the data, the rest lie on the other side of it
            and p is too small (measured in ``docs/statistics.md``). A true effect has its peak at lag 0 and is
            not hidden by the small lags.
        n_permutations: most rotations; fewer if there are fewer.
        seed: of the random lags.
        tail: ``"greater"`` (predicted at all), ``"less"`` or ``"two-sided"``.
        regions: name -> indices or boolean mask (n_voxels,); the mean r of each is tested as well.

    Returns:
        The test; statistic r, NaN where :func:`brain_tuning.encoding.scores.pearson_r` is NaN.

    Raises:
        EncodingError: shapes or lengths do not fit, or a story is shorter than twice the least lag.
        RegionError: a region is empty or names voxels that do not exist.

    Source: time-shift surrogates, Andrzejak et al. (2003); several stories and all lags by FFT are ours.
    """
    shifts = CircularShifts.draw(run_lengths_trs, min_shift_trs, n_permutations, seed)
    return permutation_test_r(prediction, bold, shifts, tail=tail, regions=regions)


def block_permutation_p(
    prediction: npt.ArrayLike,
    bold: npt.ArrayLike,
    run_lengths_trs: Sequence[int],
    *,
    block_trs: int = BLOCK_TRS,
    n_permutations: int = 1000,
    seed: int = 0,
    tail: Tail = "greater",
    regions: Mapping[str, npt.ArrayLike] | None = None,
) -> PermutationTest:
    """Test Pearson's r of each voxel against predictions whose blocks of TRs are shuffled within their stories.

    The null hypothesis: prediction and response are unrelated, and blocks are exchangeable, i.e. long enough to
    be nearly independent. Autocorrelation across the cuts is lost, so p is a little too small:
    :func:`brain_tuning.encoding.autocorrelation.block_length` says which length keeps that within bounds.

    Cost per voxel: ``n_trs * n_blocks`` multiplications and ``n_permutations * n_blocks`` additions.

    Args:
        prediction: predicted responses (n_trs, n_voxels), stories one after another; of a model that was fitted on
            none of these responses. Those of cross-validation were, and p is then too small (docs/statistics.md).
        bold: measured responses (n_trs, n_voxels).
        run_lengths_trs: TRs of each story.
        block_trs: least TRs of a block.
        n_permutations: most shuffles; fewer if there are fewer.
        seed: of the random orders.
        tail: ``"greater"`` (predicted at all), ``"less"`` or ``"two-sided"``.
        regions: name -> indices or boolean mask (n_voxels,); the mean r of each is tested as well.

    Returns:
        The test; statistic r, NaN where :func:`brain_tuning.encoding.scores.pearson_r` is NaN.

    Raises:
        EncodingError: shapes or lengths do not fit, or no story holds two blocks.
        RegionError: a region is empty or names voxels that do not exist.

    Source: blockwise permutation of fMRI, Adolf et al. (2014).
    """
    shuffles = BlockShuffles.draw(run_lengths_trs, block_trs, n_permutations, seed)
    return permutation_test_r(prediction, bold, shuffles, tail=tail, regions=regions)


def permutation_test_r(
    prediction: npt.ArrayLike,
    bold: npt.ArrayLike,
    rearrangements: Rearrangements,
    *,
    tail: Tail = "greater",
    regions: Mapping[str, npt.ArrayLike] | None = None,
) -> PermutationTest:
    """Test Pearson's r of each voxel against given rearrangements of the prediction.

    Equal to ``pearson_r(prediction[rearrangements.rows(k)], bold)`` for every k, computed from data that are
    z-scored once, a block of voxels at a time. float32 data are computed in float32, others in float64.

    Args:
        prediction: predicted responses (n_trs, n_voxels).
        bold: measured responses (n_trs, n_voxels).
        rearrangements: of the rows of the prediction.
        tail: which r are extreme.
        regions: name -> indices or boolean mask (n_voxels,).

    Returns:
        The test.

    Raises:
        EncodingError: shapes or lengths do not fit.
        RegionError: a region is empty or names voxels that do not exist.
    """
    x, y = same_shape(prediction, bold)
    if sum(rearrangements.run_lengths_trs) != x.shape[0]:
        raise EncodingError(
            "the stories' lengths do not add up to the responses",
            where=f"{sum(rearrangements.run_lengths_trs)} TRs in {len(rearrangements.run_lengths_trs)} stories",
            expected=f"{x.shape[0]} TRs",
        )

    def statistics(voxels: slice) -> tuple[FloatArray, FloatArray]:
        r = pearson_r(x[:, voxels], y[:, voxels])
        scored = np.isfinite(r)
        null = np.zeros((rearrangements.n, r.size), np.result_type(*map(_working_type, (x, y))))
        if scored.any():
            z = [zscore(values[:, voxels][:, scored], min_std=0.0).astype(null.dtype, copy=False) for values in (x, y)]
            null[:, scored] = rearrangements.null_r(*z)
        return r, null

    return compare_with_null(
        statistics,
        x.shape[1],
        rearrangements.n,
        exact=rearrangements.exact,
        tail=tail,
        regions=regions,
        bytes_per_voxel=8 * (rearrangements.numbers_per_voxel + 4 * x.shape[0]),
    )


def _working_type(values: npt.NDArray[Any]) -> npt.DTypeLike:
    return np.float32 if values.dtype in (np.float16, np.float32) else np.float64

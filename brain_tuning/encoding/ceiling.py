"""How much of what can be predicted in a voxel a prediction explains, from repeated presentations of one story.

Signal power and noise ceiling are those of :mod:`brain_tuning.corpus.ceiling`. Voxels without signal (signal
power not above 0), constant voxels and NaN give NaN.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from brain_tuning.corpus.ceiling import (
    check_repeats,
    mean_responses,
    positive,
    repeat_correlations,
    signal_power,
)
from brain_tuning.corpus.ceiling import schoppe_ceiling as noise_ceiling
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import EncodingError

__all__ = [
    "cc_norm",
    "explainable_variance",
    "noise_ceiling",
    "signal_power",
    "signal_power_explained",
    "split_half_ceiling",
]

FloatArray = npt.NDArray[np.float64]


def cc_norm(prediction: npt.NDArray[np.floating], repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Correlation of the prediction with the mean of the repeats, divided by the noise ceiling.

    ``CC_norm = r / CC_max``. It is unstable where the ceiling is low: summaries leave such voxels out
    (:func:`brain_tuning.encoding.scores.summarise_by_region`).

    Args:
        prediction: predicted responses (n_trs, n_voxels), in any scale.
        repeats: responses to the same story (n_repeats, n_trs, n_voxels).

    Returns:
        CC_norm (n_voxels,), NaN where r or the ceiling is NaN.

    Raises:
        EncodingError: there are fewer than two repeats, or the shapes do not fit.

    Source: Schoppe et al. (2016), eq. 9.
    """
    _check(repeats, prediction)
    r = np.empty(repeats.shape[2])
    for voxels, mean in mean_responses(repeats):
        r[voxels] = pearson_r(prediction[:, voxels], mean)
    return r / noise_ceiling(repeats)


def signal_power_explained(prediction: npt.NDArray[np.floating], repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Share of the signal power that the prediction explains.

    ``SPE = (var(y) - var(y - prediction)) / SP`` where y is the mean of the z-scored repeats.

    Args:
        prediction: predicted z-scored responses (n_trs, n_voxels).
        repeats: z-scored responses (n_repeats, n_trs, n_voxels).

    Returns:
        SPE (n_voxels,); without bound below; NaN where SP is not positive.

    Raises:
        EncodingError: there are fewer than two repeats, the shapes do not fit, or the repeats are not
            z-scored (the prediction would be in another unit).

    Source: Sahani and Linden (2003); Schoppe et al. (2016), eq. 4.
    """
    n_repeats = _check(repeats, prediction)
    explained = np.empty(repeats.shape[2])
    for voxels, mean in mean_responses(repeats):
        _refuse_other_units(repeats[:, :, voxels], voxels.start)
        left = mean - prediction[:, voxels]
        power = (n_repeats * mean.var(0, ddof=1) - 1.0) / (n_repeats - 1)
        explained[voxels] = (mean.var(0, ddof=1) - left.var(0, ddof=1)) / positive(power)
    return explained


def explainable_variance(repeats: npt.NDArray[np.floating], *, bias_correction: bool = True) -> FloatArray:
    """Share of a repeat's variance that repeats have in common.

    ``EV = var(y)``, y the mean of the R z-scored repeats. Noise does not quite cancel in a mean of few repeats; the
    correction ``EV - (1 - EV) / (R - 1)`` takes off what is left of it and gives the signal power exactly.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels), at least two repeats.
        bias_correction: without it a voxel of pure noise has EV = 1 / R instead of 0.

    Returns:
        EV (n_voxels,); with correction it may be negative for voxels without signal; NaN where a repeat holds a
        value that is not finite or does not vary.

    Raises:
        EncodingError: there are fewer than two repeats, or the array is not three-dimensional.

    Source: Sahani and Linden (2003); Hsu et al. (2004). The corrected form is Schoppe et al. (2016), eq. 1.
    """
    power = signal_power(repeats)
    if bias_correction:
        return power
    n_repeats = repeats.shape[0]
    return np.asarray(((n_repeats - 1) * power + 1.0) / n_repeats)


def split_half_ceiling(
    repeats: npt.NDArray[np.floating], *, max_splits: int = 200, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Noise ceiling of the mean of all repeats from the correlation of halves of them.

    ``reliability = k rho / (1 + (k - 1) rho)`` with rho the mean correlation of the means of two halves of
    ``R // 2`` repeats and ``k = R / (R // 2)`` (Spearman-Brown); the ceiling is its square root.

    With two or three repeats a half is one repeat and this IS Schoppe's ceiling, but for the factor
    n_trs / (n_trs - 1) in the variance: few repeats need no other estimate, they need a floor. From four repeats on
    it is a check of Schoppe's, and the spread over splits shows what the choice of halves is worth.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels), at least two repeats.
        max_splits: all splits if there are no more, else so many random ones.
        seed: of the random splits.

    Returns:
        The ceiling, and the standard deviation of rho over splits (0 for a single one), both (n_voxels,); the
        ceiling is NaN where rho is not positive.

    Raises:
        EncodingError: there are fewer than two repeats, or the array is not three-dimensional.

    Source: Spearman (1910); Brown (1910). As a ceiling of encoding models: Hsu et al. (2004).
    """
    repeats = check_repeats(repeats)
    n_repeats = len(repeats)
    correlations = repeat_correlations(repeats)
    splits = _halves(n_repeats, max_splits, seed)
    rho = np.empty((len(splits), repeats.shape[2]))
    for k, (one, other) in enumerate(splits):
        between = correlations[np.ix_(one, other)].sum((0, 1))
        within = [correlations[np.ix_(half, half)].sum((0, 1)) for half in (one, other)]
        with np.errstate(invalid="ignore", divide="ignore"):
            rho[k] = between / np.sqrt(within[0] * within[1])
    mean, longer = positive(rho.mean(0)), n_repeats / (n_repeats // 2)
    return np.sqrt(longer * mean / (1.0 + (longer - 1.0) * mean)), rho.std(0)


def _halves(n_repeats: int, max_splits: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Disjoint pairs of n_repeats // 2 repeats; one repeat is left out in turn if their number is odd."""
    size = n_repeats // 2
    if max_splits < 1:
        raise EncodingError("no split is asked for", where=f"max_splits={max_splits}", expected="at least 1")
    n_splits = math.comb(n_repeats, size) * math.comb(n_repeats - size, size) // 2
    if n_splits <= max_splits:
        halves = list(itertools.combinations(range(n_repeats), size))
        return [(list(a), list(b)) for a in halves for b in halves if a < b and not set(a) & set(b)]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n_repeats).tolist() for _ in range(max_splits)]
    return [(order[:size], order[size : 2 * size]) for order in orders]


def _check(repeats: npt.NDArray[np.floating], prediction: npt.NDArray[np.floating]) -> int:
    repeats = check_repeats(repeats)
    if prediction.shape != repeats.shape[1:]:
        raise EncodingError(
            f"the prediction has shape {prediction.shape}", expected=f"{repeats.shape[1:]}, as each repeat"
        )
    return len(repeats)


def _refuse_other_units(repeats: npt.NDArray[np.floating], first_voxel: int) -> None:
    std = np.asarray(repeats, dtype=np.float64).std(1)
    off = np.flatnonzero((np.abs(std - 1.0) > 0.05).any(0) & (std > 0).all(0))
    if off.size:
        raise EncodingError(
            "the repeats are not z-scored over time, so the prediction's unit is unknown",
            where=f"voxel {first_voxel + int(off[0])}, standard deviation {std[0, off[0]]:.4g}",
            expected="standard deviation 1",
            remedy="zscore each repeat and predict z-scored responses",
        )

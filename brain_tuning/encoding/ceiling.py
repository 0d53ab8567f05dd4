"""How well a voxel can be predicted at all, from repeated presentations of one story.

Each repeat is z-scored over time first, so that its total power is 1, as in the field's code: the signal
power is then the share of a single repeat's variance that the stimulus explains. Variances are sample
variances (n_trs - 1). Voxels without signal (signal power not above 0), constant voxels and NaN give NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import EncodingError

_VOXELS_PER_BLOCK = 1024
FloatArray = npt.NDArray[np.float64]


def signal_power(repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Share of a single repeat's variance that all repeats have in common.

    ``SP = (R var(y) - 1) / (R - 1)`` where y is the mean of the R z-scored repeats.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels), at least two repeats.

    Returns:
        SP (n_voxels,); it may be negative for voxels without signal; NaN for constant voxels and NaN.

    Raises:
        EncodingError: there are fewer than two repeats, or the array is not three-dimensional.

    Source: Schoppe et al. (2016), eq. 1, with total power 1.
    """
    n_repeats = _check(repeats)
    power = np.empty(repeats.shape[2])
    for voxels, mean in _mean_responses(repeats):
        power[voxels] = (n_repeats * mean.var(0, ddof=1) - 1.0) / (n_repeats - 1)
    return power


def noise_ceiling(repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Greatest correlation with the mean of the repeats that a perfect model can reach.

    ``CC_max = 1 / sqrt(1 + (1 / SP - 1) / R)``.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels), at least two repeats.

    Returns:
        CC_max (n_voxels,), NaN where SP is not positive.

    Raises:
        EncodingError: there are fewer than two repeats, or the array is not three-dimensional.

    Source: Schoppe et al. (2016), eq. 8.
    """
    n_repeats = _check(repeats)
    return np.asarray(1.0 / np.sqrt(1.0 + (1.0 / _positive(signal_power(repeats)) - 1.0) / n_repeats))


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
    for voxels, mean in _mean_responses(repeats):
        r[voxels] = pearson_r(prediction[:, voxels], mean)
    return r / noise_ceiling(repeats)


def signal_power_explained(
    prediction: npt.NDArray[np.floating], repeats: npt.NDArray[np.floating]
) -> FloatArray:
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
    for voxels, mean in _mean_responses(repeats):
        _refuse_other_units(repeats[:, :, voxels], voxels.start)
        left = mean - prediction[:, voxels]
        power = (n_repeats * mean.var(0, ddof=1) - 1.0) / (n_repeats - 1)
        explained[voxels] = (mean.var(0, ddof=1) - left.var(0, ddof=1)) / _positive(power)
    return explained


def _mean_responses(repeats: npt.NDArray[np.floating]) -> Iterator[tuple[slice, FloatArray]]:
    """Mean of the z-scored repeats, a block of voxels at a time, so that memory stays small."""
    for begin in range(0, repeats.shape[2], _VOXELS_PER_BLOCK):
        voxels = slice(begin, min(begin + _VOXELS_PER_BLOCK, repeats.shape[2]))
        mean = np.zeros((repeats.shape[1], voxels.stop - begin))
        for repeat in repeats:
            mean += zscore(np.asarray(repeat[:, voxels], dtype=np.float64))
        yield voxels, mean / repeats.shape[0]


def _positive(power: FloatArray) -> FloatArray:
    return np.where(power > 0, power, np.nan)


def _check(repeats: npt.NDArray[np.floating], prediction: npt.NDArray[np.floating] | None = None) -> int:
    if repeats.ndim != 3 or repeats.shape[0] < 2:
        raise EncodingError(
            f"the noise ceiling needs repeated responses, got shape {repeats.shape}",
            expected="(n_repeats, n_trs, n_voxels) with at least 2 repeats",
            remedy="use a story that was presented more than once",
        )
    if prediction is not None and prediction.shape != repeats.shape[1:]:
        raise EncodingError(
            f"the prediction has shape {prediction.shape}", expected=f"{repeats.shape[1:]}, as each repeat"
        )
    return int(repeats.shape[0])


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

"""How much of what can be predicted in a voxel a prediction explains, from repeated presentations of one story.

Signal power and noise ceiling are those of :mod:`brain_tuning.corpus.ceiling`. Voxels without signal (signal
power not above 0), constant voxels and NaN give NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from brain_tuning.corpus.ceiling import check_repeats, mean_responses, positive, signal_power
from brain_tuning.corpus.ceiling import schoppe_ceiling as noise_ceiling
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import EncodingError

__all__ = ["cc_norm", "noise_ceiling", "signal_power", "signal_power_explained"]

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


def _check(repeats: npt.NDArray[np.floating], prediction: npt.NDArray[np.floating]) -> int:
    n_repeats = check_repeats(repeats)
    if prediction.shape != repeats.shape[1:]:
        raise EncodingError(
            f"the prediction has shape {prediction.shape}", expected=f"{repeats.shape[1:]}, as each repeat"
        )
    return n_repeats


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

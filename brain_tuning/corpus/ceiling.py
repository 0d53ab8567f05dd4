"""How well a voxel can be predicted at all, from repeated presentations of one story.

Each repeat is z-scored over time first (population standard deviation), so that its total power is 1, as in the
field's code: the signal power is then the share of a single repeat's variance that the stimulus explains. The
variance of the repeats' mean is the sample variance (n_trs - 1). This module is the only definition.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from brain_tuning.errors import EncodingError

_VOXELS_PER_BLOCK = 1024
#: a voxel varies in a repeat if its standard deviation is above this share of its root mean square
_MIN_RELATIVE_STD = 1e-6
FloatArray = npt.NDArray[np.float64]


def signal_power(repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Share of a single repeat's variance that all repeats have in common.

    ``SP = (R var(y) - 1) / (R - 1)`` where y is the mean of the R z-scored repeats.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels), at least two repeats.

    Returns:
        SP (n_voxels,); it may be negative for voxels without signal; NaN where a repeat holds a value that is
        not finite or does not vary.

    Raises:
        EncodingError: there are fewer than two repeats, or the array is not three-dimensional.

    Source: Schoppe et al. (2016), eq. 1, with total power 1.
    """
    repeats = check_repeats(repeats)
    n_repeats = len(repeats)
    power = np.empty(repeats.shape[2])
    for voxels, mean in mean_responses(repeats):
        power[voxels] = (n_repeats * mean.var(0, ddof=1) - 1.0) / (n_repeats - 1)
    return power


def schoppe_ceiling(repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Greatest correlation with the mean of the repeats that a perfect model can reach.

    ``CC_max = 1 / sqrt(1 + (1 / SP - 1) / R)``. Repeats without any noise give a value above 1 by about
    ``1 / (2 n_trs (R - 1))``: the sample variance of what z-scoring made 1.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels), at least two repeats.

    Returns:
        CC_max (n_voxels,), NaN where SP is NaN or not positive.

    Raises:
        EncodingError: there are fewer than two repeats, or the array is not three-dimensional.

    Source: Schoppe et al. (2016), eq. 8; Antonello et al. (2023), section 3.
    """
    return ceiling_of(signal_power(repeats), len(repeats))


def ceiling_of(power: FloatArray, n_repeats: int) -> FloatArray:
    """Noise ceiling of the mean of n_repeats repeats from the signal power of one; NaN where it is not positive."""
    return np.asarray(1.0 / np.sqrt(1.0 + (1.0 / positive(power) - 1.0) / n_repeats))


def mean_responses(repeats: npt.NDArray[np.floating]) -> Iterator[tuple[slice, FloatArray]]:
    """Mean of the z-scored repeats, a block of voxels at a time, so that memory stays small.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels).

    Yields:
        Which voxels, and their mean responses (n_trs, n_voxels of the block), NaN for voxels of which a
        repeat holds a value that is not finite or does not vary.
    """
    for begin in range(0, repeats.shape[2], _VOXELS_PER_BLOCK):
        voxels = slice(begin, min(begin + _VOXELS_PER_BLOCK, repeats.shape[2]))
        mean = np.zeros((repeats.shape[1], voxels.stop - begin))
        for repeat in repeats:
            mean += standardised(repeat[:, voxels])
        yield voxels, mean / repeats.shape[0]


def repeat_correlations(repeats: npt.NDArray[np.floating]) -> FloatArray:
    """Correlations between all pairs of repeats.

    Args:
        repeats: responses to the same story (n_repeats, n_trs, n_voxels).

    Returns:
        Correlations (n_repeats, n_repeats, n_voxels); NaN for voxels of which a repeat holds a value that is not
        finite or does not vary.
    """
    n_repeats, n_trs, n_voxels = repeats.shape
    r = np.empty((n_repeats, n_repeats, n_voxels))
    for begin in range(0, n_voxels, _VOXELS_PER_BLOCK):
        voxels = slice(begin, min(begin + _VOXELS_PER_BLOCK, n_voxels))
        z = np.stack([standardised(repeat[:, voxels]) for repeat in repeats])
        for k in range(n_repeats):
            r[k, :, voxels] = np.einsum("tv,rtv->rv", z[k], z) / n_trs
    return np.where(np.isfinite(r).all((0, 1)), r, np.nan)


def standardised(repeat: npt.NDArray[np.floating]) -> FloatArray:
    """One repeat z-scored over time (n_trs, n_voxels), NaN for voxels that are not finite or do not vary."""
    values = np.asarray(repeat, dtype=np.float64)
    # Values that are not finite are meant to become NaN here.
    with np.errstate(invalid="ignore", over="ignore"):
        centred = values - values.mean(0)
        std = centred.std(0)
        varies = std > _MIN_RELATIVE_STD * np.sqrt(np.mean(np.square(values), 0))
        return np.asarray(centred / np.where(varies, std, np.nan))


def positive(power: FloatArray) -> FloatArray:
    """Signal power, NaN where it is not positive: such a voxel has no ceiling."""
    return np.where(power > 0, power, np.nan)


def check_repeats(repeats: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Repeats as an array; EncodingError unless they are real, (n_repeats, n_trs, n_voxels), two or more of each."""
    found = np.asarray(repeats)
    if found.ndim != 3 or min(found.shape[:2]) < 2 or found.dtype.kind not in "fiu":
        raise EncodingError(
            f"the noise ceiling needs repeated responses, got {found.dtype} of shape {found.shape}",
            expected="real numbers (n_repeats, n_trs, n_voxels), at least 2 TRs and at least 2 repeats",
            remedy="use a story that was presented more than once",
        )
    return found

"""Noise ceiling of a voxel from repeated measurements."""

from __future__ import annotations

import numpy as np

_BLOCK_VOXELS = 2048


def schoppe_ceiling(repeats: np.ndarray) -> np.ndarray:
    """Greatest correlation with the mean of the repeats that a perfect model can reach.

    With each repeat z-scored over time, TP the mean over repeats of their variance and y their mean::

        SP = (R var(y) - TP) / (R - 1)
        CC_max = 1 / sqrt(1 + (TP / SP - 1) / R)

    Args:
        repeats: responses of shape (n_repeats, n_trs, n_voxels), at least two repeats.

    Returns:
        float32 of shape (n_voxels,); NaN where a repeat holds a non-finite value or does not vary, and
        where the signal power SP is not positive.

    Raises:
        ValueError: fewer than two repeats, or not three dimensions.

    Source:
        Schoppe et al. 2016, eqs. 1 and 8; Antonello et al. 2023, section 3.
    """
    if repeats.ndim != 3 or repeats.shape[0] < 2:
        raise ValueError(f"repeats of shape (n_repeats >= 2, n_trs, n_voxels) expected, got {repeats.shape}")
    cc_max = np.empty(repeats.shape[2], np.float32)
    for first in range(0, repeats.shape[2], _BLOCK_VOXELS):
        block = slice(first, first + _BLOCK_VOXELS)
        cc_max[block] = _cc_max(np.asarray(repeats[:, :, block], dtype=np.float64))
    return cc_max


def _cc_max(repeats: np.ndarray) -> np.ndarray:
    n_repeats = repeats.shape[0]
    # Non-finite and unvarying voxels are meant to become NaN here.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        centred = repeats - repeats.mean(axis=1, keepdims=True)
        scale = centred.std(axis=1, keepdims=True)
        scale[scale <= 1e-6 * np.sqrt(np.mean(repeats**2, axis=1, keepdims=True))] = np.nan
        z = centred / scale
        total_power = z.var(axis=1).mean(axis=0)
        signal_power = (n_repeats * z.mean(axis=0).var(axis=0) - total_power) / (n_repeats - 1)
        signal_power[~(signal_power > 0)] = np.nan
        return 1.0 / np.sqrt(1.0 + (total_power / signal_power - 1.0) / n_repeats)

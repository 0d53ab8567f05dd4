"""Minus the mean over TRs of the correlation across voxels."""

from __future__ import annotations

import torch

from .masking import usable
from .similarity import correlation


def spatial_correlation_loss(
    prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None
) -> torch.Tensor:
    """``-mean_t r(prediction[t, :], bold[t, :])``, Pearson r across the voxels of each TR.

    Level and scale of each TR's pattern are free. TRs whose pattern is flat count as r = 0. Against ``mse`` it does
    not ask how far a voxel departs from its mean, only where in the region the response is high and low;
    ``ceiling_weighted`` is the same with weights, ``temporal_correlation`` the same along the other axis.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels); voxels with a NaN in the block are left out of it.
        noise_ceiling: not used.

    Returns:
        Scalar in [-1, 1], -1 where every pattern is predicted up to level and scale.

    Raises:
        EncodingError: shapes differ, or fewer than two voxels are free of NaN.

    Source: Vattikonda et al. 2025, the loss of their reported models, which predict the cortex 12.5 % better than the
    pretrained model on average (relative gain). Moussa & Toneva 2025 compared it with MSE over several participants:
    the better one with up to six hours of data, the worse one with all of it. What Negi et al. 2025
    call so is ``temporal_correlation``.
    """
    predicted, measured, _ = usable(prediction, bold, n_voxels=2)
    return -correlation(predicted, measured, dim=1).mean()

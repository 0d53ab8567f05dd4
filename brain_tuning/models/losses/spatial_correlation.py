"""Minus the mean over TRs of the correlation across voxels."""

from __future__ import annotations

import torch

from .masking import usable


def spatial_correlation_loss(prediction: torch.Tensor, bold: torch.Tensor) -> torch.Tensor:
    """``-mean_t r(prediction[t, :], bold[t, :])``, Pearson r across the voxels of each TR, in float32.

    Voxels that hold a NaN within the block are left out of it. TRs whose pattern is flat count as r = 0.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels); NaN where not measured.

    Returns:
        Scalar in [-1, 1].

    Raises:
        EncodingError: fewer than two voxels are free of NaN.

    Source: Vattikonda et al. 2025, who found it better than MSE for one subject's cortex; Moussa & Toneva
    2025 found it best with at most six hours of data.
    """
    predicted, measured = usable(prediction, bold, at_least=2)
    predicted = predicted - predicted.mean(1, keepdim=True)
    measured = measured - measured.mean(1, keepdim=True)
    return -torch.nn.functional.cosine_similarity(predicted, measured, dim=1, eps=1e-8).mean()

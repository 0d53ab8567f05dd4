"""Spatial correlation and mean squared error together."""

from __future__ import annotations

import torch

from .masking import usable
from .similarity import correlation


def spatial_correlation_mse_loss(
    prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None
) -> torch.Tensor:
    """``(1 - mean_t r(prediction[t, :], bold[t, :])) + mean_{t,v} (prediction - bold)^2``.

    ``spatial_correlation`` for the shape of each TR's pattern and ``mse`` for level and scale, which the first
    leaves free, with weight 1 each.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels), z-scored over time; voxels with a NaN in the block are left out of it.
        noise_ceiling: not used.

    Returns:
        Scalar of at least 0, which is the loss of a perfect prediction.

    Raises:
        EncodingError: shapes differ, or fewer than two voxels are free of NaN.

    Source: RABBiT (Moussa & Toneva 2026), which reaches r of about 0.20 in language regions of another data set than
    it was tuned on; what the loss contributed to that is not known to us. Theirs takes r within each region of a
    parcellation, ours over all voxels of the head; theirs adds 1e-3 times an anchor term, which is left out here.
    """
    predicted, measured, _ = usable(prediction, bold, n_voxels=2)
    r = correlation(predicted, measured, dim=1).mean()
    return 1 - r + torch.nn.functional.mse_loss(predicted, measured)

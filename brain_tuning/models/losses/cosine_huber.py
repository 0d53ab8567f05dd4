"""Cosine of each TR's pattern and a robust error of each value together."""

from __future__ import annotations

import torch

from .masking import usable
from .similarity import cosine

#: error beyond which the penalty grows linearly, in standard deviations of BOLD
DELTA = 0.6


def cosine_huber_loss(
    prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None, *, delta: float = DELTA
) -> torch.Tensor:
    """``(1 - mean_t cos(prediction[t, :], bold[t, :])) + mean_{t,v} huber(prediction - bold)``.

    ``huber(e) = e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``. The cosine is taken across the
    voxels of each TR and not centred. Against ``spatial_correlation_mse``, the mean over voxels is part of the
    pattern, and single large errors (spikes, head motion) pull less.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels), z-scored over time; voxels with a NaN in the block are left out of it.
        noise_ceiling: not used.
        delta: where the quadratic part ends.

    Returns:
        Scalar of at least 0, which is the loss of a perfect prediction. TRs whose pattern is all zero count as
        cosine 0.

    Raises:
        EncodingError: shapes differ, or no voxel is free of NaN.

    Source: Moussa & Toneva 2025 compare "cosine + L2" with L2 (best with all data) and spatial correlation (best
    with up to six hours), so that it was the best with neither amount. That the L2 part is a robust error, with
    delta = 0.6 and weights of 1 each, is read in their released code; nothing here is ours but leaving out NaN.
    """
    predicted, measured, _ = usable(prediction, bold)
    similarity = cosine(predicted, measured, dim=1).mean()
    return 1 - similarity + torch.nn.functional.huber_loss(predicted, measured, delta=delta)

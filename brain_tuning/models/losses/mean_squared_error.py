"""Mean squared error over TRs and voxels."""

from __future__ import annotations

import torch

from .masking import usable


def mean_squared_error_loss(prediction: torch.Tensor, bold: torch.Tensor) -> torch.Tensor:
    """``mean_{t,v} (prediction - bold)^2`` over voxels free of NaN in the block, in float32.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels), z-scored over time; NaN where not measured.

    Returns:
        Non-negative scalar.

    Raises:
        EncodingError: no voxel is free of NaN.

    Source: Moussa et al. 2025 (ICLR); Li et al. 2024.
    """
    predicted, measured = usable(prediction, bold, at_least=1)
    return (predicted - measured).square().mean()

"""Losses between predicted and measured BOLD, one a file, all with the same arguments.

``loss(prediction, bold, noise_ceiling=None)`` takes arrays of shape (n_trs, n_voxels) and the voxels' noise ceiling
(n_voxels,), and returns a float32 scalar, computed in float32 whatever is given. Voxels that hold a NaN within the
block are left out of it. A loss that has no use for the noise ceiling accepts and ignores it, so that one call
serves all of them.
"""

from __future__ import annotations

from typing import Protocol

import torch

from .ceiling_weighted import ceiling_weighted_loss
from .cosine_huber import cosine_huber_loss
from .mean_squared_error import mean_squared_error_loss
from .nt_xent import nt_xent_loss
from .spatial_correlation import spatial_correlation_loss
from .spatial_correlation_mse import spatial_correlation_mse_loss
from .temporal_correlation import temporal_correlation_loss


class Loss(Protocol):
    """What every loss can be called with."""

    def __call__(
        self, prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss of one block of TRs."""


LOSSES: dict[str, Loss] = {
    "spatial_correlation": spatial_correlation_loss,
    "mse": mean_squared_error_loss,
    "temporal_correlation": temporal_correlation_loss,
    "spatial_correlation_mse": spatial_correlation_mse_loss,
    "cosine_huber": cosine_huber_loss,
    "nt_xent": nt_xent_loss,
    "ceiling_weighted": ceiling_weighted_loss,
}

__all__ = [
    "LOSSES",
    "Loss",
    "ceiling_weighted_loss",
    "cosine_huber_loss",
    "mean_squared_error_loss",
    "nt_xent_loss",
    "spatial_correlation_loss",
    "spatial_correlation_mse_loss",
    "temporal_correlation_loss",
]

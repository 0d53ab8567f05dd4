"""Losses between predicted and measured BOLD, one a file, all of the form loss(prediction, bold)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .mean_squared_error import mean_squared_error_loss
from .spatial_correlation import spatial_correlation_loss

LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "spatial_correlation": spatial_correlation_loss,
    "mse": mean_squared_error_loss,
}

__all__ = ["LOSSES", "mean_squared_error_loss", "spatial_correlation_loss"]

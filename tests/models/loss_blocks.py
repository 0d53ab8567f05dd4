"""Small blocks of predictions and responses, and every loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brain_tuning.models.losses import (
    LOSSES,
)

ALL = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


NAN = float("nan")


def block(n_trs: int = 6, n_voxels: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prediction, BOLD and noise ceiling in float64, all of them representable in float32."""
    rng = np.random.default_rng(seed)
    bold = rng.normal(size=(n_trs, n_voxels))
    prediction = 0.5 * bold + rng.normal(size=(n_trs, n_voxels)) + 0.3
    ceiling = rng.uniform(0.1, 1.0, size=n_voxels)
    prediction, bold, ceiling = (torch.from_numpy(a.astype(np.float32)).double() for a in (prediction, bold, ceiling))
    return prediction, bold, ceiling

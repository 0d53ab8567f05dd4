"""Minus the mean over voxels of the correlation over time."""

from __future__ import annotations

import torch

from .masking import usable
from .similarity import correlation


def temporal_correlation_loss(
    prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None
) -> torch.Tensor:
    """``-mean_v r(prediction[:, v], bold[:, v])``, Pearson r over the TRs of the block, for each voxel.

    It is the score of encoding models, taken within a block: what is slower than the block does not count. Each
    voxel's mean and scale are free, where ``spatial_correlation`` frees those of each TR. Voxels that do not vary
    within the block count as r = 0.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels); voxels with a NaN in the block are left out of it.
        noise_ceiling: not used.

    Returns:
        Scalar in [-1, 1], -1 where every time course is predicted up to level and scale.

    Raises:
        EncodingError: shapes differ, no voxel is free of NaN, or there are fewer than three TRs (two points
            correlate at 1 or -1 whatever they are).

    Source: an option in the code of Vattikonda et al. 2025; a result of theirs with it is not known to us. What the
    released code of Negi et al. 2025 calls spatial correlation averages over TRs for each voxel, too: it is this loss
    times (n_trs - 1) / n_trs, and they found it worse than contrast (``nt_xent``).
    """
    predicted, measured, _ = usable(prediction, bold, n_trs=3)
    return -correlation(predicted, measured, dim=0).mean()

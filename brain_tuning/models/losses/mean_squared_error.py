"""Mean squared error over TRs and voxels."""

from __future__ import annotations

import torch

from .masking import usable


def mean_squared_error_loss(
    prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None
) -> torch.Tensor:
    """``mean_{t,v} (prediction - bold)^2``.

    It fixes the level and scale of every value, which the correlations leave free: for BOLD z-scored over time,
    predicting 0 gives 1 on average, and the best prediction of a noisy voxel is a shrunken one.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels), z-scored over time; voxels with a NaN in the block are left out of it.
        noise_ceiling: not used.

    Returns:
        Scalar of at least 0.

    Raises:
        EncodingError: shapes differ, or no voxel is free of NaN.

    Source: Moussa et al. 2025 (ICLR), who gained about 30 % of late-language alignment with it for wav2vec 2.0 and
    HuBERT and nothing significant for Whisper; best with all data in the comparison of Moussa & Toneva 2025, worse than
    contrast in that of Negi et al. 2025. Li et al. 2024 add an L2 penalty of the weights, and found five tasks of
    SUPERB (PR, IC, SID, ASR, ASV) improved; the penalty belongs to the optimiser, as coupled weight decay
    (``l2_penalty`` in the recipe), not to this function.
    """
    predicted, measured, _ = usable(prediction, bold)
    return torch.nn.functional.mse_loss(predicted, measured)

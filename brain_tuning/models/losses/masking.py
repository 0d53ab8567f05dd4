"""Which voxels of a block a loss may use."""

from __future__ import annotations

import torch

from brain_tuning.errors import EncodingError


def usable(
    prediction: torch.Tensor, bold: torch.Tensor, *, n_voxels: int = 1, n_trs: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both arrays in float32, restricted to voxels without NaN in this block of TRs.

    Args:
        prediction, bold: (n_trs, n_voxels).
        n_voxels, n_trs: the fewest that the loss is defined for.

    Returns:
        Prediction and BOLD (n_trs, n_kept), and which voxels were kept, (n_voxels,), bool.

    Raises:
        EncodingError: shapes differ or are not of two axes, or too few voxels or TRs are left.
    """
    if bold.ndim != 2 or prediction.shape != bold.shape:
        raise EncodingError(
            f"prediction has shape {tuple(prediction.shape)}, BOLD {tuple(bold.shape)}",
            expected="equal shapes (n_trs, n_voxels)",
        )
    if len(bold) < n_trs:
        raise EncodingError(
            f"the block has too few TRs for this loss: {len(bold)}",
            expected=f"at least {n_trs}",
            remedy="choose a larger block_trs in the recipe, or another loss",
        )
    kept = torch.isfinite(bold).all(0)
    predicted, measured = prediction.float(), bold.float()
    if not bool(kept.all()):
        predicted, measured = predicted[:, kept], measured[:, kept]
    if predicted.shape[1] < n_voxels:
        raise EncodingError(
            f"{predicted.shape[1]} of {bold.shape[1]} voxels are free of NaN in this block",
            expected=f"at least {n_voxels}",
            remedy="choose a larger region, or exclude the NaN voxels when the corpus is made",
        )
    return predicted, measured, kept

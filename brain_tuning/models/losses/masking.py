"""Which voxels of a block a loss may use."""

from __future__ import annotations

import torch

from brain_tuning.errors import EncodingError


def usable(prediction: torch.Tensor, bold: torch.Tensor, *, at_least: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both arrays in float32, restricted to voxels without NaN in this block of TRs.

    Args:
        prediction, bold: (n_trs, n_voxels).
        at_least: voxels the loss needs.

    Raises:
        EncodingError: shapes differ, or too few voxels are left.
    """
    if prediction.shape != bold.shape:
        raise EncodingError(
            f"prediction has shape {tuple(prediction.shape)}, BOLD {tuple(bold.shape)}",
            expected="equal shapes (n_trs, n_voxels)",
        )
    finite = torch.isfinite(bold).all(0)
    predicted, measured = prediction.float(), bold.float()
    if not bool(finite.all()):
        predicted, measured = predicted[:, finite], measured[:, finite]
    if predicted.shape[1] < at_least:
        raise EncodingError(
            f"{predicted.shape[1]} of {bold.shape[1]} voxels are free of NaN in this block",
            expected=f"at least {at_least}",
            remedy="choose a larger region, or exclude the NaN voxels when the corpus is made",
        )
    return predicted, measured

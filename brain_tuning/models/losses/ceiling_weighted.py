"""Spatial correlation in which reliable voxels count for more."""

from __future__ import annotations

import torch

from brain_tuning.errors import EncodingError

from .masking import usable
from .similarity import cosine


def ceiling_weighted_loss(
    prediction: torch.Tensor, bold: torch.Tensor, noise_ceiling: torch.Tensor | None = None
) -> torch.Tensor:
    """``-mean_t r_w(prediction[t, :], bold[t, :])``, Pearson r across voxels with weights w = noise ceiling.

    Means and products are weighted: ``r_w = cov_w(p, m) / sqrt(cov_w(p, p) cov_w(m, m))`` with
    ``cov_w(x, y) = sum_v w_v (x_v - x_w)(y_v - y_w) / sum_v w_v`` and ``x_w = sum_v w_v x_v / sum_v w_v``. A ceiling
    that is negative or not finite weighs 0, and the readout of such a voxel is not trained. Where all ceilings are
    equal it is ``spatial_correlation``.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels); voxels with a NaN in the block are left out of it, whatever their ceiling.
        noise_ceiling: greatest correlation a perfect model can reach, (n_voxels,), NaN where not known.

    Returns:
        Scalar in [-1, 1], -1 where every pattern is predicted up to level and scale over the voxels that weigh.

    Raises:
        EncodingError: shapes differ, there is no noise ceiling, it is above 0 in fewer than two usable voxels, or
            fewer than two voxels are free of NaN.

    Source: ours; nobody is known to have reported results with it. Moussa et al. 2025 (ICLR) tune on the voxels with a
    ceiling above 0.4; this is the gradual form of that choice, with the loss of Vattikonda et al. 2025. Correlation
    rather than MSE, because there the noise of a voxel that nothing can predict enters the norm by which all voxels are
    divided.
    """
    if noise_ceiling is None:
        raise EncodingError(
            "this loss needs the voxels' noise ceiling, and there is none",
            where="ceiling_weighted",
            expected="noise_ceiling of shape (n_voxels,)",
            remedy="use a corpus with a repeated story or a given noise ceiling, or another loss",
        )
    predicted, measured, kept = usable(prediction, bold, n_voxels=2)
    if noise_ceiling.shape != kept.shape:
        raise EncodingError(
            f"the noise ceiling has shape {tuple(noise_ceiling.shape)}",
            where="ceiling_weighted",
            expected=f"{tuple(kept.shape)}, one value a voxel",
        )
    ceiling = noise_ceiling.to(predicted)[kept]
    weight = torch.where(ceiling.isfinite() & (ceiling > 0), ceiling, 0)
    n_weighing = int(weight.count_nonzero())
    if n_weighing < 2:
        raise EncodingError(
            f"the noise ceiling is above 0 in {n_weighing} of {len(weight)} usable voxels",
            where="ceiling_weighted",
            expected="at least 2",
            remedy="choose a region that responds to the stories, or another loss",
        )
    weight = weight / weight.mean()
    root = weight.sqrt()
    predicted, measured = (
        (values - (values * weight).mean(1, keepdim=True)) * root for values in (predicted, measured)
    )
    return -cosine(predicted, measured, dim=1).mean()

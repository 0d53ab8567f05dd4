"""Contrast: which TR of the block does a predicted pattern belong to?"""

from __future__ import annotations

import torch

from brain_tuning.errors import EncodingError

from .masking import usable
from .similarity import length

TEMPERATURE = 0.5


def nt_xent_loss(
    prediction: torch.Tensor,
    bold: torch.Tensor,
    noise_ceiling: torch.Tensor | None = None,
    *,
    temperature: float = TEMPERATURE,
) -> torch.Tensor:
    """``-mean_t log(exp(s[t, t]) / sum_u exp(s[t, u]))``, with ``s[t, u] = cos(prediction[t], bold[u]) / temperature``.

    The normalised temperature-scaled cross-entropy, from predicted to measured patterns: each TR's measured pattern
    is the match of its prediction, those of all other TRs of the block are the mismatches. The other losses compare
    a prediction with its own TR only. This one asks for what tells TRs apart: what all TRs of a block share earns
    nothing, the scale is free, and the measured patterns themselves need not be its optimum. Its difficulty grows
    with ``block_trs``; neighbouring TRs are alike, because BOLD is slow, and count as mismatches all the same.

    Args:
        prediction: (n_trs, n_voxels), any float type.
        bold: (n_trs, n_voxels), z-scored over time; voxels with a NaN in the block are left out of it.
        noise_ceiling: not used.
        temperature: the lower, the more the most similar mismatch counts.

    Returns:
        Scalar of at least ``log(1 + (n_trs - 1) exp(-2 / temperature))``; ``log(n_trs)`` is chance, and what a TR
        counts as whose prediction is all zero.

    Raises:
        EncodingError: shapes differ, no voxel is free of NaN, there are fewer than two TRs, or the temperature is
            not above 0.

    Source: Negi et al. 2025, who found it better than MSE and spatial correlation for text models (see
    ``temporal_correlation`` for what their code calls so). Temperature, uncentred cosine and the one direction are
    those of their released code. That contrasts all TRs of the training set at once, and takes the exponential of
    the mismatches' sum; the block and the sum of exponentials, which is the usual form, are ours.
    """
    if not temperature > 0:
        raise EncodingError(f"the temperature is {temperature}", where="nt_xent", expected="above 0")
    predicted, measured, _ = usable(prediction, bold, n_trs=2)
    # A product of matrices is what autocast would take down to half precision.
    with torch.autocast(predicted.device.type, enabled=False):
        dot = predicted @ measured.T
    cosines = dot / (length(predicted, 1)[:, None] * length(measured, 1))
    own = torch.arange(len(cosines), device=cosines.device)
    return torch.nn.functional.cross_entropy(cosines / temperature, own)

"""Correlation and cosine of patterns, with a bounded gradient where a pattern is flat."""

from __future__ import annotations

import math

import torch

#: Patterns count as if they varied by at least this much, in units of BOLD's standard deviation: a flat pattern
#: then correlates 0 with everything, and its gradient is large but finite.
MIN_STD = 1e-6


def correlation(predicted: torch.Tensor, measured: torch.Tensor, dim: int) -> torch.Tensor:
    """Pearson r along ``dim``; the arguments and the result are those of :func:`cosine`."""
    return cosine(predicted - predicted.mean(dim, keepdim=True), measured - measured.mean(dim, keepdim=True), dim)


def cosine(predicted: torch.Tensor, measured: torch.Tensor, dim: int) -> torch.Tensor:
    """``sum(p m) / (|p| |m|)`` along ``dim``, where no length is taken as less than that of a pattern of ``MIN_STD``.

    Args:
        predicted, measured: (n_trs, n_voxels), float32.
        dim: 1 for one value a TR, 0 for one value a voxel.

    Returns:
        (n_trs,) or (n_voxels,), within [-1, 1] but for rounding; 0 where either pattern is all zero.
    """
    return (predicted * measured).sum(dim) / (length(predicted, dim) * length(measured, dim))


def length(pattern: torch.Tensor, dim: int) -> torch.Tensor:
    """Euclidean length along ``dim``, at least ``MIN_STD * sqrt(n)``."""
    return torch.linalg.vector_norm(pattern, dim=dim).clamp_min(MIN_STD * math.sqrt(pattern.shape[dim]))

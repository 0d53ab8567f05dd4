"""Voxelwise encoding models: ridge, story-level folds, scores and noise ceilings."""

from __future__ import annotations

from typing import Any

from .ceiling import cc_norm, noise_ceiling, signal_power, signal_power_explained
from .folds import Fold, contiguous_folds, story_folds
from .ridge import RidgeFit, huth_penalties, ridge_cv, ridge_weights
from .scores import PearsonSums, pearson_r, r2, signed_sqrt_r2, summarise_by_region, zscore

__all__ = [
    "Fold",
    "PearsonSums",
    "RidgeFit",
    "VoxelwiseRidge",
    "cc_norm",
    "contiguous_folds",
    "huth_penalties",
    "noise_ceiling",
    "pearson_r",
    "r2",
    "ridge_cv",
    "ridge_weights",
    "signal_power",
    "signal_power_explained",
    "signed_sqrt_r2",
    "story_folds",
    "summarise_by_region",
    "zscore",
]


def __getattr__(name: str) -> Any:
    # The estimator alone needs scikit-learn, which is slow to import.
    if name == "VoxelwiseRidge":
        from .estimator import VoxelwiseRidge

        return VoxelwiseRidge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

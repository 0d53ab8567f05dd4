"""Autocorrelated noise like that of responses and of predictions from delayed features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import signal
from scipy.ndimage import gaussian_filter1d

RUN_LENGTHS_TRS = (110, 90, 130)


def ar1(
    rng: np.random.Generator,
    n_voxels: int,
    *,
    runs: Sequence[int] = RUN_LENGTHS_TRS,
    coefficient: float = 0.5,
    n_averaged: int = 1,
    smoothed_voxels: float = 0.0,
) -> np.ndarray:
    """Stories of independent AR(1) noise (n_trs, n_voxels); averaged over TRs for that of four FIR delays.

    Voxels are independent, or smoothed over their neighbours by a Gaussian of that standard deviation.
    """
    stories = []
    for length in runs:
        white = rng.normal(size=(length + 100, n_voxels))
        if smoothed_voxels:
            white = gaussian_filter1d(white, smoothed_voxels, axis=1, mode="wrap")
        noise = signal.lfilter([1.0], [1.0, -coefficient], white, axis=0)
        stories.append(signal.lfilter(np.ones(n_averaged) / n_averaged, [1.0], noise, axis=0)[100:])
    return np.concatenate(stories)

"""Random ridge problems with folds, and penalties to choose from."""

from __future__ import annotations

import numpy as np

from brain_tuning.encoding.folds import Fold, story_folds

PENALTIES = np.logspace(-1, 4, 9)


def problem(n_trs: int, n_features: int, n_voxels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[Fold]]:
    """Features of unequal scale and mean, voxels of unequal noise, four stories."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_trs, n_features)) * rng.uniform(0.3, 2.0, n_features) + rng.normal(size=n_features)
    weights = rng.normal(size=(n_features, n_voxels)) / np.sqrt(n_features)
    y = x @ weights + rng.uniform(0.5, 3.0, n_voxels) * rng.normal(size=(n_trs, n_voxels)) + 5.0
    quarter = n_trs // 4
    lengths = [quarter, quarter, quarter, n_trs - 3 * quarter]
    return x, y, story_folds(["a", "b", "c", "d"], lengths)


class AskedBlocks:
    """Responses that can only be read in blocks of voxels, and remember which were asked for."""

    def __init__(self, bold: np.ndarray) -> None:
        self.bold, self.shape = bold, bold.shape
        self.asked: list[tuple[int, int]] = []

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        self.asked.append((key[1].start, key[1].stop))
        return self.bold[key]

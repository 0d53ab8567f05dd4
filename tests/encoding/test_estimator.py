"""The scikit-learn face of voxelwise ridge."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brain_tuning.encoding import VoxelwiseRidge, pearson_r, ridge_cv, story_folds


def test_it_wraps_the_function_and_fits_into_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    y = x @ rng.normal(size=(5, 4)) + rng.normal(size=(60, 4))
    folds = story_folds(["a", "b", "c"], [20, 20, 20])
    model = clone(VoxelwiseRidge(folds, penalties=[1.0, 10.0], criterion="r2"))
    fit = ridge_cv(x, y, folds, [1.0, 10.0], criterion="r2")
    np.testing.assert_array_equal(model.fit(x, y).fit_.weights, fit.weights)
    np.testing.assert_array_equal(model.predict(x), fit.predict(x))
    np.testing.assert_array_equal(model.score(x, y), pearson_r(fit.predict(x), y))
    assert make_pipeline(StandardScaler(), model).fit(x, y).score(x, y).shape == (4,)

"""The scikit-learn face of voxelwise ridge, plain and banded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ridge_problems import AskedBlocks
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from brain_tuning.encoding import VoxelwiseRidge, contiguous_folds, pearson_r, ridge_cv, story_folds
from brain_tuning.encoding.banded import banded_ridge_cv
from brain_tuning.encoding.estimator import BandedVoxelwiseRidge, as_folds
from brain_tuning.errors import EncodingError

_OWN_WORDS = "the error says what, where and what to do in words of the field, not in scikit-learn's"
#: where the contract of the field differs from scikit-learn's
EXPECTED = {
    "check_supervised_y_no_nan": "a voxel that holds a NaN scores NaN and is counted; it must not stop all others",
    "check_fit2d_1sample": f"{_OWN_WORDS}: one TR makes no folds",
    "check_requires_y_none": _OWN_WORDS,
    "check_dtype_object": f"{_OWN_WORDS}: responses that are no numbers",
}


@parametrize_with_checks([VoxelwiseRidge(), BandedVoxelwiseRidge()], expected_failed_checks=lambda estimator: EXPECTED)
def test_it_keeps_to_the_rules_of_scikit_learn(estimator, check) -> None:
    check(estimator)


def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    return x, x @ rng.normal(size=(5, 4)) + rng.normal(size=(60, 4))


def test_it_wraps_the_function_and_fits_into_scikit_learn() -> None:
    x, y = problem()
    folds = story_folds(["a", "b", "c"], [20, 20, 20])
    model = clone(VoxelwiseRidge(folds, penalties=[1.0, 10.0], criterion="r2", memory_mb=50))
    fit = ridge_cv(x, y, folds, [1.0, 10.0], criterion="r2")
    np.testing.assert_array_equal(model.fit(x, y).fit_.weights, fit.weights)
    np.testing.assert_array_equal(model.predict(x), fit.predict(x))
    np.testing.assert_array_equal(model.score(x, y), pearson_r(fit.predict(x), y))
    assert make_pipeline(StandardScaler(), model).fit(x, y).score(x, y).shape == (4,)


def test_banded_wraps_the_function() -> None:
    x, y = problem()
    folds = story_folds(["a", "b", "c"], [20, 20, 20])
    model = clone(BandedVoxelwiseRidge({"low": 2, "high": 3}, folds, [1.0, 10.0], candidates=6, random_state=3))
    spaces = {"low": x[:, :2], "high": x[:, 2:]}
    fit = banded_ridge_cv(spaces, y, folds, [1.0, 10.0], candidates=6, seed=3)
    np.testing.assert_array_equal(model.fit(x, y).fit_.weights, fit.weights)
    np.testing.assert_array_equal(model.predict(x), fit.predict(spaces))
    np.testing.assert_array_equal(model.score(x, y), pearson_r(fit.predict(spaces), y))
    with pytest.raises(EncodingError, match=r"spaces of 4 columns for 5 features \[low \(2\), high \(2\)\]"):
        BandedVoxelwiseRidge({"low": 2, "high": 2}, folds).fit(x, y)
    with pytest.raises(EncodingError, match=r"spaces=\[2, 3\]; expected name -> number of columns"):
        BandedVoxelwiseRidge([2, 3], folds).fit(x, y)
    with pytest.raises(EncodingError, match=r"spaces=\{'low': 2.0, 'high': 3\}; expected whole numbers"):
        BandedVoxelwiseRidge({"low": 2.0, "high": 3}, folds).fit(x, y)


def test_one_voxel_may_come_without_its_axis() -> None:
    x, y = problem()
    many, one = VoxelwiseRidge().fit(x, y[:, :1]), VoxelwiseRidge().fit(x, y[:, 0])
    np.testing.assert_array_equal(one.predict(x), many.predict(x)[:, 0])
    assert one.score(x, y[:, 0]) == many.score(x, y[:, :1]).item()
    assert isinstance(one.score(x, y[:, 0]), float)


def test_tables_of_pandas_are_taken_by_position() -> None:
    x, y = problem()
    plain = VoxelwiseRidge().fit(x, y)
    columns = pd.DataFrame(y, columns=list("abcd"), index=np.arange(60)[::-1])
    tables = VoxelwiseRidge().fit(pd.DataFrame(x), columns)
    np.testing.assert_allclose(tables.fit_.weights, plain.fit_.weights, rtol=1e-9)
    np.testing.assert_allclose(tables.score(pd.DataFrame(x), columns), plain.score(x, y), rtol=1e-9)
    one = VoxelwiseRidge().fit(pd.DataFrame(x), columns["b"])
    assert one.score(pd.DataFrame(x), columns["b"]) == pytest.approx(plain.score(x, y)[1], rel=1e-9)


@pytest.mark.parametrize("model", [VoxelwiseRidge, BandedVoxelwiseRidge])
def test_scores_are_computed_in_blocks(model) -> None:
    """User-pains 28: neither all responses nor all predictions are in memory at once."""
    x, y = problem()
    blocks = AskedBlocks(y)
    fitted = model(voxels_per_block=3).fit(x, blocks)
    blocks.asked.clear()
    np.testing.assert_allclose(fitted.score(x, blocks), pearson_r(fitted.predict(x), y), rtol=1e-12)
    assert [block for block in blocks.asked if block != (None, 1)] == [(0, 3), (3, 4)]


def test_responses_that_do_not_fit_are_not_scored() -> None:
    x, y = problem()
    fitted = VoxelwiseRidge().fit(x, y)
    for rows, measured, message in (
        (x[:50], y, r"responses of \(60, 4\); expected \(50, 4\)"),
        (x, y[:, :3], r"responses of \(60, 3\); expected \(60, 4\)"),
        (x, None, "there are no responses"),
    ):
        with pytest.raises(EncodingError, match=message):
            fitted.score(rows, measured)


def test_folds_may_be_a_number_a_splitter_or_pairs() -> None:
    x, y = problem()
    stories = np.repeat([0, 1, 2], [20, 20, 20])
    expected = story_folds(["a", "b", "c"], [20, 20, 20])
    pairs = list(LeaveOneGroupOut().split(x, groups=stories))
    for folds in (PredefinedSplit(stories), pairs, iter(pairs)):
        for made, wanted in zip(as_folds(folds, 60, 0), expected, strict=True):
            np.testing.assert_array_equal(made.train, wanted.train)
            np.testing.assert_array_equal(made.held_out, wanted.held_out)
    assert as_folds(expected, 60, 0) == expected
    for given, n_folds in ((None, 5), (4, 4)):
        for made, wanted in zip(as_folds(given, 60, 3), contiguous_folds(60, n_folds, gap_trs=3), strict=True):
            np.testing.assert_array_equal(made.train, wanted.train)
    np.testing.assert_array_equal(
        VoxelwiseRidge(PredefinedSplit(stories)).fit(x, y).fit_.weights, VoxelwiseRidge(expected).fit(x, y).fit_.weights
    )


@pytest.mark.parametrize(
    ("folds", "y", "message"),
    [
        (["abc", "def"], None, "fold 0 is str; expected a Fold, or row indices"),
        ([([0, 1], [1, 2])], None, "1 rows are both trained on and held out"),
        ([(np.arange(60) < 40, np.arange(60) >= 40)], None, r"fold 0 is tuple \[bool and bool\]; .*flatnonzero"),
        ([(np.arange(40.0), np.arange(40.0, 60))], None, r"fold 0 is tuple \[float64 and float64\]"),
        ("abc", None, "folds='abc'; expected folds, their number, a splitter, or pairs"),
        (2.5, None, "folds=2.5; expected folds, their number"),
        (1, None, "1 folds; expected at least 2"),
        (None, "none", "there are no responses .*expected y of"),
        (None, "text", "the responses are no real numbers"),
    ],
)
def test_wrong_input_is_named(folds, y, message: str) -> None:
    x, responses = problem()
    given = {None: responses, "none": None, "text": responses.astype(str)}[y]
    with pytest.raises(EncodingError, match=message):
        VoxelwiseRidge(folds).fit(x, given)


def test_a_splitter_that_needs_groups_is_given_as_pairs() -> None:
    """scikit-learn's own error of a group splitter without groups is not hidden."""
    x, y = problem()
    with pytest.raises(ValueError, match="'groups' parameter"):
        VoxelwiseRidge(GroupKFold(2)).fit(x, y)

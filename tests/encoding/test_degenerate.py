"""Each degenerate input gives the right answer or a clear error, by the function, the estimator and banded ridge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from brain_tuning.encoding.banded import banded_ridge_cv
from brain_tuning.encoding.estimator import BandedVoxelwiseRidge, VoxelwiseRidge
from brain_tuning.encoding.folds import Fold, contiguous_folds, story_folds
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import EncodingError
from brain_tuning.timing import fir_delays

PENALTIES = np.logspace(-1, 4, 6)
LENGTHS = [22, 18, 20, 24]
N_TRS = sum(LENGTHS)
FOLDS = story_folds(list("abcd"), LENGTHS)


def by_function(x, y, folds=FOLDS, penalties=PENALTIES) -> SimpleNamespace:
    return SimpleNamespace(**vars(ridge_cv(x, y, folds, penalties)))


def by_estimator(x, y, folds=FOLDS, penalties=PENALTIES) -> SimpleNamespace:
    return SimpleNamespace(**vars(VoxelwiseRidge(folds, penalties).fit(x, y).fit_))


def by_banded(x, y, folds=FOLDS, penalties=PENALTIES) -> SimpleNamespace:
    """One space: the same model as plain ridge."""
    fit = banded_ridge_cv({"all": x}, y, folds, penalties)
    return SimpleNamespace(**{**vars(fit), "penalty": fit.penalty[0]})


def by_banded_estimator(x, y, folds=FOLDS, penalties=PENALTIES) -> SimpleNamespace:
    fit = BandedVoxelwiseRidge(None, folds, penalties).fit(x, y).fit_
    return SimpleNamespace(**{**vars(fit), "penalty": fit.penalty[0]})


Route = Callable[..., SimpleNamespace]


@pytest.fixture(params=[by_function, by_estimator, by_banded, by_banded_estimator])
def fit(request: pytest.FixtureRequest) -> Route:
    return request.param


def problem(n_features: int = 7, n_voxels: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N_TRS, n_features)) + rng.normal(size=n_features)
    y = x @ rng.normal(size=(n_features, n_voxels)) + 2 * rng.normal(size=(N_TRS, n_voxels)) + 4.0
    return x, y


def assert_solves(fitted: SimpleNamespace, x: np.ndarray, y: np.ndarray, atol: float = 1e-8) -> None:
    """The weights are those of scikit-learn in float64 at the penalties chosen."""
    expected = Ridge(alpha=fitted.penalty).fit(np.asarray(x, np.float64), np.asarray(y, np.float64))
    np.testing.assert_allclose(fitted.weights, expected.coef_.reshape(y.shape[1], -1).T, atol=atol)
    np.testing.assert_allclose(fitted.intercept, np.ravel(expected.intercept_), atol=10 * atol)


def assert_same(fitted: SimpleNamespace, expected: SimpleNamespace, voxels=slice(None), rtol: float = 1e-9) -> None:
    for name in ("weights", "intercept", "penalty", "cv_score", "n_folds_used"):
        ours, theirs = (getattr(one, name)[..., voxels] for one in (fitted, expected))
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=name)


def assert_nan(fitted: SimpleNamespace, voxels) -> None:
    for name in ("weights", "intercept", "penalty", "cv_score"):
        assert np.isnan(getattr(fitted, name)[..., voxels]).all(), name
    assert (fitted.n_folds_used[voxels] == 0).all()


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9, 0.1])
def test_a_constant_voxel_is_nan_and_disturbs_no_other(fit: Route, value: float) -> None:
    """User-pains 2; 0.1 has no exact mean in binary."""
    x, y = problem()
    clean = fit(x, y)
    y[:, 2] = value
    fitted = fit(x, y)
    assert_nan(fitted, [2])
    assert_same(fitted, clean, [0, 1, 3, 4, 5])


def test_a_run_of_nan_in_some_voxels_is_theirs_alone(fit: Route) -> None:
    """User-pains 3."""
    x, y = problem()
    clean = fit(x, y)
    y[22:40, [1, 4]] = np.nan
    fitted = fit(x, y)
    assert_nan(fitted, [1, 4])
    assert_same(fitted, clean, [0, 2, 3, 5])


def test_a_run_of_nan_in_all_voxels_leaves_none(fit: Route) -> None:
    """All NaN and counted: which runs to leave out is for the caller to say."""
    x, y = problem()
    y[22:40] = np.nan
    assert_nan(fit(x, y), slice(None))
    kept = np.r_[0:22, 40:N_TRS]
    folds = story_folds(list("acd"), [22, 20, 24])
    assert_solves(fit(x[kept], y[kept], folds), x[kept], y[kept])


def test_features_with_a_run_of_nan_are_refused(fit: Route) -> None:
    """A z-score of features that are constant within a run makes one."""
    x, y = problem()
    x[22:40, 3] = np.nan
    with pytest.raises(EncodingError, match=r"1 of 7 features .*hold NaN .*\[first: feature 3, TR 22\]"):
        fit(x, y)


def test_a_single_story_is_cut_into_blocks(fit: Route) -> None:
    with pytest.raises(EncodingError, match=r"need at least two stories .*use contiguous_folds"):
        story_folds(["a"], [N_TRS])
    x, y = problem()
    folds = contiguous_folds(N_TRS, 4, gap_trs=5)
    fitted = fit(x, y, folds)
    assert_solves(fitted, x, y)
    scores = np.empty((len(folds), PENALTIES.size, y.shape[1]))
    for k, fold in enumerate(folds):
        for p, penalty in enumerate(PENALTIES):
            prediction = Ridge(alpha=penalty).fit(x[fold.train], y[fold.train]).predict(x[fold.held_out])
            scores[k, p] = pearson_r(prediction, y[fold.held_out])
    np.testing.assert_allclose(fitted.cv_score, scores.mean(0).max(0), atol=1e-9)
    np.testing.assert_allclose(fitted.penalty, PENALTIES[scores.mean(0).argmax(0)])


def test_a_run_shorter_than_the_delays_gives_zeros(fit: Route) -> None:
    """Delays of 1 to 4 TRs of a run of 3: the third and fourth copy never arrive."""
    x, y = problem(n_features=2)
    short = fir_delays(x[:3], (1, 2, 3, 4))
    np.testing.assert_array_equal(short[:, 4:], 0.0)
    delayed = np.concatenate([short, fir_delays(x[3:], (1, 2, 3, 4))])
    assert_solves(fit(delayed, y), delayed, y)
    # All runs that short: the late copies have no weight, and a design of them alone predicts nothing.
    runs = np.concatenate([fir_delays(x[k : k + 3], (1, 2, 3, 4)) for k in range(0, N_TRS, 3)])
    fitted = fit(runs, y)
    np.testing.assert_array_equal(fitted.weights[4:], 0.0)
    assert_solves(fitted, runs, y)
    assert_nan(fit(runs[:, 4:], y), slice(None))


def test_one_voxel_and_one_feature_have_a_closed_form(fit: Route) -> None:
    """``w = x'y / (x'x + penalty)`` of centred x and y."""
    x, y = problem(1, 1)
    fitted = fit(x, y)
    assert fitted.penalty[0] == PENALTIES[0]  # all penalties score the same: the smallest is taken
    xc, yc = x - x.mean(), y - y.mean()
    weight = (xc * yc).sum() / ((xc**2).sum() + fitted.penalty[0])
    assert fitted.weights.shape == (1, 1)
    assert fitted.weights.item() == pytest.approx(weight)
    assert fitted.intercept.item() == pytest.approx(y.mean() - x.mean() * weight)


@pytest.mark.parametrize("penalties", [[0.0], [0.0, 1.0], [1.0, -1.0], [np.nan], [np.inf], []])
def test_a_penalty_of_zero_is_refused(fit: Route, penalties: list[float]) -> None:
    x, y = problem()
    with pytest.raises(EncodingError, match=r"penalties are not positive numbers .*expected .* above 0"):
        fit(x, y, penalties=penalties)


def test_a_penalty_of_almost_zero_gives_least_squares(fit: Route) -> None:
    x, y = problem()
    fitted = fit(x, y, penalties=[1e-10])
    design = np.column_stack([x, np.ones(N_TRS)])
    expected = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(fitted.weights, expected[:-1], atol=1e-9)
    np.testing.assert_allclose(fitted.intercept, expected[-1], atol=1e-9)


def test_more_features_than_trs(fit: Route) -> None:
    """User-pains 29: the kernel form, ``X'(XX' + penalty)^-1 y`` of centred X and y."""
    x, y = problem(n_features=150)
    fitted = fit(x, y)
    xc, yc = x - x.mean(0), y - y.mean(0)
    for v, penalty in enumerate(fitted.penalty):
        expected = xc.T @ np.linalg.solve(xc @ xc.T + penalty * np.eye(N_TRS), yc[:, v])
        np.testing.assert_allclose(fitted.weights[:, v], expected, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [7, 60])
def test_duplicated_features_share_their_weight(fit: Route, n_features: int, dtype) -> None:
    """Twice a feature is one feature times root 2; in the wide case the kernel is singular besides."""
    x, y = problem(n_features)
    doubled = fit(np.hstack([x, x]).astype(dtype), y)
    single = fit(np.sqrt(2) * x, y)
    atol = 1e-10 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(doubled.cv_score, single.cv_score, atol=atol)
    np.testing.assert_allclose(doubled.penalty, single.penalty)
    np.testing.assert_allclose(doubled.weights[:n_features], single.weights / np.sqrt(2), atol=atol)
    np.testing.assert_allclose(doubled.weights[n_features:], doubled.weights[:n_features], atol=atol)


def test_half_precision_is_computed_in_single(fit: Route) -> None:
    x, y = problem()
    half_x, half_y = x.astype(np.float16), y.astype(np.float16)
    fitted = fit(half_x, half_y)
    exact = fit(half_x.astype(np.float64), half_y.astype(np.float64))
    assert fitted.weights.dtype == np.float32
    assert_same(fitted, exact, rtol=1e-4)
    # Sums of squares beyond 65,504, the largest number of half precision.
    assert_solves(fit((100 * half_x).astype(np.float16), half_y), 100 * half_x, half_y, atol=1e-3)


def fortran(values: np.ndarray, path: Path) -> np.ndarray:
    np.save(path, np.asfortranarray(values))
    return np.load(path, mmap_mode="r")


def strided(values: np.ndarray, path: Path) -> np.ndarray:
    wide = np.zeros((2 * values.shape[0], 3 * values.shape[1]))
    wide[::2, ::3] = values[:, ::-1]
    np.save(path, wide)
    return np.load(path, mmap_mode="r")[::2, ::3][:, ::-1]


def big_endian(values: np.ndarray, path: Path) -> np.ndarray:
    np.save(path, values.astype(">f8"))
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("stored", [fortran, strided, big_endian])
def test_memory_maps_in_any_layout(fit: Route, stored: Callable, tmp_path: Path) -> None:
    x, y = problem()
    expected = fit(x, y)
    mapped_x, mapped_y = stored(x, tmp_path / "x.npy"), stored(y, tmp_path / "y.npy")
    assert stored is big_endian or not mapped_y.flags.c_contiguous
    fitted = fit(mapped_x, mapped_y)
    assert fitted.weights.dtype == np.float64
    assert_same(fitted, expected)
    np.testing.assert_array_equal(mapped_y, y)  # read, never written


def test_big_endian_single_precision_is_still_single(fit: Route) -> None:
    x, y = problem()
    fitted = fit(x.astype(">f4"), y.astype(">f4"))
    assert fitted.weights.dtype == np.dtype("=f4")
    assert_same(fitted, fit(x.astype(np.float32), y.astype(np.float32)), rtol=1e-6)


def test_one_held_out_row_cannot_be_scored(fit: Route) -> None:
    """A correlation of one number: NaN, as for a constant."""
    x, y = problem()
    assert_nan(fit(x, y, [Fold("one", np.arange(1, N_TRS), np.arange(1))]), slice(None))

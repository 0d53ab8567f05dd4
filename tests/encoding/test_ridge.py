"""Voxelwise ridge against scikit-learn and himalaya, in both forms, and on data that users really have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score, r2_score
from hypothesis import given, settings
from hypothesis import strategies as st
from ridge_problems import PENALTIES, AskedBlocks, problem
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from brain_tuning.encoding.folds import Fold, chunk_bootstrap_folds, contiguous_folds, story_folds
from brain_tuning.encoding.ridge import RidgeFit, huth_penalties, ridge_cv, ridge_weights
from brain_tuning.encoding.scores import pearson_r, r2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices on a busy machine: threads only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(n_threads)


def as_split(folds: list[Fold], n_trs: int) -> PredefinedSplit:
    of_row = np.empty(n_trs, int)
    for i, fold in enumerate(folds):
        of_row[fold.held_out] = i
    return PredefinedSplit(of_row)


def assert_same(a: RidgeFit, b: RidgeFit, rtol: float = 1e-7) -> None:
    for name in ("weights", "intercept", "penalty", "cv_score", "n_folds_used"):
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=rtol, atol=rtol, err_msg=name, equal_nan=True
        )


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(60, 12), (120, 5), (40, 70), (50, 50), (44, 36)]),
    criterion=st.sampled_from(["pearson", "r2"]),
    double=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_himalaya(shape: tuple[int, int], criterion, double: bool, seed: int) -> None:
    """Same folds, same penalties: r of each voxel to 1e-4 (1e-6 in float64), 99 % of the chosen penalties."""
    x, y, folds = problem(*shape, n_voxels=100, seed=seed)
    score = correlation_score if criterion == "pearson" else r2_score
    options = {"alphas": PENALTIES, "fit_intercept": True, "cv": as_split(folds, len(x))}
    wide = shape[1] > shape[0]
    if wide:
        theirs = KernelRidgeCV(kernel="linear", solver_params={"score_func": score}, **options)
    else:
        theirs = RidgeCV(solver_params={"score_func": score, "warn": False}, **options)
    theirs.fit(x, y)
    dtype = np.float64 if double else np.float32
    ours = ridge_cv(x, y, folds, PENALTIES, criterion=criterion, dtype=dtype)
    same = np.isclose(ours.penalty, theirs.best_alphas_, rtol=1e-5)
    assert same.mean() >= 0.99
    np.testing.assert_allclose(ours.cv_score, theirs.cv_scores_.squeeze(), atol=1e-6 if double else 1e-4)
    new = np.random.default_rng(1).normal(size=(30, shape[1]))
    np.testing.assert_allclose(ours.predict(new)[:, same], theirs.predict(new)[:, same], atol=1e-7 if double else 1e-3)


@pytest.mark.parametrize("shape", [(90, 20), (40, 60)])
def test_final_weights_equal_scikit_learn(shape: tuple[int, int]) -> None:
    x, y, folds = problem(*shape, n_voxels=8)
    fit = ridge_cv(x, y, folds, PENALTIES)
    expected = Ridge(alpha=fit.penalty).fit(x, y)
    np.testing.assert_allclose(fit.weights, expected.coef_.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit.intercept, expected.intercept_, rtol=1e-8)
    plain = Ridge(alpha=fit.penalty, fit_intercept=False).fit(x, y)
    np.testing.assert_allclose(ridge_weights(x, y, fit.penalty), plain.coef_.T, rtol=1e-8, atol=1e-10)


def by_hand(x, y, folds, penalties, criterion="pearson") -> np.ndarray:
    """Scores (n_folds, n_penalties, n_voxels) by one scikit-learn fit for each fold and penalty."""
    score = pearson_r if criterion == "pearson" else r2

    def one(fold: Fold, penalty: float) -> np.ndarray:
        model = Ridge(alpha=penalty).fit(x[fold.train], y[fold.train])
        measured = y[fold.held_out]
        return score(model.predict(x[fold.held_out]).reshape(measured.shape), measured)

    return np.array([[one(fold, penalty) for penalty in penalties] for fold in folds])


@pytest.mark.parametrize("criterion", ["pearson", "r2"])
@pytest.mark.parametrize("form", ["primal", "kernel"])
def test_gaps_are_neither_trained_on_nor_scored(form, criterion) -> None:
    x, y, _ = problem(80, 10, 6)
    folds = contiguous_folds(80, 4, gap_trs=5)
    fit = ridge_cv(x, y, folds, PENALTIES, form=form, criterion=criterion)
    mean = by_hand(x, y, folds, PENALTIES, criterion).mean(0)
    np.testing.assert_allclose(fit.cv_score, mean.max(0), atol=1e-10)
    np.testing.assert_allclose(fit.penalty, PENALTIES[mean.argmax(0)])


@pytest.mark.parametrize("shape", [(60, 20), (40, 90)])
@pytest.mark.parametrize("criterion", ["pearson", "r2"])
def test_forms_and_blocks_agree(shape: tuple[int, int], criterion) -> None:
    """User-pains 29: the form is chosen by shape, and both give the same model."""
    x, y, folds = problem(*shape, n_voxels=23)
    whole = ridge_cv(x, y, folds, PENALTIES, criterion=criterion)
    for form in ("primal", "kernel"):
        assert_same(ridge_cv(x, y, folds, PENALTIES, criterion=criterion, form=form), whole)
    assert_same(ridge_cv(x, y, folds, PENALTIES, criterion=criterion, voxels_per_block=5), whole)
    assert_same(ridge_cv(x, y, folds, PENALTIES[::-1], criterion=criterion), whole)


@pytest.mark.parametrize("form", ["primal", "kernel"])
def test_float32_with_large_means_equals_float64(form) -> None:
    x, y, folds = problem(120, 30, 40)
    x, y = x + 300.0, 20 * y + 1e4
    exact = ridge_cv(x, y, folds, PENALTIES, form=form)
    single = ridge_cv(x.astype(np.float32), y.astype(np.float32), folds, PENALTIES, form=form)
    assert single.weights.dtype == np.float32
    np.testing.assert_allclose(single.cv_score, exact.cv_score, atol=1e-4)
    assert np.isclose(single.penalty, exact.penalty).mean() >= 0.97
    same = np.isclose(single.penalty, exact.penalty)
    np.testing.assert_allclose(single.weights[:, same], exact.weights[:, same], atol=1e-2)


def test_voxels_with_nan_are_nan_and_disturb_no_other() -> None:
    """User-pains 2 and 3: a NaN run or a constant voxel aborts nothing and scores NaN."""
    x, y, folds = problem(80, 10, 6)
    clean = ridge_cv(x, y, folds, PENALTIES)
    spoilt = y.copy()
    spoilt[20:40, 1] = np.nan
    spoilt[3, 2] = np.inf
    spoilt[:, 3] = 7.0
    spoilt[:, 4] = 1e-10 * y[:, 4]
    fit = ridge_cv(x, spoilt, folds, PENALTIES)
    bad = np.array([False, True, True, True, True, False])
    assert fit.n_nan == 4
    assert fit.n_folds_used.tolist() == [4, 0, 0, 0, 0, 4]
    for name in ("cv_score", "penalty", "intercept"):
        assert np.isnan(getattr(fit, name)[bad]).all()
        np.testing.assert_allclose(getattr(fit, name)[~bad], getattr(clean, name)[~bad], rtol=1e-10)
    assert np.isnan(fit.weights[:, bad]).all()
    assert np.isnan(fit.predict(x)[:, bad]).all()
    np.testing.assert_allclose(fit.predict(x)[:, ~bad], clean.predict(x)[:, ~bad], rtol=1e-9)
    assert np.isnan(ridge_weights(x, spoilt, 1.0)[:, [1, 2]]).all()


@pytest.mark.parametrize("form", ["primal", "kernel"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fold_in_which_a_voxel_is_constant_is_left_out_for_it(form, dtype) -> None:
    """User-pains 2: about 1 % of in-atlas voxels are constant in some fold."""
    x, y, folds = problem(80, 10, 3)
    y[20:40, 0] = 3.3  # constant where fold b is scored
    y[:60, 1] = -1.7  # varies in d only: never both trained on and scored
    fit = ridge_cv(x, y, folds, PENALTIES, form=form, dtype=dtype)
    assert fit.n_folds_used.tolist() == [3, 0, 4]
    assert np.isnan(fit.cv_score).tolist() == [False, True, False]
    usable = [folds[0], folds[2], folds[3]]
    expected = by_hand(x, y[:, :1], usable, PENALTIES).mean(0).max()
    assert fit.cv_score[0] == pytest.approx(expected, abs=1e-5)


def test_features_that_tell_the_story_predict_nothing_on_held_out_stories() -> None:
    """Contiguous story-level folds: what shuffled TRs reward scores 0 here (Hadidi et al. 2026)."""
    rng = np.random.default_rng(0)
    stories = np.repeat(np.arange(6), 40)
    code = np.eye(6)[stories]
    y = rng.normal(size=(6, 30))[stories] * 3 + rng.normal(size=(240, 30))
    folds = story_folds(list("abcdef"), [40] * 6)
    shuffled = rng.permutation(240).reshape(6, 40)
    leaky = [Fold(str(i), np.setdiff1d(np.arange(240), rows), np.sort(rows)) for i, rows in enumerate(shuffled)]
    noisy = code + 0.1 * rng.normal(size=code.shape)
    assert ridge_cv(noisy, y, leaky, PENALTIES).cv_score.mean() > 0.8
    assert abs(ridge_cv(noisy, y, folds, [1.0]).cv_score.mean()) < 0.05
    # The bare code is constant in a held-out story: there is no correlation at all, not even one of rounding.
    for form in ("primal", "kernel"):
        fit = ridge_cv(code, y, folds, PENALTIES, form=form, dtype=np.float32)
        assert np.isnan(fit.cv_score).all()
        assert (fit.n_folds_used == 0).all()


def test_one_voxel_one_feature() -> None:
    x, y, folds = problem(40, 1, 1)
    fit = ridge_cv(x, y, folds, PENALTIES, criterion="r2")
    mean = by_hand(x, y, folds, PENALTIES, "r2").mean(0)
    assert fit.weights.shape == (1, 1)
    assert fit.cv_score[0] == pytest.approx(mean.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicated_and_constant_features(dtype) -> None:
    x, y, folds = problem(60, 8, 10)
    twice = np.concatenate([x, x, np.full((60, 1), 4.0)], 1)
    fit = ridge_cv(twice.astype(dtype), y, folds, PENALTIES)
    expected = Ridge(alpha=fit.penalty).fit(twice, y)
    np.testing.assert_allclose(fit.weights, expected.coef_.T, atol=1e-4)
    np.testing.assert_allclose(fit.weights[:8], fit.weights[8:16], atol=1e-4)
    np.testing.assert_array_equal(fit.weights[16], 0.0)


def test_responses_may_be_half_precision_strided_memmaps(tmp_path: Path) -> None:
    x, y, folds = problem(60, 8, 12)
    half = np.memmap(tmp_path / "bold", np.float16, "w+", shape=(60, 24))
    half[:, ::2] = y
    strided = np.memmap(tmp_path / "bold", np.float16, "r", shape=(60, 24))[:, ::2]
    fit = ridge_cv(x, strided, folds, PENALTIES, voxels_per_block=5)
    assert_same(fit, ridge_cv(x, np.array(strided, dtype=np.float64), folds, PENALTIES), rtol=1e-5)


def test_responses_may_come_from_any_provider_of_blocks() -> None:
    """User-pains 15 and 28: voxels are streamed, never all in memory."""
    x, y, folds = problem(60, 8, 12)
    blocks = AskedBlocks(y)
    assert_same(ridge_cv(x, blocks, folds, PENALTIES, voxels_per_block=5), ridge_cv(x, y, folds, PENALTIES))
    assert blocks.asked == [(0, 5), (5, 10), (10, 12)]


def test_weights_may_go_to_disk(tmp_path: Path) -> None:
    """User-pains 28: 3,072 features x 95,556 voxels of weights are more than a gigabyte."""
    x, y, folds = problem(60, 8, 12)
    out = np.lib.format.open_memmap(tmp_path / "weights.npy", "w+", np.float64, (8, 12))
    fit = ridge_cv(x, y, folds, PENALTIES, voxels_per_block=5, out=out)
    assert fit.weights is out
    out.flush()
    expected = ridge_cv(x, y, folds, PENALTIES)
    np.testing.assert_allclose(np.load(tmp_path / "weights.npy"), expected.weights, rtol=1e-10)
    np.testing.assert_allclose(fit.predict(x, slice(2, 7)), expected.predict(x)[:, 2:7], rtol=1e-10)


def test_more_folds_than_are_kept_at_once_give_the_same() -> None:
    """Up to eight folds share one pass over the responses; of more, and of overlapping ones, each has its own."""
    x, y, _ = problem(120, 10, 6)
    folds = contiguous_folds(120, 8, gap_trs=0)
    shared = ridge_cv(x, y, folds, PENALTIES)
    np.testing.assert_allclose(shared.cv_score, by_hand(x, y, folds, PENALTIES).mean(0).max(0), atol=1e-10)
    twice = ridge_cv(x, y, [*folds, *folds], PENALTIES)
    np.testing.assert_allclose(twice.cv_score, shared.cv_score, rtol=1e-10)
    np.testing.assert_allclose(twice.weights, shared.weights, rtol=1e-10)
    again = ridge_cv(x, y, [*folds[:3], folds[2]], PENALTIES)
    expected = by_hand(x, y, [*folds[:3], folds[2]], PENALTIES).mean(0).max(0)
    np.testing.assert_allclose(again.cv_score, expected, atol=1e-10)


@pytest.mark.parametrize("form", ["primal", "kernel"])
def test_rows_that_no_fold_uses_are_in_the_weights_only(form) -> None:
    x, y, _ = problem(100, 10, 6)
    folds = contiguous_folds(80, 4, gap_trs=0)
    fit = ridge_cv(x, y, folds, PENALTIES, form=form)
    np.testing.assert_allclose(fit.cv_score, by_hand(x, y, folds, PENALTIES).mean(0).max(0), atol=1e-10)
    np.testing.assert_allclose(fit.weights, Ridge(alpha=fit.penalty).fit(x, y).coef_.T, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("shape", [(120, 30), (60, 90)])
def test_a_gpu_gives_the_same_by_the_same_code(shape: tuple[int, int]) -> None:
    x, y, folds = problem(*shape, n_voxels=50)
    assert_same(ridge_cv(x, y, folds, PENALTIES, device="cuda"), ridge_cv(x, y, folds, PENALTIES), rtol=1e-6)
    chunks = chunk_bootstrap_folds(["a"], [shape[0]], chunk_trs=5)
    assert_same(ridge_cv(x, y, chunks, PENALTIES, device="cuda"), ridge_cv(x, y, chunks, PENALTIES), rtol=1e-6)


def test_huth_penalties_are_squared_alphas() -> None:
    np.testing.assert_allclose(np.sqrt(huth_penalties()), np.logspace(1, 4, 15))


def test_extreme_scales_do_not_underflow() -> None:
    x, y, folds = problem(60, 8, 5)
    plain = ridge_cv(x, y, folds, PENALTIES, dtype=np.float32)
    small = ridge_cv(1e-6 * x, 1e-6 * y, folds, 1e-12 * PENALTIES, dtype=np.float32)
    np.testing.assert_allclose(small.cv_score, plain.cv_score, atol=1e-5)
    strong = ridge_cv(1e-6 * x, y, folds, [1e8], dtype=np.float32)
    assert np.isfinite(strong.cv_score).all()


@pytest.mark.parametrize("criterion", ["pearson", "r2"])
@pytest.mark.parametrize("form", ["primal", "kernel"])
@pytest.mark.parametrize("unit", [1e-12, 1e-4, 1e9, 1e15])
def test_single_precision_scores_features_of_any_unit(unit: float, form, criterion) -> None:
    """Such as powers of sound: squares of predictions stay within float32, where they once gave a score of 0."""
    x, y, folds = problem(60, 8, 5)
    x = (unit * (x - x.mean(0))).astype(np.float32)
    options = {"criterion": criterion, "form": form}
    exact = ridge_cv(x.astype(np.float64), y, folds, PENALTIES, **options)
    single = ridge_cv(x, y.astype(np.float32), folds, PENALTIES, **options)
    np.testing.assert_allclose(single.cv_score, exact.cv_score, atol=1e-5)
    np.testing.assert_allclose(single.predict(x), exact.predict(x), atol=1e-4)


def test_features_of_very_unequal_units_are_scored_in_single_precision() -> None:
    x, y, folds = problem(120, 8, 5)
    x = (x * np.geomspace(1e6, 1e10, 8)).astype(np.float32)
    single = ridge_cv(x, y.astype(np.float32), folds, PENALTIES)
    np.testing.assert_allclose(single.cv_score, ridge_cv(x.astype(np.float64), y, folds, PENALTIES).cv_score, atol=1e-4)


@pytest.mark.parametrize("shape", [(80, 20), (30, 50)])
def test_weights_at_a_weak_penalty_stay_out_of_directions_that_do_not_vary(shape: tuple[int, int]) -> None:
    """A feature given twice, or a row: what is left of rounding is not divided by the penalty."""
    x, y, _ = problem(*shape, n_voxels=3)
    half = ridge_weights(np.sqrt(2) * x, y, 1e-10) / np.sqrt(2)
    np.testing.assert_allclose(ridge_weights(np.hstack([x, x]), y, 1e-10), np.vstack([half, half]), atol=1e-12)
    np.testing.assert_allclose(
        ridge_weights(np.vstack([x, x]), np.vstack([y, y]), 2e-10), ridge_weights(x, y, 1e-10), atol=1e-12
    )
    np.testing.assert_array_equal(ridge_weights(0 * x, y, 1.0), 0.0)


def test_whole_numbers_and_truth_values_are_computed_in_floating_point() -> None:
    x, y, folds = problem(60, 8, 4)
    counts = np.round(10 * y).astype(np.int16)
    assert_same(ridge_cv(x, counts, folds, PENALTIES), ridge_cv(x, counts.astype(float), folds, PENALTIES))
    single = ridge_cv(x > 0, y, folds, PENALTIES)
    assert single.weights.dtype == np.float32
    assert_same(single, ridge_cv((x > 0).astype(np.float32), y, folds, PENALTIES))

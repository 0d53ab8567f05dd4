"""Banded ridge against himalaya's random search on the same candidates, and against plain ridge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
from himalaya.ridge import solve_group_ridge_random_search
from himalaya.scoring import correlation_score, r2_score
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from brain_tuning.encoding.banded import BandedFit, banded_ridge_cv
from brain_tuning.encoding.feature_spaces import mixes_of_spaces
from brain_tuning.encoding.folds import Fold, story_folds
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.errors import EncodingError

PENALTIES = np.logspace(-1, 4, 7)
LENGTHS = [16, 14, 17, 15]
N_TRS = sum(LENGTHS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices on a busy machine: threads only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(n_threads)


def problem(
    widths: dict[str, int], n_voxels: int = 40, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray, list[Fold]]:
    """Spaces of unequal scale; each voxel takes its own share from each space."""
    rng = np.random.default_rng(seed)
    features = {
        name: rng.normal(size=(N_TRS, width)) * rng.uniform(0.5, 2.0) + rng.normal(size=width)
        for name, width in widths.items()
    }
    y = 2.0 * rng.normal(size=(N_TRS, n_voxels)) + 3.0
    for x in features.values():
        share = rng.uniform(0, 1, n_voxels) ** 3
        y += share * (x @ rng.normal(size=(x.shape[1], n_voxels)))
    return features, y, story_folds(list("abcd"), LENGTHS)


def split(folds: list[Fold]) -> PredefinedSplit:
    of_row = np.empty(N_TRS, int)
    for i, fold in enumerate(folds):
        of_row[fold.held_out] = i
    return PredefinedSplit(of_row)


def penalties_of(deltas: np.ndarray) -> np.ndarray:
    return np.exp(-np.asarray(deltas))


@settings(max_examples=12, deadline=None)
@given(
    widths=st.sampled_from([{"a": 5, "b": 9}, {"a": 12, "b": 3, "c": 6}, {"a": 40, "b": 60}]),
    criterion=st.sampled_from(["pearson", "r2"]),
    double=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_himalaya_for_the_same_candidates(widths, criterion, double: bool, seed: int) -> None:
    features, y, folds = problem(widths, seed=seed)
    gammas = np.random.default_rng(seed).dirichlet(np.ones(len(widths)), 5)
    dtype = np.float64 if double else np.float32
    ours = banded_ridge_cv(features, y, folds, PENALTIES, candidates=gammas, criterion=criterion, dtype=dtype)
    deltas, weights, scores, intercept = solve_group_ridge_random_search(
        list(features.values()),
        y,
        n_iter=gammas,
        alphas=PENALTIES,
        fit_intercept=True,
        score_func=correlation_score if criterion == "pearson" else r2_score,
        cv=split(folds),
        return_weights=True,
        progress_bar=False,
        warn=False,
    )
    np.testing.assert_allclose(ours.cv_score, scores.max(0), atol=1e-6 if double else 1e-4)
    same = np.isclose(ours.penalty, penalties_of(deltas), rtol=1e-5).all(0)
    assert same.mean() >= (0.99 if double else 0.95)
    np.testing.assert_allclose(ours.weights[:, same], weights[:, same], atol=1e-8 if double else 1e-3)
    np.testing.assert_allclose(ours.intercept[same], intercept[same], atol=1e-8 if double else 1e-3)


def test_equals_multiple_kernel_ridge_where_spaces_are_left_out() -> None:
    """Corners of the simplex: himalaya's group ridge divides by their zeros, its kernel ridge does not."""
    features, y, folds = problem({"a": 50, "b": 80})
    features = {name: x - x.mean(0) for name, x in features.items()}
    y = y - y.mean(0)
    gammas = mixes_of_spaces(2, 6)
    ours = banded_ridge_cv(features, y, folds, PENALTIES, candidates=gammas, criterion="r2")
    kernels = np.array([x @ x.T for x in features.values()])
    deltas, _, scores, _ = solve_multiple_kernel_ridge_random_search(
        kernels,
        y,
        n_iter=gammas,
        alphas=PENALTIES,
        fit_intercept=True,
        score_func=r2_score,
        cv=split(folds),
        return_weights="dual",
        progress_bar=False,
    )
    np.testing.assert_allclose(ours.cv_score, scores.max(0), atol=1e-7)
    np.testing.assert_allclose(ours.penalty, penalties_of(deltas), rtol=1e-6)
    assert len(np.unique(ours.chosen)) > 2
    left_out = np.isinf(ours.penalty)
    assert left_out.any()
    for row, part in enumerate(ours.columns.values()):
        assert (ours.weights[part, left_out[row]] == 0).all()


def test_weights_are_those_of_scikit_learn_in_the_units_of_the_features() -> None:
    features, y, folds = problem({"a": 4, "b": 7})
    fit = banded_ridge_cv(features, y, folds, PENALTIES, candidates=[[0.3, 0.7]])
    x = np.concatenate(list(features.values()), 1)
    scale = np.sqrt(np.repeat([0.3, 0.7], [4, 7]))
    mu = fit.penalty[0] * 0.3
    np.testing.assert_allclose(fit.penalty[1] * 0.7, mu)
    expected = Ridge(alpha=mu).fit(x * scale, y)
    np.testing.assert_allclose(fit.weights, (expected.coef_ * scale).T, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(fit.predict(features), expected.predict(x * scale), atol=1e-9)
    parts = fit.predict_by_space(features)
    np.testing.assert_allclose(parts["a"] + parts["b"] + fit.intercept, fit.predict(features), atol=1e-12)
    np.testing.assert_allclose(fit.predict(features, slice(3, 5)), fit.predict(features)[:, 3:5], rtol=1e-12)


@pytest.mark.parametrize("widths", [{"a": 6, "b": 8}, {"a": 50, "b": 70}])
def test_the_equal_mix_alone_is_plain_ridge(widths: dict[str, int]) -> None:
    features, y, folds = problem(widths)
    fit = banded_ridge_cv(features, y, folds, PENALTIES, candidates=[[1.0, 1.0]])
    plain = ridge_cv(np.concatenate(list(features.values()), 1), y, folds, PENALTIES)
    np.testing.assert_allclose(fit.penalty, np.stack([plain.penalty, plain.penalty]))
    for name in ("weights", "intercept", "cv_score", "n_folds_used"):
        np.testing.assert_allclose(getattr(fit, name), getattr(plain, name), rtol=1e-9, atol=1e-12)
    one = banded_ridge_cv({"all": features["a"]}, y, folds, PENALTIES)
    np.testing.assert_allclose(one.weights, ridge_cv(features["a"], y, folds, PENALTIES).weights, atol=1e-12)


def assert_same(a: BandedFit, b: BandedFit) -> None:
    for name in ("weights", "intercept", "penalty", "cv_score", "n_folds_used", "chosen"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-8, atol=1e-10, err_msg=name)


def test_blocks_forms_and_a_budget_change_nothing(tmp_path: Path) -> None:
    """User-pains 28: the responses are streamed, the weights may go to disk."""
    features, y, folds = problem({"a": 6, "b": 8}, n_voxels=23)
    whole = banded_ridge_cv(features, y, folds, PENALTIES, candidates=6)
    np.save(tmp_path / "bold.npy", y)
    mapped = np.load(tmp_path / "bold.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "weights.npy", "w+", np.float64, (14, 23))
    blocks = banded_ridge_cv(features, mapped, folds, PENALTIES, candidates=6, voxels_per_block=5, out=out)
    assert blocks.weights is out
    assert_same(blocks, whole)
    assert_same(banded_ridge_cv(features, y, folds, PENALTIES, candidates=6, form="kernel"), whole)
    assert_same(banded_ridge_cv(features, y, folds, PENALTIES, candidates=6, memory_mb=8.1), whole)
    with pytest.raises(EncodingError, match=r"a budget of 3 MiB is too small .* expected at least 9 MiB"):
        banded_ridge_cv(features, y, folds, PENALTIES, candidates=6, memory_mb=3)


def test_it_beats_plain_ridge_where_only_one_space_matters() -> None:
    rng = np.random.default_rng(0)
    n_trs, lengths = 240, [60] * 4
    features = {"speech": rng.normal(size=(n_trs, 10)), "noise": rng.normal(size=(n_trs, 150))}
    y = features["speech"] @ rng.normal(size=(10, 30)) + 3 * rng.normal(size=(n_trs, 30))
    folds = story_folds(list("abcd"), lengths)
    banded = banded_ridge_cv(features, y, folds, PENALTIES, candidates=8)
    plain = ridge_cv(np.concatenate(list(features.values()), 1), y, folds, PENALTIES)
    assert banded.cv_score.mean() > plain.cv_score.mean() + 0.05
    assert (banded.penalty[1] > banded.penalty[0]).mean() > 0.95


def test_voxels_without_an_estimate_are_nan_and_disturb_no_other() -> None:
    """User-pains 2 and 3."""
    features, y, folds = problem({"a": 5, "b": 6}, n_voxels=5)
    clean = banded_ridge_cv(features, y, folds, PENALTIES, candidates=5)
    y[4:9, 1] = np.nan
    y[:, 3] = 2.0
    fit = banded_ridge_cv(features, y, folds, PENALTIES, candidates=5)
    bad = np.array([False, True, False, True, False])
    assert fit.n_nan == 2
    assert fit.n_folds_used.tolist() == [4, 0, 4, 0, 4]
    assert fit.chosen[bad].tolist() == [-1, -1]
    for values in (fit.weights, fit.intercept, fit.penalty, fit.cv_score, fit.predict(features)):
        assert np.isnan(values[..., bad]).all()
    np.testing.assert_allclose(fit.weights[:, ~bad], clean.weights[:, ~bad], rtol=1e-10)


def test_a_mix_that_misses_folds_does_not_win_by_it() -> None:
    """A code of the story is constant on held-out stories; with one story that varies it would be scored once."""
    features, y, folds = problem({"a": 5}, n_voxels=20)
    code = np.repeat([[1.0], [2.0], [3.0], [4.0]], LENGTHS, axis=0)
    code[: LENGTHS[0], 0] = features["a"][: LENGTHS[0], 0]  # varies in the first story only, and predicts it well
    y[: LENGTHS[0]] += 50 * features["a"][: LENGTHS[0], :1]
    fit = banded_ridge_cv({**features, "code": code}, y, folds, PENALTIES, candidates=np.eye(2)[::-1])
    assert fit.chosen.tolist() == [1] * 20
    assert fit.n_folds_used.tolist() == [4] * 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("widths", [{"a": 6, "b": 8}, {"a": 50, "b": 70}])
def test_a_gpu_gives_the_same_by_the_same_code(widths: dict[str, int]) -> None:
    features, y, folds = problem(widths)
    gpu = banded_ridge_cv(features, y, folds, PENALTIES, candidates=5, device="cuda")
    cpu = banded_ridge_cv(features, y, folds, PENALTIES, candidates=5)
    np.testing.assert_allclose(gpu.cv_score, cpu.cv_score, atol=1e-8)
    np.testing.assert_allclose(gpu.weights, cpu.weights, atol=1e-6)


def test_candidates_hold_the_equal_mix_and_every_space_alone() -> None:
    mixes = mixes_of_spaces(3, 20, seed=4)
    assert mixes.shape == (20, 3)
    np.testing.assert_allclose(mixes.sum(1), 1.0)
    np.testing.assert_allclose(mixes[0], 1 / 3)
    np.testing.assert_array_equal(mixes[1:4], np.eye(3))
    np.testing.assert_array_equal(mixes, mixes_of_spaces(3, 20, seed=4))
    assert (mixes[4:] != mixes_of_spaces(3, 20, seed=5)[4:]).all()
    # Concentrations take turns: those of 0.1 give almost all to one space.
    assert np.median(mixes_of_spaces(3, 400)[4::2].max(1)) > 0.9 > np.median(mixes_of_spaces(3, 400)[5::2].max(1))
    np.testing.assert_array_equal(mixes_of_spaces(1, 20), [[1.0]])


def test_the_number_of_candidates_may_come_from_an_array() -> None:
    """As a search over settings gives it."""
    features, y, folds = problem({"a": 4, "b": 3}, n_voxels=3)
    options = {"candidates": np.arange(9)[5]}
    assert_same(
        banded_ridge_cv(features, y, folds, PENALTIES, **options),
        banded_ridge_cv(features, y, folds, PENALTIES, candidates=5),
    )


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"candidates": 2}, "2 candidates for 2 feature spaces; expected at least 3"),
        ({}, {"candidates": [[1.0]]}, r"candidates have shape \(1, 1\); expected \(n_candidates, 2\)"),
        ({}, {"candidates": [[1.0, 0.0], [0.0, 0.0]]}, r"1 candidates are no mix .*first: candidate 1, \[0.0, 0.0\]"),
        ({}, {"candidates": [[1.0, -0.5]]}, "1 candidates are no mix"),
        ({}, {"penalties": [0.0]}, "penalties are not positive numbers"),
        ({}, {"device": "gramophone"}, "nothing can be computed on device 'gramophone'"),
        ({}, {"dtype": np.float16}, "expected float32 or float64"),
        ({}, {"criterion": "mse"}, "unknown criterion 'mse'"),
        ({}, {"voxels_per_block": 0}, "voxels_per_block=0; expected at least 1"),
        ({"b": np.ones((7, 2))}, {}, "feature space 'b' has 7 TRs; expected 62, as space 'a' has"),
        ({"b": np.full((N_TRS, 2), np.nan)}, {}, "2 of 2 features of space 'b' hold NaN"),
        ({"b": np.ones(N_TRS)}, {}, r"features of space 'b' have shape \(62,\)"),
    ],
)
def test_wrong_input_is_named(change: dict, options: dict, message: str) -> None:
    features, y, folds = problem({"a": 4, "b": 3}, n_voxels=3)
    penalties = options.pop("penalties", PENALTIES)
    with pytest.raises(EncodingError, match=message):
        banded_ridge_cv({**features, **change}, y, folds, penalties, **options)


def test_other_spaces_than_those_of_the_fit_are_named() -> None:
    features, y, folds = problem({"a": 4, "b": 3}, n_voxels=3)
    fit = banded_ridge_cv(features, y, folds, PENALTIES, candidates=3)
    with pytest.raises(EncodingError, match=r"feature spaces b \(3\); expected a \(4\), b \(3\), as in the fit"):
        fit.predict({"b": features["b"]})
    with pytest.raises(EncodingError, match=r"feature spaces b \(3\), a \(4\); expected a \(4\), b \(3\)"):
        fit.predict({"b": features["b"], "a": features["a"]})
    with pytest.raises(EncodingError, match="there is no feature space"):
        banded_ridge_cv({}, y, folds)
    with pytest.raises(EncodingError, match=r"there is no feature space; expected name -> features"):
        banded_ridge_cv(list(features.values()), y, folds)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [8, 50])
def test_a_space_given_twice_is_one_space_with_their_summed_mix(width: int, dtype) -> None:
    """The columns are dependent across spaces: gammas of the copies add up."""
    features, y, folds = problem({"a": width, "b": 6})
    features = {name: x.astype(dtype) for name, x in features.items()}
    once = banded_ridge_cv(features, y, folds, PENALTIES, candidates=[[0.7, 0.3]])
    twice = banded_ridge_cv({**features, "c": features["a"]}, y, folds, PENALTIES, candidates=[[0.5, 0.3, 0.2]])
    atol = 1e-9 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(twice.cv_score, once.cv_score, atol=atol)
    same = np.isclose(twice.penalty[1], once.penalty[1])
    assert same.mean() > 0.9
    new = {name: x[::-1] for name, x in features.items()}
    predicted = twice.predict({**new, "c": new["a"]})[:, same]
    np.testing.assert_allclose(predicted, once.predict(new)[:, same], atol=100 * atol)

"""Unique and shared variance: closed forms, himalaya's product measure, and what may be negative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from himalaya.scoring import r2_score_split

from brain_tuning.encoding.banded import banded_ridge_cv
from brain_tuning.encoding.folds import Fold, story_folds
from brain_tuning.encoding.scores import pearson_r, r2
from brain_tuning.encoding.variance_partition import partition_variance, parts_of_unions, split_r2
from brain_tuning.errors import EncodingError

PENALTIES = np.logspace(-2, 3, 6)
N_TRS, LENGTHS = 800, [200] * 4
TEST = slice(800, 1400)


def spaces(n_voxels: int = 12, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Independent features in three spaces, and what each contributes to the voxels, with variance 1."""
    rng = np.random.default_rng(seed)
    features = {name: rng.normal(size=(1400, 4)) for name in "abc"}
    signals = {name: x @ rng.normal(size=(4, n_voxels)) for name, x in features.items()}
    return features, {name: signal / signal.std(0) for name, signal in signals.items()}


def partition(features: dict[str, np.ndarray], y: np.ndarray, **options):
    folds = story_folds(list("wxyz"), LENGTHS)
    train = {name: x[:N_TRS] for name, x in features.items()}
    test = {name: x[TEST] for name, x in features.items()}
    return partition_variance(train, y[:N_TRS], folds, test, y[TEST], PENALTIES, candidates=6, **options)


def explained(signal: np.ndarray, y: np.ndarray) -> float:
    """Mean R2 that the true signal reaches on the test rows."""
    return float(r2(signal[TEST] + (y - signal)[TEST].mean(0), y[TEST]).mean())


@pytest.mark.parametrize("method", ["banded", "ridge"])
def test_independent_spaces_share_nothing(method) -> None:
    """Variances 1, 4 and noise 5: about a tenth and four tenths, all unique."""
    features, signal = spaces()
    noise = np.random.default_rng(1).normal(size=signal["a"].shape)
    y = signal["a"] + 2 * signal["b"] + np.sqrt(5) * noise
    parts = partition({name: features[name] for name in "ab"}, y, method=method).parts
    assert list(parts) == [("a",), ("b",), ("a", "b")]
    both = explained(signal["a"] + 2 * signal["b"], y)
    assert parts["a",].mean() == pytest.approx(both - explained(2 * signal["b"], y), abs=0.02)
    assert parts["b",].mean() == pytest.approx(both - explained(signal["a"], y), abs=0.02)
    assert parts["b",].mean() > 3 * parts["a",].mean() > 0.2
    assert parts["a", "b"].mean() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("method", ["banded", "ridge"])
def test_a_space_given_twice_has_nothing_unique(method) -> None:
    features, signal = spaces()
    y = signal["a"] + np.random.default_rng(1).normal(size=signal["a"].shape)
    parts = partition({"a": features["a"], "again": features["a"].copy()}, y, method=method).parts
    assert np.abs(parts["a",]).max() < 2e-3
    assert np.abs(parts["again",]).max() < 2e-3
    assert parts["a", "again"].mean() == pytest.approx(explained(signal["a"], y), abs=0.02)


def test_three_spaces_with_a_common_feature() -> None:
    """a and b both hold the signal of a; c has its own: shared by a and b alone, and unique to c."""
    features, signal = spaces()
    y = signal["a"] + signal["c"] + np.random.default_rng(1).normal(size=signal["a"].shape)
    both = {"a": features["a"], "b": np.hstack([features["a"], features["b"]]), "c": features["c"]}
    result = partition(both, y, method="ridge")
    assert len(result.parts) == len(result.r) == 7
    np.testing.assert_allclose(sum(result.parts.values()), result.r2["a", "b", "c"], atol=1e-12)
    everything = explained(signal["a"] + signal["c"], y)
    expected = {("a", "b"): everything - explained(signal["c"], y), ("c",): everything - explained(signal["a"], y)}
    assert min(expected.values()) > 0.25
    for names, part in result.parts.items():
        assert part.mean() == pytest.approx(expected.get(names, 0.0), abs=0.02), names
    assert result.n_negative == {names: int((part < 0).sum()) for names, part in result.parts.items()}
    assert result.n_negative["c",] == 0 < result.n_negative["b",]


def test_parts_are_those_of_overlapping_sets() -> None:
    """Inclusion and exclusion on sets whose overlaps are known by counting."""
    rng = np.random.default_rng(0)
    inside = rng.random((4, 1000)) < 0.4
    names = ("a", "b", "c", "d")
    member = dict(zip(names, inside, strict=True))
    unions = {}
    exact = {}
    for code in range(1, 16):
        chosen = tuple(name for k, name in enumerate(names) if code >> k & 1)
        others = [member[name] for name in names if name not in chosen]
        unions[chosen] = np.array([np.any([member[name] for name in chosen], axis=0).sum()], float)
        only = np.all([member[name] for name in chosen], axis=0) & ~np.any([np.zeros(1000, bool), *others], axis=0)
        exact[chosen] = only.sum()
    parts = parts_of_unions(unions)
    assert {names: part.item() for names, part in parts.items()} == exact


def test_scores_are_those_of_the_fits() -> None:
    features, signal = spaces(n_voxels=5)
    y = signal["a"] + np.random.default_rng(1).normal(size=signal["a"].shape)
    y[:, 2] = 1.0
    two = {name: features[name] for name in "ab"}
    result = partition(two, y, voxels_per_block=2, criterion="pearson")
    folds = story_folds(list("wxyz"), LENGTHS)
    train = {name: x[:N_TRS] for name, x in two.items()}
    fit = banded_ridge_cv(train, y[:N_TRS], folds, PENALTIES, candidates=6, criterion="pearson")
    prediction = fit.predict({name: x[TEST] for name, x in two.items()})
    np.testing.assert_allclose(result.r2["a", "b"], r2(prediction, y[TEST]), rtol=1e-9)
    np.testing.assert_allclose(result.r["a", "b"], pearson_r(prediction, y[TEST]), rtol=1e-9)
    for method in ("banded", "ridge"):
        small = partition(two, y, method=method, memory_mb=12)
        np.testing.assert_allclose(small.parts["a",], partition(two, y, method=method).parts["a",], atol=1e-10)
        with pytest.raises(EncodingError, match="a budget of 1 MiB is too small for this ridge"):
            partition(two, y, method=method, memory_mb=1)
    assert result.n_nan == 1
    assert all(np.isnan(part[2]) for part in result.parts.values())


def test_the_product_measure_equals_himalaya_and_adds_up() -> None:
    features, signal = spaces(n_voxels=7)
    y = signal["a"] + 0.5 * signal["b"] + np.random.default_rng(1).normal(size=signal["a"].shape) + 3.0
    y[TEST] += 0.2  # another mean than in training
    folds = story_folds(list("wxyz"), LENGTHS)
    fit = banded_ridge_cv({k: x[:N_TRS] for k, x in features.items()}, y[:N_TRS], folds, PENALTIES, candidates=6)
    test = {name: x[TEST] for name, x in features.items()}
    split = split_r2(fit, test, y[TEST], voxels_per_block=3)
    added = np.stack(list(fit.predict_by_space(test).values()))
    expected = r2_score_split(y[TEST] - y[TEST].mean(0), added - added.mean(1, keepdims=True))
    np.testing.assert_allclose(np.stack(list(split.parts.values())), expected, atol=1e-10)
    np.testing.assert_allclose(split.r2, r2(fit.predict(test), y[TEST]), atol=1e-10)
    np.testing.assert_allclose(sum(split.parts.values()) + split.offset, split.r2, atol=1e-10)
    assert (split.offset < -0.005).all()


def test_voxels_without_an_estimate_are_nan_in_the_split() -> None:
    features, signal = spaces(n_voxels=3)
    y = signal["a"] + 1.0
    y[3, 1] = np.nan
    folds = [Fold("first half", np.arange(400, 800), np.arange(400))]
    fit = banded_ridge_cv({"a": features["a"][:N_TRS]}, y[:N_TRS], folds, PENALTIES)
    measured = signal["a"][TEST].copy()
    measured[:, 2] = 4.0
    split = split_r2(fit, {"a": features["a"][TEST]}, measured)
    for values in (split.parts["a"], split.offset, split.r2):
        assert np.isnan(values).tolist() == [False, True, True]


def test_wrong_input_is_named() -> None:
    features, signal = spaces(n_voxels=3)
    y = signal["a"]
    folds = story_folds(list("wxyz"), LENGTHS)
    train = {"a": features["a"][:N_TRS]}
    with pytest.raises(EncodingError, match="feature spaces to train on: a; to test on: b; expected the same"):
        partition_variance(train, y[:N_TRS], folds, {"b": features["b"][TEST]}, y[TEST])
    with pytest.raises(EncodingError, match="unknown method 'lasso'; expected banded or ridge"):
        partition(features, y, method="lasso")
    with pytest.raises(EncodingError, match="3 voxels to train on, 2 to test on"):
        partition_variance(train, y[:N_TRS], folds, {"a": features["a"][TEST]}, y[TEST, :2])
    for test, measured, message in (
        ({"a": features["a"][TEST, :3]}, y[TEST], r"to test on: a \(3\); expected a \(4\), as to train on"),
        ({"a": features["a"][TEST][:9]}, y[TEST], r"features have shape \(9, 4\), responses \(600, 3\)"),
        ({"a": features["a"][TEST]}, y[TEST].tolist(), "the responses are a list"),
    ):
        with pytest.raises(EncodingError, match=message):
            partition_variance(train, y[:N_TRS], folds, test, measured)
    fit = banded_ridge_cv(train, y[:N_TRS], folds, PENALTIES)
    with pytest.raises(EncodingError, match="responses of 2 voxels; expected 3, as in the fit"):
        split_r2(fit, {"a": features["a"][TEST]}, y[TEST, :2])
    assert replace(fit).n_nan == 0

"""Raw and normalised scores together, and a reason for every NaN."""

from __future__ import annotations

import json

import numpy as np
import pytest

from brain_tuning.encoding import score_ledger
from brain_tuning.encoding.ceiling import cc_norm, noise_ceiling
from brain_tuning.encoding.score_ledger import SCORED, UNNORMALISED, UNSCORED, score_voxels
from brain_tuning.encoding.scores import pearson_r, r2, zscore
from brain_tuning.errors import EncodingError


@pytest.fixture
def spoilt() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, response and ceiling of nine voxels, one for each reason and one without any."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 9))
    x = 0.7 * y + rng.normal(size=y.shape)
    ceiling = np.array([0.8, 0.8, 0.8, 0.8, np.nan, 0.2, 0.8, 0.8, 0.8])
    y[3, 0], x[4, 1], y[:, 2], x[:, 3] = np.inf, np.nan, 1234.567, 0.0
    x[:, 6], y[:, 6] = 0.0, np.nan  # the first reason is the response's
    x[:, 7] = np.nan
    return x, y, ceiling


REASONS = [
    "response not finite",
    "prediction not finite",
    "constant response",
    "constant prediction",
    "ceiling unknown",
    "ceiling below floor",
    "response not finite",
    "prediction not finite",
    SCORED,
]


def test_every_nan_has_its_reason(spoilt) -> None:
    x, y, ceiling = spoilt
    scores = score_voxels(x, y, ceiling=ceiling)
    assert [scores.ledger.why(v) for v in range(9)] == REASONS
    np.testing.assert_array_equal(scores.r, pearson_r(x, y))
    np.testing.assert_array_equal(np.isfinite(scores.r), scores.ledger.has_r)
    np.testing.assert_array_equal(np.isfinite(scores.r2), scores.ledger.has_r)
    np.testing.assert_array_equal(scores.r2[scores.ledger.has_r], r2(x, y)[scores.ledger.has_r])
    np.testing.assert_array_equal(np.isfinite(scores.r_normalised), scores.ledger.has_r_normalised)
    assert scores.r_normalised[8] == scores.r[8] / 0.8
    assert (scores.ledger.has_r.sum(), scores.ledger.has_r_normalised.sum()) == (3, 1)


def test_counts_add_up_and_the_summary_is_plain(spoilt) -> None:
    x, y, ceiling = spoilt
    ledger = score_voxels(x, y, ceiling=ceiling).ledger
    counts = ledger.counts()
    assert list(counts) == [SCORED, *UNSCORED, *UNNORMALISED]
    assert sum(counts.values()) == 9
    assert json.loads(json.dumps(ledger.summary())) == {
        "n_voxels": 9,
        "n_r": 3,
        "n_r_normalised": 1,
        "floor": 0.35,
        "reasons": {
            "response not finite": 2,
            "prediction not finite": 2,
            "constant response": 1,
            "constant prediction": 1,
            "ceiling unknown": 1,
            "ceiling below floor": 1,
        },
    }


def test_repeats_tell_voxels_without_signal_from_unknown_ones() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(100, 4))
    repeats = signal + rng.normal(size=(2, 100, 4))
    repeats[1, :, 0] = -repeats[0, :, 0]
    repeats[0, :, 1] = 5.0
    z = np.stack([zscore(repeat, min_std=0.0) for repeat in repeats])
    scores = score_voxels(signal, np.where(np.isnan(z.mean(0)), repeats[1], z.mean(0)), repeats=repeats)
    assert [scores.ledger.why(v) for v in range(4)] == [
        "constant response",  # repeats that contradict each other cancel in the mean
        "repeats constant or not finite",
        SCORED,
        SCORED,
    ]
    np.testing.assert_allclose(scores.r_normalised[2:], cc_norm(signal, repeats)[2:])
    np.testing.assert_array_equal(scores.ceiling, noise_ceiling(repeats))
    repeats[1, :, 0] += 0.3 * rng.normal(size=100)
    scores = score_voxels(signal, repeats.mean(0), repeats=repeats)
    assert scores.ledger.why(0) == "signal power not positive"
    assert np.isfinite(scores.r[0])
    assert np.isnan(scores.r_normalised[0])


def test_no_normalised_score_explodes() -> None:
    """User-pains 8: ceilings near 0 gave normalised scores of 1.1 and 4.2."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(30, 2000))
    repeats = np.stack([y + 3 * rng.normal(size=y.shape) for _ in range(2)])
    scores = score_voxels(rng.normal(size=y.shape), repeats.mean(0), repeats=repeats)
    normalised = scores.r_normalised[scores.ledger.has_r_normalised]
    assert (np.abs(normalised) <= np.abs(scores.r[scores.ledger.has_r_normalised]) / 0.35).all()
    unguarded = scores.r / scores.ceiling
    assert np.nanmax(np.abs(unguarded)) > 2 > np.abs(normalised).max()


def test_blocks_of_voxels_equal_the_whole(spoilt, monkeypatch) -> None:
    x, y, ceiling = spoilt
    whole = score_voxels(x, y, ceiling=ceiling).ledger.codes
    monkeypatch.setattr(score_ledger, "_VOXELS_PER_BLOCK", 4)
    np.testing.assert_array_equal(score_voxels(x, y, ceiling=ceiling).ledger.codes, whole)


def test_without_a_ceiling_nothing_is_normalised(spoilt) -> None:
    x, y, _ = spoilt
    scores = score_voxels(x, y)
    assert np.isnan(scores.r_normalised).all()
    assert scores.ledger.counts()["ceiling unknown"] == scores.ledger.has_r.sum() == 3


def test_the_reason_of_a_voxel_that_could_not_be_fitted_is_its_response(spoilt) -> None:
    """A constant voxel has no weights, so its prediction is NaN as well: that is the consequence."""
    x, y, _ = spoilt
    x[:, 2] = np.nan
    assert score_voxels(x, y).ledger.why(2) == "constant response"


def test_an_infinite_ceiling_is_unknown(spoilt) -> None:
    """Divided by it the voxel would score 0 and count as normalised."""
    x, y, ceiling = spoilt
    ceiling[8] = np.inf
    scores = score_voxels(x, y, ceiling=ceiling)
    assert scores.ledger.why(8) == "ceiling unknown"
    assert np.isnan([scores.r_normalised[8], scores.ceiling[8]]).all()
    assert np.isfinite(scores.r[8])


def test_what_does_not_fit_is_named(spoilt) -> None:
    x, y, ceiling = spoilt
    with pytest.raises(EncodingError, match=r"floor=0, ceiling given, repeats missing"):
        score_voxels(x, y, ceiling=ceiling, floor=0)
    with pytest.raises(EncodingError, match="ceiling given, repeats given"):
        score_voxels(x, y, ceiling=ceiling, repeats=np.zeros((2, 50, 9)))
    with pytest.raises(EncodingError, match=r"ceiling is of \(8,\) voxels; expected \(9,\)"):
        score_voxels(x, y, ceiling=ceiling[1:])
    with pytest.raises(EncodingError, match=r"each repeat has shape \(40, 9\); expected \(50, 9\), as the response"):
        score_voxels(x, y, repeats=np.zeros((2, 40, 9)))

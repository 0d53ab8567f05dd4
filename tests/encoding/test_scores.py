"""Scores against scipy and scikit-learn, and NaN where there is nothing to score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import r2_score

from brain_tuning.encoding import scores as scores_module
from brain_tuning.encoding.scores import (
    PearsonSums,
    pearson_r,
    pearson_r_by_run,
    r2,
    signed_sqrt_r2,
    summarise_by_region,
    zscore,
)
from brain_tuning.errors import EncodingError, RegionError


@settings(max_examples=40, deadline=None)
@given(
    n_trs=st.integers(3, 60),
    n_voxels=st.integers(1, 7),
    offset=st.floats(-1e5, 1e5),
    scale=st.floats(1e-3, 1e3),
    cuts=st.lists(st.integers(1, 59), max_size=4),
    seed=st.integers(0, 2**31),
)
def test_pearson_equals_scipy_however_it_is_cut(n_trs, n_voxels, offset, scale, cuts, seed) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_trs, n_voxels)) * scale + offset
    y = 0.5 * x + scale * rng.normal(size=(n_trs, n_voxels))
    expected = [stats.pearsonr(x[:, v], y[:, v]).statistic for v in range(n_voxels)]
    np.testing.assert_allclose(pearson_r(x, y), expected, atol=1e-7)
    sums = PearsonSums()
    for part in np.split(np.arange(n_trs), sorted({cut for cut in cuts if cut < n_trs})):
        sums.add(x[part], y[part])
    np.testing.assert_allclose(sums.r(), expected, atol=1e-7)


def test_r_by_run_is_r_of_each_run() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50, 3))
    y[:20, 1] = 4.0
    r = pearson_r_by_run(x, y, [20, 30])
    np.testing.assert_array_equal(r, [pearson_r(x[:20], y[:20]), pearson_r(x[20:], y[20:])])
    assert np.isnan(r).tolist() == [[False, True, False], [False, False, False]]
    with pytest.raises(EncodingError, match=r"2 runs, 49 TRs in all\]; expected positive lengths that add up to 50"):
        pearson_r_by_run(x, y, [20, 29])


def test_float32_with_a_large_mean_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 3)) + 1e4).astype(np.float32)
    y = (x + rng.normal(size=(400, 3))).astype(np.float32)
    expected = [stats.pearsonr(x[:, v].astype(float), y[:, v].astype(float)).statistic for v in range(3)]
    np.testing.assert_allclose(pearson_r(x, y), expected, atol=1e-10)


def test_voxels_without_a_score_are_nan_never_zero() -> None:
    """User-pains 2 and 3: constant, all-zero, 1e-19-variance and NaN voxels neither abort nor count as 0."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 7))
    x = rng.normal(size=(50, 7))
    y[:, 0] = 0.0
    y[:, 1] = 1234.567
    y[:, 2] = rng.normal(size=50) * np.sqrt(1e-19)
    y[7, 3] = np.nan
    y[7, 4] = np.inf
    x[:, 5] = 0.1
    for score in (pearson_r, r2, signed_sqrt_r2):
        finite = np.isfinite(score(x, y))
        constant_prediction_scores = score is not pearson_r
        assert finite.tolist() == [False] * 5 + [constant_prediction_scores, True]
    row = summarise_by_region(pearson_r(x, y), {"all": np.arange(7)})[0]
    assert (row["n_voxels"], row["n_nan"]) == (7, 6)
    assert row["mean_r"] == pytest.approx(pearson_r(x, y)[6])


def test_voxel_blocks_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 11))
    whole = [score(x, y) for score in (pearson_r, r2, signed_sqrt_r2)] + [zscore(x, [10, 20])]
    monkeypatch.setattr(scores_module, "_VOXELS_PER_BLOCK", 4)
    parts = [score(x, y) for score in (pearson_r, r2, signed_sqrt_r2)] + [zscore(x, [10, 20])]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_r2_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 5)) * 3 + 7
    x = y + rng.normal(size=(40, 5))
    np.testing.assert_allclose(r2(x, y), r2_score(y, x, multioutput="raw_values"), rtol=1e-12)


def test_signed_sqrt_r2_of_known_variances() -> None:
    y = np.tile([[1.0], [-1.0]], (10, 1))
    np.testing.assert_allclose(signed_sqrt_r2(0.5 * y, y), np.sqrt(0.75))
    np.testing.assert_allclose(signed_sqrt_r2(-y, y), -np.sqrt(3.0))


def test_values_whose_squares_leave_float64_have_no_score() -> None:
    """NaN, not the 0 that a covariance divided by an infinite variance gives."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 2)) * [1.0, 1e160]
    x = y + rng.normal(size=(50, 2))
    assert np.isnan(pearson_r(x, y)).tolist() == np.isnan(r2(x, y)).tolist() == [False, True]


def test_zscore_stays_within_its_run() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(3, 2, size=(30, 4)), rng.normal(-50, 9, size=(20, 4))])
    z = zscore(x, [30, 20])
    np.testing.assert_allclose(z, np.concatenate([stats.zscore(x[:30]), stats.zscore(x[30:])]), atol=1e-12)
    x[:30, 1] = 5.0
    z = zscore(x, [30, 20])
    assert np.isnan(z[:30, 1]).all()
    assert np.isfinite(z[30:, 1]).all()
    assert zscore(x.astype(np.float16)).dtype == np.float32
    tiny = rng.normal(size=(30, 1)) * 1e-12
    assert np.isnan(zscore(tiny)).all()
    np.testing.assert_allclose(zscore(tiny, min_std=0.0), stats.zscore(tiny), atol=1e-12)


def test_region_means_and_the_ceiling_floor() -> None:
    """User-pains 8: raw and normalised together; a low ceiling is left out, so that no ratio explodes."""
    r = np.array([0.2, 0.1, np.nan, 0.05, 0.3])
    ceiling = np.array([0.5, 0.4, 0.9, 0.01, np.nan])
    rows = summarise_by_region(r, {"ac": [0, 1, 2, 3], "rest": np.arange(5) == 4}, ceiling, 0.35)
    ac, rest = rows
    assert ac == {
        "region": "ac",
        "n_voxels": 4,
        "n_nan": 1,
        "mean_r": pytest.approx(0.35 / 3),
        "median_r": pytest.approx(0.1),
        "mean_ceiling": pytest.approx(0.45),
        "mean_r_normalised": pytest.approx((0.4 + 0.25) / 2),
        "n_normalised": 2,
        "n_below_floor": 1,
    }
    assert rest["mean_r"] == pytest.approx(0.3)
    assert np.isnan(rest["mean_r_normalised"])
    assert (rest["n_normalised"], rest["n_below_floor"]) == (0, 1)
    assert {type(value) for value in ac.values()} == {str, int, float}


def test_an_infinite_ceiling_is_no_ceiling() -> None:
    (row,) = summarise_by_region(np.array([0.2, 0.1]), {"ac": [0, 1]}, np.array([0.5, np.inf]))
    assert (row["mean_ceiling"], row["mean_r_normalised"]) == (0.5, pytest.approx(0.4))
    assert (row["n_normalised"], row["n_below_floor"]) == (1, 1)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({"ac": []}, r"a region has no voxel \[region 'ac'\]"),
        ({"ac": [3, 5]}, r"voxels that do not exist \[region 'ac', voxels 3 to 5\]; expected .*0 to 4"),
        ({"ac": [-1]}, "voxels that do not exist"),
        ({"ac": [True, False]}, r"mask of a region does not fit .*\(2,\).*expected \(5,\)"),
        ({"ac": [0.5]}, "voxels that do not exist"),
    ],
)
def test_wrong_regions_are_named(regions, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        summarise_by_region(np.zeros(5), regions)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(EncodingError, match=r"prediction has shape \(3, 2\), the response \(4, 2\)"):
        pearson_r(np.zeros((3, 2)), np.zeros((4, 2)))
    for wrong in (np.ones((4, 2), complex), np.full((4, 2), "1")):
        with pytest.raises(EncodingError, match=r"the prediction is .*; expected real numbers"):
            pearson_r(wrong, np.zeros((4, 2)))
        with pytest.raises(EncodingError, match=r"the response is .*; expected real numbers"):
            r2(np.zeros((4, 2)), wrong)
    with pytest.raises(EncodingError, match="no TRs were added"):
        PearsonSums().r()
    sums = PearsonSums()
    sums.add(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(EncodingError, match=r"\[3 voxels\]; expected 2 voxels"):
        sums.add(np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(EncodingError, match=r"2 runs, 9 TRs in all\]; expected .* add up to 10"):
        zscore(np.zeros((10, 2)), [4, 5])
    with pytest.raises(EncodingError, match="values have shape"):
        zscore(np.zeros(10))
    with pytest.raises(EncodingError, match="values are complex128; expected real numbers"):
        zscore(np.zeros((10, 2), complex))
    with pytest.raises(EncodingError, match=r"scores have shape \(5,\), the ceiling \(4,\)"):
        summarise_by_region(np.zeros(5), {}, np.zeros(4))
    with pytest.raises(EncodingError, match=r"floor of the ceiling is not positive \[floor=0\]"):
        summarise_by_region(np.zeros(5), {}, np.zeros(5), 0)

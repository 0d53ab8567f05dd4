"""Sign flips over stories against scipy, and rows by region."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from brain_tuning.encoding.paired_stories import paired_by_region, sign_flip_p
from brain_tuning.errors import EncodingError, RegionError


@pytest.mark.parametrize("n_clusters", [2, 5, 9, 12])
@pytest.mark.parametrize("tail", ["two-sided", "greater", "less"])
def test_it_equals_scipy(n_clusters, tail) -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, size=(n_clusters, 3)) * [1, 1e-9, 1e6]
    test = sign_flip_p(differences, tail=tail)
    theirs = stats.permutation_test(
        (differences,),
        lambda d, axis: np.mean(d, axis=axis),
        permutation_type="samples",
        alternative=tail,
        vectorized=True,
        axis=0,
        n_resamples=np.inf,
    )
    assert test.exact
    np.testing.assert_allclose(test.mean, theirs.statistic)
    np.testing.assert_allclose(test.p, np.minimum(theirs.pvalue, 1), rtol=1e-12)


@pytest.mark.parametrize(
    ("n_clusters", "tail", "smallest"),
    [
        (1, "two-sided", 1.0),
        (4, "two-sided", 1 / 8),
        (4, "greater", 1 / 16),
        (12, "greater", 1 / 4096),
        (20, "greater", 1 / 4096),
    ],
)
def test_the_smallest_p_is_stated_and_reached(n_clusters, tail, smallest) -> None:
    test = sign_flip_p(np.arange(1.0, n_clusters + 1)[:, None], tail=tail)
    assert test.smallest_p == smallest
    assert test.p[0] == smallest
    assert test.n_clusters == n_clusters
    assert test.exact == (n_clusters <= 12)


def test_random_signs_approach_all_signs() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, size=(12, 4))
    exact, drawn = sign_flip_p(differences), sign_flip_p(differences, n_permutations=3000, seed=2)
    assert not drawn.exact
    np.testing.assert_allclose(drawn.p, exact.p, atol=0.03)


def test_nothing_and_nan() -> None:
    differences = np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    test = sign_flip_p(differences)
    assert test.p[:2].tolist() == [1.0, 0.25]
    assert np.isnan([test.p[2], test.mean[2]]).all()
    infinite = sign_flip_p(np.array([[np.inf, 1.0], [1.0, 2.0]]))
    assert np.isnan(infinite.p).tolist() == np.isnan(infinite.mean).tolist() == [True, False]


def test_rows_by_region() -> None:
    rng = np.random.default_rng(0)
    untuned = rng.uniform(0, 0.2, size=(7, 6))
    tuned = untuned + np.repeat([0.1, 0.0], 3) + rng.normal(0, 0.01, size=(7, 6))
    tuned[3, 1] = np.nan
    rows = paired_by_region(tuned, untuned, {"ac": [0, 1, 2], "rest": np.arange(6) > 2, "lost": [1]})
    ac, rest, lost = rows
    kept = [0, 2]
    by_story = (tuned - untuned)[:, kept].mean(1)
    assert ac["mean_difference"] == pytest.approx(by_story.mean())
    assert ac["mean_tuned_r"] - ac["mean_untuned_r"] == pytest.approx(ac["mean_difference"])
    assert {k: ac[k] for k in ("region", "n_stories", "n_voxels", "n_nan", "p", "smallest_p", "exact")} == {
        "region": "ac", "n_stories": 7, "n_voxels": 3, "n_nan": 1, "p": 2 / 128, "smallest_p": 2 / 128, "exact": True,
    }  # fmt: skip
    assert rest["p"] > 0.05
    assert (lost["n_nan"], np.isnan([lost["p"], lost["mean_difference"]]).all()) == (1, True)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(EncodingError, match=r"differences have shape \(3,\)"):
        sign_flip_p(np.zeros(3))
    with pytest.raises(EncodingError, match=r"\(2, 4\) and \(3, 4\), 1 regions"):
        paired_by_region(np.zeros((2, 4)), np.zeros((3, 4)), {"ac": [0]})
    with pytest.raises(RegionError, match="region 'ac'"):
        paired_by_region(np.zeros((2, 4)), np.zeros((2, 4)), {"ac": [4]})

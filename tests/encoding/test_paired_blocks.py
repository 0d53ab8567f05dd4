"""Labels of two predictions swapped within blocks, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from autocorrelated_noise import RUN_LENGTHS_TRS, ar1

from brain_tuning.encoding import null_distribution
from brain_tuning.encoding.paired_blocks import paired_block_p
from brain_tuning.encoding.rearrangements import sign_patterns
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import EncodingError


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two related predictions in different units, and a response."""
    rng = np.random.default_rng(0)
    shared, y = ar1(rng, 9, runs=(45, 32)), ar1(rng, 9, runs=(45, 32))
    tuned = 3 * (shared + ar1(rng, 9, runs=(45, 32)) + np.linspace(0, 1, 9) * y) + 100
    return tuned, shared + ar1(rng, 9, runs=(45, 32)), y


@pytest.mark.parametrize("n_permutations", [60, 1000])
def test_it_equals_a_plain_loop(predictions, n_permutations) -> None:
    tuned, untuned, y = predictions
    starts = [0, 11, 22, 33, 45, 55, 66]  # four blocks of 45 TRs, three of 32
    block = np.searchsorted(starts, np.arange(77), side="right") - 1
    test = paired_block_p(tuned, untuned, y, [45, 32], block_trs=10, n_permutations=n_permutations, seed=5)
    signs, exact = sign_patterns(7, n_permutations, 5)
    assert (
        (test.exact, test.n_permutations) == (exact, len(signs)) == (n_permutations == 1000, min(n_permutations, 127))
    )
    a, b = zscore(tuned), zscore(untuned)
    null = []
    for pattern in signs:
        swap = pattern[block, None] < 0
        null.append(pearson_r(np.where(swap, b, a), y) - pearson_r(np.where(swap, a, b), y))
    observed = pearson_r(tuned, y) - pearson_r(untuned, y)
    np.testing.assert_allclose(test.observed, observed, atol=1e-12)
    at_least = np.abs(null) >= np.abs(observed) - 1e-12
    np.testing.assert_allclose(test.p, (1 + at_least.sum(0)) / (1 + len(signs)))


def test_swapping_the_predictions_swaps_the_sides(predictions) -> None:
    tuned, untuned, y = predictions
    runs, regions = [45, 32], {"all": np.arange(9)}
    options = {"block_trs": 10, "n_permutations": 127, "regions": regions}
    one = paired_block_p(tuned, untuned, y, runs, tail="greater", **options)
    other = paired_block_p(untuned, tuned, y, runs, tail="less", **options)
    np.testing.assert_allclose(other.observed, -one.observed, atol=1e-12)
    np.testing.assert_array_equal(other.p, one.p)
    assert other.region_p == one.region_p
    assert one.region_observed["all"] == pytest.approx(one.observed.mean())


def test_the_same_prediction_twice_has_p_one(predictions) -> None:
    tuned, _, y = predictions
    for tail in ("two-sided", "greater", "less"):
        test = paired_block_p(tuned, 7 * tuned, y, [45, 32], block_trs=10, tail=tail)
        np.testing.assert_allclose(test.observed, 0, atol=1e-12)
        assert (test.p == 1).all()


@pytest.mark.parametrize(
    ("tail", "n_permutations", "smallest"),
    [("two-sided", 1000, 2 / 128), ("greater", 1000, 1 / 128), ("two-sided", 60, 1 / 61)],
)
def test_the_smallest_p_is_stated_and_reached(tail, n_permutations, smallest) -> None:
    """Swapping everything changes the sign alone: of all swaps two are as extreme as the data, for two sides."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(77, 3))
    untuned = rng.normal(size=y.shape)
    options = {"block_trs": 10, "n_permutations": n_permutations, "tail": tail}
    test = paired_block_p(untuned + 9 * y, untuned, y, [45, 32], regions={"all": [0, 1, 2]}, **options)
    assert test.smallest_p == pytest.approx(smallest)
    np.testing.assert_allclose([*test.p, test.region_p["all"]], smallest)


def test_a_planted_gain_is_found() -> None:
    rng = np.random.default_rng(0)
    y, untuned = ar1(rng, 20), ar1(rng, 20, n_averaged=4)
    better = untuned / untuned.std() + y
    test = paired_block_p(better, untuned, y, RUN_LENGTHS_TRS)
    assert (test.p_max < 0.02).all()
    assert (paired_block_p(untuned, better, y, RUN_LENGTHS_TRS, tail="greater").p > 0.99).all()


def test_voxels_without_r_are_nan_and_blocks_of_voxels_equal_the_whole(predictions, monkeypatch) -> None:
    tuned, untuned, y = (values.copy() for values in predictions)
    tuned[:, 0], untuned[3, 1], y[:, 2] = 4.0, np.nan, 0.0
    whole = paired_block_p(tuned, untuned, y, [45, 32], block_trs=10)
    assert np.isnan(whole.p).tolist() == [True] * 3 + [False] * 6
    monkeypatch.setattr(null_distribution, "WORK_BYTES", 30_000)
    np.testing.assert_array_equal(paired_block_p(tuned, untuned, y, [45, 32], block_trs=10).p, whole.p)


def test_what_does_not_fit_is_named(predictions) -> None:
    tuned, untuned, y = predictions
    with pytest.raises(EncodingError, match=r"1 stories, 76 TRs in all, blocks of 20 TRs\]; expected .* add up to 77"):
        paired_block_p(tuned, untuned, y, [76])
    with pytest.raises(EncodingError, match=r"shape \(77, 8\)"):
        paired_block_p(tuned, untuned[:, 1:], y, [77])

"""Tests of an evaluation: stories are the clusters, and blocks are as long as the data ask for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import signal

from brain_tuning.analysis.significance import against_chance, against_untuned
from brain_tuning.analysis.story_intervals import mean_by_story, story_lengths
from brain_tuning.corpus import Run
from brain_tuning.encoding.paired_blocks import paired_block_p
from brain_tuning.encoding.paired_stories import sign_flip_p
from brain_tuning.encoding.permutation import block_permutation_p, circular_shift_p
from brain_tuning.encoding.scores import pearson_r, zscore

REGIONS = {"all": np.arange(30)}


def pieces_of(*lengths: tuple[str, int]) -> list[Run]:
    return [Run("s1", story, k, 0, "test", 2.0, 0.0, n, 0) for k, (story, n) in enumerate(lengths)]


def noise(seed: int, n_trs: int, coefficient: float, n_voxels: int = 30) -> np.ndarray:
    """AR(1) noise (n_trs, n_voxels), float32."""
    white = np.random.default_rng(seed).normal(size=(n_trs + 200, n_voxels))
    return signal.lfilter([1.0], [1.0, -coefficient], white, axis=0)[200:].astype(np.float32)


def test_pieces_of_a_story_are_one_cluster() -> None:
    """Three stories heard in eight pieces are three observations: no p is below 1 / 4."""
    pieces = pieces_of(("a", 30), ("a", 25), ("b", 40), ("c", 30), ("c", 20), ("c", 30), ("c", 25), ("c", 20))
    assert story_lengths(pieces) == [55, 40, 125]
    measured, untuned = noise(0, 220, 0.0), noise(1, 220, 0.0)
    tuned = untuned + measured
    _, (row,) = against_untuned(tuned, untuned, measured, pieces, REGIONS, 100)
    differences = [
        (pearson_r(tuned[rows], measured[rows]) - pearson_r(untuned[rows], measured[rows])).mean()
        for rows in (slice(0, 55), slice(55, 95), slice(95, 220))
    ]
    assert (row["n_stories"], row["smallest_p_stories"]) == (3, 0.25)
    assert row["p_stories"] == sign_flip_p(np.array(differences)[:, None]).p[0] == 0.25
    by_story = mean_by_story(tuned, measured, story_lengths(pieces), np.arange(30))
    assert by_story[0] == pytest.approx(pearson_r(tuned[:55], measured[:55]).mean())
    _, (one,) = against_untuned(tuned, untuned, measured, pieces_of(("a", 100), ("a", 120)), REGIONS, 100)
    assert "p_stories" not in one


def test_chance_is_tested_by_blocks_that_outlast_the_memory_of_the_data() -> None:
    one = pieces_of(("a", 600))
    for coefficient, expected in ((0.0, "shuffled blocks of 20 TRs"), (0.97, "rotated stories")):
        x, y = noise(0, 600, coefficient), noise(1, 600, coefficient)
        p, regions = against_chance(x, y, one, REGIONS, 700)
        assert regions["all"]["p_by"] == expected
        test = block_permutation_p if "blocks" in expected else circular_shift_p
        np.testing.assert_allclose(p, test(x, y, [600], n_permutations=700).p, rtol=1e-6)
    x, y = noise(0, 600, 0.8), noise(1, 600, 0.8)
    p, regions = against_chance(x, y, one, REGIONS, 700)
    block_trs = int(regions["all"]["p_by"].split()[3])
    assert 20 < block_trs < 60
    np.testing.assert_allclose(
        p, block_permutation_p(x, y, [600], block_trs=block_trs, n_permutations=700).p, rtol=1e-6
    )
    # Several stories have rotations enough.
    _, regions = against_chance(x, y, pieces_of(("a", 300), ("b", 300)), REGIONS, 700)
    assert regions["all"]["p_by"] == "rotated stories"


def test_models_are_compared_by_blocks_that_outlast_the_memory_of_their_difference() -> None:
    pieces = pieces_of(("a", 300), ("b", 300))
    shared = noise(2, 600, 0.97)
    for coefficient, longer in ((0.0, False), (0.8, True), (0.97, True)):
        y = noise(0, 600, 0.97 if longer else 0.0)
        one, other = (shared + noise(seed, 600, coefficient) for seed in (3, 4))
        p, (row,) = against_untuned(one, other, y, pieces, REGIONS, 200)
        assert (row["block_trs"] > 20) == longer
        expected = paired_block_p(one, other, y, [300, 300], block_trs=row["block_trs"], n_permutations=200)
        np.testing.assert_allclose(p, expected.p, rtol=1e-6)
    assert row["block_trs"] == 60  # nothing considered is long enough: the longest
    _, (same,) = against_untuned(shared, shared, y, pieces, REGIONS, 200)
    assert (same["p"], same["difference"]) == (1.0, 0.0)


def test_slow_noise_is_no_gain() -> None:
    """Equally good models under an autocorrelation of 0.9: with blocks of 20 TRs twice as many seeds are taken in."""
    lengths = [200, 260, 240]
    pieces, naive, ours = pieces_of(*(("abc"[k], n) for k, n in enumerate(lengths))), [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y, one, other = (noise(int(rng.integers(1 << 30)), 700, 0.9) for _ in range(3))
        naive.append(paired_block_p(one, other, y, lengths, n_permutations=199).p)
        ours.append(against_untuned(one, other, y, pieces, REGIONS, 199)[0])
    assert np.mean(np.array(ours) <= 0.05) < 0.065
    assert np.mean(np.array(naive) <= 0.05) > np.mean(np.array(ours) <= 0.05) + 0.01


def ridge_block_by_block(x: np.ndarray, y: np.ndarray, lengths: list[int], *, held_out: bool) -> np.ndarray:
    """Predictions of each block by a ridge on the other blocks of y; or, held out, on responses that are not tested."""
    borders, prediction = np.cumsum([0, *lengths]), np.zeros_like(y)
    fitted_on = noise(99, len(y), 0.5, y.shape[1]) if held_out else y
    for begin, end in pairwise(borders):
        others = np.r_[0:begin, end : len(y)]
        gram = x[others].T @ x[others] + len(y) * np.eye(x.shape[1])
        prediction[begin:end] = zscore(x[begin:end] @ np.linalg.solve(gram, x[others].T @ fitted_on[others]))
    return prediction


def test_cross_validated_predictions_have_no_such_p_values() -> None:
    """Why an evaluation refuses them: each block helps to predict the others, which no rearrangement imitates."""
    lengths = [100] * 5
    share = {}
    for held_out in (False, True):
        p = []
        for seed in range(12):
            y, one, other = (zscore(noise(3 * seed + k, 500, 0.5, width)) for k, width in ((0, 30), (1, 8), (2, 8)))
            pair = (ridge_block_by_block(x, y, lengths, held_out=held_out) for x in (one, other))
            p.append(paired_block_p(*pair, y, lengths, n_permutations=199).p)
        share[held_out] = np.mean(np.array(p) <= 0.05)
    assert share[False] > 0.12
    assert share[True] < 0.08

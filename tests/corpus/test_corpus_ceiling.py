from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import zscore

from brain_tuning.corpus.ceiling import schoppe_ceiling

RNG = np.random.default_rng(0)


def _by_definition(repeats: np.ndarray) -> np.ndarray:
    """Schoppe et al. 2016 in terms of powers, repeat by repeat."""
    n_repeats = len(repeats)
    z = np.stack([zscore(repeat, axis=0) for repeat in repeats])
    power_of_sum = np.var(z.sum(axis=0), axis=0)
    sum_of_powers = sum(np.var(repeat, axis=0) for repeat in z)
    signal_power = (power_of_sum - sum_of_powers) / (n_repeats * (n_repeats - 1))
    noise_power = sum_of_powers / n_repeats - signal_power
    return np.sqrt(signal_power / (signal_power + noise_power / n_repeats))


def test_it_is_signal_power_over_signal_and_residual_noise_power() -> None:
    repeats = RNG.standard_normal((5, 80, 3000)) + 2 * RNG.standard_normal((80, 3000))
    np.testing.assert_allclose(schoppe_ceiling(repeats), _by_definition(repeats), rtol=1e-6)


def test_it_agrees_with_the_released_brain_tuning_code() -> None:
    """That code takes the variance of the mean with n - 1 but the total power as 1; this is undone here."""
    default = Path(__file__).parents[3] / "shared" / "reference"
    path = Path(os.environ.get("BRAIN_TUNING_REFERENCE", default)) / "ceiling.npz"
    if not path.is_file():
        pytest.skip("the reference arrays are not beside the checkout")
    with np.load(path, allow_pickle=False) as arrays:
        repeats, theirs = arrays["repeats"], arrays["expected_cc_max"]
    n_repeats, n_trs, _ = repeats.shape
    ours = schoppe_ceiling(repeats)
    known = (theirs > 0) & np.isfinite(ours)
    assert known.any()
    signal_power = 1 / (1 + n_repeats * (1 / theirs[known] ** 2 - 1))
    variance = (signal_power * (n_repeats - 1) + 1) / n_repeats * (n_trs - 1) / n_trs
    signal_power = (n_repeats * variance - 1) / (n_repeats - 1)
    expected = 1 / np.sqrt(1 + (1 / signal_power - 1) / n_repeats)
    np.testing.assert_allclose(ours[known], expected, rtol=1e-6)


def test_scale_and_offset_of_a_repeat_do_not_matter() -> None:
    repeats = RNG.standard_normal((4, 60, 5)) + RNG.standard_normal((60, 5))
    scaled = repeats * np.array([1, 5, 0.1, 30])[:, None, None] + 100
    np.testing.assert_allclose(schoppe_ceiling(scaled), schoppe_ceiling(repeats), rtol=1e-5)


def test_identical_repeats_have_ceiling_one() -> None:
    response = RNG.standard_normal((60, 5))
    np.testing.assert_allclose(schoppe_ceiling(np.stack([response] * 3)), 1.0, rtol=1e-6)


def test_what_cannot_be_estimated_is_nan() -> None:
    """user-pains 8: a ceiling near 0 gave normalised scores of 4.2."""
    repeats = RNG.standard_normal((3, 60, 5)) + RNG.standard_normal((60, 5)) * 3
    repeats[1, 5, 0] = np.nan
    repeats[2, :, 1] = 7.7
    repeats[1, :, 2] = -repeats[0, :, 2]
    repeats[2, :, 2] = RNG.standard_normal(60)
    assert list(np.isfinite(schoppe_ceiling(repeats))) == [False, False, False, True, True]


def test_one_repeat_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_repeats >= 2.*\(1, 60, 5\)"):
        schoppe_ceiling(RNG.standard_normal((1, 60, 5)))

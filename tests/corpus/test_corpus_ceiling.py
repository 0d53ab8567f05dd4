from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import zscore

from brain_tuning.corpus.ceiling import ceiling_of, repeat_correlations, schoppe_ceiling, signal_power
from brain_tuning.errors import EncodingError

RNG = np.random.default_rng(0)


def _by_definition(repeats: np.ndarray) -> np.ndarray:
    """Schoppe et al. 2016 in terms of powers: total power 1 by z-scoring, sample variance of the mean."""
    n_repeats = len(repeats)
    z = np.stack([zscore(repeat, axis=0) for repeat in repeats])
    power_of_sum = np.var(z.sum(axis=0), axis=0, ddof=1)
    signal_power = (power_of_sum - n_repeats) / (n_repeats * (n_repeats - 1))
    noise_power = 1 - signal_power
    return np.sqrt(signal_power / (signal_power + noise_power / n_repeats))


def test_it_is_signal_power_over_signal_and_residual_noise_power() -> None:
    repeats = RNG.standard_normal((5, 80, 3000)) + 2 * RNG.standard_normal((80, 3000))
    ceiling = schoppe_ceiling(repeats)
    assert ceiling.dtype == np.float64
    np.testing.assert_allclose(ceiling, _by_definition(repeats), rtol=1e-9)


def test_it_is_what_the_simulated_signal_reaches() -> None:
    share = np.array([0.1, 0.3, 0.6, 0.9])
    signal = zscore(RNG.standard_normal((4000, 4)), axis=0)
    repeats = np.sqrt(share) * signal + np.sqrt(1 - share) * RNG.standard_normal((6, 4000, 4))
    np.testing.assert_allclose(signal_power(repeats), share, atol=0.03)
    np.testing.assert_allclose(schoppe_ceiling(repeats), np.sqrt(share / (share + (1 - share) / 6)), atol=0.02)


def test_it_agrees_with_the_released_brain_tuning_code() -> None:
    default = Path(__file__).parents[3] / "shared" / "reference"
    path = Path(os.environ.get("BRAIN_TUNING_REFERENCE", default)) / "ceiling.npz"
    if not path.is_file():
        pytest.skip("the reference arrays are not beside the checkout")
    with np.load(path, allow_pickle=False) as arrays:
        repeats, theirs = arrays["repeats"], arrays["expected_cc_max"]
    ours = schoppe_ceiling(repeats)
    known = np.isfinite(ours)
    assert known.any()
    assert (theirs[~known] == 0).all()
    np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-6)


def test_the_ceiling_of_a_known_signal_power() -> None:
    """One repeat of signal power 1/2 has r = sqrt(1/2) with a perfect model; of many the noise averages out."""
    power = np.array([0.5, 0.0, -0.2, np.nan])
    np.testing.assert_allclose(ceiling_of(power, 1), [np.sqrt(0.5), np.nan, np.nan, np.nan])
    np.testing.assert_allclose(ceiling_of(power[:1], 10**9), 1.0)


def test_correlations_of_repeats_equal_numpy() -> None:
    repeats = RNG.standard_normal((4, 60, 3)) + RNG.standard_normal((60, 3))
    repeats[2, 5, 1] = np.nan
    repeats[2, :, 2] = 7.7
    r = repeat_correlations(repeats)
    np.testing.assert_allclose(r[:, :, 0], np.corrcoef(repeats[:, :, 0]), rtol=1e-12)
    assert np.isnan(r[:, :, 1:]).all()


def test_scale_and_offset_of_a_repeat_do_not_matter() -> None:
    repeats = RNG.standard_normal((4, 60, 5)) + RNG.standard_normal((60, 5))
    scaled = repeats * np.array([1, 5, 0.1, 30])[:, None, None] + 100
    np.testing.assert_allclose(schoppe_ceiling(scaled), schoppe_ceiling(repeats), rtol=1e-9)


def test_identical_repeats_have_ceiling_one() -> None:
    response = RNG.standard_normal((60, 5))
    ceiling = schoppe_ceiling(np.stack([response] * 3))
    # The sample variance of the mean is 60/59 of what z-scoring made 1.
    np.testing.assert_allclose(ceiling, 1.0, atol=1 / (2 * 60))
    np.testing.assert_allclose(ceiling, _by_definition(np.stack([response] * 3)), rtol=1e-9)


def test_what_cannot_be_estimated_is_nan() -> None:
    """user-pains 8: a ceiling near 0 gave normalised scores of 4.2."""
    repeats = RNG.standard_normal((3, 60, 5)) + RNG.standard_normal((60, 5)) * 3
    repeats[1, 5, 0] = np.nan
    repeats[2, :, 1] = 7.7
    repeats[1, :, 2] = -repeats[0, :, 2]
    repeats[2, :, 2] = RNG.standard_normal(60)
    assert list(np.isfinite(schoppe_ceiling(repeats))) == [False, False, False, True, True]


def test_one_repeat_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"\(1, 60, 5\).* at least 2 repeats"):
        schoppe_ceiling(RNG.standard_normal((1, 60, 5)))


@pytest.mark.parametrize(
    ("repeats", "got"),
    [
        (np.zeros((3, 1, 5)), r"float64 of shape \(3, 1, 5\)"),
        (np.zeros((3, 60, 5), complex), r"complex128 of shape \(3, 60, 5\)"),
    ],
)
def test_what_is_no_set_of_repeats_is_refused(repeats: np.ndarray, got: str) -> None:
    with pytest.raises(EncodingError, match=rf"needs repeated responses, got {got}"):
        schoppe_ceiling(repeats)


def test_repeats_may_be_a_list_of_runs() -> None:
    repeats = RNG.standard_normal((3, 40, 4)) + 2 * RNG.standard_normal((40, 4))
    assert np.array_equal(schoppe_ceiling(list(repeats)), schoppe_ceiling(repeats))  # type: ignore[arg-type]

"""Noise ceiling against simulated voxels whose signal power is known."""

from __future__ import annotations

import numpy as np
import pytest

from brain_tuning.corpus import ceiling as corpus_ceiling
from brain_tuning.encoding.ceiling import cc_norm, noise_ceiling, signal_power, signal_power_explained
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import EncodingError


def simulated(
    signal_share: np.ndarray, n_repeats: int = 6, n_trs: int = 4000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Signal (n_trs, n_voxels) and repeats whose variance is the given share signal, the rest noise."""
    rng = np.random.default_rng(seed)
    signal = zscore(rng.normal(size=(n_trs, signal_share.size)))
    noise = rng.normal(size=(n_repeats, n_trs, signal_share.size))
    return signal, np.sqrt(signal_share) * signal + np.sqrt(1 - signal_share) * noise


def test_known_signal_power_is_recovered() -> None:
    share = np.array([0.1, 0.3, 0.6, 0.9])
    signal, repeats = simulated(share)
    np.testing.assert_allclose(signal_power(repeats), share, atol=0.03)
    # What the true signal, the perfect model, reaches IS the ceiling.
    np.testing.assert_allclose(noise_ceiling(repeats), pearson_r(signal, repeats.mean(0)), atol=0.02)
    np.testing.assert_allclose(cc_norm(signal, repeats), 1.0, atol=0.03)


def test_the_perfect_prediction_explains_all_signal_power() -> None:
    share = np.array([0.3, 0.6])
    signal, repeats = simulated(share)
    z = np.stack([zscore(repeat) for repeat in repeats])
    np.testing.assert_allclose(signal_power_explained(np.sqrt(share) * signal, z), 1.0, atol=0.05)
    np.testing.assert_allclose(signal_power_explained(0 * signal, z), 0.0, atol=1e-12)


def test_the_unit_of_the_repeats_does_not_matter() -> None:
    signal, repeats = simulated(np.array([0.3, 0.6]), n_trs=200)
    np.testing.assert_allclose(noise_ceiling(700 + 12 * repeats), noise_ceiling(repeats), rtol=1e-9)
    np.testing.assert_allclose(cc_norm(5 * signal, 700 + 12 * repeats), cc_norm(signal, repeats), rtol=1e-9)
    with pytest.raises(EncodingError, match=r"repeats are not z-scored .*voxel 0, standard deviation 1[12]"):
        signal_power_explained(signal, 12 * repeats)


def test_voxels_without_signal_are_nan_never_zero() -> None:
    """User-pains 2 and 3: the field's code turns them into 0, which reads as a measured ceiling."""
    signal, repeats = simulated(np.full(5, 0.5), n_repeats=2, n_trs=100)
    repeats[1, :, 0] = -repeats[0, :, 0]  # the repeats contradict each other: negative signal power
    repeats[:, :, 1] = 3.0
    repeats[0, 4, 2] = np.nan
    repeats[:, :, 3] = 0.0
    z = np.stack([zscore(repeat) for repeat in repeats])
    assert signal_power(repeats)[0] < 0
    for values in (noise_ceiling(repeats), cc_norm(signal, repeats), signal_power_explained(signal, z)):
        assert np.isfinite(values).tolist() == [False, False, False, False, True]


def test_blocks_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    signal, repeats = simulated(np.full(7, 0.5), n_trs=50)
    repeats = np.stack([zscore(repeat) for repeat in repeats])
    whole = noise_ceiling(repeats), signal_power_explained(signal, repeats)
    monkeypatch.setattr(corpus_ceiling, "_VOXELS_PER_BLOCK", 3)
    np.testing.assert_allclose(noise_ceiling(repeats), whole[0], rtol=1e-12)
    np.testing.assert_allclose(signal_power_explained(signal, repeats), whole[1], rtol=1e-12)


def test_there_is_one_definition_of_the_noise_ceiling() -> None:
    """What a corpus stores and what an analysis divides by cannot differ: they are one function."""
    assert noise_ceiling is corpus_ceiling.schoppe_ceiling
    assert signal_power is corpus_ceiling.signal_power


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(EncodingError, match="at least 2 repeats; remedy: use a story that was presented"):
        noise_ceiling(np.zeros((1, 10, 3)))
    with pytest.raises(EncodingError, match=r"prediction has shape \(9, 3\); expected \(10, 3\)"):
        cc_norm(np.zeros((9, 3)), np.zeros((2, 10, 3)))

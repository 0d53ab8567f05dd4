"""Autocorrelation against its definition, and the block length it asks for."""

from __future__ import annotations

import numpy as np
import pytest
from autocorrelated_noise import RUN_LENGTHS_TRS, ar1

from brain_tuning.encoding import autocorrelation as autocorrelation_module
from brain_tuning.encoding.autocorrelation import autocorrelation, block_length
from brain_tuning.encoding.rearrangements import BlockShuffles
from brain_tuning.encoding.scores import zscore
from brain_tuning.errors import EncodingError


def test_it_equals_its_definition_within_runs() -> None:
    x = ar1(np.random.default_rng(0), 4, runs=(30, 12))
    z = zscore(x, [30, 12])
    expected = np.zeros((16, 4))
    for run in (z[:30], z[30:]):
        for lag in range(16):
            expected[lag] += (run[: len(run) - lag] * run[lag:]).sum(0) if lag < len(run) else 0
    rho = autocorrelation(x, [30, 12], 15)
    np.testing.assert_allclose(rho, expected / 42, atol=1e-12)
    np.testing.assert_allclose(rho[0], 1.0)


def test_blocks_of_voxels_equal_the_whole(monkeypatch) -> None:
    x = ar1(np.random.default_rng(0), 7)
    whole = autocorrelation(x, RUN_LENGTHS_TRS, 5)
    monkeypatch.setattr(autocorrelation_module, "_VOXELS_PER_BLOCK", 3)
    np.testing.assert_allclose(autocorrelation(x, RUN_LENGTHS_TRS, 5), whole, atol=1e-14)


def test_it_recovers_a_known_coefficient() -> None:
    rho = autocorrelation(ar1(np.random.default_rng(0), 20, runs=(4000,)), [4000], 4).mean(1)
    np.testing.assert_allclose(rho, 0.5 ** np.arange(5), atol=0.01)


def test_the_block_length_of_known_noise() -> None:
    """AR(1) of 0.5 twice: variance (1 + q) / (1 - q) with q = 0.25; b blocks lose 2 q / (1 - q)^2 / b of it."""
    rng = np.random.default_rng(0)
    x, y = (ar1(rng, 200, runs=(2000,)) for _ in range(2))
    found = block_length(x, y, [2000], tolerance=0.05)
    assert found.variance_inflation == pytest.approx(5 / 3, rel=0.02)
    assert found.block_trs in (10, 11, 12)  # 2 * 0.25 / 0.75^2 / (5 / 3) / 0.05 = 10.7
    assert 0.04 < found.lost_share <= 0.05
    assert found.n_voxels == 200
    assert block_length(x, y, [2000], tolerance=0.2).block_trs == 3
    white = rng.normal(size=(2000, 200))
    assert block_length(x, white, [2000]).block_trs == 1


def test_the_share_lost_is_what_shuffled_blocks_lose() -> None:
    rng = np.random.default_rng(0)
    x, y = (ar1(rng, 200, runs=(2500,), n_averaged=4) for _ in range(2))
    found = block_length(x, y, [2500], tolerance=0.2)
    shuffles = BlockShuffles.draw([2500], found.block_trs, 30, 0)
    kept = len(x) * shuffles.null_r(zscore(x), zscore(y)).var() / found.variance_inflation
    assert 1 - kept == pytest.approx(found.lost_share, abs=0.03)
    assert found.lost_share > 0.15


def test_a_short_story_does_not_hide_the_memory_of_the_others() -> None:
    rng = np.random.default_rng(0)
    x, y = (ar1(rng, 100, runs=(2000, 6), coefficient=0.8) for _ in range(2))
    found = block_length(x, y, [2000, 6], max_lag_trs=60)
    # 2 q / (1 - q)^2 / ((1 + q) / (1 - q)) / 0.05 with q = 0.64
    assert found.block_trs == pytest.approx(43.4, abs=5)


def test_lags_beyond_the_memory_are_noise_and_do_not_count() -> None:
    """Few voxels, no autocorrelation: sixty lags of noise ask for no block."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 200, 3))
        assert block_length(x, y, [200], max_lag_trs=60).block_trs <= 2


def test_voxels_that_do_not_vary_do_not_count() -> None:
    rng = np.random.default_rng(0)
    x, y = ar1(rng, 9), ar1(rng, 9)
    y[:, 3], x[5, 4] = 2.0, np.nan
    assert np.isnan(autocorrelation(y, RUN_LENGTHS_TRS, 3)[:, 3]).all()
    kept = np.delete(np.arange(9), [3, 4])
    found, clean = block_length(x, y, RUN_LENGTHS_TRS), block_length(x[:, kept], y[:, kept], RUN_LENGTHS_TRS)
    assert (found.block_trs, found.n_voxels) == (clean.block_trs, 7)
    with pytest.raises(EncodingError, match=r"no voxel varies .*1 voxels"):
        block_length(x[:, [4]], y[:, [4]], RUN_LENGTHS_TRS)


def test_slow_drifts_are_refused_with_the_way_out() -> None:
    slow = np.cumsum(np.random.default_rng(0).normal(size=(330, 20)), axis=0)
    with pytest.raises(EncodingError, match=r"no block of up to 30 TRs.*at most 5% lost; remedy: use circular_shift_p"):
        block_length(slow, slow, RUN_LENGTHS_TRS)
    with pytest.raises(EncodingError, match=r"values have shape \(330,\)"):
        autocorrelation(slow[:, 0], RUN_LENGTHS_TRS, 3)
    with pytest.raises(EncodingError, match="max_lag_trs=-1"):
        autocorrelation(slow, RUN_LENGTHS_TRS, -1)

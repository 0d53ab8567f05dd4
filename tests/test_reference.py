"""Agreement with arrays computed by the field's public code, to 1e-6 relative in float64.

The folder is the shared one beside the checkout, or the one named by BRAIN_TUNING_REFERENCE, which holds the
same files and keys with other sizes and seeds.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from brain_tuning.encoding.ceiling import cc_norm, noise_ceiling, signal_power_explained
from brain_tuning.encoding.ridge import ridge_weights
from brain_tuning.encoding.scores import pearson_r, signed_sqrt_r2
from brain_tuning.timing.delays import fir_delays
from brain_tuning.timing.lanczos import lanczos_matrix

FOLDER = Path(
    os.environ.get("BRAIN_TUNING_REFERENCE", Path(__file__).resolve().parents[1].parent / "shared" / "reference")
)


def reference(name: str) -> dict[str, np.ndarray]:
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no reference arrays: {path} is absent (set BRAIN_TUNING_REFERENCE)")
    with np.load(path) as arrays:
        return dict(arrays)


def assert_agrees(actual: np.ndarray, expected: np.ndarray) -> None:
    """1e-6 of the value, or, for values that cancel to near zero, of the array's own scale."""
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_lanczos() -> None:
    given = reference("lanczos")
    matrix = lanczos_matrix(given["times"], given["tr_times"], lobes=int(given["window"]), allow_empty=True)
    assert_agrees(matrix @ given["features"], given["expected"])


def test_delays() -> None:
    given = reference("delays")
    np.testing.assert_array_equal(fir_delays(given["features"], given["delays"]), given["expected"])


def test_ridge_weights() -> None:
    given = reference("ridge")
    weights = ridge_weights(given["X_train"], given["Y_train"], given["voxel_alphas"] ** 2)
    assert_agrees(weights, given["expected_weights"])


def test_ridge_scores_at_every_alpha() -> None:
    given = reference("ridge")
    for i, alpha in enumerate(given["alphas"]):
        predicted = given["X_test"] @ ridge_weights(given["X_train"], given["Y_train"], alpha**2)
        assert_agrees(pearson_r(predicted, given["Y_test"]), given["expected_correlation_per_alpha"][i])
        assert_agrees(signed_sqrt_r2(predicted, given["Y_test"]), given["expected_signed_sqrt_r2_per_alpha"][i])


def test_ceiling() -> None:
    """Voxels without signal power are 0 in the reference and NaN here; all others agree."""
    given = reference("ceiling")
    repeats, prediction = given["repeats"], given["prediction"]
    known = np.isfinite(noise_ceiling(repeats))
    assert (given["expected_cc_max"][~known] == 0).all()
    assert known.any()
    for actual, key in [
        (noise_ceiling(repeats), "expected_cc_max"),
        (cc_norm(prediction, repeats), "expected_cc_norm"),
        (signal_power_explained(prediction, repeats), "expected_signal_power_explained"),
    ]:
        assert_agrees(actual[known], given[key][known])
        assert np.isnan(actual[~known]).all()
    assert_agrees(pearson_r(prediction, repeats.mean(0)), given["expected_correlation"])

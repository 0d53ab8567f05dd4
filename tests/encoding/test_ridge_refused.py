"""What a ridge is not to be given: each refusal says what is wrong with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ridge_problems import problem

from brain_tuning.encoding.ridge import huth_penalties, ridge_cv, ridge_weights
from brain_tuning.errors import EncodingError


class _Narrow:
    """A provider that gives fewer columns than were asked for."""

    shape = (60, 4)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return np.zeros((60, 3))


def _read_only() -> np.ndarray:
    weights = np.empty((8, 4))
    weights.flags.writeable = False
    return weights


def _with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[7, 3] = np.nan
    return x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, y, f: ridge_cv(_with_nan(x), y, f),
            r"1 of 8 features hold NaN .*\[first: feature 3, TR 7\]",
        ),
        (lambda x, y, f: ridge_cv(x[:-1], y, f), r"features have shape \(59, 8\), responses \(60, 4\)"),
        (lambda x, y, f: ridge_cv(x, y, f, [0.0, 1.0]), "penalties are not positive numbers"),
        (lambda x, y, f: ridge_cv(x, y, f, []), "penalties are not positive numbers"),
        (
            lambda x, y, f: ridge_cv(x, y, f, criterion="mse"),
            "unknown criterion 'mse'; expected pearson or r2",
        ),
        (lambda x, y, f: ridge_cv(x, y, f, form="dual"), "unknown form 'dual'; expected auto or primal or"),
        (lambda x, y, f: ridge_cv(x, y, f, voxels_per_block=0), "voxels_per_block=0; expected at least 1"),
        (
            lambda x, y, f: ridge_cv(x, y, f, out=np.empty((8, 4), np.float32)),
            r"array for the weights is float32 \(8, 4\); expected float64 \(8, 4\)",
        ),
        (lambda x, y, f: ridge_cv(x, y, []), "there are no folds"),
        (lambda x, y, f: ridge_cv(x[:40], y[:40], f), "expected rows 0 to 39"),
        (lambda x, y, f: ridge_cv(x, y, f).predict(x[:, :5]), r"5 features .*expected 8, as in the fit"),
        (lambda x, y, f: ridge_weights(x, y, [1.0, 2.0]), r"2 penalties for 4 voxels"),
        (lambda x, y, f: ridge_weights(x, y + 1j, 1.0), "the responses are complex128; expected real numbers"),
        (lambda x, y, f: ridge_cv(x + 1j, y, f), "features are complex128; expected real numbers"),
        (lambda x, y, f: ridge_cv(x.astype(str), y, f), "features are <U.*; expected real numbers"),
        (lambda x, y, f: ridge_cv(x, y, f).predict(x + 1j), "features are complex128; expected real numbers"),
        (lambda x, y, f: ridge_cv(x, y + 1j, f), "the responses are complex128; expected real numbers"),
        (lambda x, y, f: ridge_cv(x, y.tolist(), f), r"the responses are a list; .*remedy: pass numpy.asarray"),
        (lambda x, y, f: ridge_cv(x, pd.DataFrame(y), f), "the responses are a DataFrame; expected an array"),
        (
            lambda x, y, f: ridge_cv(x, _Narrow(), f),
            r"responses of voxels 0 to 3 are float64 \(60, 3\); expected real numbers \(60, 4\)",
        ),
        (lambda x, y, f: ridge_cv(x, y, f, dtype=np.float16), "dtype=.*float16.*; expected float32 or float64"),
        (lambda x, y, f: ridge_cv(x, y, f, dtype="int64"), "dtype='int64'; expected float32 or float64"),
        (
            lambda x, y, f: ridge_cv(x, y, f, device="gramophone"),
            "nothing can be computed on device 'gramophone' .*; expected cpu, or a device of this machine",
        ),
        (lambda x, y, f: ridge_cv(x, y, f, voxels_per_block=2.5), "voxels_per_block=2.5; .* a whole number"),
        (lambda x, y, f: ridge_cv(x, y, f, memory_mb=float("nan")), "a budget of nan MiB is too small"),
        (lambda x, y, f: ridge_cv(x, y, f, out=_read_only()), "array for the weights is read-only; remedy: open"),
        (lambda x, y, f: huth_penalties(0), "0 penalties; expected at least 1"),
    ],
)
def test_wrong_input_is_named(call, message: str) -> None:
    """User-pains 3: the error names which feature and which TR."""
    with pytest.raises(EncodingError, match=message):
        call(*problem(60, 8, 4))

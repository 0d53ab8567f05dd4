"""FIR delays: each column is the features at another time of the same run, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_tuning.errors import TimingError
from brain_tuning.timing.delays import check_delays, fir_delays

DELAYS = st.lists(st.integers(-6, 12), min_size=1, max_size=6, unique=True)


@settings(max_examples=60, deadline=None)
@given(n_trs=st.integers(1, 10), width=st.integers(1, 4), delays=DELAYS, seed=st.integers(0, 2**31))
def test_every_value_comes_from_its_delay(n_trs: int, width: int, delays: list[int], seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n_trs, width))
    out = fir_delays(features, delays)
    assert out.shape == (n_trs, width * len(delays))
    for t in range(n_trs):
        for k, delay in enumerate(delays):
            inside = 0 <= t - delay < n_trs
            expected = features[t - delay] if inside else np.zeros(width)
            np.testing.assert_array_equal(out[t, k * width : (k + 1) * width], expected)
    tensor = fir_delays(torch.from_numpy(features), delays)
    np.testing.assert_array_equal(tensor.numpy(), out)


def test_delays_never_cross_a_run() -> None:
    """The field's scripts delay concatenated stories, which lets TRs of one story predict the next."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))
    alone = fir_delays(second, [1, 2, 3, 4])
    stacked = np.concatenate([fir_delays(run, [1, 2, 3, 4]) for run in (first, second)])
    np.testing.assert_array_equal(stacked[20:], alone)
    assert (alone[:4, 9:] == 0).all()
    assert not np.array_equal(fir_delays(np.concatenate([first, second]), [1, 2, 3, 4])[20:], alone)


def test_gradients_return_to_the_frames_that_were_used() -> None:
    features = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fir_delays(x, [0, 2, -1]), features)
    fir_delays(features, [3]).sum().backward()
    used = torch.zeros(7)
    used[:4] = 1
    np.testing.assert_array_equal(features.grad[0, :, 0], used)


def test_dtype_stays() -> None:
    assert fir_delays(np.ones((3, 2), np.float16), [1]).dtype == np.float16
    assert fir_delays(torch.ones(3, 2, dtype=torch.bfloat16), [1]).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("delays", "message"),
    [
        ([], "there are no delays; expected at least one"),
        ([1, 2, 1], r"a delay occurs twice: \[1, 2, 1\]"),
        ([1, 2.0], r"delays are not integers: \[1, 2.0\]"),
        ([True], "delays are not integers"),
    ],
)
def test_wrong_delays_are_named(delays: list, message: str) -> None:
    with pytest.raises(TimingError, match=message):
        fir_delays(np.zeros((4, 2)), delays)


def test_features_need_a_time_axis() -> None:
    with pytest.raises(TimingError, match=r"features have shape \(4,\)"):
        fir_delays(np.zeros(4), [1])
    assert check_delays(np.array([1, 2])) == (1, 2)

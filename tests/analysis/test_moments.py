"""What is trained on lies apart in time from what is held out, whichever run it was heard in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_tuning.analysis.moments import apart_in_time, near_in_time, numbered
from brain_tuning.encoding.folds import Fold
from brain_tuning.errors import EncodingError


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), gap_s=st.sampled_from([0.0, 3.0, 20.0]))
def test_it_is_the_plain_rule(seed: int, gap_s: float) -> None:
    """Near means: the same story, and no further away than the gap."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    number, times, held = rng.integers(0, 3, n), rng.integers(0, 60, n) / 2, rng.random(n) < 0.3
    expected = [
        bool(held[k]) or any(held[j] and number[j] == number[k] and abs(times[j] - times[k]) <= gap_s for j in range(n))
        for k in range(n)
    ]
    np.testing.assert_array_equal(near_in_time(held, number, times, gap_s), expected)


def test_folds_lose_what_another_run_has_of_the_same_moment() -> None:
    number = numbered(["b"] * 4 + ["a"] * 4 + ["b"] * 4)
    assert number.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    times = np.tile(np.arange(4) * 10.0, 3)
    (kept,) = apart_in_time([Fold("x", np.arange(2, 12), np.arange(2))], number, times, 5.0, where="here")
    assert kept.train.tolist() == [2, 3, 4, 5, 6, 7, 10, 11]
    assert kept.held_out.tolist() == [0, 1]
    with pytest.raises(EncodingError, match=r"nothing to train on \[here, x of 12, 40 s on either side"):
        apart_in_time([Fold("x", np.arange(8, 12), np.arange(2))], number, times, 40.0, where="here")

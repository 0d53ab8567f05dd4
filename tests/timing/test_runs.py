from __future__ import annotations

import numpy as np
import pytest

from brain_tuning.errors import TimingError
from brain_tuning.timing.runs import lead_in, repetition_time


def test_lead_in_continues_the_grid_backwards() -> None:
    times = 7.5 + 2.0045 * np.arange(5)
    np.testing.assert_allclose(lead_in(times, 3), 7.5 + 2.0045 * np.arange(-3, 5), rtol=0, atol=1e-12)
    assert lead_in(times, 0).tolist() == times.tolist()


def test_a_single_tr_has_no_distance() -> None:
    with pytest.raises(TimingError, match="1 TRs were asked for; expected at least 2 evenly spaced TR times"):
        lead_in(np.array([3.0]), 4)
    assert lead_in(np.array([3.0]), 0).tolist() == [3.0]


def test_the_distance_of_trs_is_their_mean_distance() -> None:
    jitter = np.array([0.0, 0.03, -0.02, 0.01, 0.0])
    assert repetition_time(np.arange(5) * 1.49 + jitter) == pytest.approx(1.49, abs=1e-12)
    assert repetition_time([1, 3]) == 2.0  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [[0.0, 2.0, 4.0, 8.0], [0.0, 2.0, 0.0, 2.0], [4.0, 2.0, 0.0], [0.0, np.nan, 4.0]])
def test_trs_of_two_runs_or_backwards_are_no_even_grid(times: list[float]) -> None:
    """Windows and delays would be those of a mean distance that no TR has."""
    for use in (repetition_time, lambda values: lead_in(values, 2)):
        with pytest.raises(TimingError, match=r"the TRs are not evenly spaced \[TR \d: .* s, then .* s\]"):
            use(np.array(times))


def test_an_uneven_tr_is_named() -> None:
    with pytest.raises(TimingError, match=r"\[TR 2: 4 s, then 10 s\]; expected ascending TR times of one run"):
        repetition_time(np.array([0.0, 2.0, 4.0, 10.0, 12.0, 14.0, 16.0]))

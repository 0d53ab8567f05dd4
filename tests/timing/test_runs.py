from __future__ import annotations

import numpy as np
import pytest

from brain_tuning.errors import TimingError
from brain_tuning.timing.runs import lead_in


def test_lead_in_continues_the_grid_backwards() -> None:
    times = 7.5 + 2.0045 * np.arange(5)
    np.testing.assert_allclose(lead_in(times, 3), 7.5 + 2.0045 * np.arange(-3, 5), rtol=0, atol=1e-12)
    assert lead_in(times, 0).tolist() == times.tolist()


def test_a_single_tr_has_no_distance() -> None:
    with pytest.raises(TimingError, match="1 TRs were asked for; expected at least 2 evenly spaced TR times"):
        lead_in(np.array([3.0]), 4)
    assert lead_in(np.array([3.0]), 0).tolist() == [3.0]

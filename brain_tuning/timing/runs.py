"""Times of the TRs of one run."""

from __future__ import annotations

import numpy as np

from brain_tuning.errors import TimingError


def lead_in(tr_times_s: np.ndarray, n_lead_trs: int) -> np.ndarray:
    """Times of the TRs with ``n_lead_trs`` more before the first, evenly spaced, seconds.

    Args:
        tr_times_s: middle of each TR of one run, evenly spaced, (n_trs,).
        n_lead_trs: how many to put before the first.

    Returns:
        (n_lead_trs + n_trs,).

    Raises:
        TimingError: a single TR, whose distance to the one before is unknown.
    """
    times = np.asarray(tr_times_s, dtype=np.float64)
    if not n_lead_trs:
        return times
    if len(times) < 2:
        raise TimingError(f"{len(times)} TRs were asked for", expected="at least 2 evenly spaced TR times")
    tr_s = (times[-1] - times[0]) / (len(times) - 1)
    return np.concatenate([times[0] - tr_s * np.arange(n_lead_trs, 0, -1), times])

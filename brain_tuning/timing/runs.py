"""Times of the TRs of one run."""

from __future__ import annotations

import numpy as np

from brain_tuning.errors import TimingError

#: TRs may differ by this share of their mean, as a scanner's log has them
_UNEVEN = 0.05


def repetition_time(tr_times_s: np.ndarray) -> float:
    """Distance of the TRs of one run, seconds.

    Args:
        tr_times_s: middle of each TR, (n_trs,).

    Raises:
        TimingError: fewer than two TRs, or TRs that are not evenly spaced, e.g. of two runs.
    """
    times = np.asarray(tr_times_s, dtype=np.float64)
    if times.ndim != 1 or len(times) < 2:
        raise TimingError(f"{times.size} TRs were asked for", expected="at least 2 evenly spaced TR times")
    tr_s = (times[-1] - times[0]) / (len(times) - 1)
    steps = np.diff(times)
    if not (np.abs(steps - tr_s) <= _UNEVEN * tr_s).all():
        first = int(np.argmax(np.abs(steps - np.median(steps))))
        raise TimingError(
            "the TRs are not evenly spaced",
            where=f"TR {first}: {times[first]:.6g} s, then {times[first + 1]:.6g} s",
            expected="ascending TR times of one run, in seconds",
            remedy="handle each run by itself",
        )
    return float(tr_s)


def lead_in(tr_times_s: np.ndarray, n_lead_trs: int) -> np.ndarray:
    """Times of the TRs with ``n_lead_trs`` more before the first, evenly spaced, seconds.

    Args:
        tr_times_s: middle of each TR of one run, evenly spaced, (n_trs,).
        n_lead_trs: how many to put before the first.

    Returns:
        (n_lead_trs + n_trs,).

    Raises:
        TimingError: a single TR, whose distance to the one before is unknown, or TRs that are not evenly spaced.
    """
    times = np.asarray(tr_times_s, dtype=np.float64)
    if not n_lead_trs:
        return times
    tr_s = repetition_time(times)
    return np.concatenate([times[0] - tr_s * np.arange(n_lead_trs, 0, -1), times])

"""Times of the TRs of one run."""

from __future__ import annotations

import numpy as np


def lead_in(tr_times_s: np.ndarray, n_lead_trs: int) -> np.ndarray:
    """Times of the TRs with ``n_lead_trs`` more before the first, evenly spaced, seconds."""
    times = np.asarray(tr_times_s, dtype=np.float64)
    if not n_lead_trs:
        return times
    tr_s = (times[-1] - times[0]) / (len(times) - 1)
    return np.concatenate([times[0] - tr_s * np.arange(n_lead_trs, 0, -1), times])

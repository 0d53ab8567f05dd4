"""Design matrices: a story's features at its runs' TRs, normalised and delayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from brain_tuning.corpus.schema import Run
from brain_tuning.timing import fir_delays
from brain_tuning.timing.runs import lead_in

from .scores import zscore

#: (story, TR times in s (n_trs,)) -> features (n_trs, width) and whether audio reaches each TR (n_trs,)
StoryFeatures = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


def design_matrix(features: StoryFeatures, runs: Sequence[Run], delays_trs: Sequence[int]) -> np.ndarray:
    """Delayed, z-scored features of runs, one below the other.

    Features are computed for the TRs that the delays need before a run's first stored TR as well, z-scored
    within the run over TRs that audio reaches (zero elsewhere), delayed within the run, and cut to the run.

    Args:
        features: of a story at TR times.
        runs: in the order of the rows.
        delays_trs: FIR delays in TRs.

    Returns:
        (sum of n_trs, width x delays), float32. Features that never change within a run are 0 there: they
        carry no information, and a NaN would spoil every voxel.
    """
    n_lead = max(0, *delays_trs)
    parts = []
    for run in runs:
        values, seen = features(run.story, lead_in(run.tr_times_s, n_lead))
        normal = np.zeros(values.shape, np.float32)
        scored = zscore(values[seen])
        normal[seen] = np.where(np.isnan(scored), 0.0, scored)
        parts.append(fir_delays(normal, delays_trs)[n_lead:])
    return np.concatenate(parts)

"""From runs to a regression: design matrices, normalised and delayed within the run, and folds between stories."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from brain_tuning.corpus.schema import Run
from brain_tuning.errors import EncodingError
from brain_tuning.timing import fir_delays
from brain_tuning.timing.runs import lead_in

from .folds import Fold, contiguous_folds, story_folds
from .scores import zscore

#: seconds of response left out on either side of a held-out block within one story
BORDER_S = 20.0

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

    Raises:
        EncodingError: there is no run, audio reaches no TR of one, or features of TRs that it reaches are not finite.
        TimingError: there are no delays, or a run is a single TR.
    """
    if not runs:
        raise EncodingError("there are no runs to make features of")
    n_lead = max((0, *delays_trs))
    parts = []
    for run in runs:
        times_s = lead_in(run.tr_times_s, n_lead)
        values, seen = features(run.story, times_s)
        _check_heard(run, values, seen, times_s)
        normal = np.zeros(values.shape, np.float32)
        scored = zscore(values[seen])
        normal[seen] = np.where(np.isnan(scored), 0.0, scored)
        parts.append(fir_delays(normal, delays_trs)[n_lead:])
    return np.concatenate(parts)


def inner_folds(runs: Sequence[Run], n_folds: int) -> list[Fold]:
    """Folds to choose penalties by: whole stories, or contiguous blocks if there is one story only.

    A block is held out of all listenings to the story: the response to a moment is not predicted from that to another
    listening to it.

    Args:
        runs: in the order of the rows.
        n_folds: most folds; there are never more than stories, if there are several.

    Raises:
        EncodingError: there is no run, or too few TRs to cut the one story into blocks.
    """
    if not runs:
        raise EncodingError("there are no runs to make folds of")
    stories = [run.story for run in runs]
    lengths = [run.n_trs for run in runs]
    n_stories = len(set(stories))
    if n_stories > 1:
        return story_folds(stories, lengths, n_folds=min(n_folds, n_stories))
    times_s = np.concatenate([run.tr_times_s for run in runs])
    # Listenings may begin at different times; 1e-6 for TRs that are no binary fractions of a second.
    grid = np.floor((times_s - times_s.min()) / runs[0].tr_s + 1e-6)
    _, moment = np.unique(grid, return_inverse=True)
    return [
        Fold(block.name, *(np.flatnonzero(np.isin(moment, part)) for part in (block.train, block.held_out)))
        for block in contiguous_folds(int(moment.max()) + 1, n_folds, gap_trs=border_trs(runs))
    ]


def border_trs(runs: Sequence[Run]) -> int:
    """:data:`BORDER_S` in TRs of the runs, rounded up."""
    return int(np.ceil(BORDER_S / runs[0].tr_s))


def _check_heard(run: Run, values: np.ndarray, seen: np.ndarray, times_s: np.ndarray) -> None:
    """Raise :class:`EncodingError` unless audio reaches a TR of the run and its features are finite there."""
    where = f"subject {run.subject}, story {run.story!r}, run {run.run}"
    if not seen.any():
        raise EncodingError(
            "audio reaches no TR of a run",
            where=f"{where}, {times_s[0]:.1f} to {times_s[-1]:.1f} s",
            expected="TRs within the story",
            remedy="check onset_s of the run",
        )
    wrong = np.argwhere(~np.isfinite(values) & seen[:, None])
    if wrong.size:
        row, column = wrong[0]
        raise EncodingError(
            f"{len(np.unique(wrong[:, 1]))} of {values.shape[1]} features hold NaN or infinite values",
            where=f"{where}; first: feature {column}, at {times_s[row]:.1f} s",
            expected="finite features wherever there is audio",
        )

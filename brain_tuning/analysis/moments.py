"""Which TRs of a story are too close in time to those held out, however often and in whichever runs it was heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.folds import Fold
from brain_tuning.errors import EncodingError


def numbered(stories: Sequence[str]) -> npt.NDArray[np.intp]:
    """Number of each row's story, by first appearance, (n_trs,)."""
    place = {name: k for k, name in enumerate(dict.fromkeys(stories))}
    return np.array([place[name] for name in stories], dtype=np.intp)


def near_in_time(
    held: npt.NDArray[np.bool_], number: npt.NDArray[Any], times_s: npt.NDArray[np.float64], gap_s: float
) -> npt.NDArray[np.bool_]:
    """Rows that are held out, or no further than the gap from the nearest of them in the same story.

    Args:
        held: rows that are held out, (n_trs,).
        number: story of each row (n_trs,).
        times_s: of each row, seconds from the story's onset (n_trs,), in any order; a time may occur twice.
        gap_s: seconds.

    Returns:
        Boolean array (n_trs,).
    """
    near = held.copy()
    for story in np.unique(number[held]):
        inside = np.flatnonzero(number == story)
        out = np.sort(times_s[inside][held[inside]])
        after = np.searchsorted(out, times_s[inside]).clip(0, len(out) - 1)
        distance = np.minimum(abs(out[after] - times_s[inside]), abs(times_s[inside] - out[(after - 1).clip(0)]))
        near[inside[distance <= gap_s]] = True
    return near


def apart_in_time(
    folds: Sequence[Fold], number: npt.NDArray[Any], times_s: npt.NDArray[np.float64], gap_s: float, *, where: str
) -> list[Fold]:
    """Folds that train on no moment of a story near one that they hold out, though it may be heard in another run.

    Args:
        folds: of rows.
        number, times_s, gap_s: see :func:`near_in_time`.
        where: named in the error.

    Raises:
        EncodingError: a fold is left with nothing to train on.
    """
    kept = []
    for fold in folds:
        held = np.zeros(len(number), dtype=bool)
        held[fold.held_out] = True
        near = near_in_time(held, number, times_s, gap_s)
        train = fold.train[~near[fold.train]]
        if train.size == 0:
            raise EncodingError(
                "the gaps leave nothing to train on",
                where=f"{where}, {fold.name} of {len(number)}, {gap_s:g} s on either side of each listening",
                remedy="use more stories, more folds or a shorter gap",
            )
        kept.append(Fold(fold.name, train, fold.held_out))
    return kept

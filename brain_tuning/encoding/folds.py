"""Cross-validation folds that cut between stories, never through shuffled TRs.

Neighbouring TRs are alike, so folds of shuffled TRs overstate how well a model predicts (Hadidi et al. 2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from brain_tuning.errors import EncodingError


@dataclass(frozen=True)
class Fold:
    """One split of the rows into a part to train on and a part to score.

    Attributes:
        name: what is held out, e.g. the story.
        train: row indices to train on (n_train,), ascending.
        held_out: row indices to score (n_held_out,), ascending; never in ``train``.
    """

    name: str
    train: npt.NDArray[np.intp]
    held_out: npt.NDArray[np.intp]


def story_folds(stories: Sequence[str], run_lengths_trs: Sequence[int], *, n_folds: int | None = None) -> list[Fold]:
    """Folds that each hold out whole stories; all runs (repeats) of a story are held out together.

    With ``n_folds`` the stories are dealt out, longest first, each to the fold with the fewest TRs so far:
    deterministic, and the folds come out balanced.

    Args:
        stories: story of each run, in the order of the rows.
        run_lengths_trs: TRs of each run.
        n_folds: number of folds; None leaves one story out at a time.

    Returns:
        Folds over ``sum(run_lengths_trs)`` rows; every row is held out once.

    Raises:
        EncodingError: fewer than two stories, more folds than stories, fewer than two folds, or lengths
            that do not fit.
    """
    lengths = _lengths(stories, run_lengths_trs)
    names = list(dict.fromkeys(stories))
    if len(names) < 2:
        raise EncodingError(
            "story-level folds need at least two stories",
            where=f"stories: {', '.join(names) or 'none'}",
            remedy="add a story, or use contiguous_folds(n_trs, n_folds, gap_trs) within the one story",
        )
    if n_folds is not None and not 2 <= n_folds <= len(names):
        raise EncodingError(f"{n_folds} folds of {len(names)} stories", expected=f"2 to {len(names)} folds")
    held_out_stories = [[name] for name in names] if n_folds is None else _deal(stories, lengths, n_folds)
    row_story = np.repeat(np.array([names.index(story) for story in stories]), lengths)
    folds = []
    for members in held_out_stories:
        held_out = np.isin(row_story, [names.index(story) for story in members])
        folds.append(Fold("+".join(members), np.flatnonzero(~held_out), np.flatnonzero(held_out)))
    return folds


def contiguous_folds(n_trs: int, n_folds: int = 5, *, gap_trs: int) -> list[Fold]:
    """Folds that each hold out one block of consecutive TRs, for a single story.

    The ``gap_trs`` rows on either side of the block are not trained on. Choose at least the longest delay
    plus the length of the haemodynamic response (about 10 s), else training sees the held-out block.

    Args:
        n_trs: TRs of the story.
        n_folds: number of blocks, of equal length but for one TR.
        gap_trs: rows dropped on either side of the block.

    Returns:
        Folds over ``n_trs`` rows; every row is held out once.

    Raises:
        EncodingError: fewer than two folds, a negative gap, or too few TRs to leave anything to train on.
    """
    if n_folds < 2:
        raise EncodingError(f"{n_folds} folds", expected="at least 2")
    if gap_trs < 0:
        raise EncodingError(f"gap_trs={gap_trs}", expected="0 or more")
    if n_trs < n_folds:
        raise EncodingError(f"{n_trs} TRs cannot be cut into {n_folds} blocks", remedy="use fewer folds")
    borders = np.linspace(0, n_trs, n_folds + 1).round().astype(np.intp)
    rows = np.arange(n_trs)
    folds = []
    for begin, end in pairwise(borders):
        train = rows[(rows < begin - gap_trs) | (rows >= end + gap_trs)]
        if train.size == 0:
            raise EncodingError(
                "the gaps leave nothing to train on",
                where=f"TRs {begin} to {end} held out of {n_trs}, gap_trs={gap_trs}",
                remedy="use more folds or a shorter gap",
            )
        folds.append(Fold(f"TRs {begin}-{end - 1}", train, rows[begin:end]))
    return folds


def chunk_bootstrap_folds(
    stories: Sequence[str],
    run_lengths_trs: Sequence[int],
    *,
    n_boots: int = 3,
    chunk_trs: int = 20,
    held_out_share: float = 0.25,
    seed: int = 0,
) -> list[Fold]:
    """The field's folds, FOR REPLICATION ONLY: random chunks of consecutive TRs held out, drawn anew for each fold.

    Training TRs stand right beside held-out ones, with no gap: delays, the slow haemodynamic response and drifts
    let training see what is scored, so scores come out too high and penalties too weak. To judge a model use
    :func:`story_folds`.

    Every run is cut into chunks from its start; the TRs left over at its end are always trained on. Deviation from
    the published scripts: they cut the concatenated runs, so that a chunk may hold the end of one story and the start
    of the next; here no chunk crosses a run.

    Args:
        stories: story of each run, in the order of the rows.
        run_lengths_trs: TRs of each run.
        n_boots: number of folds.
        chunk_trs: TRs of a chunk.
        held_out_share: share of all TRs to hold out in each fold, rounded to whole chunks, at least one.
        seed: of the draws.

    Returns:
        ``n_boots`` folds; a row may be held out several times or never.

    Raises:
        EncodingError: no fold, a share that is not between 0 and 1, lengths that do not fit, or too few chunks to
            both train and score.

    Source: Huth et al. (2016), bootstrap of the penalty; Antonello et al. (2023) and Moussa et al. (2025): 3
    bootstraps, chunks of 20 TRs, 25 % held out.
    """
    lengths = _lengths(stories, run_lengths_trs)
    if n_boots < 1 or chunk_trs < 1 or not 0 < held_out_share < 1:
        raise EncodingError(
            f"n_boots={n_boots}, chunk_trs={chunk_trs}, held_out_share={held_out_share:g}",
            expected="at least 1, at least 1, and between 0 and 1",
        )
    begins = np.cumsum([0, *lengths[:-1]])
    chunks = [
        np.arange(begin + at, begin + at + chunk_trs)
        for begin, length in zip(begins, lengths, strict=True)
        for at in range(0, length - chunk_trs + 1, chunk_trs)
    ]
    n_trs = sum(lengths)
    n_held_out = max(1, round(held_out_share * n_trs / chunk_trs))
    if n_held_out > len(chunks) or n_held_out * chunk_trs >= n_trs:
        raise EncodingError(
            f"{n_held_out} chunks of {chunk_trs} TRs cannot be held out",
            where=f"{n_trs} TRs, {len(chunks)} whole chunks",
            expected="whole chunks, and TRs left to train on",
            remedy="use shorter chunks",
        )
    rng = np.random.default_rng(seed)
    folds = []
    for boot in range(n_boots):
        drawn = rng.choice(len(chunks), n_held_out, replace=False)
        held_out = np.sort(np.concatenate([chunks[k] for k in drawn]))
        folds.append(Fold(f"bootstrap {boot}", np.setdiff1d(np.arange(n_trs), held_out), held_out))
    return folds


def check_folds(folds: Sequence[Fold], n_trs: int) -> None:
    """Raise unless the folds index these rows and no row is trained on and scored at once.

    Args:
        folds: folds to check.
        n_trs: number of rows that there are.

    Raises:
        EncodingError: there is no fold, a part of one is no array of row indices, is empty or not ascending, a row is
            out of range, or training and held-out rows overlap.
    """
    if not isinstance(folds, Sequence):
        raise EncodingError(f"the folds are a {type(folds).__name__}", expected="a list of Fold")
    if not folds:
        raise EncodingError("there are no folds", remedy="use story_folds or contiguous_folds")
    for k, fold in enumerate(folds):
        if not isinstance(fold, Fold):
            raise EncodingError(
                f"fold {k} is a {type(fold).__name__}", expected="a Fold", remedy="Fold(name, train, held_out)"
            )
        where = f"fold {fold.name!r}"
        for part, rows in (("train", fold.train), ("held_out", fold.held_out)):
            if not isinstance(rows, np.ndarray) or rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise EncodingError(
                    f"{part} is {_in_words(rows)}", where=where, expected="an array of row indices, whole numbers"
                )
            if rows.size == 0:
                raise EncodingError(f"{part} of a fold is empty", where=where)
            if rows.min() < 0 or rows.max() >= n_trs:
                raise EncodingError(
                    f"{part} names rows {rows.min()} to {rows.max()}",
                    where=where,
                    expected=f"rows 0 to {n_trs - 1}",
                    remedy="build the folds from the lengths of the same runs",
                )
            if np.any(np.diff(rows) <= 0):
                raise EncodingError(f"{part} is not strictly ascending", where=where)
        shared = np.intersect1d(fold.train, fold.held_out)
        if shared.size:
            raise EncodingError(
                f"{shared.size} rows are both trained on and held out",
                where=f"{where}, first row {shared[0]}",
            )


def _in_words(rows: object) -> str:
    return f"an array of {rows.dtype}" if isinstance(rows, np.ndarray) else f"a {type(rows).__name__}"


def _lengths(stories: Sequence[str], run_lengths_trs: Sequence[int]) -> list[int]:
    lengths = [int(n) for n in run_lengths_trs]
    if len(lengths) != len(stories):
        raise EncodingError(f"{len(stories)} story names for {len(lengths)} runs", expected="one name a run")
    empty = [story for story, n in zip(stories, lengths, strict=True) if n < 1]
    if empty:
        raise EncodingError(f"{len(empty)} runs have no TR", where=f"first: {empty[0]}")
    return lengths


def _deal(stories: Sequence[str], lengths: Sequence[int], n_folds: int) -> list[list[str]]:
    n_trs = dict.fromkeys(stories, 0)
    for story, length in zip(stories, lengths, strict=True):
        n_trs[story] += length
    dealt: list[list[str]] = [[] for _ in range(n_folds)]
    for story in sorted(n_trs, key=lambda name: -n_trs[name]):
        smallest = min(dealt, key=lambda members: sum(n_trs[name] for name in members))
        smallest.append(story)
    order = {story: i for i, story in enumerate(n_trs)}
    return [sorted(members, key=order.__getitem__) for members in dealt]

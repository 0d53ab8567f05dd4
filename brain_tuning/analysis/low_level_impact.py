"""Low-level impact: the share of brain alignment that goes away with what low-level features of speech predict.

A model's features are replaced by what a ridge on low-level features (spectrum, phones, ...) cannot predict of them,
and aligned again: ``impact = 100 (r - r_without) / r``. It is about 100 % where alignment rests on low-level features
alone, about 0 % where it rests on something that is linearly unrelated to them. Of a small r it is mostly noise.

The ridge is cross-fitted: the features of a block of TRs are predicted by a ridge that has not seen these TRs, nor
those within 20 s of them. Fitted on the same rows it would take away what is not low-level too, the more so the more
low-level features there are. Brain responses play no part in it.

Source: Moussa, Klakow, Toneva (2025), section on low-level impact; there, too, 10 folds. Ours are blocks of consecutive
TRs with a gap, and each model feature has its own penalty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.design import BORDER_S, StoryFeatures
from brain_tuning.encoding.folds import Fold
from brain_tuning.encoding.ridge import check_features, ridge_cv
from brain_tuning.encoding.scores import pearson_r, varies
from brain_tuning.errors import EncodingError

from .candidates import Candidate
from .moments import near_in_time, numbered
from .story_intervals import drop_interval, mean_by_story

N_FOLDS = 10
#: the penalty of each model feature is chosen by so many groups of the other blocks
_N_INNER = 3
#: penalties to choose from, for each row of z-scored low-level features: from none to all but the mean taken away
_PENALTIES_PER_TR = np.logspace(-6, 2, 9)
#: What is left of a feature below this share of its standard deviation is what the smallest penalty held back, and
#: rounding. It is 0: z-scored it would come back at full size.
MIN_LEFT = 1e-3
#: an r below this is not divided by: the quotient would be noise
MIN_R = 0.01

#: (story, TR times in s) of features
Grid = tuple[str, np.ndarray]


class WithoutLowLevel:
    """A model's features with what low-level features predict taken away; see :func:`residuals`.

    Low-level features of all grids are computed when the first is asked for, before the model's: where a transcript is
    missing, that is found first.

    Args:
        source: the model's features of a story at TR times.
        low_level: likewise, the low-level features.
        wanted: every (story, TR times in s) that will be asked for; together they are the rows of the ridge.
        n_folds: blocks.
        gap_s: seconds on either side of a block that its ridge does not see.

    Raises (when called):
        CorpusError: a story has no transcript that the low-level features need.
        EncodingError: TR times that were not named, and as :func:`residuals`.
    """

    def __init__(
        self,
        source: StoryFeatures,
        low_level: StoryFeatures,
        wanted: Sequence[Grid],
        *,
        n_folds: int = N_FOLDS,
        gap_s: float = BORDER_S,
    ) -> None:
        self._source, self._low_level, self._wanted = source, low_level, list(wanted)
        self._n_folds, self._gap_s = n_folds, gap_s
        self._known: dict[tuple[str, bytes], tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n_trs, width), float32, 0 where not both kinds reach the TR; whether audio reaches it (n_trs,)."""
        if not self._known:
            self._compute()
        key = (story, np.asarray(tr_times_s, dtype=np.float64).tobytes())
        if key not in self._known:
            raise EncodingError(
                "features of TRs that the removal was not told of",
                where=f"{story}, {len(tr_times_s)} TRs from {tr_times_s[0]:.3f} s",
                expected="one of the grids in wanted",
            )
        return self._known[key]

    def forget(self) -> None:
        """Give the memory back; the features are computed again when they are asked for."""
        self._known.clear()

    def _compute(self) -> None:
        low = [self._low_level(story, times) for story, times in self._wanted]
        full = [self._source(story, times) for story, times in self._wanted]
        heard = [a[1] & b[1] for a, b in zip(full, low, strict=True)]
        rows = np.flatnonzero(np.concatenate(heard))
        stories = np.repeat([story for story, _ in self._wanted], [len(times) for _, times in self._wanted])[rows]
        times_s = np.concatenate([times for _, times in self._wanted])[rows]
        folds = crossfit_folds(stories, times_s, n_folds=self._n_folds, gap_s=self._gap_s)
        features = np.concatenate([values for values, _ in full])
        left = np.zeros(features.shape, np.float32)
        left[rows] = residuals(
            np.concatenate([values for values, _ in low])[rows], features[rows], folds, stories, times_s, self._gap_s
        )
        begin = 0
        for (story, times), seen in zip(self._wanted, heard, strict=True):
            end = begin + len(times)
            self._known[story, np.asarray(times, dtype=np.float64).tobytes()] = left[begin:end], seen
            begin = end


def crossfit_folds(
    stories: npt.ArrayLike, times_s: npt.ArrayLike, *, n_folds: int = N_FOLDS, gap_s: float = BORDER_S
) -> list[Fold]:
    """Blocks of consecutive TRs; what lies within ``gap_s`` of a block in the same story is not trained on.

    Args:
        stories: of each row (n_trs,); their order is that of first appearance.
        times_s: of each row, seconds from the story's onset (n_trs,). Rows need not be in the order of time, and a time
            may occur twice: such rows are held out together or lie in the gap.
        n_folds: blocks of equal length but for one TR, over all stories.
        gap_s: seconds.

    Returns:
        Folds; every row is held out once.

    Raises:
        EncodingError: too few TRs for so many blocks, fewer than two blocks, or the gaps leave nothing to train on.
    """
    names, times = np.asarray(stories), np.asarray(times_s, dtype=np.float64)
    number = numbered(names.tolist())
    n = len(times)
    if n_folds < 2 or n < 2 * n_folds:
        raise EncodingError(
            f"{n} TRs cannot be cut into {n_folds} blocks",
            where="low-level impact",
            expected="at least 2 blocks of 2 TRs",
            remedy="use fewer folds, or more stories",
        )
    order = np.lexsort((times, number))
    return [
        _fold(f"block {k}", np.isin(np.arange(n), block), number, times, gap_s)
        for k, block in enumerate(np.array_split(order, n_folds))
    ]


def residuals(
    low_level: npt.ArrayLike,
    features: npt.ArrayLike,
    folds: Sequence[Fold],
    stories: npt.ArrayLike,
    times_s: npt.ArrayLike,
    gap_s: float = BORDER_S,
) -> npt.NDArray[np.float64]:
    """What a ridge on low-level features, fitted on the other rows, does not predict of a model's features.

    Rows are TRs, of features before any delay. For the rows h that a fold holds out and t that it trains on,
    ``F_h - mean(F_t) - (L_h - mean(L_t)) / sd(L_t) W``, W the ridge weights of the rows t at each feature's best
    penalty by cross-validated R2 within t. A feature of which less than :data:`MIN_LEFT` is left becomes 0.

    Args:
        low_level: L (n_trs, n_low). Columns that are constant over the rows trained on are left out.
        features: F (n_trs, n_features). What is constant over the rows trained on cannot be predicted, and is kept.
        folds: of :func:`crossfit_folds`.
        stories, times_s, gap_s: of the rows, as there; they decide the folds that penalties are chosen by.

    Returns:
        (n_trs, n_features), float64.

    Raises:
        EncodingError: features hold NaN, row numbers differ, or no low-level feature varies.
    """
    x, y = np.asarray(low_level, dtype=np.float64), np.asarray(features, dtype=np.float64)
    check_features(x, "low-level")
    check_features(y, "model")
    number, times = numbered(np.asarray(stories).tolist()), np.asarray(times_s, dtype=np.float64)
    if len({len(x), len(y), len(number), len(times)}) > 1:
        raise EncodingError(
            f"{len(x)} rows of low-level features, {len(y)} of model features",
            where=f"{len(number)} stories and {len(times)} times",
            expected="one of each a row",
        )
    left = np.full(y.shape, np.nan)
    for fold in folds:
        trained, held = fold.train, fold.held_out
        mean, std = x[trained].mean(0), x[trained].std(0)
        used = varies(std**2, mean)
        if not used.any():
            raise EncodingError(
                f"none of {x.shape[1]} low-level features varies",
                where=f"low-level impact, all TRs but {fold.name}",
                expected="features that change over time",
                remedy="leave these features out",
            )
        seen, unseen = ((x[rows][:, used] - mean[used]) / std[used] for rows in (trained, held))
        inner = _inner_folds(fold, folds, number, times, gap_s)
        fit = ridge_cv(seen, y[trained], inner, len(trained) * _PENALTIES_PER_TR, criterion="r2")
        prediction = fit.predict(unseen)
        unpredictable = np.isnan(fit.cv_score)
        prediction[:, unpredictable] = y[trained][:, unpredictable].mean(0)
        left[held] = y[held] - prediction
    left[:, left.std(0) <= MIN_LEFT * y.std(0)] = 0.0
    return left


def _fold(
    name: str, held: npt.NDArray[np.bool_], number: npt.NDArray[np.intp], times: npt.NDArray[np.float64], gap_s: float
) -> Fold:
    """Hold rows out; of their stories, rows no further than the gap from the nearest of them are not trained on."""
    near = near_in_time(held, number, times, gap_s)
    if near.all():
        raise EncodingError(
            "the gaps leave nothing to train on",
            where=f"low-level impact, {name} of {len(times)} TRs, gap of {gap_s} s",
            remedy="use more stories, more folds or a shorter gap",
        )
    return Fold(name, np.flatnonzero(~near), np.flatnonzero(held))


def _inner_folds(
    fold: Fold,
    folds: Sequence[Fold],
    number: npt.NDArray[np.intp],
    times: npt.NDArray[np.float64],
    gap_s: float,
) -> list[Fold]:
    """Folds of the rows that a fold trains on: groups of neighbouring other blocks, with the same gaps."""
    others = [other.held_out for other in folds if other is not fold]
    trained = fold.train
    inner = []
    for k, group in enumerate(np.array_split(np.arange(len(others)), min(_N_INNER, len(others)))):
        held = np.isin(trained, np.concatenate([others[one] for one in group]))
        if held.any():
            inner.append(_fold(f"{fold.name}, part {k}", held, number[trained], times[trained], gap_s))
    return inner


def label_without(label: str, removed: str) -> str:
    """What a set of features is called when something is removed from it."""
    return f"{label} without {removed}"


def impact_candidates(
    candidates: Sequence[Candidate], removed: Sequence[Candidate], wanted: Sequence[Grid]
) -> list[tuple[Candidate, Candidate]]:
    """For each model and each kind of low-level features the model's features without them.

    Args:
        candidates: what is evaluated; baselines are passed over.
        removed: baselines, the low-level features to remove.
        wanted: every (story, TR times in s) that features will be asked for.

    Returns:
        Pairs of the candidate with all features, and the one without.
    """
    return [
        (
            full,
            replace(
                full,
                label=label_without(full.label, low.label),
                features=WithoutLowLevel(full.features, low.features, wanted),
                described={
                    "features": full.label,
                    "without": dict(low.described),
                    "n_folds": N_FOLDS,
                    "gap_s": BORDER_S,
                },
                identity=repr((full.identity, low.identity, N_FOLDS, BORDER_S, "1")),
                against=None,
            ),
        )
        for full in candidates
        if full.layer is not None
        for low in removed
    ]


def impact_rows(
    full: npt.NDArray[np.floating[Any]],
    without: npt.NDArray[np.floating[Any]],
    measured: npt.NDArray[np.floating[Any]],
    lengths_trs: Sequence[int],
    regions: Mapping[str, npt.NDArray[np.integer[Any]]],
) -> list[dict[str, Any]]:
    """Low-level impact by region: mean r over voxels with and without, and the drop in per cent of the former.

    Means are taken before the quotient: the impact of one voxel, with an r near 0, is noise.

    Args:
        full, without: predictions from all features and from what is left of them, (n_trs, n_voxels).
        measured: responses (n_trs, n_voxels).
        lengths_trs: TRs of each story that was predicted.
        regions: name -> voxel indices.

    Returns:
        One row a region: ``region``, ``r``, ``r_without``, ``impact_percent`` (None where r is below :data:`MIN_R`),
        ``low``, ``high``, ``interval`` (over stories; the method, or why there is none), ``n_voxels`` that have both.
    """
    both = np.stack([pearson_r(full, measured), pearson_r(without, measured)])
    # Where all features give an r, the response is sound: what is left of them predicts a constant, and r is 0 for it.
    both[1, np.isfinite(both[0]) & ~np.isfinite(both[1])] = 0.0
    rows = []
    for name, voxels in regions.items():
        scored = voxels[np.isfinite(both[:, voxels]).all(0)]
        r, r_without = both[:, scored].mean(1) if scored.size else (np.nan, np.nan)
        row: dict[str, Any] = {
            "region": name,
            "r": _finite(r),
            "r_without": _finite(r_without),
            "n_voxels": int(scored.size),
        }
        if not r >= MIN_R:
            unknown = {"impact_percent": None, "low": None, "high": None, "interval": f"r is below {MIN_R}"}
            rows.append(row | unknown)
            continue
        by_story = [mean_by_story(one, measured, lengths_trs, scored) for one in (full, without)]
        rows.append(row | {"impact_percent": float(100 * (r - r_without) / r), **drop_interval(*by_story)})
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

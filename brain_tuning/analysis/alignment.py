"""Brain alignment: how well frozen features predict held-out responses, tuned and untuned side by side.

Every set of features goes through the same pipeline: z-score within the run, FIR delays within the run, ridge
with the penalty of each voxel chosen by contiguous, story-level folds, correlation with responses that neither
the ridge nor the tuning has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from brain_tuning.corpus import Corpus, Run
from brain_tuning.corpus.checks import same_piece
from brain_tuning.encoding.blocks import VoxelBlocks
from brain_tuning.encoding.design import BORDER_S, StoryFeatures, border_trs, design_matrix, inner_folds
from brain_tuning.encoding.folds import Fold, chunk_bootstrap_folds, contiguous_folds
from brain_tuning.encoding.responses import StoredResponses
from brain_tuning.encoding.ridge import huth_penalties, ridge_cv
from brain_tuning.encoding.scores import zscore
from brain_tuning.errors import CorpusError, EncodingError
from brain_tuning.timing.runs import lead_in

from .moments import apart_in_time, numbered

#: what penalties may be chosen by
FOLDS = ("stories", "bootstrap")
#: of cross-validation
_LEAST_BLOCK_TRS = 5


@dataclass(frozen=True)
class AlignmentSettings:
    """What is the same for every model that is compared.

    Args:
        delays_trs: FIR delays.
        penalties: ridge penalties to choose from (added to the Gram diagonal); None is the field's fifteen.
        n_folds: most folds to choose penalties by; stories are never cut, unless there is one only.
        folds: what penalties are chosen by: ``"stories"``, or ``"bootstrap"``, the field's random chunks of stories, to
            replicate its numbers only (:func:`~brain_tuning.encoding.folds.chunk_bootstrap_folds`).
        cross_validate: instead of the test split, predict each of this many contiguous blocks of all
            runs from the others; for corpora of one story. 0 uses the test split.
        memory_mb: what a ridge may allocate beyond features and responses; None is its own choice.
    """

    delays_trs: tuple[int, ...] = (1, 2, 3, 4)
    penalties: tuple[float, ...] | None = None
    n_folds: int = 5
    folds: str = "stories"
    cross_validate: int = 0
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        if self.folds not in FOLDS or (self.folds != "stories" and self.cross_validate):
            raise EncodingError(
                f"folds={self.folds!r}, cross_validate={self.cross_validate}",
                expected=f"one of {' and '.join(FOLDS)}; with cross_validate the former",
            )
        if self.memory_mb is not None and not self.memory_mb > 0:
            raise EncodingError(f"a budget of {self.memory_mb:g} MiB", expected="more than 0")


@dataclass(frozen=True)
class Alignment:
    """Result of one set of features.

    Args:
        prediction: held-out prediction of each voxel, (n_test_trs, n_voxels), float32.
        penalty: chosen penalty (mean of log10 over outer folds), (n_voxels,).
        cv_r: mean correlation over the folds penalties were chosen by, (n_voxels,).
        seconds: of features and of ridge.
    """

    prediction: np.ndarray
    penalty: np.ndarray
    cv_r: np.ndarray
    seconds: dict[str, float]


@dataclass(frozen=True)
class Listener:
    """One subject's responses, to be predicted from any features.

    Args:
        subject: whose.
        fitted: runs that the ridge is fitted on, in the order of the rows of ``bold``.
        bold: their z-scored responses, (n_trs, n_voxels): in the store, or averaged over listenings.
        outer: folds to predict the rows of ``bold`` by; empty where test runs are predicted.
        pieces: runs that are predicted, one for each piece of story.
        measured: their responses, averaged over listenings, (n_test_trs, n_voxels), float32.
    """

    subject: str
    fitted: list[Run]
    bold: VoxelBlocks
    pieces: list[Run]
    measured: np.ndarray
    outer: list[Fold] = field(default_factory=list)

    def wanted(self, delays_trs: Sequence[int]) -> list[tuple[str, np.ndarray]]:
        """Each (story, TR times in s) whose features will be asked for, once."""
        n_lead = max(0, *delays_trs)
        grids = [(run.story, lead_in(run.tr_times_s, n_lead)) for run in (*self.fitted, *self.pieces)]
        return list({(story, times.tobytes()): (story, times) for story, times in grids}.values())


def measured_responses(corpus: Corpus, runs: Sequence[Run]) -> tuple[list[Run], np.ndarray]:
    """One response a piece of story: listenings of the same piece are z-scored and averaged.

    Returns:
        The first run of each piece, pieces of one story together, and their responses one below the other,
        (n_trs, n_voxels), float32.
    """
    pieces: list[list[Run]] = []
    for run in runs:
        known = next((heard for heard in pieces if same_piece(heard[0], run) and heard[0].n_trs == run.n_trs), None)
        if known is None:
            pieces.append([run])
        else:
            known.append(run)
    order = list(dict.fromkeys(run.story for run in runs))
    pieces.sort(key=lambda heard: order.index(heard[0].story))
    means = []
    for heard in pieces:
        total = np.zeros((heard[0].n_trs, corpus.n_voxels(heard[0].subject)))
        for run in heard:
            total += zscore(corpus.bold(run))
        means.append((total / len(heard)).astype(np.float32))
    return [heard[0] for heard in pieces], np.concatenate(means)


def runs_to_align(corpus: Corpus, subject: str, settings: AlignmentSettings) -> tuple[list[Run], list[Run]]:
    """Runs that the ridge is fitted on, and test runs; with ``cross_validate`` the former are all runs.

    Raises:
        CorpusError: there is no such subject, or none of either.
    """
    runs = corpus.runs(subject)
    fitted = runs if settings.cross_validate else [run for run in runs if run.split != "test"]
    tested = [run for run in runs if run.split == "test"]
    if not fitted or not (tested or settings.cross_validate):
        raise CorpusError(
            "there is nothing to align on",
            where=f"subject {subject}: {len(fitted)} training and {len(tested)} test runs",
            expected="runs of the train and of the test split, or cross_validate",
        )
    return fitted, tested


def listener(corpus: Corpus, subject: str, settings: AlignmentSettings) -> Listener:
    """What is predicted of one subject.

    Args:
        corpus: with train and test runs of the subject (validation runs are trained on as well).
        subject: whose responses.
        settings: the same for all features.

    Raises:
        CorpusError: there are no test (or train) runs.
        EncodingError: too few TRs to cut into blocks.
    """
    fitted, tested = runs_to_align(corpus, subject, settings)
    if settings.cross_validate:
        # Averaged, so that no listening is predicted from another listening to the same piece of story.
        fitted, bold = measured_responses(corpus, fitted)
        if settings.cross_validate * _LEAST_BLOCK_TRS > len(bold):
            raise EncodingError(
                f"{len(bold)} TRs cannot be cut into {settings.cross_validate} blocks",
                where=f"cross-validation of subject {subject}",
                expected=f"blocks of at least {_LEAST_BLOCK_TRS} TRs, as predictions are z-scored within each",
                remedy="use fewer blocks",
            )
        outer = _blocks(fitted, np.arange(len(bold)), settings.cross_validate)
        return Listener(subject, fitted, bold, fitted, bold, outer)
    pieces, measured = measured_responses(corpus, tested)
    # As the tuning loop sees them: each listening of a training story is a sample of its own.
    return Listener(subject, fitted, StoredResponses(corpus, fitted), pieces, measured)


def align_one(
    heard: Listener,
    label: str,
    source: StoryFeatures,
    settings: AlignmentSettings,
    *,
    device: str = "cpu",
    report: Callable[[str], object] = lambda _: None,
) -> Alignment:
    """Predict one subject's held-out responses from one set of features.

    Args:
        heard: the subject's responses.
        label: of the features, for ``report``.
        source: features of a story at TR times.
        settings: the same for all features.
        device: torch device of the ridge.
        report: called with a line of progress now and then.

    Raises:
        EncodingError: too few stories or TRs to choose penalties.
    """
    started = time.monotonic()
    report(f"{heard.subject} {label}: features")
    x = design_matrix(source, heard.fitted, settings.delays_trs)
    x_test = x if heard.outer else design_matrix(source, heard.pieces, settings.delays_trs)
    made = time.monotonic()
    report(f"{heard.subject} {label}: ridge on {x.shape[0]} TRs x {x.shape[1]} features x {heard.bold.shape[1]} voxels")
    options: dict[str, Any] = {"memory_mb": settings.memory_mb, "device": device}
    if heard.outer:
        prediction, penalty, cv_r = _cross_validated(x, heard, settings, options)
    else:
        if settings.folds == "bootstrap":
            folds = chunk_bootstrap_folds([run.story for run in heard.fitted], [run.n_trs for run in heard.fitted])
        else:
            folds = inner_folds(heard.fitted, settings.n_folds)
        fit = ridge_cv(x, heard.bold, folds, chosen_penalties(settings), **options)
        prediction, penalty, cv_r = fit.predict(x_test), fit.penalty, fit.cv_score
    seconds = {"features": made - started, "ridge": time.monotonic() - made}
    return Alignment(prediction.astype(np.float32, copy=False), penalty, cv_r, seconds)


def align(
    corpus: Corpus,
    subject: str,
    features: Mapping[str, StoryFeatures],
    settings: AlignmentSettings,
    *,
    report: Callable[[str], object] = lambda _: None,
) -> tuple[np.ndarray, list[Run], dict[str, Alignment]]:
    """:func:`align_one` for each of several sets of features.

    Returns:
        Measured test responses (n_test_trs, n_voxels), the test runs they belong to, and label -> alignment.
    """
    heard = listener(corpus, subject, settings)
    results = {label: align_one(heard, label, source, settings, report=report) for label, source in features.items()}
    return heard.measured, heard.pieces, results


def chosen_penalties(settings: AlignmentSettings) -> np.ndarray:
    """The ridge penalties to choose from, (n_penalties,)."""
    return huth_penalties() if settings.penalties is None else np.asarray(settings.penalties)


def _blocks(runs: Sequence[Run], rows: np.ndarray, n_folds: int) -> list[Fold]:
    """Blocks of consecutive moments of some rows of the runs: all that was measured of one is held out together."""
    number = np.repeat(numbered([run.story for run in runs]), [run.n_trs for run in runs])[rows]
    times_s = np.concatenate([run.tr_times_s for run in runs])[rows]
    order = np.lexsort((times_s, number))
    folds = [
        Fold(fold.name, np.sort(order[fold.train]), np.sort(order[fold.held_out]))
        for fold in contiguous_folds(len(rows), n_folds, gap_trs=border_trs(runs))
    ]
    return apart_in_time(folds, number, times_s, BORDER_S, where=f"cross-validation of subject {runs[0].subject}")


def _cross_validated(
    x: np.ndarray, heard: Listener, settings: AlignmentSettings, options: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bold = heard.measured
    prediction = np.full(bold.shape, np.nan, np.float32)
    log_penalty, cv_r = np.zeros(bold.shape[1]), np.zeros(bold.shape[1])
    for fold in heard.outer:
        inside = _blocks(heard.fitted, fold.train, settings.n_folds)
        fit = ridge_cv(x[fold.train], bold[fold.train], inside, chosen_penalties(settings), **options)
        # z-scored within the block, so that block means, which no block can know of itself, do not count.
        prediction[fold.held_out] = zscore(fit.predict(x[fold.held_out]))
        log_penalty += np.log10(fit.penalty) / len(heard.outer)
        cv_r += fit.cv_score / len(heard.outer)
    return prediction, 10**log_penalty, cv_r

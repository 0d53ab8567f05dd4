"""Alignment against a plain numpy and scikit-learn pipeline, and what must give no correlation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from brain_tuning.analysis.alignment import (
    AlignmentSettings,
    align,
    align_one,
    chosen_penalties,
    listener,
    measured_responses,
)
from brain_tuning.corpus import Corpus, Run, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.encoding.design import design_matrix
from brain_tuning.encoding.folds import chunk_bootstrap_folds
from brain_tuning.encoding.responses import StoredResponses
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import BrainTuningError, CorpusError, EncodingError

DELAYS = (1, 2)
SETTINGS = AlignmentSettings(delays_trs=DELAYS)
#: far apart: beyond the features' eigenvalues all penalties give the same correlation but for rounding
FEW_PENALTIES = (1.0, 8.0, 64.0)


def features(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Six smooth features that differ between stories, heard throughout."""
    seed = sum(map(ord, story))
    rng = np.random.default_rng(seed)
    phases, rates = rng.uniform(0, 6.28, 6), rng.uniform(0.05, 0.8, 6)
    return np.sin(np.outer(tr_times_s, rates) + phases).astype(np.float32), np.ones(len(tr_times_s), bool)


def corpus_of(folder: Path, runs: Sequence[RunInput], seconds: float = 200) -> Corpus:
    rng = np.random.default_rng(0)
    stories = [
        StoryInput(name, (rng.standard_normal(int(16_000 * seconds)) / 10).astype(np.float32))
        for name in dict.fromkeys(run.story for run in runs)
    ]
    n_voxels = runs[0].bold.shape[1]
    subject = SubjectInput("s1", n_voxels, runs)
    return open_corpus(
        write_corpus(folder / "corpus", name="x", source="x", licence="x", stories=stories, subjects=[subject])
    )


def standardised(values: np.ndarray) -> np.ndarray:
    std = values.std(0, dtype=np.float64)
    return (values - values.mean(0, dtype=np.float64)) / np.where(std > 0, std, np.nan)


def plain_design(runs: Sequence[Run]) -> np.ndarray:
    """The same design by hand: lead-in, z-score within the run, shift, stack."""
    parts = []
    for run in runs:
        times = run.onset_s + (np.arange(-2, run.n_trs) + 0.5) * run.tr_s
        normal = standardised(features(run.story, times)[0])
        parts.append(np.hstack([normal[1:-1], normal[:-2]]))
    return np.vstack(parts)


def plain_alignment(corpus: Corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Penalties chosen by leaving stories out, refitted on all, applied to the test story: penalty, r, prediction."""
    fitted = [run for run in corpus.runs("s1") if run.split != "test"]
    tested = corpus.runs("s1", "test")
    x, x_test = plain_design(fitted), plain_design(tested[:1])
    y = np.vstack([standardised(corpus.bold(run)) for run in fitted])
    y_test = np.mean([standardised(corpus.bold(run)) for run in tested], axis=0)
    sound = np.isfinite(y).all(0)
    story = np.repeat([run.story for run in fitted], [run.n_trs for run in fitted])
    penalties = np.array(FEW_PENALTIES)
    scores = np.zeros((len(penalties), sound.sum()))
    for held_out in np.unique(story):
        inside = story != held_out
        for k, penalty in enumerate(penalties):
            guess = Ridge(alpha=penalty).fit(x[inside], y[inside][:, sound]).predict(x[~inside])
            scores[k] += pearson_r(guess, y[~inside][:, sound]) / len(np.unique(story))
    chosen = np.full(y.shape[1], np.nan)
    chosen[sound] = penalties[scores.argmax(0)]
    prediction = np.full(y_test.shape, np.nan)
    for penalty in np.unique(chosen[sound]):
        voxels = np.flatnonzero(chosen == penalty)
        prediction[:, voxels] = Ridge(alpha=penalty).fit(x, y[:, voxels]).predict(x_test).reshape(len(x_test), -1)
    return chosen, pearson_r(prediction, y_test), prediction


def test_it_is_the_plain_pipeline(corpus: Corpus) -> None:
    """Delays within a run, story-level folds, averaged repeats; every number from other code."""
    settings = AlignmentSettings(delays_trs=DELAYS, penalties=FEW_PENALTIES)
    measured, pieces, results = align(corpus, "s1", {"ours": features}, settings)
    ours = results["ours"]
    penalty, r, prediction = plain_alignment(corpus)
    assert [piece.story for piece in pieces] == ["test"]
    assert ours.prediction.dtype == np.float32
    same = np.isclose(ours.penalty, penalty, rtol=1e-9)
    sound = np.isfinite(penalty)
    # Two penalties whose mean scores are equal but for rounding may be chosen either way.
    assert same[sound].mean() > 0.98
    assert len(np.unique(penalty[sound])) == 3
    np.testing.assert_allclose(ours.prediction[:, same], prediction[:, same], atol=2e-5)
    np.testing.assert_allclose(pearson_r(ours.prediction, measured)[same], r[same], atol=1e-4)
    assert np.isnan(ours.penalty[~sound]).all()
    assert np.isnan(ours.prediction[:, ~sound]).all()
    assert (~sound).sum() == 5


def test_repeats_of_the_test_story_are_averaged(corpus: Corpus) -> None:
    measured, pieces, _ = align(corpus, "s1", {}, SETTINGS)
    repeats = [zscore(corpus.bold(run)) for run in corpus.runs("s1", "test")]
    assert len(repeats) == 3
    np.testing.assert_allclose(measured, np.mean(repeats, axis=0), atol=1e-6)
    assert [(piece.story, piece.repeat) for piece in pieces] == [("test", 0)]


def test_pieces_of_a_story_are_kept_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [
        RunInput("a", piece, repeat, "test", 2.0, 40.0 * piece, rng.standard_normal((20, 3)))
        for piece in (0, 1)
        for repeat in (0, 1)
    ]
    corpus = corpus_of(tmp_path, runs)
    pieces, means = measured_responses(corpus, corpus.runs("s1"))
    assert [(piece.onset_s, piece.repeat) for piece in pieces] == [(0.0, 0), (40.0, 0)]
    assert means.shape == (40, 3)
    np.testing.assert_allclose(means[:20], (zscore(runs[0].bold) + zscore(runs[1].bold)) / 2, atol=1e-6)


def test_which_story_it_is_predicts_nothing(corpus: Corpus) -> None:
    """A feature that is constant within a story carries nothing once runs are standardised (papers section 5)."""

    def identity(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = corpus.story_names().index(story)
        return np.tile(np.eye(4, dtype=np.float32)[index], (len(tr_times_s), 1)), np.ones(len(tr_times_s), bool)

    def nearly(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, seen = identity(story, tr_times_s)
        jitter = np.random.default_rng(sum(map(ord, story))).standard_normal(values.shape)
        return values + 1e-3 * jitter.astype(np.float32), seen

    measured, _, results = align(corpus, "s1", {"identity": identity, "nearly": nearly}, SETTINGS)
    assert np.isnan(pearson_r(results["identity"].prediction, measured)).all()
    r = pearson_r(results["nearly"].prediction, measured)
    assert abs(np.nanmean(r)) < 0.1


def signal_and_noise(rng: np.random.Generator, signal: np.ndarray, noise: float) -> np.ndarray:
    return signal + noise * rng.standard_normal(signal.shape)


def test_blocks_of_one_story_are_predicted_from_the_others(tmp_path: Path) -> None:
    """One-story data sets: responses that follow the features are predicted, noise is not."""
    rng = np.random.default_rng(0)
    times = (np.arange(100) + 0.5) * 2.0
    values, _ = features("a", np.concatenate([times[0] - [4.0, 2.0], times]))
    follows = np.stack([values[1:-1] @ rng.standard_normal(6) for _ in range(8)], axis=1)
    bold = np.hstack([signal_and_noise(rng, follows, 0.3), rng.standard_normal((100, 8))])
    corpus = corpus_of(tmp_path, [RunInput("a", 0, 0, "train", 2.0, 0.0, bold)])
    settings = AlignmentSettings(delays_trs=DELAYS, cross_validate=5, n_folds=3, penalties=(0.1, 10.0))
    measured, pieces, results = align(corpus, "s1", {"ours": features}, settings)
    prediction = results["ours"].prediction
    np.testing.assert_allclose(measured, zscore(bold), atol=1e-5)
    assert [piece.story for piece in pieces] == ["a"]
    assert np.isfinite(prediction).all()
    for begin in range(0, 100, 20):  # no block knows its mean
        np.testing.assert_allclose(prediction[begin : begin + 20].mean(0), 0, atol=1e-4)
    r = pearson_r(prediction, measured)
    assert r[:8].mean() > 0.6
    assert abs(r[8:].mean()) < 0.2
    assert ((results["ours"].penalty >= 0.1 - 1e-9) & (results["ours"].penalty <= 10.0 + 1e-9)).all()


def test_no_listening_is_predicted_from_another_of_the_same_story(tmp_path: Path) -> None:
    """Cross-validation across repeats would learn the story by heart: features here are noise, r must be 0."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((60, 20))
    runs = [RunInput("a", 0, k, "test", 2.0, 0.0, signal_and_noise(rng, common, 0.5)) for k in range(5)]
    corpus = corpus_of(tmp_path, runs)
    by_heart = np.random.default_rng(1).standard_normal((62, 100)).astype(np.float32)

    def noise(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return by_heart[-len(tr_times_s) :], np.ones(len(tr_times_s), bool)

    settings = AlignmentSettings(delays_trs=(1,), cross_validate=5, n_folds=2, penalties=(1.0, 100.0))
    measured, pieces, results = align(corpus, "s1", {"noise": noise}, settings)
    assert len(pieces) == 1
    assert measured.shape == (60, 20)
    assert abs(pearson_r(results["noise"].prediction, measured).mean()) < 0.15


def test_no_listening_is_predicted_from_one_that_began_later(tmp_path: Path) -> None:
    """Listenings whose TRs do not coincide are two pieces of one story: what one has of a moment tells the other."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((120, 20))
    runs = [RunInput("a", k, 0, "test", 2.0, 2.0 * k, signal_and_noise(rng, common[k:], 0.3)) for k in (0, 1)]
    corpus = corpus_of(tmp_path, runs, seconds=260)
    by_heart = np.random.default_rng(1).standard_normal((200, 100)).astype(np.float32)

    def noise(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return by_heart[np.round(tr_times_s / 2.0 + 10.5).astype(int)], np.ones(len(tr_times_s), bool)

    settings = AlignmentSettings(delays_trs=(0,), cross_validate=5, n_folds=2, penalties=(1.0, 100.0))
    measured, pieces, results = align(corpus, "s1", {"noise": noise}, settings)
    assert [piece.n_trs for piece in pieces] == [120, 119]
    assert abs(pearson_r(results["noise"].prediction, measured).mean()) < 0.1
    for fold in listener(corpus, "s1", settings).outer:
        times = np.concatenate([piece.tr_times_s for piece in pieces])
        assert np.abs(times[fold.train][:, None] - times[fold.held_out]).min() > 20.0


def test_listenings_are_averaged_where_their_trs_coincide_and_only_there(tmp_path: Path) -> None:
    """A millisecond is the precision of an onset; another TR is another grid, though it have as many rows."""
    rng = np.random.default_rng(0)
    bold = [rng.standard_normal((20, 3)) for _ in range(4)]
    runs = [
        RunInput("a", 0, 0, "test", 2.0, 10.0, bold[0]),
        RunInput("b", 0, 0, "test", 2.0, 10.0, bold[1]),
        RunInput("a", 0, 1, "test", 2.0, 10.0 + 1e-6, bold[2]),
        RunInput("a", 1, 2, "test", 1.5, 10.0, bold[3]),
    ]
    corpus = corpus_of(tmp_path, runs)
    pieces, means = measured_responses(corpus, corpus.runs("s1"))
    assert [(piece.story, piece.tr_s) for piece in pieces] == [("a", 2.0), ("a", 1.5), ("b", 2.0)]
    expected = [(zscore(bold[0]) + zscore(bold[2])) / 2, zscore(bold[3]), zscore(bold[1])]
    np.testing.assert_allclose(means, np.concatenate(expected), atol=1e-6)


def test_seconds_and_progress_are_reported(corpus: Corpus) -> None:
    lines: list[str] = []
    _, _, results = align(corpus, "s2", {"a": features, "b": features}, SETTINGS, report=lines.append)
    assert lines[0] == "s2 a: features"
    assert lines[1].startswith("s2 a: ridge on ")
    assert lines[1].endswith(f"TRs x 12 features x {corpus.n_voxels('s2')} voxels")
    assert list(results) == ["a", "b"]
    np.testing.assert_array_equal(results["a"].prediction, results["b"].prediction)
    assert set(results["a"].seconds) == {"features", "ridge"}


def test_penalties_are_the_fields_unless_given() -> None:
    np.testing.assert_allclose(chosen_penalties(SETTINGS), np.logspace(1, 4, 15) ** 2)
    np.testing.assert_array_equal(chosen_penalties(AlignmentSettings(penalties=(1.0, 5.0))), [1.0, 5.0])


@pytest.mark.parametrize(
    ("splits", "settings", "error", "text"),
    [
        (["train"], SETTINGS, CorpusError, "nothing to align on [subject s1: 1 training and 0 test runs]"),
        (
            ["test"],
            SETTINGS,
            CorpusError,
            "nothing to align on [subject s1: 0 training and 1 test runs]; expected runs of",
        ),
        (["train", "test"], AlignmentSettings(cross_validate=1), EncodingError, "1 folds; expected at least 2"),
        (["train", "test"], AlignmentSettings(cross_validate=-2), EncodingError, "-2 folds; expected at least 2"),
        (
            ["train", "test"],
            AlignmentSettings(cross_validate=40),
            EncodingError,
            "180 TRs cannot be cut into 40 blocks [cross-validation of subject s1]; expected blocks of at least 5 TRs",
        ),
    ],
)
def test_what_cannot_be_aligned_is_named(
    tmp_path: Path, splits: list[str], settings: AlignmentSettings, error: type[BrainTuningError], text: str
) -> None:
    rng = np.random.default_rng(0)
    runs = [RunInput(f"story-{s}", 0, 0, s, 2.0, 0.0, rng.standard_normal((90, 3))) for s in splits]
    with pytest.raises(error) as caught:
        align(corpus_of(tmp_path, runs), "s1", {"ours": features}, settings)
    assert text in str(caught.value)


def test_the_fields_bootstrap_is_there_for_replication(tmp_path: Path) -> None:
    """Penalties by random chunks of 20 TRs; the rest of the pipeline is the same."""
    rng = np.random.default_rng(0)
    splits = {"a": "train", "b": "train", "c": "train", "d": "test"}
    runs = [RunInput(s, 0, 0, split, 2.0, 0.0, rng.standard_normal((80, 60))) for s, split in splits.items()]
    corpus = corpus_of(tmp_path, runs)
    settings = AlignmentSettings(delays_trs=DELAYS, penalties=FEW_PENALTIES, folds="bootstrap")
    heard = listener(corpus, "s1", settings)
    ours = align_one(heard, "ours", features, settings)
    lengths = [run.n_trs for run in heard.fitted]
    folds = chunk_bootstrap_folds([run.story for run in heard.fitted], lengths)
    x = design_matrix(features, heard.fitted, DELAYS)
    fit = ridge_cv(x, heard.bold[:, :], folds, FEW_PENALTIES)
    np.testing.assert_array_equal(ours.penalty, fit.penalty)
    stories = align_one(heard, "ours", features, AlignmentSettings(delays_trs=DELAYS, penalties=FEW_PENALTIES))
    assert not np.array_equal(stories.penalty, ours.penalty)
    with pytest.raises(
        EncodingError, match="folds='shuffled', cross_validate=0; expected one of stories and bootstrap"
    ):
        AlignmentSettings(folds="shuffled")


def test_responses_stay_in_the_store(corpus: Corpus) -> None:
    heard = listener(corpus, "s1", SETTINGS)
    assert isinstance(heard.bold, StoredResponses)
    wanted = heard.wanted(DELAYS)
    assert sorted(story for story, _ in wanted) == sorted({run.story for run in corpus.runs("s1")})

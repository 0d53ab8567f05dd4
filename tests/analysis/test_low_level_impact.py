"""Low-level impact: what is planted is found, nothing leaks from a held-out block, and results.json says it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from brain_tuning.analysis.alignment import AlignmentSettings, align
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.analysis.low_level_impact import (
    MIN_LEFT,
    WithoutLowLevel,
    crossfit_folds,
    impact_rows,
    residuals,
)
from brain_tuning.analysis.story_intervals import drop_interval, mean_by_story, mean_interval
from brain_tuning.corpus import Corpus, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint
from brain_tuning.encoding.folds import check_folds
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import CorpusError, EncodingError

N_TRS = 150
TIMES = (np.arange(N_TRS) + 0.5) * 2.0
STORIES = tuple("abcd")
SETTINGS = AlignmentSettings(delays_trs=(1,), penalties=(1.0, 100.0))


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Story and time of the rows of four stories."""
    return np.repeat(STORIES, N_TRS), np.tile(TIMES, len(STORIES))


def noise(seed: int, width: int, n: int = N_TRS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width))


@pytest.fixture(scope="module")
def planted() -> dict[str, np.ndarray]:
    """Model features that are one half low-level, one half not, on all rows."""
    n = len(rows()[0])
    low, other = noise(0, 5, n), noise(1, 6, n)
    mixing = np.random.default_rng(2).standard_normal((5, 6))
    return {"low": low, "other": other, "features": low @ mixing + other}


def removed(planted: dict[str, np.ndarray]) -> np.ndarray:
    stories, times_s = rows()
    return residuals(planted["low"], planted["features"], crossfit_folds(stories, times_s), stories, times_s)


def test_what_is_not_low_level_is_left(planted: dict[str, np.ndarray]) -> None:
    left = removed(planted)
    np.testing.assert_allclose(left, planted["other"], atol=0.6)
    assert pearson_r(left, planted["other"]).min() > 0.98
    assert np.abs(np.corrcoef(left.T, planted["low"].T)[:6, 6:]).max() < 0.1


def test_it_is_the_formula_with_weights_of_the_other_rows(planted: dict[str, np.ndarray]) -> None:
    """Held-out residuals by hand, from scikit-learn's ridge with the penalty that was chosen."""
    from sklearn.linear_model import Ridge

    stories, times_s = rows()
    left = removed(planted)
    for fold in crossfit_folds(stories, times_s)[::4]:
        low, features = planted["low"][fold.train], planted["features"][fold.train]
        mean, std = low.mean(0), low.std(0)
        candidates = [
            planted["features"][fold.held_out]
            - Ridge(alpha=penalty * len(low))
            .fit((low - mean) / std, features)
            .predict((planted["low"][fold.held_out] - mean) / std)
            for penalty in np.logspace(-6, 2, 9)
        ]
        distance = np.abs(np.array(candidates) - left[fold.held_out]).max(1).min(0)
        np.testing.assert_allclose(distance, 0, atol=1e-9)


def test_the_block_that_is_held_out_is_not_seen(planted: dict[str, np.ndarray]) -> None:
    """Whatever becomes of a block's features and low-level features, the ridge that predicts it stays the same."""
    stories, times_s = rows()
    folds = crossfit_folds(stories, times_s)
    held = folds[3].held_out
    before = removed(planted)
    features = planted["features"].copy()
    features[held] += 100 * noise(9, 6, len(held))
    after = residuals(planted["low"], features, folds, stories, times_s)
    np.testing.assert_allclose(after[held] - features[held], before[held] - planted["features"][held], atol=1e-9)
    # The others did see it.
    others = folds[8].held_out
    assert np.abs(after[others] - before[others]).max() > 0.1
    # Noise of as many low-level features as half the rows takes nothing away that matters, which it would in-sample.
    wide = noise(3, len(stories) // 2, len(stories))
    left = residuals(wide, planted["other"], folds, stories, times_s)
    assert pearson_r(left, planted["other"]).min() > 0.95


def test_folds_hold_every_row_out_once_with_a_gap_in_time() -> None:
    stories, times_s = rows()
    shuffled = np.random.default_rng(0).permutation(len(stories))
    stories, times_s = stories[shuffled], times_s[shuffled]
    folds = crossfit_folds(stories, times_s, n_folds=7, gap_s=9.0)
    check_folds(folds, len(stories))
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.held_out for fold in folds])), np.arange(len(stories)))
    for fold in folds:
        out = np.setdiff1d(np.arange(len(stories)), np.concatenate([fold.train, fold.held_out]))
        for story in np.unique(stories[fold.held_out]):
            held = np.sort(times_s[fold.held_out][stories[fold.held_out] == story])
            np.testing.assert_allclose(np.diff(held), 2.0)  # contiguous
            trained = times_s[fold.train][stories[fold.train] == story]
            assert all(np.abs(held - time).min() > 9.0 for time in trained)
        assert all(stories[row] in stories[fold.held_out] for row in out)
        assert len(out) <= 2 * 2 * 4


def test_listenings_on_other_grids_of_the_same_story_lie_in_the_gap() -> None:
    stories = np.repeat(["a", "a", "b"], 40)
    times_s = np.concatenate([np.arange(40) * 2.0, np.arange(40) * 2.0 + 0.7, np.arange(40) * 2.0])
    for fold in crossfit_folds(stories, times_s, n_folds=5, gap_s=4.0):
        for row in fold.held_out:
            same = fold.train[stories[fold.train] == stories[row]]
            assert not same.size or np.abs(times_s[same] - times_s[row]).min() > 4.0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"low": np.ones((600, 3))},
            "none of 3 low-level features varies [low-level impact, all TRs but block 0]; exp",
        ),
        ({"low": np.full((600, 3), np.nan)}, "3 of 3 features of space 'low-level' hold NaN"),
        ({"features": np.full((600, 2), np.inf)}, "2 of 2 features of space 'model' hold NaN or infinite"),
        ({"low": noise(0, 3, 599)}, "599 rows of low-level features, 600 of model features"),
    ],
)
def test_what_cannot_be_removed_is_said(planted: dict[str, np.ndarray], values: dict[str, Any], text: str) -> None:
    stories, times_s = rows()
    given = {**planted, **values}
    with pytest.raises(EncodingError) as caught:
        residuals(given["low"], given["features"], crossfit_folds(stories, times_s), stories, times_s)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("n_trs", "options", "text"),
    [
        (
            19,
            {},
            "19 TRs cannot be cut into 10 blocks [low-level impact]; expected at least 2 blocks of 2 TRs; remedy: use",
        ),
        (30, {"n_folds": 1}, "30 TRs cannot be cut into 1 blocks"),
        (
            30,
            {"n_folds": 2, "gap_s": 60.0},
            "the gaps leave nothing to train on [low-level impact, block 0 of 30 TRs, gap",
        ),
    ],
)
def test_too_few_trs_are_named(n_trs: int, options: dict[str, Any], text: str) -> None:
    with pytest.raises(EncodingError) as caught:
        crossfit_folds(["a"] * n_trs, TIMES[:n_trs], **options)
    assert text in str(caught.value)


def test_constant_features_are_kept_and_constant_low_level_features_left_out(planted: dict[str, np.ndarray]) -> None:
    stories, times_s = rows()
    folds = crossfit_folds(stories, times_s)
    features = np.column_stack([planted["features"], np.full(len(stories), 3.0)])
    low = np.column_stack([np.full(len(stories), 7.0), planted["low"]])
    left = residuals(low, features, folds, stories, times_s)
    np.testing.assert_array_equal(left[:, 6], 0.0)
    np.testing.assert_allclose(left[:, :6], removed(planted), atol=1e-9)


def test_what_is_wholly_low_level_is_zero_and_not_rounding_at_full_size(planted: dict[str, np.ndarray]) -> None:
    """Later z-scoring would make a billionth of a feature as large as the feature was."""
    stories, times_s = rows()
    exact = planted["low"] @ np.random.default_rng(5).standard_normal((5, 4))
    left = residuals(planted["low"], exact, crossfit_folds(stories, times_s), stories, times_s)
    np.testing.assert_array_equal(left, 0.0)
    nearly = exact + 10 * MIN_LEFT * exact.std(0) * noise(6, 4, len(stories))
    left = residuals(planted["low"], nearly, crossfit_folds(stories, times_s), stories, times_s)
    assert (left.std(0) > MIN_LEFT * nearly.std(0)).all()


def sources() -> tuple[Any, Any]:
    """A model's and low-level features of stories, on any grid: a smooth low-level part and one that is not."""
    mixing = np.random.default_rng(7).standard_normal((4, 4))

    def wave(story: str, tr_times_s: np.ndarray, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, *map(ord, story)])
        rates, phases = rng.uniform(0.1, 1.4, (4, 12)), rng.uniform(0, 6.28, (4, 12))
        return np.stack([np.sin(np.outer(tr_times_s, r) + p).sum(1) for r, p in zip(rates, phases, strict=True)], 1)

    def low_level(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return wave(story, tr_times_s, 0).astype(np.float32), np.ones(len(tr_times_s), bool)

    def model(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mixed = [wave(story, tr_times_s, 0) @ mixing, wave(story, tr_times_s, 1)]
        return np.concatenate(mixed, axis=1).astype(np.float32), tr_times_s > 0

    return model, low_level


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Voxels 0-4 follow the low-level features, 5-9 the rest, 10-14 nothing; nine test stories."""
    rng = np.random.default_rng(0)
    model, low_level = sources()
    names = [f"story{k}" for k in range(15)]
    runs = []
    for k, name in enumerate(names):
        times = (np.arange(-1, 60) + 0.5) * 2.0
        low, rest = low_level(name, times)[0][:-1], model(name, times)[0][:-1, 4:]
        mixing = np.random.default_rng(11).standard_normal((4, 5))
        bold = np.hstack([low @ mixing, rest @ mixing, np.zeros((60, 5))]) + rng.standard_normal((60, 15))
        runs.append(RunInput(name, 0, 0, "test" if k >= 6 else "train", 2.0, 0.0, bold))
    audio = (rng.standard_normal(16_000 * 130) / 10).astype(np.float32)
    folder = tmp_path_factory.mktemp("planted") / "corpus"
    stories = [StoryInput(name, np.roll(audio, 16_000 * k)) for k, name in enumerate(names)]
    subject = SubjectInput("s1", 15, runs)
    return open_corpus(write_corpus(folder, name="x", source="x", licence="x", stories=stories, subjects=[subject]))


REGIONS = {"low": np.arange(5), "other": np.arange(5, 10), "nothing": np.arange(10, 15)}


def test_impact_is_all_where_responses_are_low_level_and_nothing_where_not(heard: Corpus) -> None:
    """The answer in closed form: 100 % and 0 %; a region without signal has none, and says why."""
    model, low_level = sources()
    grids = [(run.story, np.concatenate([[run.tr_times_s[0] - 2.0], run.tr_times_s])) for run in heard.runs("s1")]
    without = WithoutLowLevel(model, low_level, grids)
    measured, pieces, found = align(heard, "s1", {"all": model, "without": without}, SETTINGS)
    predictions = [found[name].prediction for name in ("all", "without")]
    low, other, nothing = impact_rows(*predictions, measured, [run.n_trs for run in pieces], REGIONS)
    assert low["r"] > 0.9
    assert other["r"] > 0.9
    assert 95 < low["impact_percent"] < 105
    assert -5 < other["impact_percent"] < 5
    assert low["low"] < low["impact_percent"] < low["high"] < low["low"] + 15
    assert low["interval"] == "BCa bootstrap of 9 stories"
    assert low["impact_percent"] == pytest.approx(100 * (low["r"] - low["r_without"]) / low["r"])
    assert nothing["impact_percent"] is None or abs(nothing["r"]) >= 0.01
    without.forget()
    again = without(*grids[0])[0]
    np.testing.assert_array_equal(again, without(*grids[0])[0])
    with pytest.raises(EncodingError, match=r"features of TRs that the removal was not told of \[story0, 3 TRs from"):
        without("story0", TIMES[:3])


def test_features_of_which_nothing_is_left_have_an_impact_of_all(heard: Corpus) -> None:
    _, low_level = sources()
    grids = [(run.story, np.concatenate([[run.tr_times_s[0] - 2.0], run.tr_times_s])) for run in heard.runs("s1")]
    without = WithoutLowLevel(low_level, low_level, grids)
    measured, pieces, found = align(heard, "s1", {"all": low_level, "without": without}, SETTINGS)
    predictions = [found[name].prediction for name in ("all", "without")]
    low = impact_rows(*predictions, measured, [run.n_trs for run in pieces], REGIONS)[0]
    assert low["r_without"] == 0.0
    assert low["impact_percent"] == 100.0


def test_tiny_r_is_not_divided_by() -> None:
    measured = noise(0, 3)
    (row,) = impact_rows(-measured, measured, measured, [N_TRS], {"all": np.arange(3)})
    assert row["r"] == pytest.approx(-1)
    assert (row["impact_percent"], row["low"], row["interval"]) == (None, None, "r is below 0.01")
    (row,) = impact_rows(measured * np.nan, measured, measured, [N_TRS], {"all": np.arange(3)})
    assert (row["r"], row["n_voxels"]) == (None, 0)


def test_intervals_over_stories_say_why_there_is_none() -> None:
    before, after = np.linspace(0.2, 0.4, 9), np.linspace(0.1, 0.15, 9)
    found = drop_interval(before, after)
    same = stats.bootstrap(
        (before, after), lambda x, y, axis=-1: 100 * (1 - y.mean(axis) / x.mean(axis)), paired=True, vectorized=True,
        n_resamples=5000, random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (found["low"], found["high"]) == (same.low, same.high)
    assert drop_interval(before[:1], after[:1])["interval"] == "1 story; an interval needs 8"
    assert drop_interval(before[:7], after[:7])["interval"] == "7 stories; an interval needs 8"
    assert drop_interval(before - 0.2, after)["interval"] == "r of a story is not above 0"
    assert drop_interval(before * np.nan, after)["interval"] == "a story has no value"
    assert drop_interval(before, before / 2)["interval"] == "all stories are equal"
    assert mean_interval(before[:1]) == {"r_low": None, "r_high": None, "interval": "1 story; an interval needs 8"}
    assert mean_interval(before[:3])["interval"] == "3 stories; an interval needs 8"
    inside = mean_interval(before)
    assert inside["r_low"] < before.mean() < inside["r_high"]
    assert inside["interval"] == "BCa bootstrap of 9 stories' means"
    measured = noise(0, 4)
    measured[:50, 1] = 0.0
    by_story = mean_by_story(measured, measured, [50, 100], np.array([0, 1]))
    np.testing.assert_allclose(by_story, 1.0)
    np.testing.assert_array_equal(mean_by_story(measured, measured, [50, 100], np.array([1])), [np.nan, 1.0])


def test_the_fingerprint_is_of_what_was_measured(corpus: Corpus, heard: Corpus, tmp_path: Path) -> None:
    assert corpus_fingerprint(corpus, "s1") != corpus_fingerprint(corpus, "s2")
    rng = np.random.default_rng(0)
    bold = rng.standard_normal((60, 2))
    audio = (rng.standard_normal(16_000 * 130) / 10).astype(np.float32)

    def written(folder: str, bold: np.ndarray, **more: Any) -> str:
        subject = SubjectInput("s1", 2, [RunInput("a", 0, 0, "train", 2.0, 0.0, bold)])
        place = write_corpus(
            tmp_path / folder, name=folder, source="x", licence="x", stories=[StoryInput("a", audio, **more)],
            subjects=[subject],
        )  # fmt: skip
        return corpus_fingerprint(open_corpus(place), "s1")

    first = written("one", bold)
    assert len(first) == 32
    assert written("two", bold) == first
    changed = bold.copy()
    changed[3, 1] += 1e-3
    assert written("three", changed) != first


def test_missing_transcripts_and_unknown_features_are_said_before_anything_is_computed(
    heard: Corpus, tmp_path: Path
) -> None:
    from tiny_runs import BACKBONE

    lines: list[str] = []
    plan = {"layer": 1, "context_s": 1.0, "stride_s": 4.0, "read": "all", "lanczos_lobes": 1}
    for name, text in (("words-of-wisdom", "no baseline 'words-of-wisdom'"), ("word-rate", "the story has no words")):
        job = EvaluationJob(
            str(heard.path), "s1", (), tmp_path / "out", backbone=BACKBONE, recipe_config=plan, low_level_impact=(name,)
        )
        with pytest.raises(CorpusError, match=text):
            evaluate_models(job, report=lines.append)
    assert not lines

"""Design matrices: normalised and delayed within the run; folds between stories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_tuning.corpus.schema import Run
from brain_tuning.encoding.design import BORDER_S, border_trs, design_matrix, inner_folds
from brain_tuning.encoding.folds import check_folds, contiguous_folds
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.errors import EncodingError, TimingError
from brain_tuning.timing import fir_delays


def run(story: str, n_trs: int, *, onset_s: float = 0.0, repeat: int = 0) -> Run:
    return Run("s1", story, 0, repeat, "train", 2.0, onset_s, n_trs, 0)


def features_of(seed: int, width: int = 3) -> object:
    """Features that depend on the story and on the time alone; the story is heard from 0 to 60 s."""

    def features(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phase = np.arange(1, width + 1) * (1 + sum(map(ord, story)) % 7) + seed
        values = np.sin(np.outer(tr_times_s, phase) * 0.1).astype(np.float32)
        return values, (tr_times_s > 0) & (tr_times_s < 60)

    return features


def by_hand(features: object, one: Run, delays: tuple[int, ...]) -> np.ndarray:
    """The same with explicit loops."""
    lead = max(0, *delays)
    times = one.onset_s + (np.arange(-lead, one.n_trs) + 0.5) * one.tr_s
    values, seen = features(one.story, times)  # type: ignore[operator]
    normal = np.zeros(values.shape)
    normal[seen] = (values[seen] - values[seen].mean(0)) / values[seen].std(0)
    out = np.zeros((one.n_trs, values.shape[1] * len(delays)))
    for t in range(one.n_trs):
        for k, delay in enumerate(delays):
            if 0 <= t + lead - delay < len(normal):
                out[t, k * values.shape[1] : (k + 1) * values.shape[1]] = normal[t + lead - delay]
    return out


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(6, 20), min_size=1, max_size=4),
    delays=st.lists(st.integers(-2, 5), min_size=1, max_size=4, unique=True),
    onset_s=st.sampled_from([-6.0, 0.0, 10.0]),
)
def test_it_is_what_loops_give(lengths: list[int], delays: list[int], onset_s: float) -> None:
    features = features_of(1)
    runs = [run(f"story{k}", n, onset_s=onset_s) for k, n in enumerate(lengths)]
    matrix = design_matrix(features, runs, delays)  # type: ignore[arg-type]
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(
        matrix, np.concatenate([by_hand(features, one, tuple(delays)) for one in runs]), atol=2e-5
    )


def test_delays_never_cross_a_run() -> None:
    """Papers section 7: the field's scripts let four TRs bleed from the end of one story into the next."""
    runs = [run("a", 10), run("b", 12)]
    both = design_matrix(features_of(1), runs, (1, 2, 3, 4))  # type: ignore[arg-type]
    alone = design_matrix(features_of(1), runs[1:], (1, 2, 3, 4))  # type: ignore[arg-type]
    np.testing.assert_array_equal(both[10:], alone)
    # Before the story there is nothing to hear: zero, not the end of the story before.
    assert (both[10, :] == 0).all()


def test_what_was_heard_before_the_first_stored_tr_feeds_the_delays() -> None:
    """The first stored TR of ds003020 is 10 s into the story."""
    runs = [run("a", 10, onset_s=10.0)]
    matrix = design_matrix(features_of(1), runs, (1, 2))  # type: ignore[arg-type]
    assert (matrix[0] != 0).all()
    full = design_matrix(features_of(1), [run("a", 12, onset_s=6.0)], (0,))  # type: ignore[arg-type]
    np.testing.assert_allclose(matrix[0], np.concatenate([full[1], full[0]]), atol=1e-6)


def test_features_that_never_change_are_zero_and_spoil_nothing() -> None:
    def features(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.stack([np.sin(tr_times_s), np.full(len(tr_times_s), 7.0)], axis=1)
        return values, np.ones(len(tr_times_s), bool)

    matrix = design_matrix(features, [run("a", 10)], (0,))
    assert np.isfinite(matrix).all()
    assert (matrix[:, 1] == 0).all()
    assert matrix[:, 0].std() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_named_never_zero(value: float) -> None:
    """User-pains 3: one bad frame must not pass for a feature that never changes."""

    def features(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, seen = features_of(1)(story, tr_times_s)  # type: ignore[operator]
        values[~seen] = np.nan  # where there is no audio nothing is asked of them
        values[tr_times_s == 13.0, 1] = value
        return values, seen

    with pytest.raises(
        EncodingError, match=r"1 of 3 features hold NaN .*\[subject s1, story 'b', run 0; first: feature 1, at 13.0 s\]"
    ):
        design_matrix(features, [run("b", 20)], (1, 2))
    assert np.isfinite(design_matrix(features, [run("b", 6)], (1, 2))).all()


def test_a_run_without_audio_is_named() -> None:
    message = r"audio reaches no TR of a run \[subject s1, story 'a', run 0, 499.0 to 519.0 s\].*onset_s"
    with pytest.raises(EncodingError, match=message):
        design_matrix(features_of(1), [run("a", 10), run("a", 10, onset_s=500.0)], (1,))  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match="there are no runs to make features of"):
        design_matrix(features_of(1), [], (1,))  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match="there are no runs to make folds of"):
        inner_folds([], 4)
    with pytest.raises(TimingError, match="there are no delays"):
        design_matrix(features_of(1), [run("a", 10)], ())  # type: ignore[arg-type]


def test_delays_are_those_of_the_timing_package() -> None:
    matrix = design_matrix(features_of(2), [run("a", 20, onset_s=10.0)], (0, 3, 1))  # type: ignore[arg-type]
    plain = design_matrix(features_of(2), [run("a", 23, onset_s=4.0)], (0,))  # type: ignore[arg-type]
    np.testing.assert_allclose(matrix, fir_delays(plain, (0, 3, 1))[3:], atol=1e-6)


def test_folds_hold_out_whole_stories_and_all_their_repeats() -> None:
    runs = [run("a", 10), run("b", 12), run("a", 10, repeat=1), run("c", 8)]
    folds = inner_folds(runs, 5)
    assert [fold.name for fold in folds] == ["a", "b", "c"]
    np.testing.assert_array_equal(folds[0].held_out, np.r_[0:10, 22:32])
    assert len(inner_folds(runs, 2)) == 2


def test_one_story_is_cut_into_blocks_with_borders() -> None:
    runs = [run("a", 60), run("a", 60, onset_s=120.0)]
    folds = inner_folds(runs, 4)
    assert border_trs(runs) == BORDER_S / 2.0 == 10
    assert [(fold.held_out[0], fold.held_out[-1]) for fold in folds] == [(0, 29), (30, 59), (60, 89), (90, 119)]
    for fold in folds:
        assert np.abs(fold.train[:, None] - fold.held_out[None]).min() == 11
    with pytest.raises(EncodingError, match="the gaps leave nothing to train on"):
        inner_folds([run("a", 20)], 2)


@pytest.mark.parametrize("onset_s", [0.0, 0.7])
@pytest.mark.parametrize("tr_s", [2.0, 2.0045])
def test_a_moment_of_one_story_is_held_out_of_all_its_listenings(onset_s: float, tr_s: float) -> None:
    """No leakage: the same words, heard again, are not trained on. The second listening may begin a little later."""
    first, second = run("a", 60), run("a", 50, onset_s=onset_s, repeat=1)
    runs = [replace(one, tr_s=tr_s) for one in (first, second)]
    times_s = np.concatenate([one.tr_times_s for one in runs])
    folds = inner_folds(runs, 4)
    check_folds(folds, 110)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.held_out for fold in folds])), np.arange(110))
    for k, fold in enumerate(folds):
        assert {k * 15, 60 + k * 15} <= set(fold.held_out)
        apart_s = np.abs(times_s[fold.train][:, None] - times_s[fold.held_out]).min()
        assert apart_s > BORDER_S
    alone = inner_folds(runs[:1], 4)
    for fold, expected in zip(alone, contiguous_folds(60, 4, gap_trs=border_trs(runs)), strict=True):
        np.testing.assert_array_equal(fold.train, expected.train)
        np.testing.assert_array_equal(fold.held_out, expected.held_out)


def test_a_story_heard_twice_does_not_reward_what_only_tells_the_moment() -> None:
    """Features that name the TR explain a second listening, and nothing else."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(80, 20))
    y = np.concatenate([signal, signal]) + 0.3 * rng.normal(size=(160, 20))
    x = np.tile(rng.normal(size=(80, 60)), (2, 1))
    score = ridge_cv(x, y, inner_folds([run("a", 80), run("a", 80, repeat=1)], 4), [1.0]).cv_score
    leaking = ridge_cv(x, y, contiguous_folds(160, 2, gap_trs=10), [1.0]).cv_score
    assert leaking.mean() > 0.6
    assert abs(score.mean()) < 0.06

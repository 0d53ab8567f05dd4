"""Baselines without a model: envelope and rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brain_tuning.corpus import Corpus, Interval, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.errors import CorpusError
from brain_tuning.features.low_level import BASELINES, RATE_HZ, baseline_features, envelope, event_rate

RATE = 16_000


def test_the_envelope_of_a_modulated_tone_is_its_modulation() -> None:
    t = np.arange(4 * RATE) / RATE
    modulation = 1 + 0.5 * np.sin(2 * np.pi * 3 * t)
    found = envelope((modulation * np.sin(2 * np.pi * 1000 * t)).astype(np.float32))
    assert len(found) == 4 * RATE_HZ
    inside = slice(RATE_HZ // 4, -RATE_HZ // 4)  # the filter settles
    np.testing.assert_allclose(found[inside], modulation[:: RATE // RATE_HZ][inside], atol=0.01)


def test_event_rates_count_a_second() -> None:
    rate = event_rate(np.array([0.0, 0.019, 0.02, 1.5, 99.0, -0.1]), 100)
    assert rate[0] == 2 * RATE_HZ
    assert rate[1] == RATE_HZ
    assert rate[75] == RATE_HZ
    # Events outside of the story are not counted anywhere.
    assert rate.sum() / RATE_HZ == 4


def corpus_of(tmp_path: Path, n_samples: int, words: list[float]) -> Corpus:
    duration_s = n_samples / RATE
    story = StoryInput("a", np.full(n_samples, 0.1, np.float32), [Interval("x", s, s + 0.1) for s in words])
    bold = np.random.default_rng(0).standard_normal((4, 2))
    run = RunInput("a", 0, 0, "train", duration_s / 4, 0.0, bold)
    return open_corpus(
        write_corpus(
            tmp_path / "corpus",
            name="x",
            source="x",
            licence="x",
            stories=[story],
            subjects=[SubjectInput("s1", 2, [run])],
        )
    )


def test_word_rate_at_trs_counts_words(tmp_path: Path) -> None:
    """Words evenly spaced, three a second, then silence: the rate in each TR far from the change is known."""
    corpus = corpus_of(tmp_path, 80 * RATE, list(np.arange(0.05, 40, 1 / 3)))
    values, seen = baseline_features("word-rate", corpus)("a", np.arange(1.0, 80.0, 2.0))
    assert values.shape == (40, 1)
    assert values.dtype == np.float32
    assert seen.all()
    # The filter's weights are not normalised: 2 s of 50 Hz steps sum to about 100.
    np.testing.assert_allclose(values[4:14, 0] / 100, 3.0, rtol=0.05)
    np.testing.assert_allclose(values[26:, 0], 0.0, atol=1e-6)


def test_trs_that_no_audio_reaches_are_marked(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, 40 * RATE, [1.0])
    _, seen = baseline_features("envelope", corpus)("a", np.arange(-9.0, 60.0, 2.0))
    np.testing.assert_array_equal(seen, [0 < t < 40 for t in np.arange(-9.0, 60.0, 2.0)])


@pytest.mark.parametrize("n_samples", [7 * 320, 14 * 320, 28 * 320, 28 * 320 + 1, 55 * 320 - 1])
def test_all_baselines_have_as_many_steps(tmp_path: Path, n_samples: int) -> None:
    """7 x 320 samples are 0.14 s, and 0.14 x 50 is 7.000000000000001 in floating point."""
    corpus = corpus_of(tmp_path, n_samples, [0.01])
    lengths = {name: len(course(corpus, "a")) for name, course in BASELINES.items() if name != "phone-rate"}
    assert set(lengths.values()) == {-(-n_samples // 320)}
    values, _ = baseline_features("envelope+word-rate", corpus)("a", np.array([0.03, 0.06]))
    assert values.shape == (2, 2)


def test_baselines_stand_side_by_side(corpus: Corpus) -> None:
    run = corpus.runs("s1")[0]
    both, _ = baseline_features("phone-rate+envelope", corpus)(run.story, run.tr_times_s)
    for column, name in enumerate(("phone-rate", "envelope")):
        alone, _ = baseline_features(name, corpus)(run.story, run.tr_times_s)
        np.testing.assert_array_equal(both[:, column], alone[:, 0])


def test_unknown_baselines_and_missing_tiers_are_named(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError,
        match=r"no baseline 'meaning'; expected one of envelope, word-rate, phone-rate, or several joined by \+",
    ):
        baseline_features("envelope+meaning", corpus)
    silent = baseline_features("phone-rate", corpus_of(tmp_path, 5 * RATE, [1.0]))
    with pytest.raises(CorpusError, match=r"the story has no phones \[a\]; expected a TextGrid with a tier of phones"):
        silent("a", np.array([1.0, 3.0]))

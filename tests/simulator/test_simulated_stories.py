"""Vocabulary, grammar and stories."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from brain_tuning.corpus.simulator.grammar import TOPIC_SHARE, sentences
from brain_tuning.corpus.simulator.simulate import World
from brain_tuning.corpus.simulator.stories import LEAD_SILENCE_S, make_story
from brain_tuning.corpus.simulator.vocabulary import CATEGORIES, CATEGORY_OF, FUNCTION_WORDS


def test_every_content_word_has_one_meaning() -> None:
    words = [word for group in CATEGORIES.values() for word in group.words]
    assert len(words) >= 200
    assert max(Counter(words).values()) == 1
    assert not set(words) & set(FUNCTION_WORDS)
    assert CATEGORY_OF["dog"] == "animals"
    assert len(CATEGORY_OF) == len(words)


def test_paragraphs_have_topics() -> None:
    """Most content words of a sentence are of one category: meaning changes slowly enough for BOLD to follow."""
    shares = []
    for sentence in islice(sentences(np.random.default_rng(0)), 400):
        kinds = [CATEGORY_OF[word] for word in sentence.split() if word in CATEGORY_OF]
        assert len(kinds) >= 3
        assert all(word in CATEGORY_OF or word in FUNCTION_WORDS for word in sentence.split())
        shares.append(Counter(kinds).most_common(1)[0][1] / len(kinds))
    assert np.mean(shares) > TOPIC_SHARE - 0.05


def test_text_depends_on_the_generator_alone() -> None:
    texts = [list(islice(sentences(np.random.default_rng(seed)), 20)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_words_and_phones_lie_within_the_audio(world: World) -> None:
    for story in world.stories:
        duration_s = len(story.audio) / 16_000
        for intervals in (story.words, story.phones):
            starts = np.array([interval.start_s for interval in intervals])
            ends = np.array([interval.end_s for interval in intervals])
            assert (np.diff(starts) > 0).all()
            assert (ends >= starts).all()
            assert (starts[1:] >= ends[:-1] - 1e-9).all()
            assert starts[0] >= LEAD_SILENCE_S
            assert ends[-1] <= duration_s
        assert len(story.phones) > 2 * len(story.words)
        assert not story.audio[: int(LEAD_SILENCE_S * 16_000)].any()
        assert np.abs(story.audio).max() == pytest.approx(0.7)


def test_a_story_is_as_long_as_asked_and_depends_on_seed_and_index() -> None:
    one, again, other = (make_story("a", seed=seed, index=0, duration_s=5.0) for seed in (1, 1, 2))
    assert 5.0 <= len(one.audio) / 16_000 < 15.0
    assert one.audio.tobytes() == again.audio.tobytes()
    assert [w.text for w in one.words] == [w.text for w in again.words]
    assert [w.text for w in one.words] != [w.text for w in other.words]

"""What simulated voxels respond to: haemodynamics, events and sound levels."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from brain_tuning.corpus.schema import Interval, StoryInput
from brain_tuning.corpus.simulator.drivers import RATE_HZ, _phonetic_class, canonical_hrf, driver_groups
from brain_tuning.corpus.simulator.simulate import World
from brain_tuning.corpus.simulator.vocabulary import CATEGORY_NAMES, CATEGORY_OF


def closed_form(t: np.ndarray) -> np.ndarray:
    """Double gamma, ``t^5 e^-t / 5! - t^15 e^-t / (6 15!)`` (Friston et al. 1998)."""
    return np.exp(-t) * (t**5 / factorial(5) - t**15 / (6 * factorial(15)))


def test_the_response_is_the_closed_form() -> None:
    response = canonical_hrf()
    t = np.arange(0, 32, 1 / RATE_HZ)
    np.testing.assert_allclose(response, closed_form(t) / closed_form(t).sum(), rtol=1e-9, atol=1e-15)
    assert response.sum() == pytest.approx(1.0)
    # t^5 e^-t is greatest at t = 5; the undershoot moves that by very little.
    assert t[response.argmax()] == pytest.approx(5.0, abs=0.05)
    assert 14 < t[response.argmin()] < 17
    assert response.min() < 0


def test_a_word_evokes_the_response_at_its_onset() -> None:
    story = StoryInput("a", np.zeros(16_000 * 40, np.float32), words=[Interval("dog", 3.0, 3.4)])
    tr_times_s = np.arange(1.0, 39.0)
    drivers = driver_groups(story, tr_times_s)
    expected = np.where(tr_times_s > 3, closed_form(np.clip(tr_times_s - 3.0, 0, None)), 0.0)
    # Events are counted a second; the response is normalised to unit sum of its samples at 50 Hz.
    expected /= closed_form(np.arange(0, 32, 1 / RATE_HZ)).sum() / RATE_HZ
    np.testing.assert_allclose(drivers["word_rate"][:, 0], expected, atol=2e-3)
    animals = CATEGORY_NAMES.index(CATEGORY_OF["dog"])
    np.testing.assert_allclose(drivers["semantic"][:, animals], drivers["word_rate"][:, 0], atol=1e-12)
    np.testing.assert_allclose(np.delete(drivers["semantic"], animals, axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(drivers["phonetic"], 0, atol=1e-12)


def test_a_tone_is_heard_in_its_band_only() -> None:
    seconds = np.arange(16_000 * 30) / 16_000
    # The third of 8 bands of equal width on the mel scale up to 7600 Hz: 602 to 1053 Hz.
    tone = 0.5 * np.sin(2 * np.pi * 800 * seconds) * ((seconds > 5) & (seconds < 10))
    acoustic = driver_groups(StoryInput("a", tone.astype(np.float32)), np.arange(1.0, 29.0))["acoustic"]
    rise = acoustic[11] - acoustic[1]
    assert rise.argmax() == 2
    assert rise[2] > 20 * np.delete(rise, [1, 2, 3]).max()


@pytest.mark.parametrize(
    ("mnemonic", "name"),
    [
        *(("t", "stop"), ("'t#", "stop"), ("tS", "affricate"), ("dZ", "affricate"), ("D", "fricative")),
        *(("n-", "nasal"), ("N", "nasal"), ("r-", "liquid"), ("l", "liquid"), ("w", "glide")),
        *(("'i:", "front vowel"), ("a#", "front vowel"), ("'u:", "back vowel"), ("@2", "back vowel"), (";", None)),
    ],
)
def test_phonemes_have_classes(mnemonic: str, name: str | None) -> None:
    """eSpeak marks stress and variants: a flapped t is a stop, no vowel."""
    assert _phonetic_class(mnemonic) == name


def test_no_consonant_of_the_stories_counts_as_a_vowel(world: World) -> None:
    heard = {phone.text.strip("',;") for story in world.stories for phone in story.phones} - {""}
    vowels = {phone for phone in heard if str(_phonetic_class(phone)).endswith("vowel")}
    assert vowels
    assert all(phone[0] in "aeiouAEIOUV03@" for phone in vowels), vowels


def test_drivers_of_a_story_have_their_shapes(world: World) -> None:
    for story, drivers in zip(world.stories, world.drivers, strict=True):
        n_trs = len(world.tr_times_s(story))
        widths = {name: course.shape for name, course in drivers.items()}
        assert widths == {
            "acoustic": (n_trs, 8),
            "phonetic": (n_trs, 8),
            "semantic": (n_trs, len(CATEGORY_NAMES)),
            "word_rate": (n_trs, 1),
        }
        # One response for each word, whatever it means: the categories' sum is at most the word rate.
        assert (drivers["semantic"].sum(1) <= drivers["word_rate"][:, 0] + 1.0).all()

"""Simulated stories: grammar text, spoken, with the time of every word and phoneme."""

from __future__ import annotations

import numpy as np

from brain_tuning.corpus.schema import Interval, StoryInput

from .grammar import sentences
from .speech import SAMPLING_RATE_HZ, VOICES, Synthesiser

LEAD_SILENCE_S = 0.5


def make_story(name: str, *, seed: int, index: int, duration_s: float) -> StoryInput:
    """Speak sentences of the grammar until ``duration_s`` is reached.

    Args:
        name: of the story.
        seed: of the whole simulation.
        index: of the story; it chooses text, voice, rate and pitch together with ``seed``.
        duration_s: shortest length wanted; the last sentence is finished.

    Returns:
        Audio (n_samples,), float32, 16 kHz, peak 0.7, with words and phones.

    Raises:
        MissingExtraError: ``espeakng-loader`` is not installed.
    """
    rng = np.random.default_rng([seed, 1, index])
    speak = Synthesiser().speak
    voice = VOICES[index % len(VOICES)]
    rate_wpm, pitch = int(rng.integers(150, 190)), int(rng.integers(35, 65))
    parts = [np.zeros(int(LEAD_SILENCE_S * SAMPLING_RATE_HZ), np.float32)]
    words: list[Interval] = []
    phones: list[Interval] = []
    elapsed = len(parts[0])
    for sentence in sentences(rng):
        said = speak(sentence, voice=voice, rate_wpm=rate_wpm, pitch=pitch)
        begin_s = elapsed / SAMPLING_RATE_HZ
        words += [Interval(text, begin_s + start, begin_s + end) for text, start, end in said.words]
        phones += [Interval(text, begin_s + start, begin_s + end) for text, start, end in said.phones]
        # Pauses of changing length keep the word rate, and so the word-rate voxels, from being constant.
        pause = np.zeros(int(rng.gamma(2.0, 0.25) * SAMPLING_RATE_HZ), np.float32)
        parts += [said.audio, pause]
        elapsed += len(said.audio) + len(pause)
        if elapsed >= duration_s * SAMPLING_RATE_HZ:
            break
    audio = np.concatenate(parts)
    return StoryInput(name, 0.7 * audio / np.abs(audio).max(), tuple(words), tuple(phones))

"""Synthesised speech: what is said when, the same every time, and Ctrl-C that is not swallowed."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from brain_tuning.corpus.simulator import speech
from brain_tuning.corpus.simulator.speech import SAMPLING_RATE_HZ, VOICES, Synthesiser
from brain_tuning.errors import BrainTuningError

TEXT = "the furry dog barked near the horse"


def test_words_are_those_of_the_text_at_their_times() -> None:
    said = Synthesiser().speak(TEXT)
    assert [word for word, _, _ in said.words] == TEXT.split()
    for intervals in (said.words, said.phones):
        starts = np.array([start for _, start, _ in intervals])
        ends = np.array([end for _, _, end in intervals])
        assert (np.diff(starts) > 0).all()
        assert (ends > starts).all()
        assert (starts[1:] >= ends[:-1]).all()
        assert starts[0] >= 0
        assert ends[-1] <= said.duration_s
    assert said.audio.dtype == np.float32
    assert said.duration_s == len(said.audio) / SAMPLING_RATE_HZ


def test_sound_is_where_the_words_are() -> None:
    """The time stamps are of this audio: it is louder within the phones than after the last."""
    said = Synthesiser().speak(TEXT)
    power = np.square(said.audio)
    end = int(said.words[-1][2] * SAMPLING_RATE_HZ)
    assert power[:end].mean() > 100 * power[end + SAMPLING_RATE_HZ // 20 :].mean()


@pytest.mark.parametrize("voice", VOICES)
def test_two_synthesisers_say_the_same_to_the_last_bit(voice: str) -> None:
    """The library keeps state that nothing resets, so each instance has its own copy of it."""
    one, other = Synthesiser(), Synthesiser()
    for _ in range(2):
        first, second = (it.speak(TEXT, voice=voice) for it in (one, other))
        assert first.audio.tobytes() == second.audio.tobytes()
        assert (first.words, first.phones) == (second.words, second.phones)


def test_rate_and_pitch_change_the_speech() -> None:
    speak = Synthesiser().speak
    assert speak(TEXT, rate_wpm=120).duration_s > 1.2 * speak(TEXT, rate_wpm=180).duration_s
    assert not np.array_equal(speak(TEXT, pitch=20).audio, speak(TEXT, pitch=80).audio)


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(BrainTuningError, match=r"no such voice \[xyzzy\]; expected an eSpeak NG voice"):
        Synthesiser().speak(TEXT, voice="xyzzy")


def test_ctrl_c_while_speaking_is_raised_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """ctypes prints what a callback raises and goes on: the story would lose samples and the user his Ctrl-C."""

    as_array = speech.np.ctypeslib.as_array

    def ctrl_c(*args: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return as_array(*args)

    said = Synthesiser()
    monkeypatch.setattr(speech.np.ctypeslib, "as_array", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        said.speak(TEXT)

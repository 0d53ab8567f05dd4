"""Synthesised speech with exact word and phoneme times, by eSpeak NG.

eSpeak NG (through the shared library that the ``espeakng-loader`` wheel carries) reports, while it
speaks, when each word and each phoneme begins. Those events are the simulator's ground truth: no
aligner is involved.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brain_tuning.errors import BrainTuningError, require_package
from brain_tuning.terminal import interrupts_held

SAMPLING_RATE_HZ = 16_000

#: Simulated speakers: eSpeak NG language + variant (f2 reads uninitialised memory: never twice the same).
VOICES = ("en-us", "en-us+f1", "en-us+m3", "en-us+f4", "en-us+m7", "en-us+m1")

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_RATE, _PITCH, _WORDGAP = 1, 3, 7
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PAUSES = ("", "_", "_:", "_!", "_|", "_^_", "_X1", "?")


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Utterance:
    """One synthesised sentence.

    Args:
        audio: waveform of shape (n_samples,), float32 in [-1, 1], 16 kHz mono.
        words: (text, start in s, end in s) of each word.
        phones: (eSpeak phoneme mnemonic, start in s, end in s), pauses left out.
    """

    audio: np.ndarray
    words: tuple[tuple[str, float, float], ...]
    phones: tuple[tuple[str, float, float], ...]

    @property
    def duration_s(self) -> float:
        return len(self.audio) / SAMPLING_RATE_HZ


class Synthesiser:
    """One private eSpeak NG: the same calls in the same order give the same samples to the last bit.

    The library keeps its noise generator and wave phase in static variables that even
    ``espeak_Terminate`` does not reset, so each instance loads its own copy of the shared object.
    """

    def __init__(self) -> None:
        require_package("espeakng_loader")
        import espeakng_loader

        source = Path(espeakng_loader.get_library_path())
        with tempfile.TemporaryDirectory(prefix="brain_tuning-espeak-") as folder:
            private = Path(folder) / source.name
            shutil.copyfile(source, private)
            self._library = ctypes.CDLL(str(private))
        rate = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS,
            0,
            str(espeakng_loader.get_data_path()).encode(),
            _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_DONT_EXIT,
        )
        if rate <= 0:
            raise BrainTuningError(
                "eSpeak NG could not be started",
                where=espeakng_loader.get_data_path(),
                remedy="reinstall it: pip install --force-reinstall espeakng-loader",
            )
        self._native_rate_hz = int(rate)

    def speak(self, text: str, *, voice: str = VOICES[0], rate_wpm: int = 170, pitch: int = 50) -> Utterance:
        """Speak one sentence.

        Args:
            text: plain English words, separated by single spaces, with optional end punctuation.
            voice: eSpeak NG voice name, e.g. ``"en-us+f1"``.
            rate_wpm: speaking rate in words a minute, 80 to 450.
            pitch: base pitch, 0 to 100.

        Returns:
            The utterance, resampled to 16 kHz.

        Raises:
            BrainTuningError: the voice does not exist.
        """
        chunks, events = self._synthesise(text, voice, rate_wpm, pitch)
        audio = _resample(np.concatenate(chunks), self._native_rate_hz)
        scale = 1.0 / self._native_rate_hz
        end_s = len(audio) / SAMPLING_RATE_HZ
        return Utterance(audio, _words(text, events, scale, end_s), _phones(events, scale, end_s))

    def _synthesise(self, text: str, voice: str, rate_wpm: int, pitch: int) -> tuple[list, list]:
        library = self._library
        chunks: list[np.ndarray] = []
        events: list[tuple[int, int, int, str]] = []

        def receive(wav: object, n_samples: int, event: object) -> int:
            if wav and n_samples > 0:
                chunks.append(np.ctypeslib.as_array(wav, (n_samples,)).copy())
            index = 0
            while event[index].type != _EVENT_END:  # type: ignore[index]
                e = event[index]  # type: ignore[index]
                name = e.id.string.decode("utf-8", "replace") if e.type == _EVENT_PHONEME else ""
                events.append((e.type, e.sample, e.text_position, name))
                index += 1
            return 0

        callback = _CALLBACK(receive)
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise BrainTuningError("no such voice", where=voice, expected="an eSpeak NG voice such as en-us+f1")
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_WORDGAP, 0)):
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        with interrupts_held():
            library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8 | _END_PAUSE, None, None)
            library.espeak_Synchronize()
        return chunks, events


def _resample(samples: np.ndarray, native_rate_hz: int) -> np.ndarray:
    from scipy.signal import resample_poly

    ratio = np.gcd(SAMPLING_RATE_HZ, native_rate_hz)
    wave = resample_poly(samples.astype(np.float64) / 32768.0, SAMPLING_RATE_HZ // ratio, native_rate_hz // ratio)
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def _words(text: str, events: list, scale: float, end_s: float) -> tuple[tuple[str, float, float], ...]:
    # eSpeak may report one word twice (e.g. when a clause is re-read): the first report counts.
    starts: dict[int, float] = {}
    for kind, sample, position, _ in events:
        if kind == _EVENT_WORD:
            starts.setdefault(position - 1, sample * scale)
    found = []
    for position, start in sorted(starts.items()):
        word = text[position:].split(" ", 1)[0].strip(".,;:?!\"'").lower()
        if word:
            found.append((word, start))
    phone_ends = [e for _, _, e in _phones(events, scale, end_s)]
    stops = [start for _, start in found[1:]] + [phone_ends[-1] if phone_ends else end_s]
    return tuple((word, start, stop) for (word, start), stop in zip(found, stops, strict=True))


def _phones(events: list, scale: float, end_s: float) -> tuple[tuple[str, float, float], ...]:
    marks = [(name, sample * scale) for kind, sample, _, name in events if kind == _EVENT_PHONEME]
    stops = [start for _, start in marks[1:]] + [end_s]
    return tuple(
        (name, start, stop)
        for (name, start), stop in zip(marks, stops, strict=True)
        if name not in _PAUSES and stop > start
    )

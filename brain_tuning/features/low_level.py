"""Baseline features that need no model: the acoustic envelope and the rate of words and phones.

They are what any claim about meaning has to beat: word rate alone predicts much of language cortex
(Hadidi et al. 2026).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, hilbert, sosfiltfilt

from brain_tuning.corpus import Corpus
from brain_tuning.corpus.schema import SAMPLING_RATE_HZ
from brain_tuning.errors import CorpusError
from brain_tuning.timing import lanczos_matrix

#: features are formed at this rate before they are brought to TRs
RATE_HZ = 50
ENVELOPE_CUTOFF_HZ = 20.0

Feature = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


def envelope(audio: np.ndarray) -> np.ndarray:
    """Amplitude envelope at 50 Hz, (n_samples,) -> (n_steps,): |analytic signal|, low-passed at 20 Hz."""
    smooth = sosfiltfilt(
        butter(4, ENVELOPE_CUTOFF_HZ, fs=SAMPLING_RATE_HZ, output="sos"), np.abs(hilbert(audio.astype(np.float64)))
    )
    return smooth[:: SAMPLING_RATE_HZ // RATE_HZ]


def event_rate(starts_s: np.ndarray, n_steps: int) -> np.ndarray:
    """Events a second at 50 Hz from their onsets in seconds, (n_steps,)."""
    steps = np.floor(np.asarray(starts_s) * RATE_HZ).astype(int)
    return np.bincount(steps[(steps >= 0) & (steps < n_steps)], minlength=n_steps).astype(float) * RATE_HZ


def baseline_features(name: str, corpus: Corpus) -> Feature:
    """A baseline as a function (story, TR times in s) -> features (n_trs, n), whether audio reaches each TR.

    Args:
        name: a key of :data:`BASELINES`, or n of them joined by ``+``, side by side.
        corpus: holds audio and word or phone times.

    Raises:
        CorpusError: no such baseline, or the story has no words (phones).
    """
    kinds = name.split("+")
    for kind in kinds:
        if kind not in BASELINES:
            raise CorpusError(
                f"there is no baseline {kind!r}", expected=f"one of {', '.join(BASELINES)}, or several joined by +"
            )
    courses: dict[str, np.ndarray] = {}

    def features(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if story not in courses:
            courses[story] = np.stack([BASELINES[kind](corpus, story) for kind in kinds], axis=1)
        course = courses[story]
        times_s = (np.arange(len(course)) + 0.5) / RATE_HZ
        matrix = lanczos_matrix(times_s, tr_times_s, allow_empty=True)
        tr_s = (tr_times_s[-1] - tr_times_s[0]) / (len(tr_times_s) - 1)
        seen = np.asarray(matrix.sum(axis=1)).ravel() > 0.5 * tr_s * RATE_HZ
        return (matrix @ course).astype(np.float32), seen

    return features


def _steps(corpus: Corpus, story: str) -> int:
    # In whole numbers: in floating point 0.14 s x 50 Hz is a little more than 7, and the envelope has 7 steps.
    return -(-corpus.n_samples(story) // (SAMPLING_RATE_HZ // RATE_HZ))


def _envelope_of(corpus: Corpus, story: str) -> np.ndarray:
    return envelope(corpus.audio(story))


def _rate_of(kind: str) -> Callable[[Corpus, str], np.ndarray]:
    def course(corpus: Corpus, story: str) -> np.ndarray:
        intervals = getattr(corpus.story(story), kind)
        if not intervals:
            raise CorpusError(
                f"the story has no {kind}",
                where=story,
                expected=f"a TextGrid with a tier of {kind}",
                remedy="leave the baseline out",
            )
        return event_rate(np.array([interval.start_s for interval in intervals]), _steps(corpus, story))

    return course


#: baseline name -> time course at 50 Hz of (corpus, story)
BASELINES: dict[str, Callable[[Corpus, str], np.ndarray]] = {
    "envelope": _envelope_of,
    "word-rate": _rate_of("words"),
    "phone-rate": _rate_of("phones"),
}

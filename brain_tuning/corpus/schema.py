"""What a corpus holds, as plain values: stories, runs, and what a writer is given.

All times are in seconds from the onset of the story's audio. Responses are time-first arrays of shape
(n_trs, n_voxels). A run is one stretch of one subject's responses to one story, contiguous in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

FORMAT = "brain_tuning corpus"
VERSION = 1
SAMPLING_RATE_HZ = 16_000
SPLITS = ("train", "validation", "test")

#: How far responses or a transcript may reach beyond the audio: a run starts before the story and ends
#: after it by some calibration volumes, but not by half a minute.
MAX_OVERHANG_S = 30.0


@dataclass(frozen=True)
class Interval:
    """A word or phone with its times.

    Args:
        text: the word, or the phone's label.
        start_s: start, s from the onset of the story's audio.
        end_s: end, s from the onset of the story's audio.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Story:
    """A story as stored, without its audio.

    Args:
        name: identifier, unique in the corpus.
        duration_s: length of the audio in s.
        words: words in time order; empty where there is no transcript.
        phones: phones in time order; empty where there are none.
    """

    name: str
    duration_s: float
    words: tuple[Interval, ...] = ()
    phones: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Run:
    """One contiguous stretch of a subject's responses to a story, as stored.

    Args:
        subject: subject identifier.
        story: name of the story heard.
        run: number of the run; (story, run, repeat) is unique within a subject.
        repeat: 0-based number of the listening; runs of one story and onset that differ in ``repeat`` are
            repeated measurements of the same thing.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        tr_s: time between two rows in s.
        onset_s: start of the first stored TR, s from the onset of the audio; may be negative.
        n_trs: number of stored rows.
        first_row: row of the subject's response table at which the run begins.
        trim: what was left out at either end, in words.
    """

    subject: str
    story: str
    run: int
    repeat: int
    split: str
    tr_s: float
    onset_s: float
    n_trs: int
    first_row: int
    trim: str = ""

    @property
    def tr_times_s(self) -> np.ndarray:
        """Centres of the TRs, float64 of shape (n_trs,), s from the onset of the audio.

        ``onset_s + (arange(n_trs) + 0.5) * tr_s``
        """
        return self.onset_s + (np.arange(self.n_trs, dtype=np.float64) + 0.5) * self.tr_s

    @property
    def end_s(self) -> float:
        """End of the last stored TR, s from the onset of the audio."""
        return self.onset_s + self.n_trs * self.tr_s


@dataclass(frozen=True, eq=False)
class StoryInput:
    """A story for the writer.

    Args:
        name: identifier, unique in the corpus.
        audio: waveform of shape (n_samples,), floating point in [-1, 1], mono, 16 kHz.
        words: words in time order.
        phones: phones in time order.
    """

    name: str
    audio: np.ndarray
    words: Sequence[Interval] = ()
    phones: Sequence[Interval] = ()


@dataclass(frozen=True, eq=False)
class RunInput:
    """A run for the writer; the fields mean what they mean in :class:`Run`.

    Args:
        bold: responses of shape (n_trs, n_voxels), in time order; NaN is stored as it is.
    """

    story: str
    run: int
    repeat: int
    split: str
    tr_s: float
    onset_s: float
    bold: np.ndarray
    trim: str = ""


@dataclass(frozen=True, eq=False)
class SubjectInput:
    """A subject for the writer.

    Args:
        subject: identifier of letters, digits, ``.``, ``_`` and ``-``.
        n_voxels: number of columns of every run.
        runs: runs, taken one at a time, so that a generator keeps one run in memory.
        regions: voxel indices (into the columns) by region name.
        region_kinds: kind of a region by its name, e.g. ``"anatomical"``, ``"functional"``, ``"truth"``.
        noise_ceiling: greatest correlation a perfect model can reach, of shape (n_voxels,), NaN where it
            is not known; None estimates it from the repeated test story (see ``ceiling.py``).
        excluded: reason by index of the voxels that must not be used although their values are sound.
    """

    subject: str
    n_voxels: int
    runs: Iterable[RunInput]
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    region_kinds: Mapping[str, str] = field(default_factory=dict)
    noise_ceiling: np.ndarray | None = None
    excluded: Mapping[int, str] = field(default_factory=dict)

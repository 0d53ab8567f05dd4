"""Checks of what a writer is given; each raises an error that says which story, subject or run it is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from brain_tuning.corpus.schema import MAX_OVERHANG_S, SPLITS, Interval, Run, RunInput, StoryInput
from brain_tuning.errors import AudioError, CorpusError, RegionError, TimingError

_SUBJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNFIT_FOR_STORY = re.compile(r"[/\\\n\r\t]")


def check_story_name(name: str, earlier: Mapping[str, object]) -> None:
    """Raise CorpusError unless a story's name is new and could be a file's."""
    if not name or _UNFIT_FOR_STORY.search(name):
        raise CorpusError("a story's name is empty or holds a slash, tab or line break", where=repr(name))
    if name in earlier:
        raise CorpusError("a story is given twice", where=name, expected="each story once")


def check_subject_name(name: str, earlier: Sequence[str]) -> None:
    """Raise CorpusError unless a subject's name is new and fit to name tables."""
    if not _SUBJECT_NAME.fullmatch(name):
        raise CorpusError("a subject's name cannot name a table", where=repr(name), expected="letters, digits, . _ -")
    if name in earlier:
        raise CorpusError("a subject is given twice", where=name, expected="each subject once")


def story_audio(story: StoryInput) -> np.ndarray:
    """The waveform of a story; raises AudioError unless it is mono, finite and not empty."""
    audio = np.asarray(story.audio)
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(
            f"audio of shape {audio.shape} and type {audio.dtype}",
            where=f"story {story.name}",
            expected="floating point of shape (n_samples,), 16 kHz mono",
        )
    if audio.size == 0 or not np.isfinite(audio).all():
        what = "audio is empty" if audio.size == 0 else "audio holds NaN or infinite samples"
        raise AudioError(what, where=f"story {story.name}", expected="finite samples")
    return audio


def check_intervals(story: str, tier: str, intervals: Sequence[Interval], duration_s: float) -> None:
    """Raise TimingError unless intervals run forwards and do not reach far beyond the audio."""
    for index, interval in enumerate(intervals):
        if not (np.isfinite([interval.start_s, interval.end_s]).all() and interval.start_s <= interval.end_s):
            raise TimingError(
                f"{tier}[{index}] {interval.text!r} runs from {interval.start_s} to {interval.end_s} s",
                where=f"story {story}",
                expected="start before end",
            )
        if interval.end_s > duration_s + MAX_OVERHANG_S:
            raise TimingError(
                f"{tier} reach to {interval.end_s:.1f} s but the audio lasts {duration_s:.1f} s",
                where=f"story {story}",
                expected="a transcript of this audio",
            )


def stored_responses(one: RunInput, where: str, n_voxels: int, bold_dtype: str) -> np.ndarray:
    """A run's responses in the type they are stored in; raises CorpusError where their form is wrong."""
    bold = np.asarray(one.bold)
    if bold.ndim != 2 or bold.dtype.kind not in "fiu":
        raise CorpusError(
            f"responses of shape {bold.shape} and type {bold.dtype}",
            where=where,
            expected="real numbers of shape (n_trs, n_voxels)",
        )
    if len(bold) == 0:
        raise CorpusError("a run without TRs", where=where, expected="at least one TR")
    if bold.shape[1] != n_voxels:
        raise CorpusError(
            f"a run has {bold.shape[1]} voxels",
            where=where,
            expected=f"{n_voxels}, as the subject's other runs",
        )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(bold, dtype=bold_dtype)
    if stored.dtype != bold.dtype:
        overflowed = int((np.isfinite(bold) & ~np.isfinite(stored)).sum())
        if overflowed:
            raise CorpusError(
                f"{overflowed} value(s) are too large for {bold_dtype}",
                where=where,
                remedy="write float32, or standardise the responses first",
            )
    return stored


def check_run(run: Run, earlier: Sequence[Run], durations_s: Mapping[str, float], where: str) -> None:
    """Raise unless a run has audio, lies on it in time, and agrees with the subject's earlier runs."""
    if run.story not in durations_s:
        near = difflib.get_close_matches(run.story, durations_s, 1)
        raise AudioError(
            "a run's story has no audio",
            where=where,
            expected=f"a story named {run.story} among the {len(durations_s)} stories given"
            + (f" (the nearest is {near[0]})" if near else ""),
            remedy=f"add {run.story}.wav, or leave the run out",
        )
    if run.split not in SPLITS:
        raise CorpusError(f"unknown split {run.split!r}", where=where, expected=", ".join(SPLITS))
    if not (np.isfinite([run.tr_s, run.onset_s]).all() and run.tr_s > 0):
        raise TimingError(f"tr_s is {run.tr_s} and onset_s {run.onset_s}", where=where, expected="tr_s > 0, in s")
    duration_s = durations_s[run.story]
    if -run.onset_s > MAX_OVERHANG_S or run.end_s - duration_s > MAX_OVERHANG_S:
        raise TimingError(
            f"the responses span {run.onset_s:.1f} to {run.end_s:.1f} s ({run.n_trs} TRs of {run.tr_s} s) "
            f"but the audio lasts {duration_s:.1f} s",
            where=where,
            expected=f"at most {MAX_OVERHANG_S:.0f} s beyond either end of the audio",
            remedy="check tr_s, onset_s and that this is the audio of that run",
        )
    for other in earlier:
        if (other.story, other.run, other.repeat) == (run.story, run.run, run.repeat):
            raise CorpusError("a run is given twice", where=where, expected="each (story, run, repeat) once")
        if same_piece(run, other) and run.n_trs != other.n_trs:
            raise CorpusError(
                f"repeats of one story differ in length: {run.n_trs} TRs",
                where=where,
                expected=f"{other.n_trs} TRs as in repeat {other.repeat}",
                remedy="trim all repeats alike",
            )


def check_not_a_copy(run: Run, same: Run, where: str) -> None:
    """Raise CorpusError where the repeat of a story has the very responses of another: its ceiling would be 1."""
    if run is not same and same_piece(run, same):
        raise CorpusError(
            f"the responses are, to the last bit, those of run {same.run}, repeat {same.repeat}",
            where=where,
            expected="a measurement of its own for each repeat",
            remedy="check which file belongs to which repeat; an average over repeats is one run",
        )


def same_piece(one: Run, other: Run) -> bool:
    """Whether two runs measure responses to the same part of a story, on the same grid of TRs."""
    return one.story == other.story and abs(one.onset_s - other.onset_s) < 1e-3 and one.tr_s == other.tr_s


def region_voxels(voxels: np.ndarray, n_voxels: int, where: str) -> np.ndarray:
    """A region's voxel indices, ascending and each once; RegionError if one does not exist."""
    voxels = np.asarray(voxels)
    if voxels.ndim != 1 or (voxels.size and voxels.dtype.kind not in "iu"):
        raise RegionError(
            f"voxels of shape {voxels.shape} and type {voxels.dtype}",
            where=where,
            expected="a list of indices",
        )
    outside = voxels[(voxels < 0) | (voxels >= n_voxels)]
    if outside.size:
        raise RegionError(
            f"{outside.size} voxel(s) do not exist, first {outside[0]}",
            where=where,
            expected=f"0 to {n_voxels - 1}",
        )
    return np.unique(voxels).astype(np.int32)

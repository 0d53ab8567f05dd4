"""Reads OpenNeuro ds003020 (LeBel et al. 2023): people listening to stories of The Moth.

The layout read, below the data set's folder::

    stimuli/<story>.wav
    derivative/TextGrids/<story>.TextGrid                        tiers phone, word
    derivative/respdict.json                                     {story: number of raw TRs}
    derivative/preprocessed_data/<subject>/<story>.hf5           data (n_trs, n_voxels), individual_repeats

Of the raw TRs the first ten and the last ten are not stored. The story begins 10.02 s after the first
trigger, and the trigger logs give a TR of 2.0045 s; the sidecar's 2 s drifts by 1.8 s in 400 TRs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brain_tuning.corpus.audio import read_audio
from brain_tuning.corpus.readers.annex import check_fetched
from brain_tuning.corpus.readers.regions import read_regions
from brain_tuning.corpus.schema import RunInput, StoryInput, SubjectInput
from brain_tuning.corpus.splits import LEBEL2023_TEST, LEBEL2023_VALIDATION, assign_splits
from brain_tuning.corpus.textgrid import words_and_phones
from brain_tuning.corpus.writer import write_corpus
from brain_tuning.errors import AudioError, CorpusError, RegionError, TimingError, require_package

if TYPE_CHECKING:
    import h5py

TR_S = 2.0045
AUDIO_START_S = 10.02
N_TRS_CUT_FRONT = 10
N_TRS_CUT_BACK = 10
ONSET_S = N_TRS_CUT_FRONT * TR_S - AUDIO_START_S

_SOURCE = "OpenNeuro ds003020, LeBel et al. 2023, Scientific Data 10, 555"
_LICENCE = "CC0 1.0"


@dataclass(frozen=True)
class _Layout:
    """Paths of the data set's files."""

    root: Path

    @property
    def respdict(self) -> Path:
        return self.root / "derivative" / "respdict.json"

    def audio(self, story: str) -> Path:
        return self.root / "stimuli" / f"{story}.wav"

    def textgrid(self, story: str) -> Path:
        return self.root / "derivative" / "TextGrids" / f"{story}.TextGrid"

    def subject(self, subject: str) -> Path:
        return self.root / "derivative" / "preprocessed_data" / subject

    def responses(self, subject: str, story: str) -> Path:
        return self.subject(subject) / f"{story}.hf5"


def read_lebel2023(
    root: str | Path,
    *,
    subjects: Sequence[str],
    destination: str | Path,
    stories: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    validation: Sequence[str] | None = None,
    regions: str | Path | Mapping[str, str | Path] | None = None,
    convert_audio: bool = False,
    overwrite: bool = False,
    bold_dtype: str = "float32",
) -> Path:
    """Turn ds003020 into a corpus.

    Files are checked before any response is read. A story recorded several times is stored repeat by
    repeat, without the average that the data set also holds.

    Args:
        root: folder of the data set, with the files above fetched.
        subjects: subjects to read, e.g. ``["UTS01", "UTS03"]``.
        destination: the corpus folder to make.
        stories: stories to read; None reads every story that a subject has responses to.
        test: test stories; None takes ``wheretheressmoke``.
        validation: validation stories; None takes ``fromboyhoodtofatherhood``.
        regions: file of voxel indices by region (see ``regions.py``): one for a single subject, or a
            mapping from subject to file.
        convert_audio: resample audio to 16 kHz mono where needed.
        overwrite: replace a corpus at ``destination``.
        bold_dtype: ``"float32"`` or ``"float16"``.

    Returns:
        The destination.

    Raises:
        AnnexPointerError: contents were not fetched.
        AudioError: a story's wav is missing or not 16 kHz mono.
        TimingError: a story's number of TRs is not that of ``respdict.json`` less 20.
        CorpusError: a subject or story does not exist, or a file is damaged.

    Source:
        LeBel et al. 2023; trims and onset as in the data set's released encoding code.
    """
    require_package("h5py")
    layout = _Layout(Path(root))
    stories_of = {subject: _stories_of(layout, subject, stories) for subject in subjects}
    names = sorted({story for found in stories_of.values() for story in found})
    absent = [story for story in stories or () if story not in names]
    if absent or not names:
        raise CorpusError(
            f"no responses to {', '.join(absent) or 'any story'}",
            where=layout.root / "derivative" / "preprocessed_data",
            expected=f"<story>.hf5 of {', '.join(subjects)}",
        )
    splits = assign_splits(
        names,
        test=_present(LEBEL2023_TEST, names) if test is None else test,
        validation=_present(LEBEL2023_VALIDATION, names) if validation is None else validation,
    )
    notes = _check_files(layout, names, stories_of)
    n_voxels = {subject: _check_shapes(layout, subject, found) for subject, found in stories_of.items()}
    for subject, found in stories_of.items():
        lacking = [story for story in stories or () if story not in found]
        if lacking:
            notes.append(f"{subject} has no responses to {', '.join(lacking)}")
    region_files = _region_files(regions, subjects)
    return write_corpus(
        destination,
        name="lebel2023",
        source=_SOURCE,
        licence=_LICENCE,
        stories=(_story(layout, name, convert_audio) for name in names),
        subjects=(
            SubjectInput(
                subject=subject,
                n_voxels=n_voxels[subject],
                runs=_runs(layout, subject, found, splits),
                regions=read_regions(region_files[subject]) if subject in region_files else {},
            )
            for subject, found in stories_of.items()
        ),
        overwrite=overwrite,
        bold_dtype=bold_dtype,
        notes=notes,
        extra={"tr_s": TR_S, "audio_start_s": AUDIO_START_S},
    )


def _present(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in wanted if name in names]


def _stories_of(layout: _Layout, subject: str, stories: Sequence[str] | None) -> list[str]:
    folder = layout.subject(subject)
    if not folder.parent.is_dir():
        raise CorpusError(
            "there are no responses",
            where=layout.root,
            expected=f"ds003020 as OpenNeuro lays it out, with {folder.parent.relative_to(layout.root)}",
            remedy="check the path, or fetch the data set with datalad",
        )
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in folder.parent.glob("*") if path.is_dir()))
        raise CorpusError(
            f"no subject {subject}",
            where=folder,
            expected=f"one of {there or 'no subject at all'}",
        )
    found = sorted(path.stem for path in folder.glob("*.hf5"))
    return found if stories is None else [story for story in found if story in stories]


def _check_files(layout: _Layout, names: Sequence[str], stories_of: Mapping[str, Sequence[str]]) -> list[str]:
    """Raise unless every file needed is there with its contents; returns notes on what may lack."""
    responses = [layout.responses(subject, story) for subject, found in stories_of.items() for story in found]
    audio = [layout.audio(story) for story in names]
    textgrids = [layout.textgrid(story) for story in names]
    check_fetched(layout.root, [layout.respdict, *audio, *textgrids, *responses])
    for story, path in zip(names, audio, strict=True):
        if not path.is_file():
            raise AudioError(
                f"story {story} has no audio", where=path, expected="a wav file", remedy=f"datalad get {path}"
            )
    if not layout.respdict.is_file():
        raise CorpusError("the number of raw TRs is not known", where=layout.respdict, expected="respdict.json")
    silent = [story for story, path in zip(names, textgrids, strict=True) if not path.is_file()]
    return [f"no TextGrid, hence no words and phones: {', '.join(silent)}"] if silent else []


def _check_shapes(layout: _Layout, subject: str, stories: Sequence[str]) -> int:
    """Raise unless every run has the TRs it should have; returns the subject's number of voxels."""
    raw_trs = _respdict(layout.respdict)
    n_voxels = 0
    for story in stories:
        path = layout.responses(subject, story)
        shape = _shape(path)
        n_voxels = n_voxels or shape[1]
        if story not in raw_trs:
            raise TimingError(f"story {story} is not in respdict.json", where=layout.respdict)
        expected = raw_trs[story] - N_TRS_CUT_FRONT - N_TRS_CUT_BACK
        if shape[0] != expected:
            raise TimingError(
                f"story {story} of {subject} has {shape[0]} TRs",
                where=path,
                expected=f"{expected} ({raw_trs[story]} raw TRs less {N_TRS_CUT_FRONT + N_TRS_CUT_BACK})",
                remedy="fetch this story's hf5 and respdict.json again, of one version",
            )
        if shape[1] != n_voxels:
            raise CorpusError(f"story {story} has {shape[1]} voxels", where=path, expected=f"{n_voxels}")
    return n_voxels


def _respdict(path: Path) -> dict[str, int]:
    try:
        return {story: int(n_trs) for story, n_trs in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"respdict.json is damaged: {error}", where=path, expected="{story: raw TRs}") from error


def _shape(path: Path) -> tuple[int, int]:
    """(n_trs, n_voxels) of a response file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _dataset(file, path).shape[-2:]
    except OSError as error:
        raise _damaged(path, error) from error


def _dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """The repeats of a story where they are stored, else its single run."""
    name = "individual_repeats" if "individual_repeats" in file else "data"
    if name not in file:
        raise CorpusError(f"no data set 'data' but {list(file)}", where=path, expected="data (n_trs, n_voxels)")
    dataset = file[name]
    if dataset.ndim != (3 if name == "individual_repeats" else 2):
        raise CorpusError(f"{name} has shape {dataset.shape}", where=path, expected="(repeats,) TRs x voxels")
    return dataset


def _damaged(path: Path, error: OSError) -> CorpusError:
    return CorpusError(
        f"a response file is damaged: {error}", where=path, remedy=f"delete it and run: datalad get {path}"
    )


def _runs(layout: _Layout, subject: str, stories: Sequence[str], splits: Mapping[str, str]) -> Iterator[RunInput]:
    trim = f"first {N_TRS_CUT_FRONT} and last {N_TRS_CUT_BACK} raw TRs are not stored"
    for story in stories:
        for repeat, bold in enumerate(_repeats(layout.responses(subject, story))):
            yield RunInput(story, 0, repeat, splits[story], TR_S, ONSET_S, bold, trim)


def _repeats(path: Path) -> Iterator[np.ndarray]:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error
    with file:
        dataset = _dataset(file, path)
        for repeat in range(len(dataset) if dataset.ndim == 3 else 1):
            try:
                bold = dataset[repeat] if dataset.ndim == 3 else dataset[:]
            except OSError as error:
                raise _damaged(path, error) from error
            yield bold


def _story(layout: _Layout, name: str, convert_audio: bool) -> StoryInput:
    path = layout.textgrid(name)
    words, phones = words_and_phones(path) if path.is_file() else ((), ())
    return StoryInput(name, read_audio(layout.audio(name), convert_audio), words, phones)


def _region_files(
    regions: str | Path | Mapping[str, str | Path] | None, subjects: Sequence[str]
) -> dict[str, str | Path]:
    if regions is None:
        return {}
    if isinstance(regions, Mapping):
        unknown = sorted(set(regions) - set(subjects))
        if unknown:
            raise RegionError(f"regions are given for {unknown[0]}", expected=f"one of {', '.join(subjects)}")
        return dict(regions)
    if len(subjects) != 1:
        raise RegionError(
            f"one region file for {len(subjects)} subjects", where=regions, expected="a file for each subject"
        )
    return {subjects[0]: regions}

"""Reads any data that one ``corpus.yaml`` describes.

The file lies in the data's folder and every path in it is relative to that folder::

    name: my-stories
    source: where the data come from
    licence: CC BY 4.0
    surrogate_audio: false            # true if the audio is not what the subjects heard
    notes: [free text, ...]           # optional
    tr_s: 2.0                         # default of all runs
    onset_s: 0.0                      # default of all runs: start of the first row, s from the audio's onset
    stories:
      avatar:
        audio: audio/avatar.wav       # wav, flac or ogg
        textgrid: avatar.TextGrid     # optional: tiers word, phone
        onset_s: 10.025               # optional: default of this story's runs
    subjects:
      s1:
        runs:
        - story: avatar
          split: train                # train, validation or test
          responses: s1/avatar.npy    # .npy, .npz:array or .csv with a header; (n_trs, n_voxels)
          run: 0                      # optional: counts up for one story and repeat
          repeat: 0                   # optional: 0, 1, ... for a story heard several times
          tr_s: 2.0                   # optional
          onset_s: 10.025             # optional: start of the FILE's first row
          first_tr: 0                 # optional: first row taken
          n_trs: 300                  # optional: number of rows taken
        regions:                      # optional: a file (see regions.py), or voxels by region;
          auditory: [0, 1, 5]         # voxels are column numbers, or column names of the .csv
        noise_ceiling: s1/ceiling.npy # optional: (n_voxels,); else estimated from repeats
        excluded: {7: coil artefact}  # optional: reason by voxel

With ``first_tr`` and ``n_trs`` one long recording is cut into contiguous pieces, e.g. five folds of one
story: each piece is a run with its own split. The pieces touch, so that the haemodynamic response reaches
a few seconds over each border; a note in the corpus says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brain_tuning.corpus.audio import read_audio
from brain_tuning.corpus.readers.annex import check_fetched
from brain_tuning.corpus.readers.regions import read_regions
from brain_tuning.corpus.readers.responses import read_array, split_key
from brain_tuning.corpus.readers.yaml_node import YamlNode, read_yaml
from brain_tuning.corpus.schema import SPLITS, Interval, RunInput, StoryInput, SubjectInput
from brain_tuning.corpus.textgrid import words_and_phones
from brain_tuning.corpus.writer import write_corpus
from brain_tuning.errors import AudioError, CorpusError

DESCRIPTION = "corpus.yaml"
_CORPUS_KEYS = (
    *("name", "source", "licence", "surrogate_audio", "notes", "tr_s", "onset_s"),
    *("stories", "subjects"),
)
_STORY_KEYS = ("audio", "textgrid", "onset_s")
_SUBJECT_KEYS = ("runs", "regions", "noise_ceiling", "excluded")
_RUN_KEYS = ("story", "run", "repeat", "split", "responses", "tr_s", "onset_s", "first_tr", "n_trs")


@dataclass(frozen=True)
class _Story:
    node: YamlNode
    name: str
    audio: Path
    textgrid: Path | None
    onset_s: float | None


@dataclass(frozen=True)
class _Run:
    node: YamlNode
    story: str
    run: int
    repeat: int
    split: str
    path: Path
    array: str
    tr_s: float
    onset_s: float
    first_tr: int
    n_trs: int | None


def read_folder(
    root: str | Path,
    *,
    destination: str | Path,
    convert_audio: bool = False,
    overwrite: bool = False,
    bold_dtype: str = "float32",
) -> Path:
    """Turn the data that ``<root>/corpus.yaml`` describes into a corpus.

    Args:
        root: folder with ``corpus.yaml`` and the files it names.
        destination: the corpus folder to make.
        convert_audio: resample audio to 16 kHz mono where needed.
        overwrite: replace a corpus at ``destination``.
        bold_dtype: ``"float32"`` or ``"float16"``.

    Returns:
        The destination.

    Raises:
        CorpusError: the description or a file is wrong; the error names the YAML key.
        AnnexPointerError: files were cloned, but not fetched.
        AudioError: audio is missing, unreadable or not 16 kHz mono.
        TimingError: a run or transcript does not fit its audio.
    """
    root = Path(root)
    top = read_yaml(root / DESCRIPTION).checked(_CORPUS_KEYS)
    stories = {name: _story(name, node) for name, node in top["stories"].items()}
    subjects = {name: (node, _runs(node, top, stories)) for name, node in top["subjects"].items()}
    files = [story.audio for story in stories.values()]
    files += [story.textgrid for story in stories.values() if story.textgrid is not None]
    files += [run.path for _, runs in subjects.values() for run in runs]
    check_fetched(root, files)
    inputs = [_subject(name, node, runs) for name, (node, runs) in subjects.items()]
    columns = {name: list(found) for name, (_, runs) in subjects.items() if (found := _columns(runs))}
    return write_corpus(
        destination,
        name=top["name"].text(),
        source=top["source"].text(),
        licence=top["licence"].text(),
        stories=(_story_input(story, convert_audio) for story in stories.values()),
        subjects=inputs,
        overwrite=overwrite,
        bold_dtype=bold_dtype,
        notes=_notes(top, [run for _, runs in subjects.values() for run in runs]),
        surrogate_audio=top["surrogate_audio"].flag() if "surrogate_audio" in top else False,
        extra={"columns": columns} if columns else None,
    )


def _story(name: str, node: YamlNode) -> _Story:
    node.checked(_STORY_KEYS)
    try:
        audio = node["audio"].path()
    except CorpusError as error:
        raise AudioError(
            f"story {name} has no audio: {error.what}", where=error.where, expected=error.expected
        ) from error
    textgrid = node["textgrid"].path() if "textgrid" in node else None
    return _Story(node, name, audio, textgrid, node["onset_s"].number() if "onset_s" in node else None)


def _story_input(story: _Story, convert_audio: bool) -> StoryInput:
    words: tuple[Interval, ...] = ()
    phones: tuple[Interval, ...] = ()
    if story.textgrid is not None:
        with story.node["textgrid"].naming():
            words, phones = words_and_phones(story.textgrid)
    with story.node["audio"].naming():
        audio = read_audio(story.audio, convert_audio)
    return StoryInput(story.name, audio, words, phones)


def _runs(subject: YamlNode, top: YamlNode, stories: Mapping[str, _Story]) -> list[_Run]:
    subject.checked(_SUBJECT_KEYS)
    runs: list[_Run] = []
    for node in subject["runs"].elements():
        node.checked(_RUN_KEYS)
        story, split = node["story"].text(), node["split"].text()
        if story not in stories:
            raise node["story"].error(f"no story {story!r}", expected=f"one of {', '.join(stories)}")
        if split not in SPLITS:
            raise node["split"].error(f"unknown split {split!r}", expected=", ".join(SPLITS))
        repeat = node["repeat"].count() if "repeat" in node else 0
        earlier = sum((run.story, run.repeat) == (story, repeat) for run in runs)
        tr_s = _default("tr_s", node, top)
        if not tr_s > 0:
            raise node.error(f"tr_s is {tr_s}", expected="a positive number of seconds")
        given_s = stories[story].onset_s
        onset_s = given_s if given_s is not None and "onset_s" not in node else _default("onset_s", node, top)
        path, array = _file_and_array(node["responses"])
        first_tr = node["first_tr"].count() if "first_tr" in node else 0
        runs.append(
            _Run(
                node=node,
                story=story,
                run=node["run"].count() if "run" in node else earlier,
                repeat=repeat,
                split=split,
                path=path,
                array=array,
                tr_s=tr_s,
                onset_s=onset_s + first_tr * tr_s,
                first_tr=first_tr,
                n_trs=node["n_trs"].count() if "n_trs" in node else None,
            )
        )
    if not runs:
        raise subject["runs"].error("a subject without runs", expected="at least one run")
    return runs


def _default(name: str, run: YamlNode, top: YamlNode) -> float:
    if name not in run and name not in top:
        raise run.error(f"the key {name} is missing", expected=f"{name} here, or at the top of the file")
    return (run if name in run else top)[name].number()


def _file_and_array(node: YamlNode) -> tuple[Path, str]:
    name, array = split_key(node.text())
    return YamlNode(name, node.key, node.file).path(), array


def _bold(run: _Run) -> tuple[np.ndarray, tuple[str, ...]]:
    """The rows of one run, and the names of their columns."""
    node = run.node["responses"]
    with node.naming():
        bold, columns = read_array(run.path, run.array)
    if bold.ndim != 2:
        raise node.error(f"the array has shape {bold.shape}", expected="(n_trs, n_voxels)")
    last = len(bold) if run.n_trs is None else run.first_tr + run.n_trs
    if not run.first_tr < last <= len(bold):
        raise run.node.error(
            f"rows {run.first_tr} to {last} are asked for but the file has {len(bold)}",
            expected="first_tr and n_trs within the file",
        )
    return bold[run.first_tr : last], columns


def _inputs(runs: Sequence[_Run]) -> Iterator[RunInput]:
    for run in runs:
        bold, _ = _bold(run)
        cut = run.first_tr or run.n_trs is not None
        trim = f"rows {run.first_tr} to {run.first_tr + len(bold)} of {run.path.name}" if cut else ""
        yield RunInput(run.story, run.run, run.repeat, run.split, run.tr_s, run.onset_s, bold, trim)


def _columns(runs: Sequence[_Run]) -> tuple[str, ...]:
    """Column names of a subject's .csv files; empty where there are none."""
    return _bold(runs[0])[1] if runs[0].path.suffix == ".csv" else ()


def _subject(name: str, node: YamlNode, runs: Sequence[_Run]) -> SubjectInput:
    first, columns = _bold(runs[0])
    n_voxels = first.shape[1]
    for run in runs[1:]:
        bold, its_columns = _bold(run)
        if bold.shape[1] != n_voxels or its_columns != columns:
            raise run.node["responses"].error(
                f"{bold.shape[1]} voxels, or other columns than the subject's first run",
                expected=f"{n_voxels} voxels, as in {runs[0].path.name}",
            )
    return SubjectInput(
        subject=name,
        n_voxels=n_voxels,
        runs=_inputs(runs),
        regions=_regions(node["regions"], columns) if "regions" in node else {},
        noise_ceiling=_ceiling(node["noise_ceiling"], n_voxels) if "noise_ceiling" in node else None,
        excluded=_excluded(node["excluded"], n_voxels) if "excluded" in node else {},
    )


def _regions(node: YamlNode, columns: Sequence[str]) -> dict[str, np.ndarray]:
    if isinstance(node.value, str):
        path = node.path()
        with node.naming():
            return read_regions(path)
    return {
        name: np.array([_voxel(voxel, columns) for voxel in voxels.elements()], dtype=np.int64)
        for name, voxels in node.items()
    }


def _voxel(node: YamlNode, columns: Sequence[str]) -> int:
    if not isinstance(node.value, str):
        return node.count()
    if node.value not in columns:
        known = ", ".join(columns) or "no names at all"
        raise node.error(f"no column {node.value!r}", expected=f"one of {known}")
    return columns.index(node.value)


def _ceiling(node: YamlNode, n_voxels: int) -> np.ndarray:
    path, array = _file_and_array(node)
    with node.naming():
        values, _ = read_array(path, array)
    if values.size != n_voxels:
        raise node.error(f"{values.size} values of noise ceiling", expected=f"{n_voxels}, one a voxel")
    return values.reshape(-1)


def _excluded(node: YamlNode, n_voxels: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for voxel, reason in node.pairs():
        if not isinstance(voxel, int) or not 0 <= voxel < n_voxels:
            raise reason.error(f"no voxel {voxel!r}", expected=f"0 to {n_voxels - 1}")
        found[voxel] = reason.text()
    return found


def _notes(top: YamlNode, runs: Sequence[_Run]) -> list[str]:
    notes = [note.text() for note in top["notes"].elements()] if "notes" in top else []
    splits_of: dict[str, set[str]] = {}
    for run in runs:
        splits_of.setdefault(run.story, set()).add(run.split)
    notes += [
        f"story {story} is cut into contiguous pieces of different splits ({', '.join(sorted(splits))}): "
        "haemodynamics, and any context of the features, reach over their borders"
        for story, splits in splits_of.items()
        if len(splits) > 1
    ]
    return notes

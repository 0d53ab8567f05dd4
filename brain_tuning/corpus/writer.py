"""Writes a corpus: checks what it is given, one story and one run at a time, and writes it as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from brain_tuning.atomic import whole_folder
from brain_tuning.corpus import checks, tables
from brain_tuning.corpus.audio import encode_flac
from brain_tuning.corpus.ceiling import schoppe_ceiling
from brain_tuning.corpus.description import readme
from brain_tuning.corpus.ledger import VoxelLedger, examine
from brain_tuning.corpus.schema import (
    FORMAT,
    SAMPLING_RATE_HZ,
    VERSION,
    Interval,
    Run,
    StoryInput,
    SubjectInput,
)
from brain_tuning.corpus.splits import check_leaks, stories_by_split
from brain_tuning.errors import CorpusError, RegionError
from brain_tuning.versions import versions

BOLD_DTYPES = ("float32", "float16")
#: what every command calls all voxels together
_EVERY_VOXEL = "all"


def write_corpus(
    destination: str | Path,
    *,
    name: str,
    source: str,
    licence: str,
    stories: Iterable[StoryInput],
    subjects: Iterable[SubjectInput],
    overwrite: bool = False,
    bold_dtype: str = "float32",
    notes: Sequence[str] = (),
    surrogate_audio: bool = False,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """Write a corpus folder; it appears whole or not at all.

    Args:
        destination: the folder to make.
        name: what the corpus is called.
        source: where the data come from, e.g. ``"OpenNeuro ds003020 v3.1.0"``.
        licence: licence of the data.
        stories: the stories, taken one at a time.
        subjects: the subjects, and their runs, taken one at a time.
        overwrite: replace an existing corpus at ``destination``.
        bold_dtype: ``"float32"``, or ``"float16"`` for half the size and three significant digits.
        notes: remarks for whoever uses the corpus.
        surrogate_audio: the audio is not the recording that the subjects heard.
        extra: further JSON values, e.g. a simulator's seed and truth.

    Returns:
        The destination.

    Raises:
        AudioError: a story's waveform is unusable, or a run's story has no audio.
        CorpusError: stories, runs or subjects are duplicate or inconsistent, a subject has no usable voxel, or the
            destination exists.
        RegionError: a region names a voxel that does not exist, or is called ``all``.
        TimingError: a run or transcript does not fit its story's audio.
        StorageError: the disk is full or the destination cannot be written.
    """
    if bold_dtype not in BOLD_DTYPES:
        raise CorpusError("unknown bold_dtype", where=bold_dtype, expected=" or ".join(BOLD_DTYPES))
    destination = Path(destination)
    with whole_folder(destination, overwrite=overwrite, marker="corpus.json") as folder:
        durations_s, audio = _write_stories(folder, stories)
        all_runs: list[Run] = []
        names: list[str] = []
        for subject in tqdm(subjects, desc="subjects", unit="subject", disable=None):
            checks.check_subject_name(subject.subject, names)
            names.append(subject.subject)
            all_runs += _write_subject(folder, subject, durations_s, bold_dtype)
        check_leaks(all_runs, audio)
        description = {
            "format": FORMAT,
            "version": VERSION,
            "name": name,
            "source": source,
            "licence": licence,
            "sampling_rate_hz": SAMPLING_RATE_HZ,
            "bold_dtype": bold_dtype,
            "subjects": names,
            "splits": stories_by_split(all_runs),
            "versions": versions(),
            "notes": list(notes),
            "surrogate_audio": bool(surrogate_audio),
            "extra": dict(extra or {}),
        }
        text = json.dumps(description, indent=1, ensure_ascii=False)
        (folder / "corpus.json").write_text(text + "\n", encoding="utf-8")
        (folder / "README.md").write_text(readme(description), encoding="utf-8")
    return destination


def _write_stories(folder: Path, stories: Iterable[StoryInput]) -> tuple[dict[str, float], dict[str, bytes]]:
    """Write ``stories``; returns the duration in s, and a digest of the waveform, by story."""
    import pyarrow as pa

    schema = tables.stories_schema()
    durations_s: dict[str, float] = {}
    digests: dict[str, bytes] = {}
    with tables.TableWriter(folder / "stories", schema) as writer:
        for story in tqdm(stories, desc="stories", unit="story", disable=None):
            checks.check_story_name(story.name, durations_s)
            audio = checks.story_audio(story)
            duration_s = len(audio) / SAMPLING_RATE_HZ
            durations_s[story.name] = duration_s
            digests[story.name] = _digest(audio)
            row = {
                "story": story.name,
                "audio": {"bytes": encode_flac(audio), "path": f"{story.name}.flac"},
                "duration_s": duration_s,
                "words": _intervals(story.name, "words", story.words, duration_s),
                "phones": _intervals(story.name, "phones", story.phones, duration_s),
            }
            writer.write({key: pa.array([row[key]], schema.field(key).type) for key in schema.names})
    if not durations_s:
        raise CorpusError("a corpus without stories", where=folder.name, expected="at least one story")
    return durations_s, digests


def _digest(values: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()


def _intervals(story: str, tier: str, intervals: Sequence[Interval], duration_s: float) -> list[dict[str, object]]:
    checks.check_intervals(story, tier, intervals, duration_s)
    return [{"text": i.text, "start_s": float(i.start_s), "end_s": float(i.end_s)} for i in intervals]


def _write_subject(folder: Path, given: SubjectInput, durations_s: Mapping[str, float], bold_dtype: str) -> list[Run]:
    subject = given.subject
    runs = _write_bold(folder, given, durations_s, bold_dtype)
    columns = {name: [getattr(run, name) for run in runs] for name in tables.runs_schema().names}
    tables.write_table(folder / f"runs-{subject}", tables.runs_schema(), columns)

    bold = tables.read_table(folder / f"bold-{subject}")
    responses = [(run, tables.rows_as_matrix(bold, "bold", run.first_row, run.n_trs)) for run in runs]
    ledger = examine(((f"story {run.story} run {run.run}", values) for run, values in responses), given.excluded)
    if not ledger.usable.size:
        raise CorpusError(
            f"no voxel can be used; the first one is {ledger.status[0]} ({ledger.reason[0]})",
            where=f"subject {subject}",
            expected="at least one that is finite and varies in every run",
            remedy="leave out the run that spoils them, or mend its file",
        )
    ceiling = _noise_ceiling(given, responses, ledger)
    tables.write_table(
        folder / f"voxels-{subject}",
        tables.voxels_schema(),
        {"status": list(ledger.status), "reason": list(ledger.reason), "noise_ceiling": ceiling},
    )
    _write_regions(folder, given)
    return runs


def _label(run: Run) -> str:
    return f"story {run.story} run {run.run}" + (f" repeat {run.repeat}" if run.repeat else "")


def _write_bold(folder: Path, given: SubjectInput, durations_s: Mapping[str, float], bold_dtype: str) -> list[Run]:
    runs: list[Run] = []
    written: dict[bytes, Run] = {}
    schema = tables.bold_schema(given.n_voxels, bold_dtype)
    with tables.TableWriter(folder / f"bold-{given.subject}", schema) as writer:
        for one in tqdm(given.runs, desc=f"runs of {given.subject}", unit="run", disable=None, leave=False):
            where = f"subject {given.subject}, story {one.story}, run {one.run}, repeat {one.repeat}"
            bold = checks.stored_responses(one, where, given.n_voxels, bold_dtype)
            run = Run(
                given.subject,
                one.story,
                int(one.run),
                int(one.repeat),
                one.split,
                float(one.tr_s),
                float(one.onset_s),
                len(bold),
                writer.n_rows,
                one.trim,
            )
            checks.check_run(run, runs, durations_s, where)
            checks.check_not_a_copy(run, written.setdefault(_digest(bold), run), where)
            writer.write(tables.bold_batch(schema, run.story, run.run, run.repeat, bold))
            runs.append(run)
    if not runs:
        raise CorpusError("a subject without runs", where=given.subject, expected="at least one run")
    return runs


def _noise_ceiling(given: SubjectInput, responses: Sequence[tuple[Run, np.ndarray]], ledger: VoxelLedger) -> np.ndarray:
    if given.noise_ceiling is not None:
        ceiling = np.asarray(given.noise_ceiling, dtype=np.float32)
        if ceiling.shape != (given.n_voxels,):
            raise CorpusError(
                f"noise ceiling of shape {ceiling.shape}",
                where=f"subject {given.subject}",
                expected=f"({given.n_voxels},)",
            )
        return ceiling
    ceiling = np.full(given.n_voxels, np.nan, np.float32)
    repeated = _most_repeated([(run, values) for run, values in responses if run.split == "test"])
    if len(repeated) >= 2:
        usable = ledger.usable
        for first in range(0, len(usable), 4096):
            voxels = usable[first : first + 4096]
            ceiling[voxels] = schoppe_ceiling(np.stack([values[:, voxels] for values in repeated]))
    return ceiling


def _most_repeated(responses: Sequence[tuple[Run, np.ndarray]]) -> list[np.ndarray]:
    """Responses to the piece with most measured TRs among those heard at least twice."""
    groups: list[list[tuple[Run, np.ndarray]]] = []
    for run, values in responses:
        for group in groups:
            if checks.same_piece(run, group[0][0]):
                group.append((run, values))
                break
        else:
            groups.append([(run, values)])
    repeated = [group for group in groups if len(group) >= 2]
    best = max(repeated, key=lambda group: len(group) * group[0][0].n_trs, default=[])
    return [values for _, values in best]


def _write_regions(folder: Path, given: SubjectInput) -> None:
    unknown = sorted(set(given.region_kinds) - set(given.regions))
    if unknown:
        raise RegionError(f"a kind is given for {unknown[0]}, which is not a region", where=given.subject)
    voxels = []
    for region, indices in given.regions.items():
        if region.lower() == _EVERY_VOXEL:
            raise RegionError(
                f"a region is called {region}, which stands for every voxel",
                where=given.subject,
                remedy="call it otherwise",
            )
        voxels.append(checks.region_voxels(indices, given.n_voxels, f"subject {given.subject}, region {region}"))
    tables.write_table(
        folder / f"regions-{given.subject}",
        tables.regions_schema(),
        {
            "region": list(given.regions),
            "kind": [given.region_kinds.get(region, "") for region in given.regions],
            "voxels": voxels,
        },
    )

"""Opens a corpus, from a folder or from the Hub, and reads stories, audio and responses from it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_tuning.corpus.audio import decode_flac
from brain_tuning.corpus.ledger import VoxelLedger
from brain_tuning.corpus.schema import FORMAT, SAMPLING_RATE_HZ, VERSION, Interval, Run, Story
from brain_tuning.corpus.tables import read_table, rows_as_matrix
from brain_tuning.corpus.writer import write_corpus
from brain_tuning.errors import AudioError, CorpusError, RegionError, TimingError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Corpus", "open_corpus", "write_corpus"]

_KEPT_STORIES = 4
_HOW_TO_MAKE = "make one with `brain-tuning corpus folder`, a reader of brain_tuning.corpus.readers, or write_corpus"


def open_corpus(path_or_repo: str | Path, revision: str | None = None) -> Corpus:
    """Open a corpus.

    Args:
        path_or_repo: a folder, or the id of a data set on the Hub (``"name/dataset"``), which is downloaded
            to the Hub's cache.
        revision: branch, tag or commit on the Hub; None takes the newest.

    Returns:
        The corpus; tables are read when they are needed.

    Raises:
        CorpusError: there is no such folder or data set, it is not a corpus, or of another version.
    """
    folder = Path(path_or_repo).expanduser()
    if folder.exists():
        if revision is not None:
            raise CorpusError("a revision is given for a local folder", where=folder, expected="a Hub data set")
        return Corpus(folder)
    text = str(path_or_repo)
    if isinstance(path_or_repo, Path) or text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise CorpusError("no such corpus", where=path_or_repo, expected="a folder", remedy=_HOW_TO_MAKE)
    return Corpus(_downloaded(text, revision))


def _downloaded(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        # corpus.json first: nobody wants gigabytes of something that is no corpus.
        hf_hub_download(repo_id, "corpus.json", repo_type="dataset", revision=revision)
        return Path(snapshot_download(repo_id, repo_type="dataset", revision=revision))
    except EntryNotFoundError as error:
        raise CorpusError(
            "corpus.json is missing or cannot be reached",
            where=repo_id,
            expected="a corpus on the Hub",
            remedy=_HOW_TO_MAKE,
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CorpusError(
            f"there is neither such a folder nor such a data set: {error}",
            where=repo_id,
            remedy="check the name, the network, and `hf auth login` if the data set is private",
        ) from error


class Corpus:
    """A corpus on disk.

    Responses are memory-mapped: what :meth:`bold` returns may be a read-only view of the file. Objects can
    be sent to worker processes; only the path travels.

    Args:
        path: the corpus folder.

    Raises:
        CorpusError: the folder is not a corpus, or of a version that this package does not read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.meta: dict[str, Any] = _description(self.path)
        self.name: str = self.meta["name"]
        self.subjects: list[str] = list(self.meta["subjects"])
        self.surrogate_audio: bool = bool(self.meta["surrogate_audio"])
        self._tables: dict[str, pa.Table] = {}
        self._heard: OrderedDict[str, np.ndarray] = OrderedDict()

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path]]:
        return Corpus, (self.path,)

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r}, {len(self.story_names())} stories, subjects {self.subjects})"

    def story_names(self) -> list[str]:
        """Names of all stories, in the order in which they are stored."""
        return list(self._story_rows)

    def story(self, name: str) -> Story:
        """A story's duration, words and phones."""
        row = self._story_row(name)
        table = self._table("stories")
        words, phones = (
            tuple(Interval(i["text"], i["start_s"], i["end_s"]) for i in table[tier][row].as_py())
            for tier in ("words", "phones")
        )
        return Story(name, table["duration_s"][row].as_py(), words, phones)

    def n_samples(self, name: str) -> int:
        """Length of a story's audio in samples of 1/16,000 s."""
        return round(self._table("stories")["duration_s"][self._story_row(name)].as_py() * SAMPLING_RATE_HZ)

    def audio(self, name: str) -> np.ndarray:
        """A story's waveform, float32 of shape (n_samples,); the last few stories are kept in memory."""
        if name not in self._heard:
            self._heard[name] = self._decoded(name)
            while len(self._heard) > _KEPT_STORIES:
                self._heard.popitem(last=False)
        self._heard.move_to_end(name)
        return self._heard[name]

    def audio_slice(self, name: str, start_s: float, stop_s: float) -> np.ndarray:
        """Part of a story's waveform.

        Args:
            name: the story.
            start_s: start in s, rounded to the nearest sample.
            stop_s: end in s, rounded to the nearest sample.

        Returns:
            float32 of shape (round(stop_s * 16000) - round(start_s * 16000),).

        Raises:
            TimingError: the part does not lie within the story.
        """
        n_samples = self.n_samples(name)
        start, stop = round(start_s * SAMPLING_RATE_HZ), round(stop_s * SAMPLING_RATE_HZ)
        if not 0 <= start <= stop <= n_samples:
            raise TimingError(
                f"audio from {start_s} to {stop_s} s asked for",
                where=f"story {name}",
                expected=f"a part of 0 to {n_samples / SAMPLING_RATE_HZ} s",
            )
        if name in self._heard:
            return self._heard[name][start:stop]
        return self._decoded(name, start, stop)

    def _decoded(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples of a story's audio; an error names corpus and story."""
        try:
            return decode_flac(self._flac(name), start, stop)
        except AudioError as error:
            where = f"{self.path}, story {name}"
            raise AudioError(error.what, where=where, expected=error.expected, remedy=error.remedy) from error

    def runs(self, subject: str, split: str | None = None) -> list[Run]:
        """Runs of a subject in stored order, of one split or of all."""
        rows = self._subject_table("runs", subject).to_pylist()
        return [Run(subject=subject, **row) for row in rows if split in (None, row["split"])]

    def bold(self, run: Run, voxels: np.ndarray | slice | None = None, *, rows: slice = slice(None)) -> np.ndarray:
        """Responses of a run.

        Args:
            run: one of :meth:`runs`.
            voxels: indices of the voxels wanted, in the order wanted, or a slice of them; None takes all.
            rows: TRs of the run that are wanted, one after another; nothing else is read.

        Returns:
            float32 of shape (n_rows, n_voxels). Without indices, and stored as float32, a read-only view.

        Raises:
            RegionError: a voxel does not exist.
        """
        table = self._subject_table("bold", run.subject)
        begin, end, _ = rows.indices(run.n_trs)
        values = rows_as_matrix(table, "bold", run.first_row + begin, max(0, end - begin))
        if isinstance(voxels, slice):
            values = values[:, voxels]
        elif voxels is not None:
            voxels = np.asarray(voxels)
            if voxels.size and (voxels.dtype.kind not in "iu" or voxels.min() < 0 or voxels.max() >= values.shape[1]):
                raise RegionError(
                    "a voxel asked for does not exist",
                    where=f"subject {run.subject}",
                    expected=f"indices from 0 to {values.shape[1] - 1}",
                )
            values = np.take(values, voxels.astype(np.int64), axis=1)
        return values.astype(np.float32, copy=False)

    def n_voxels(self, subject: str) -> int:
        """Number of voxels of a subject."""
        return self._subject_table("voxels", subject).num_rows

    def regions(self, subject: str) -> dict[str, np.ndarray]:
        """Ascending voxel indices, int64, by name of the region."""
        table = self._subject_table("regions", subject)
        voxels = (value.values.to_numpy().astype(np.int64) for value in table["voxels"])
        return dict(zip(table["region"].to_pylist(), voxels, strict=True))

    def region(self, subject: str, name: str) -> np.ndarray:
        """Ascending voxel indices of one region; raises RegionError listing the regions that exist."""
        regions = self.regions(subject)
        if name not in regions:
            raise RegionError(
                f"no region {name!r}",
                where=f"subject {subject}",
                expected=_one_of(regions, "no region is stored"),
            )
        return regions[name]

    def region_kinds(self, subject: str) -> dict[str, str]:
        """Kind of each region, e.g. ``"anatomical"``; empty where none was given."""
        table = self._subject_table("regions", subject)
        return dict(zip(table["region"].to_pylist(), table["kind"].to_pylist(), strict=True))

    def ledger(self, subject: str) -> VoxelLedger:
        """Which of the subject's voxels can be used, and why not."""
        table = self._subject_table("voxels", subject)
        return VoxelLedger(np.array(table["status"].to_pylist()), np.array(table["reason"].to_pylist()))

    def noise_ceiling(self, subject: str) -> np.ndarray:
        """Greatest reachable correlation, float32 of shape (n_voxels,), NaN where it is not known."""
        return self._subject_table("voxels", subject)["noise_ceiling"].to_numpy()

    def summary(self) -> dict[str, Any]:
        """What the corpus holds, as plain values for printing and JSON."""
        durations_s = self._table("stories")["duration_s"].to_numpy()
        return {
            "name": self.name,
            "path": str(self.path),
            "source": self.meta["source"],
            "licence": self.meta["licence"],
            "surrogate_audio": self.surrogate_audio,
            "n_stories": len(durations_s),
            "audio_hours": round(float(durations_s.sum()) / 3600, 3),
            "splits": self.meta["splits"],
            "notes": self.meta["notes"],
            "subjects": {subject: self._subject_summary(subject) for subject in self.subjects},
        }

    def _subject_summary(self, subject: str) -> dict[str, Any]:
        runs = self.runs(subject)
        n_rows = self._subject_table("bold", subject).num_rows
        if n_rows != sum(run.n_trs for run in runs):
            raise CorpusError(
                f"there are responses of {n_rows:,} TRs",
                where=f"{self.path}, subject {subject}",
                expected=f"{sum(run.n_trs for run in runs):,}, as the runs say",
                remedy="copy or download the corpus again",
            )
        hours = dict.fromkeys(self.meta["splits"], 0.0)
        for run in runs:
            hours[run.split] += run.n_trs * run.tr_s / 3600
        ceiling = self.noise_ceiling(subject)
        known = ceiling[np.isfinite(ceiling)]
        quantiles = np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95]) if known.size else []
        return {
            "n_runs": len(runs),
            "n_trs": sum(run.n_trs for run in runs),
            "n_voxels": self.n_voxels(subject),
            "tr_s": sorted({run.tr_s for run in runs}),
            "hours": {split: round(value, 3) for split, value in hours.items()},
            "least_covered": self._least_covered(runs),
            "voxels": self.ledger(subject).counts(),
            "regions": {name: len(voxels) for name, voxels in self.regions(subject).items()},
            "n_noise_ceiling": int(known.size),
            "noise_ceiling_quantiles": dict(
                zip(("q05", "q25", "q50", "q75", "q95"), (round(float(q), 3) for q in quantiles), strict=False)
            ),
        }

    def _least_covered(self, runs: Sequence[Run]) -> dict[str, Any]:
        """The story of whose audio the smallest share has responses, and how far responses reach beyond any audio.

        A wrong TR, or the wrong audio, shows here.
        """
        spans: dict[str, tuple[float, float]] = {}
        for run in runs:
            start, stop = spans.get(run.story, (run.onset_s, run.end_s))
            spans[run.story] = (min(start, run.onset_s), max(stop, run.end_s))
        durations_s = {name: self.n_samples(name) / SAMPLING_RATE_HZ for name in spans}
        covered_s = {name: min(stop, durations_s[name]) - max(start, 0.0) for name, (start, stop) in spans.items()}
        story = min(spans, key=lambda name: covered_s[name] / durations_s[name])
        return {
            "story": story,
            "responses_s": round(max(0.0, covered_s[story]), 1),
            "audio_s": round(durations_s[story], 1),
            "beyond_s": round(max(max(-start, stop - durations_s[name]) for name, (start, stop) in spans.items()), 1),
        }

    def _table(self, name: str) -> pa.Table:
        if name not in self._tables:
            self._tables[name] = read_table(self.path / name)
        return self._tables[name]

    def _subject_table(self, kind: str, subject: str) -> pa.Table:
        if subject not in self.subjects:
            raise CorpusError(f"no subject {subject!r}", where=self.path, expected=_one_of(self.subjects))
        return self._table(f"{kind}-{subject}")

    @cached_property
    def _story_rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._table("stories")["story"].to_pylist())}

    def _story_row(self, name: str) -> int:
        if name not in self._story_rows:
            raise CorpusError(f"no story {name!r}", where=self.path, expected=_one_of(self._story_rows))
        return self._story_rows[name]

    def _flac(self, name: str) -> bytes:
        return self._table("stories")["audio"][self._story_row(name)]["bytes"].as_py()


def _description(path: Path) -> dict[str, Any]:
    file = path / "corpus.json"
    if not file.is_file():
        raise CorpusError("this is not a corpus: corpus.json is missing", where=path, remedy=_HOW_TO_MAKE)
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"corpus.json is damaged: {error}", where=file, remedy="write the corpus again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CorpusError("this is not a corpus", where=file, expected=f'"format": "{FORMAT}"', remedy=_HOW_TO_MAKE)
    if meta.get("version") != VERSION:
        raise CorpusError(
            f"the corpus is of version {meta.get('version')!r}",
            where=file,
            expected=f"version {VERSION}",
            remedy="update brain-tuning, or write the corpus again",
        )
    missing = {"name", "subjects", "splits", "source", "licence", "surrogate_audio", "notes"} - set(meta)
    if missing:
        raise CorpusError(
            f"corpus.json lacks {', '.join(sorted(missing))}", where=file, remedy="write the corpus again"
        )
    return meta


def _one_of(names: Iterable[str], none: str = "none exists") -> str:
    found = list(names)
    return f"one of {', '.join(found)}" if found else none

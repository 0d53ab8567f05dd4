"""Write a simulation in the layout of OpenNeuro ds003020 (LeBel et al. 2023), in its true file formats.

It exists so that the reader of that data set is exercised on real WAV, TextGrid, JSON and HDF5 files, and its
result can be compared with the corpus that the simulator writes itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brain_tuning.atomic import check_destination, whole_folder
from brain_tuning.corpus.schema import SAMPLING_RATE_HZ, Interval, StoryInput
from brain_tuning.errors import require_package
from brain_tuning.terminal import interrupts_held

from .simulate import Simulation, World

#: simulator's names -> the names that ds003020 gives its held-out stories
HELD_OUT = {"test": "wheretheressmoke", "validation": "fromboyhoodtofatherhood"}
#: raw TRs that the stored responses leave out: 10 before, 5 + 5 after
N_TRIMMED_TRS = 20


def write_tree(destination: str | Path, settings: Simulation | None = None, *, overwrite: bool = False) -> Path:
    """Write ``stimuli/``, ``derivative/TextGrids``, ``derivative/respdict.json`` and ``derivative/preprocessed_data``.

    Args:
        destination: folder to create.
        settings: of the simulation; None is the demo's.
        overwrite: replace a tree written before.

    Returns:
        The folder.

    Raises:
        CorpusError: the folder exists.
        MissingExtraError: h5py or espeakng-loader is not installed.
        StorageError: the disk is full.
    """
    require_package("h5py")
    destination = check_destination(Path(destination), overwrite=overwrite, marker="dataset_description.json")
    world = World(settings or Simulation())
    with whole_folder(destination, overwrite=overwrite, marker="dataset_description.json") as folder:
        derivative = folder / "derivative"
        for place in (folder / "stimuli", derivative / "TextGrids", derivative / "preprocessed_data"):
            place.mkdir(parents=True)
        described = {"Name": f"simulated ds003020 layout, seed {world.settings.seed}", "BIDSVersion": "1.0.2"}
        (folder / "dataset_description.json").write_text(json.dumps(described, indent=2))
        raw_trs = {}
        for story in world.stories:
            name = HELD_OUT.get(story.name, story.name)
            (folder / "stimuli" / f"{name}.wav").write_bytes(_wav(story.audio))
            (derivative / "TextGrids" / f"{name}.TextGrid").write_text(textgrid(story))
            raw_trs[name] = len(world.tr_times_s(story)) + N_TRIMMED_TRS
        (derivative / "respdict.json").write_text(json.dumps(raw_trs))
        for subject in world.subjects:
            _write_responses(world, subject, derivative / "preprocessed_data" / subject.name)
    return destination


def _wav(audio: np.ndarray) -> bytes:
    """A 16-bit WAV file, in memory: libsndfile cannot say that a disk is full."""
    import soundfile

    # Rounded as the corpus' own writer rounds, so that both ways give the same samples.
    pcm = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    with interrupts_held():
        soundfile.write(buffer, pcm, SAMPLING_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _write_responses(world: World, subject: object, folder: Path) -> None:
    import h5py

    folder.mkdir()
    repeats: dict[str, list[np.ndarray]] = {}
    for heard in world.listenings(subject):  # type: ignore[arg-type]
        repeats.setdefault(HELD_OUT.get(heard.story, heard.story), []).append(heard.bold)
    for name, listened in repeats.items():
        with h5py.File(folder / f"{name}.hf5", "w") as file:
            file["data"] = np.mean(listened, axis=0)
            if name == HELD_OUT["test"]:
                file["individual_repeats"] = np.stack(listened)


def textgrid(story: StoryInput) -> str:
    """A story's phones and words as a long-format Praat TextGrid."""
    end_s = len(story.audio) / SAMPLING_RATE_HZ
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s}"]
    lines += ["tiers? <exists>", "size = 2", "item []:"]
    for number, (name, intervals) in enumerate((("phone", story.phones), ("word", story.words)), 1):
        filled = _without_gaps(intervals, end_s)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end_s}", f"        intervals: size = {len(filled)}"]
        for k, interval in enumerate(filled, 1):
            text = interval.text.replace('"', '""')
            lines += [f"        intervals [{k}]:", f"            xmin = {interval.start_s!r}"]
            lines += [f"            xmax = {interval.end_s!r}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def _without_gaps(intervals: Sequence[Interval], end_s: float) -> list[Interval]:
    """The intervals of a tier with silences in between: a TextGrid's tier has no holes."""
    filled: list[Interval] = []
    reached = 0.0
    for interval in intervals:
        if interval.start_s > reached:
            filled.append(Interval("sp", reached, interval.start_s))
        filled.append(interval)
        reached = interval.end_s
    if reached < end_s:
        filled.append(Interval("sp", reached, end_s))
    return filled

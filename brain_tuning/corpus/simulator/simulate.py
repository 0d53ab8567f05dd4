"""A whole simulated data set: stories, subjects, listenings, and the truth behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brain_tuning.atomic import check_destination
from brain_tuning.corpus.schema import RunInput, StoryInput, SubjectInput
from brain_tuning.errors import CorpusError

from . import cortex
from .drivers import driver_groups
from .flat_map import flat_map
from .speech import SAMPLING_RATE_HZ
from .stories import make_story

#: Timing of ds003020: repetition time, first stored TR, and the sound's start after the first trigger.
TR_S = 2.0045
FIRST_STORED_TR = 10
SOUND_ONSET_S = 10.02
ONSET_S = FIRST_STORED_TR * TR_S - SOUND_ONSET_S


@dataclass(frozen=True)
class Simulation:
    """Settings of a simulated data set.

    Args:
        n_subjects: how many people listen.
        n_train_stories: stories heard once and used for training.
        story_s: length of a training or validation story, seconds.
        test_story_s: length of the test story, seconds.
        n_repeats: how often the test story is heard.
        seed: of everything.
    """

    n_subjects: int = 2
    n_train_stories: int = 12
    story_s: float = 180.0
    test_story_s: float = 480.0
    n_repeats: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_subjects < 1 or self.n_train_stories < 2 or self.n_repeats < 1:
            raise CorpusError(
                "the simulation is too small",
                where=f"{self.n_subjects} subjects, {self.n_train_stories} training stories, {self.n_repeats} repeats",
                expected="at least 1 subject, 2 training stories and 1 repeat",
            )
        lengths_s = (self.story_s, self.test_story_s)
        if not all(40 <= length_s <= 36_000 for length_s in lengths_s):
            raise CorpusError(
                "the stories are too short or too long",
                where=f"{self.story_s} s, {self.test_story_s} s",
                expected="40 s to 10 hours",
            )
        if self.seed < 0:
            raise CorpusError(f"the seed is {self.seed}", expected="0 or more")


@dataclass(frozen=True)
class Listening:
    """One run of one subject before it is stored: what was heard, how often before, and the BOLD."""

    story: str
    repeat: int
    split: str
    bold: np.ndarray


class World:
    """The stories, drivers and subjects of one simulation, made once."""

    def __init__(self, settings: Simulation) -> None:
        self.settings = settings
        names = [f"story{k:02d}" for k in range(settings.n_train_stories)] + ["validation", "test"]
        lengths = [settings.story_s] * (settings.n_train_stories + 1) + [settings.test_story_s]
        self.stories: list[StoryInput] = [
            make_story(name, seed=settings.seed, index=k, duration_s=length)
            for k, (name, length) in enumerate(zip(names, lengths, strict=True))
        ]
        self.splits = ["train"] * settings.n_train_stories + ["validation", "test"]
        self.drivers = [driver_groups(story, self.tr_times_s(story)) for story in self.stories]
        self.scales = cortex.scale_of_drivers(self.drivers)
        widths = {group: course.shape[1] for group, course in self.drivers[0].items()}
        self.subjects = [
            cortex.make_subject(f"s{k + 1}", seed=settings.seed, index=k, widths=widths)
            for k in range(settings.n_subjects)
        ]

    @staticmethod
    def tr_times_s(story: StoryInput) -> np.ndarray:
        """Middle of each stored TR, seconds from the story's start."""
        n_trs = int((len(story.audio) / SAMPLING_RATE_HZ - ONSET_S) / TR_S)
        return ONSET_S + (np.arange(n_trs) + 0.5) * TR_S

    def signals(self, subject: cortex.Subject) -> list[np.ndarray]:
        """Noise-free responses of one subject, one (n_trs, n_voxels) a story."""
        gains = cortex.signal_gains(subject, self.drivers, self.scales)
        return [cortex.clean_signal(subject, story, self.scales, gains) for story in self.drivers]

    def listenings(self, subject: cortex.Subject) -> Iterator[Listening]:
        """All runs of one subject, one at a time."""
        rng = np.random.default_rng([self.settings.seed, 4, self.subjects.index(subject)])
        for k, signal in enumerate(self.signals(subject)):
            n_times = self.settings.n_repeats if self.splits[k] == "test" else 1
            for repeat in range(n_times):
                yield Listening(self.stories[k].name, repeat, self.splits[k], cortex.listen(subject, signal, rng))

    def truth(self) -> dict[str, Any]:
        """What a perfect analysis would find, as plain values."""
        ceilings = {
            subject.name: {
                region: float(subject.ceiling(self.settings.n_repeats)[voxels].mean())
                for region, voxels in subject.regions().items()
            }
            for subject in self.subjects
        }
        flat_maps = {
            subject.name: {
                "positions": np.round(flat_map(subject.region_of, subject.hemisphere_of), 3).tolist(),
                "region": subject.region_of.tolist(),
                "hemisphere": subject.hemisphere_of.tolist(),
            }
            for subject in self.subjects
        }
        return {"settings": asdict(self.settings), "mean_ceiling_by_region": ceilings, "flat_maps": flat_maps}


def simulate(destination: str | Path, settings: Simulation | None = None, *, overwrite: bool = False) -> Path:
    """Write a simulated corpus.

    Args:
        destination: folder to create.
        settings: of the simulation; None is the demo's.
        overwrite: replace an existing folder.

    Returns:
        The folder.

    Raises:
        CorpusError: settings out of range, or the folder exists.
        MissingExtraError: ``espeakng-loader`` is not installed.
        StorageError: the disk is full.
    """
    from brain_tuning.corpus.writer import write_corpus

    settings = settings or Simulation()
    check_destination(Path(destination), overwrite=overwrite, marker="corpus.json")
    world = World(settings)

    def runs(subject: cortex.Subject) -> Iterator[RunInput]:
        for run in world.listenings(subject):
            trim = f"responses begin {ONSET_S:.3f} s into the story"
            yield RunInput(run.story, 0, run.repeat, run.split, TR_S, ONSET_S, run.bold, trim)

    return write_corpus(
        Path(destination),
        name=f"simulated-seed{settings.seed}",
        source="brain_tuning simulator",
        licence="CC0-1.0",
        stories=world.stories,
        subjects=(
            SubjectInput(s.name, s.n_voxels, runs(s), regions=s.regions(), region_kinds=s.region_kinds())
            for s in world.subjects
        ),
        overwrite=overwrite,
        notes=("Everything here is simulated: synthesised speech and synthetic BOLD.",),
        surrogate_audio=True,
        extra={"simulation": world.truth()},
    )

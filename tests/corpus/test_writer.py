from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from corpus_builders import N_VOXELS, run_input, story_audio, story_input, subject_input

from brain_tuning.corpus import Interval, StoryInput, open_corpus
from brain_tuning.errors import (
    AudioError,
    BrainTuningError,
    CorpusError,
    RegionError,
    StorageError,
    TimingError,
)

Make = Callable[..., Path]
RNG = np.random.default_rng(0)


def _subjects(*runs: Any, **changes: Any) -> dict[str, Any]:
    return {"subjects": [subject_input(*runs, **changes)]}


def _stories(*stories: StoryInput) -> dict[str, Any]:
    return {"stories": [story_input("wood"), *stories]}


WRONG: dict[str, tuple[dict[str, Any], type[BrainTuningError], str]] = {
    "story twice": (_stories(story_input("wood")), CorpusError, r"a story is given twice \[wood\]"),
    "no stories": ({"stories": []}, CorpusError, "a corpus without stories"),
    "slash in name": (_stories(story_input("a/b")), CorpusError, "holds a slash.*'a/b'"),
    "stereo": (
        _stories(StoryInput("x", np.zeros((10, 2), np.float32))),
        AudioError,
        r"audio of shape \(10, 2\).*story x.*16 kHz mono",
    ),
    "int16 audio": (
        _stories(StoryInput("x", np.zeros(10, np.int16))),
        AudioError,
        "type int16.*floating point",
    ),
    "NaN audio": (_stories(StoryInput("x", np.array([np.nan]))), AudioError, "NaN or infinite.*story x"),
    "word backwards": (
        _stories(StoryInput("x", story_audio(0), [Interval("w", 2.0, 1.0)])),
        TimingError,
        r"words\[0\] 'w' runs from 2.0 to 1.0 s \[story x\]",
    ),
    "wrong transcript": (
        _stories(StoryInput("x", story_audio(0), [Interval("w", 99.0, 100.0)])),
        TimingError,
        "words reach to 100.0 s but the audio lasts 40.0 s",
    ),
    "no audio": (
        _subjects(run_input("wodo")),
        AudioError,
        r"no audio \[subject s1, story wodo, run 0, repeat 0\].*nearest is wood.*add wodo\.wav",
    ),
    "voxels differ": (
        _subjects(run_input(), run_input("wind", bold=RNG.random((20, 5)))),
        CorpusError,
        "a run has 5 voxels.*story wind.*expected 7",
    ),
    "not 2-D": (_subjects(run_input(bold=RNG.random(20))), CorpusError, r"responses of shape \(20,\)"),
    "text": (_subjects(run_input(bold=np.array([["a"] * 7]))), CorpusError, "type <U1.*real numbers"),
    "no TRs": (_subjects(run_input(bold=np.zeros((0, 7)))), CorpusError, "a run without TRs"),
    "no runs": ({"subjects": [subject_input(runs=[])]}, CorpusError, r"a subject without runs \[s1\]"),
    "beyond audio": (
        _subjects(run_input(bold=RNG.random((50, 7)))),
        TimingError,
        r"span -1.0 to 99.0 s \(50 TRs of 2.0 s\) but the audio lasts 40.0 s.*check tr_s, onset_s",
    ),
    "before audio": (_subjects(run_input(onset_s=-31.0)), TimingError, "span -31.0 to 9.0 s"),
    "zero TR": (_subjects(run_input(tr_s=0.0)), TimingError, "tr_s is 0.0"),
    "unknown split": (
        _subjects(run_input(split="dev")),
        CorpusError,
        "unknown split 'dev'.*train, validation, test",
    ),
    "run twice": (
        _subjects(run_input(), run_input()),
        CorpusError,
        "a run is given twice.*story wood, run 0",
    ),
    "repeats differ": (
        _subjects(run_input(), run_input(repeat=1, bold=RNG.random((19, 7)))),
        CorpusError,
        "repeats of one story differ in length: 19 TRs.*expected 20 TRs as in repeat 0",
    ),
    "subject twice": (
        {"subjects": [subject_input(), subject_input()]},
        CorpusError,
        r"a subject is given twice \[s1\]",
    ),
    "subject's name": (_subjects(subject="../s1"), CorpusError, r"cannot name a table \['\.\./s1'\]"),
    "region": (
        _subjects(regions={"A1": np.array([0, 7, 9])}),
        RegionError,
        r"2 voxel\(s\) do not exist, first 7 \[subject s1, region A1\]; expected 0 to 6",
    ),
    "region mask": (
        _subjects(regions={"A1": np.zeros(7, bool)}),
        RegionError,
        "type bool.*a list of indices",
    ),
    "kind": (_subjects(region_kinds={"A1": "truth"}), RegionError, "A1, which is not a region"),
    "ceiling": (_subjects(noise_ceiling=np.ones(3)), CorpusError, r"noise ceiling of shape \(3,\).*\(7,\)"),
    "excluded": (_subjects(excluded={7: "no"}), CorpusError, "an excluded voxel does not exist"),
    "leak": (
        {
            "subjects": [
                subject_input(run_input(split="test")),
                subject_input(run_input(split="train"), subject="s2"),
            ]
        },
        CorpusError,
        r"-1.0 to 39.0 s of the story are in test \(subject s1\) and in train \(subject s2\) \[wood\]",
    ),
    "float16": (
        {**_subjects(run_input(bold=np.full((20, 7), 1e5))), "bold_dtype": "float16"},
        CorpusError,
        r"140 value\(s\) are too large for float16.*write float32",
    ),
    "dtype": ({"bold_dtype": "int8"}, CorpusError, "unknown bold_dtype.*float32 or float16"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named_and_leaves_nothing(make: Make, tmp_path: Path, case: str) -> None:
    changes, kind, text = WRONG[case]
    with pytest.raises(kind, match=text):
        make(**changes)
    assert list(tmp_path.iterdir()) == []


def _interrupted(error: BaseException) -> Iterator[StoryInput]:
    yield story_input("wood")
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), SystemExit(1)], ids=repr)
def test_an_interrupted_write_leaves_nothing(make: Make, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        make(stories=_interrupted(error))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_corpus(make: Make, tmp_path: Path) -> None:
    path = make()
    with pytest.raises(KeyboardInterrupt):
        make(stories=_interrupted(KeyboardInterrupt()), overwrite=True)
    assert list(tmp_path.iterdir()) == [path]
    assert open_corpus(path).story_names() == ["wood", "wind"]


def test_a_full_disk_is_told_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"no room left \([\d,]+ bytes free\) \[.*small\].*nothing half-written"):
        make(stories=_interrupted(full))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_grow_is_told_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    """A real failing write: for its duration the system allows files of 200 kB only."""
    resource = pytest.importorskip("resource")
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StorageError, match="there is no room left"):
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_destination_is_told(make: Make, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(StorageError, match=r"cannot be written.*Permission denied.*name a folder"):
        make(locked / "corpus")


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_destination(make: Make, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match=r"story.wav"):
        make(stories=_interrupted(PermissionError(errno.EACCES, "Permission denied", "elsewhere/story.wav")))


def test_a_subject_without_a_usable_voxel_is_refused_with_the_reason(make: Make, tmp_path: Path) -> None:
    """One run that is all NaN rules out every voxel."""
    lost = np.full((20, N_VOXELS), np.nan, np.float32)
    subject = subject_input(run_input("wood"), run_input("wind", bold=lost))
    with pytest.raises(
        CorpusError, match=r"no voxel can be used; the first one is nan \(.*wind.*\) \[subject s1\]"
    ) as caught:
        make(subjects=[subject])
    assert "at least one that is finite" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_repeat_that_is_a_copy_of_another_is_refused(make: Make, tmp_path: Path) -> None:
    """Two equal listenings would have a ceiling of 1."""
    once = run_input("wood", split="test")
    with pytest.raises(CorpusError, match=r"to the last bit, those of run 0, repeat 0 \[subject s1.*repeat 1\]"):
        make(subjects=[subject_input(once, run_input("wood", split="test", repeat=1))])
    assert list(tmp_path.iterdir()) == []
    make(subjects=[subject_input(once, run_input("wood", split="test", repeat=1, bold=once.bold + 1))])


def test_the_story_with_least_responses_is_named(make: Make) -> None:
    """TRs of a tenth of what they should be pass every other check."""
    short = run_input("wind", tr_s=0.2)
    summary = open_corpus(make(subjects=[subject_input(run_input("wood"), short)])).summary()
    assert summary["subjects"]["s1"]["least_covered"] == {
        "story": "wind",
        "responses_s": 3.0,
        "audio_s": 40.0,
        "beyond_s": 1.0,
    }


@pytest.mark.parametrize("name", ["all", "ALL"])
def test_a_region_may_not_be_called_what_stands_for_every_voxel(make: Make, name: str) -> None:
    with pytest.raises(RegionError, match=rf"a region is called {name}, which stands for every voxel \[s1\]"):
        make(subjects=[subject_input(regions={name: np.array([0, 1])})])


def test_an_existing_destination(make: Make, tmp_path: Path) -> None:
    path = make()
    with pytest.raises(CorpusError, match=r"the destination exists \[.*small\]; remedy: pass --overwrite"):
        make()
    make(stories=[story_input("wood")], overwrite=True)
    assert open_corpus(path).story_names() == ["wood"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_corpus_is_never_replaced(make: Make, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(CorpusError, match=r"exists and holds no corpus\.json, so it is not replaced"):
        make(home, overwrite=True)
    assert (home / "thesis.txt").read_text() == "years of work"


def test_only_one_run_is_in_memory_at_a_time(make: Make) -> None:
    import weakref

    alive: list[weakref.ref[np.ndarray]] = []

    def runs() -> Iterator[Any]:
        for index in range(4):
            bold = RNG.random((18, N_VOXELS)).astype(np.float32)
            alive.append(weakref.ref(bold))
            assert sum(ref() is not None for ref in alive) <= 2
            yield run_input("wind", run=index, onset_s=float(index), bold=bold)

    make(subjects=[subject_input(runs=runs())])


def test_the_ceiling_comes_from_the_repeats(make: Make) -> None:
    """A voxel without signal has none; the others have that of their signal-to-noise ratio."""
    rng = np.random.default_rng(5)
    n_repeats, n_trs = 10, 400
    signal = rng.standard_normal((n_trs, N_VOXELS)) * np.array([0, 0.5, 1, 1, 1, 1, 2])
    runs = [
        run_input("long", split="test", repeat=r, tr_s=0.1, bold=signal + rng.standard_normal(signal.shape))
        for r in range(n_repeats)
    ]
    corpus = open_corpus(make(stories=[story_input("long")], subjects=[subject_input(*runs)]))
    ceiling = corpus.noise_ceiling("s1")
    power = np.array([0.25, 1, 1, 1, 1, 4])
    np.testing.assert_allclose(ceiling[1:], np.sqrt(1 / (1 + 1 / (n_repeats * power))), atol=0.05)
    assert np.isnan(ceiling[0]) or ceiling[0] < 0.5


def test_one_listening_gives_no_ceiling(make: Make) -> None:
    corpus = open_corpus(make(subjects=[subject_input(run_input(split="test"))]))
    assert np.isnan(corpus.noise_ceiling("s1")).all()


def test_the_card_names_tables_licence_and_surrogate_audio(make: Make) -> None:
    """user-pains 32: what may be shared of a subject is said where it is published."""
    text = (make(surrogate_audio=True) / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "cc-by-4.0"
    assert [config["config_name"] for config in card["configs"]] == [
        *("stories", "runs-s1", "bold-s1", "voxels-s1", "regions-s1")
    ]
    assert "NOT what the subjects heard" in body
    assert "Do not try to identify anyone" in body


def test_the_versions_travel_with_the_corpus(make: Make) -> None:
    """user-pains 5: results cannot be reproduced when versions, splits and trims are not known."""
    import datasets

    meta = open_corpus(make()).meta
    assert meta["versions"]["datasets"] == datasets.__version__
    assert meta["splits"]["train"] == ["wood"]

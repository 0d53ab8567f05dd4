"""A whole simulated data set: the same for a seed, with its truth, in both layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.readers.lebel2023 import read_lebel2023
from brain_tuning.corpus.simulator.ds003020 import HELD_OUT, N_TRIMMED_TRS, textgrid, write_tree
from brain_tuning.corpus.simulator.simulate import ONSET_S, TR_S, Simulation, World, simulate
from brain_tuning.errors import CorpusError

SMALL = Simulation(n_subjects=2, n_train_stories=2, story_s=40, test_story_s=45, n_repeats=3, seed=5)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(simulate(tmp_path_factory.mktemp("simulated") / "corpus", SMALL))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py")
    return write_tree(tmp_path_factory.mktemp("tree") / "ds003020", SMALL)


@pytest.mark.parametrize("write", [simulate, write_tree])
def test_an_existing_folder_is_noticed_before_anything_is_simulated(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulated(*_: object) -> None:
        raise AssertionError("speech was synthesised for nothing")

    monkeypatch.setattr(World, "__init__", simulated)
    (tmp_path / "mine.txt").write_text("years of work")
    with pytest.raises(CorpusError, match="the destination exists"):
        write(tmp_path, SMALL)


def test_a_seed_is_one_world(direct: Corpus) -> None:
    """Audio and BOLD of two fresh worlds, and of the corpus, are equal to the last bit; another seed differs."""
    one, two = World(SMALL), World(SMALL)
    for ours, theirs in zip(one.stories, two.stories, strict=True):
        assert ours.audio.tobytes() == theirs.audio.tobytes()
        assert list(ours.words) == list(theirs.words)
        assert list(ours.phones) == list(theirs.phones)
    for subject, again in zip(one.subjects, two.subjects, strict=True):
        runs = direct.runs(subject.name)
        heard = list(one.listenings(subject))
        assert len(runs) == len(heard) == 2 + 1 + 3
        for run, ours, theirs in zip(runs, heard, two.listenings(again), strict=True):
            assert ours.bold.tobytes() == theirs.bold.tobytes()
            assert (run.story, run.repeat, run.split) == (ours.story, ours.repeat, ours.split)
            np.testing.assert_array_equal(direct.bold(run), ours.bold.astype(np.float32))
    other = World(Simulation(**{**vars(SMALL), "seed": 6}))
    assert other.stories[0].audio.tobytes() != one.stories[0].audio.tobytes()


def test_repeats_differ_and_subjects_differ(direct: Corpus) -> None:
    first, second, _ = (direct.bold(run) for run in direct.runs("s1", "test"))
    sound = direct.ledger("s1").usable
    assert not np.isclose(first[:, sound], second[:, sound]).all(0).any()
    assert not np.array_equal(first[:, 0], direct.bold(direct.runs("s2", "test")[0])[:, 0])


def test_defective_voxels_are_in_the_ledger(direct: Corpus) -> None:
    """User-pains 2 and 3: NaN and constant voxels are named, counted, and the rest goes on."""
    for subject in World(SMALL).subjects:
        ledger = direct.ledger(subject.name)
        np.testing.assert_array_equal(np.flatnonzero(ledger.status == "nan"), subject.nan_voxels)
        np.testing.assert_array_equal(np.flatnonzero(ledger.status == "constant"), subject.constant_voxels)
        assert ledger.counts() == {"ok": subject.n_voxels - 5, "nan": 3, "constant": 2, "excluded": 0}
        for voxel in subject.nan_voxels:
            assert "not finite in story story00" in str(ledger.reason[voxel])


def test_the_corpus_says_that_it_is_simulated_and_holds_the_truth(direct: Corpus) -> None:
    assert direct.surrogate_audio
    assert "simulated" in direct.meta["notes"][0]
    truth = direct.meta["extra"]["simulation"]
    subject = World(SMALL).subjects[1]
    for region, voxels in direct.regions("s2").items():
        expected = subject.ceiling(SMALL.n_repeats)[voxels].mean()
        assert truth["mean_ceiling_by_region"]["s2"][region] == pytest.approx(expected)
    assert np.shape(truth["flat_maps"]["s2"]["positions"]) == (subject.n_voxels, 2)
    assert truth["settings"]["seed"] == 5
    run = direct.runs("s1")[0]
    assert (run.tr_s, run.onset_s) == (TR_S, ONSET_S)
    assert pytest.approx(10.025) == ONSET_S


def test_the_reader_of_ds003020_gives_the_direct_corpus(direct: Corpus, tree: Path, tmp_path: Path) -> None:
    read = open_corpus(read_lebel2023(tree, subjects=["s1", "s2"], destination=tmp_path / "read"))
    name_of = {name: HELD_OUT.get(name, name) for name in direct.story_names()}
    assert sorted(read.story_names()) == sorted(name_of.values())
    for name, theirs in name_of.items():
        np.testing.assert_array_equal(read.audio(theirs), direct.audio(name))
        ours, there = direct.story(name), read.story(theirs)
        assert [(w.text, w.start_s, w.end_s) for w in there.words] == [(w.text, w.start_s, w.end_s) for w in ours.words]
        assert [(p.text, p.start_s, p.end_s) for p in there.phones] == [
            (p.text, p.start_s, p.end_s) for p in ours.phones
        ]
    for subject in ("s1", "s2"):
        theirs_by_key = {(run.story, run.repeat): run for run in read.runs(subject)}
        for run in direct.runs(subject):
            there_run = theirs_by_key.pop((name_of[run.story], run.repeat))
            assert there_run.split == run.split
            assert there_run.onset_s == pytest.approx(run.onset_s, abs=1e-12)
            assert there_run.tr_s == run.tr_s
            np.testing.assert_array_equal(read.bold(there_run), direct.bold(run))
        assert not theirs_by_key
        np.testing.assert_array_equal(read.noise_ceiling(subject), direct.noise_ceiling(subject))
        assert read.ledger(subject).counts() == direct.ledger(subject).counts()


def test_the_tree_counts_raw_trs(tree: Path) -> None:
    import h5py

    raw = json.loads((tree / "derivative" / "respdict.json").read_text())
    for name, n_trs in raw.items():
        with h5py.File(tree / "derivative" / "preprocessed_data" / "s1" / f"{name}.hf5") as file:
            assert file["data"].shape[0] == n_trs - N_TRIMMED_TRS
            assert file["data"].dtype == np.float64
            if name == HELD_OUT["test"]:
                np.testing.assert_allclose(file["individual_repeats"][:].mean(0), file["data"][:])


def test_a_textgrid_has_no_holes() -> None:
    story = World(SMALL).stories[0]
    lines = [line.strip() for line in textgrid(story).splitlines()]
    for tier in ("phone", "word"):
        begin = lines.index(f'name = "{tier}"')
        size = int(lines[begin + 3].rpartition("=")[2])
        cells = lines[begin + 4 : begin + 4 + 4 * size]
        starts = [float(line.rpartition("=")[2]) for line in cells[1::4]]
        ends = [float(line.rpartition("=")[2]) for line in cells[2::4]]
        assert starts[0] == 0
        assert starts[1:] == ends[:-1]
        assert ends[-1] == len(story.audio) / 16_000


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"n_subjects": 0},
            "the simulation is too small [0 subjects, 12 training stories, 10 repeats]; expected at least 1",
        ),
        ({"n_train_stories": 1}, "expected at least 1 subject, 2 training stories and 1 repeat"),
        ({"story_s": 20.0}, "the stories are too short or too long [20.0 s, 480.0 s]; expected 40 s to 10 hours"),
        ({"test_story_s": float("nan")}, "[180.0 s, nan s]; expected 40 s to 10 hours"),
        ({"seed": -1}, "the seed is -1; expected 0 or more"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, text: str) -> None:
    with pytest.raises(CorpusError) as caught:
        Simulation(**settings)
    assert text in str(caught.value)

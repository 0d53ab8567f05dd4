from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.readers.lebel2023 import read_lebel2023
from brain_tuning.errors import AnnexPointerError, AudioError, CorpusError, RegionError, TimingError

h5py = pytest.importorskip("h5py")

N_TRS = {"avatar": 16, "life": 15, "fromboyhoodtofatherhood": 14, "wheretheressmoke": 17}
N_VOXELS = {"UTS01": 6, "UTS04": 5}
POINTER = "/annex/objects/MD5E-s19290924--7a3ab6e1f2a9ab0a91ef6cf4e8fdd4cf.hf5\n"
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"
xmin = 0
xmax = 40
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phone"
        xmin = 0
        xmax = 40
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "sp"
        intervals [2]:
            xmin = 0.5
            xmax = 0.75
            text = "AY1"
    item [2]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 40
        intervals: size = 1
        intervals [1]:
            xmin = 0.5
            xmax = 1
            text = ""I"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small data set in the layout of ds003020; UTS04 lacks `life`, as in the real one."""
    rng = np.random.default_rng(0)
    root = tmp_path / "ds003020"
    (root / "stimuli").mkdir(parents=True)
    (root / "derivative" / "TextGrids").mkdir(parents=True)
    respdict = {story: n_trs + 20 for story, n_trs in N_TRS.items()}
    (root / "derivative" / "respdict.json").write_text(json.dumps({**respdict, "unused": 300}))
    for story, n_trs in N_TRS.items():
        n_samples = round((n_trs + 6) * 2.0045 * 16_000)
        soundfile.write(root / "stimuli" / f"{story}.wav", rng.uniform(-0.1, 0.1, n_samples), 16_000)
        (root / "derivative" / "TextGrids" / f"{story}.TextGrid").write_text(TEXTGRID)
    for subject, n_voxels in N_VOXELS.items():
        folder = root / "derivative" / "preprocessed_data" / subject
        folder.mkdir(parents=True)
        for story, n_trs in N_TRS.items():
            if (subject, story) == ("UTS04", "life"):
                continue
            with h5py.File(folder / f"{story}.hf5", "w") as file:
                if story == "wheretheressmoke":
                    repeats = rng.standard_normal((3, n_trs, n_voxels)) + rng.standard_normal((n_trs, n_voxels))
                    file["individual_repeats"] = repeats
                    file["data"] = repeats.mean(axis=0)
                else:
                    file["data"] = rng.standard_normal((n_trs, n_voxels))
    return root


def _read(root: Path, **changes: Any) -> Corpus:
    given: dict[str, Any] = {"subjects": ["UTS01", "UTS04"], "destination": root.parent / "corpus", **changes}
    return open_corpus(read_lebel2023(root, **given))


def _responses(root: Path, subject: str, story: str) -> Path:
    return root / "derivative" / "preprocessed_data" / subject / f"{story}.hf5"


def test_stories_runs_and_responses(root: Path) -> None:
    corpus = _read(root)
    assert corpus.story_names() == sorted(N_TRS)
    assert corpus.meta["splits"] == {
        "train": ["avatar", "life"],
        "validation": ["fromboyhoodtofatherhood"],
        "test": ["wheretheressmoke"],
    }
    assert [run.story for run in corpus.runs("UTS04", "train")] == ["avatar"]
    assert corpus.n_voxels("UTS04") == 5
    avatar = corpus.runs("UTS01", "train")[0]
    with h5py.File(_responses(root, "UTS01", "avatar")) as file:
        np.testing.assert_array_equal(corpus.bold(avatar), file["data"][:].astype(np.float32))
    story = corpus.story("avatar")
    assert [word.text for word in story.words] == ['"I']
    assert [phone.text for phone in story.phones] == ["AY1"]
    wave, _ = soundfile.read(root / "stimuli" / "avatar.wav", dtype="float32")
    np.testing.assert_array_equal(corpus.audio("avatar"), wave)


def test_repeats_are_stored_one_by_one_without_their_average(root: Path) -> None:
    corpus = _read(root)
    runs = corpus.runs("UTS01", "test")
    assert [(run.run, run.repeat) for run in runs] == [(0, 0), (0, 1), (0, 2)]
    with h5py.File(_responses(root, "UTS01", "wheretheressmoke")) as file:
        repeats = file["individual_repeats"][:]
    np.testing.assert_array_equal(np.stack([corpus.bold(run) for run in runs]), repeats.astype(np.float32))
    assert np.isfinite(corpus.noise_ceiling("UTS01")).any()


def test_the_first_stored_row_is_tr_10_of_a_scan_begun_before_the_story(root: Path) -> None:
    """user-pains 10: onsets off by the calibration volumes; here TR = 2.0045 s and sound after 10.02 s."""
    for run in _read(root).runs("UTS01"):
        raw_tr = np.arange(10, 10 + run.n_trs)
        np.testing.assert_allclose(run.tr_times_s, (raw_tr + 0.5) * 2.0045 - 10.02, atol=1e-9)
        assert "first 10 and last 10 raw TRs" in run.trim


def test_the_trigger_logs_give_that_tr() -> None:
    logs = Path(__file__).parents[3] / "shared" / "data" / "transcripts_moth" / "tr_files"
    if not logs.is_dir():
        pytest.skip("the Moth trigger logs are not beside the checkout")
    for log in logs.glob("*.report"):
        lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
        triggers = np.array([float(time) for time, *event in lines if event and "trigger" in event[0]])
        tr_s, _ = np.polyfit(np.arange(len(triggers)), triggers, 1)
        assert tr_s == pytest.approx(2.0045, abs=2e-4), log.name


def test_chosen_stories_and_splits(root: Path) -> None:
    corpus = _read(root, stories=["avatar", "life"], test=["life"], validation=[])
    assert corpus.meta["splits"] == {"train": ["avatar"], "validation": [], "test": ["life"]}
    assert corpus.meta["notes"] == ["UTS04 has no responses to life"]
    with pytest.raises(CorpusError, match=r"does not exist \[laluna\]; expected one of avatar"):
        _read(root, test=["laluna"], destination=root.parent / "other")
    with pytest.raises(CorpusError, match=r"no responses to laluna.*expected <story>.hf5 of UTS04"):
        _read(root, subjects=["UTS04"], stories=["laluna", "avatar"])
    with pytest.raises(CorpusError, match=r"no subject UTS09.*one of UTS01, UTS04"):
        _read(root, subjects=["UTS09"])
    with pytest.raises(CorpusError, match=r"there are no responses \[.*nowhere\]; expected ds003020 as OpenNeuro"):
        _read(root.parent / "nowhere", subjects=["UTS01"])


def test_annex_pointers_are_listed_before_anything_is_read(root: Path) -> None:
    """user-pains 17: pointers instead of data."""
    for story in ("avatar", "life"):
        _responses(root, "UTS01", story).write_text(POINTER)
    wav = root / "stimuli" / "avatar.wav"
    wav.unlink()
    wav.symlink_to("../.git/annex/objects/xx/yy/MD5E-s1--ab.wav/MD5E-s1--ab.wav")
    with pytest.raises(AnnexPointerError) as caught:
        _read(root)
    text = str(caught.value)
    assert text.startswith("3 file(s) are git-annex pointers")
    data = "derivative/preprocessed_data/UTS01/"
    assert f"cd {root} && datalad get stimuli/avatar.wav {data}avatar.hf5 {data}life.hf5" in text
    assert not (root.parent / "corpus").exists()


def test_a_dataset_of_pointers_is_answered_with_its_folders(root: Path) -> None:
    """user-pains 17: after `datalad clone` all is pointers; one line must get it."""
    for path in [*root.rglob("*.wav"), *root.rglob("*.hf5"), *root.rglob("*.TextGrid")]:
        path.write_text(POINTER)
    with pytest.raises(AnnexPointerError) as caught:
        _read(root)
    text = str(caught.value)
    assert text.startswith("15 file(s) are git-annex pointers")
    assert ", ..." in text
    assert text.endswith(
        "datalad get derivative/TextGrids derivative/preprocessed_data/UTS01 derivative/preprocessed_data/UTS04 stimuli"
    )


def test_a_number_of_trs_that_does_not_fit_the_log(root: Path) -> None:
    """user-pains 5: trims that differ make results irreproducible."""
    with h5py.File(_responses(root, "UTS01", "life"), "w") as file:
        file["data"] = np.zeros((13, 6))
    with pytest.raises(TimingError, match=r"story life of UTS01 has 13 TRs.*expected 15 \(35 raw TRs less 20\)"):
        _read(root)


def test_a_story_missing_from_the_log(root: Path) -> None:
    (root / "derivative" / "respdict.json").write_text(json.dumps({"avatar": 36}))
    with pytest.raises(TimingError, match=r"story fromboyhoodtofatherhood is not in respdict\.json"):
        _read(root)


def test_missing_audio_is_named_with_its_path(root: Path) -> None:
    path = root / "stimuli" / "life.wav"
    path.unlink()
    with pytest.raises(AudioError, match=rf"story life has no audio \[{path}\].*datalad get"):
        _read(root)


def test_audio_in_another_form(root: Path) -> None:
    soundfile.write(root / "stimuli" / "life.wav", np.zeros((48_000 * 40, 2)), 48_000)
    with pytest.raises(AudioError, match=r"48000 Hz with 2.*life.wav.*--convert-audio"):
        _read(root)
    assert not (root.parent / "corpus").exists()
    assert _read(root, convert_audio=True).story("life").duration_s == 40.0


def test_audio_of_another_story(root: Path) -> None:
    soundfile.write(root / "stimuli" / "life.wav", np.zeros(16_000), 16_000)
    with pytest.raises(TimingError, match=r"words reach|the responses span"):
        _read(root)


def test_corrupt_responses(root: Path) -> None:
    path = _responses(root, "UTS01", "life")
    content = path.read_bytes()
    path.write_bytes(b"x" * 2000)
    with pytest.raises(CorpusError, match=rf"a response file is damaged.*\[{path}\].*datalad get"):
        _read(root)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorpusError, match="a response file is damaged"):
        _read(root)
    with h5py.File(path, "w") as file:
        file["zscored"] = np.zeros((15, 6))
    with pytest.raises(CorpusError, match=r"no data set 'data' but \['zscored'\]"):
        _read(root)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((15, 4))
    with pytest.raises(CorpusError, match=r"story life has 4 voxels.*expected 6"):
        _read(root)


def test_nan_and_constant_voxels_are_in_the_ledger(root: Path) -> None:
    """user-pains 2 and 3: degenerate voxels are counted and named, and stop nothing."""
    with h5py.File(_responses(root, "UTS01", "life"), "r+") as file:
        file["data"][:, 1] = 0.0
        file["data"][3, 4] = np.nan
    ledger = _read(root).ledger("UTS01")
    assert list(ledger.status) == ["ok", "constant", "ok", "ok", "nan", "ok"]
    assert ledger.reason[1] == "variance 0 in story life run 0"
    assert ledger.reason[4] == "1 value(s) not finite in story life run 0"


def test_without_textgrids_there_are_no_words(root: Path) -> None:
    """user-pains 16: TextGrids missing."""
    os.remove(root / "derivative" / "TextGrids" / "life.TextGrid")
    corpus = _read(root)
    assert corpus.story("life").words == ()
    assert corpus.meta["notes"] == ["no TextGrid, hence no words and phones: life"]


def test_regions(root: Path) -> None:
    """user-pains 16: regions travel in the corpus."""
    (root / "rois.json").write_text(json.dumps({"AC": [3, 1], "V1": [0]}))
    np.savez(root / "rois.npz", AC=np.array([True, False, False, True, False]))
    regions = {"UTS01": root / "rois.json", "UTS04": root / "rois.npz"}
    corpus = _read(root, regions=regions)
    assert list(corpus.region("UTS01", "AC")) == [1, 3]
    assert list(corpus.region("UTS04", "AC")) == [0, 3]
    with pytest.raises(RegionError, match=r"one region file for 2 subjects.*a file for each subject"):
        _read(root, regions=root / "rois.json", overwrite=True)
    with pytest.raises(RegionError, match="regions are given for UTS02"):
        _read(root, regions={"UTS02": root / "rois.json"}, overwrite=True)
    with pytest.raises(RegionError, match="no such region file"):
        _read(root, subjects=["UTS01"], regions=root / "none.json", overwrite=True)


def test_the_source_is_left_as_it_was(root: Path) -> None:
    def listing() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}

    before = listing()
    _read(root, bold_dtype="float16")
    assert listing() == before
    shutil.rmtree(root)
    corpus = open_corpus(root.parent / "corpus")
    assert corpus.bold(corpus.runs("UTS04")[0]).shape == (16, 5)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.readers.folder import read_folder
from brain_tuning.errors import AnnexPointerError, AudioError, BrainTuningError, CorpusError, RegionError

BOLD = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)


def _description() -> dict[str, Any]:
    return {
        "name": "two-people",
        "source": "made for a test",
        "licence": "MIT",
        "surrogate_audio": True,
        "tr_s": 2.0,
        "onset_s": -4.0,
        "stories": {"wood": {"audio": "wood.flac"}, "wind": {"audio": "wind.wav", "onset_s": 1.0}},
        "subjects": {
            "s1": {
                "runs": [
                    {"story": "wood", "split": "train", "responses": "s1.npz:wood"},
                    {"story": "wind", "split": "test", "responses": "s1.npz:wind"},
                    {"story": "wind", "split": "test", "responses": "s1.npz:wind2", "repeat": 1},
                ],
                "regions": {"left": [2, 0]},
                "excluded": {1: "coil artefact"},
            },
            "02": {
                "runs": [{"story": "wood", "split": "train", "responses": "02.csv", "tr_s": 1.5, "onset_s": 0}],
                "regions": {"language": ["LATL", "LIFG"]},
                "noise_ceiling": "ceiling.npy",
            },
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    soundfile.write(root / "wood.flac", np.zeros(16_000 * 60), 16_000)
    soundfile.write(root / "wind.wav", np.full(16_000 * 60, 0.25), 16_000)
    np.savez(root / "s1.npz", wood=BOLD, wind=BOLD + 1, wind2=BOLD * 2)
    lines = ["LATL,RATL,LIFG", *(",".join(map(str, row)) for row in BOLD.tolist())]
    (root / "02.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "ceiling.npy", np.array([0.5, 0.6, np.nan]))
    return root


def _read(root: Path, description: object, **options: Any) -> Corpus:
    text = description if isinstance(description, str) else yaml.safe_dump(description, sort_keys=False)
    (root / "corpus.yaml").write_text(text)
    return open_corpus(read_folder(root, destination=root.parent / "corpus", **options))


def test_a_folder_becomes_a_corpus(root: Path) -> None:
    corpus = _read(root, _description())
    assert corpus.subjects == ["s1", "02"]
    assert corpus.surrogate_audio is True
    wood, wind, again = corpus.runs("s1")
    assert (wood.onset_s, wind.onset_s, again.onset_s) == (-4.0, 1.0, 1.0)
    assert (wind.run, wind.repeat, again.run, again.repeat) == (0, 0, 0, 1)
    np.testing.assert_array_equal(corpus.bold(again), BOLD * 2)
    assert list(corpus.region("s1", "left")) == [0, 2]
    assert corpus.ledger("s1").reason[1] == "coil artefact"

    run = corpus.runs("02")[0]
    assert (run.tr_s, run.onset_s) == (1.5, 0.0)
    np.testing.assert_allclose(corpus.bold(run), BOLD, rtol=1e-6)
    assert list(corpus.region("02", "language")) == [0, 2]
    assert corpus.meta["extra"]["columns"] == {"02": ["LATL", "RATL", "LIFG"]}
    np.testing.assert_array_equal(corpus.noise_ceiling("02"), np.array([0.5, 0.6, np.nan], np.float32))


def test_one_story_in_contiguous_folds(root: Path) -> None:
    """Five folds of one recording: pieces share the audio, their times go on where the last ended."""
    description = _description()
    np.save(root / "long.npy", BOLD)
    splits = ["train", "train", "validation", "train", "test"]
    description["subjects"] = {
        "s1": {
            "runs": [
                {"story": "wood", "split": split, "responses": "long.npy", "first_tr": 6 * fold, "n_trs": 6}
                for fold, split in enumerate(splits)
            ]
        }
    }
    corpus = _read(root, description)
    runs = corpus.runs("s1")
    assert [run.run for run in runs] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.concatenate([corpus.bold(run) for run in runs]), BOLD)
    times_s = np.concatenate([run.tr_times_s for run in runs])
    np.testing.assert_allclose(times_s, -4.0 + 2.0 * (np.arange(30) + 0.5))
    assert runs[4].trim == "rows 24 to 30 of long.npy"
    (note,) = corpus.meta["notes"]
    assert note.startswith("story wood is cut into contiguous pieces of different splits (test, train, validation)")
    assert "reach over their borders" in note

    description["subjects"]["s1"]["runs"][4]["first_tr"] = 23
    with pytest.raises(CorpusError, match=r"42\.0 to 44\.0 s of the story are in .*\[wood\]"):
        _read(root, description, overwrite=True)


def _set(description: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split("/")
    node: Any = description
    for parent in parents:
        node = node[int(parent) if isinstance(node, list) else parent]
    if value is None:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value


WRONG: list[tuple[str, object, type[BrainTuningError], str]] = [
    ("licens", "MIT", CorpusError, r"unknown key 'licens' \[.*corpus.yaml\].*did you mean licence\?"),
    ("stories/wood/adio", "x", CorpusError, "unknown key 'adio'.*yaml: stories.wood.*did you mean audio"),
    ("subjects/s1/run", [], CorpusError, "unknown key 'run'.*yaml: subjects.s1].*did you mean runs"),
    (
        "subjects/s1/runs/1/nset_s",
        1,
        CorpusError,
        r"'nset_s'.*subjects\.s1\.runs\[1\]\].*did you mean onset_s",
    ),
    ("name", None, CorpusError, "the key name is missing"),
    ("name", ["x"], CorpusError, r"\['x'\] is not a text.*yaml: name"),
    ("tr_s", "two", CorpusError, "'two' is not a number.*yaml: tr_s"),
    ("tr_s", None, CorpusError, r"the key tr_s is missing.*runs\[0\].*here, or at the top"),
    ("subjects/s1/runs/0/tr_s", -1, CorpusError, r"tr_s is -1.0.*runs\[0\]"),
    ("surrogate_audio", "no", CorpusError, "neither true nor false.*surrogate_audio"),
    ("stories", ["wood"], CorpusError, "is not a mapping.*yaml: stories"),
    ("stories/wood/audio", "none.wav", AudioError, "story wood has no audio.*none.wav.*stories.wood.audio"),
    ("stories/wood/audio", "s1.npz", AudioError, "cannot be read.*stories.wood.audio"),
    ("stories/wood/textgrid", "02.csv", CorpusError, "stories.wood.textgrid.*02.csv, line"),
    ("subjects/s1/runs", [], CorpusError, "without runs.*subjects.s1.runs"),
    (
        "subjects/s1/runs/0/story",
        "wodo",
        CorpusError,
        r"no story 'wodo'.*runs\[0\]\.story.*one of wood, wind",
    ),
    (
        "subjects/s1/runs/0/split",
        "dev",
        CorpusError,
        r"unknown split 'dev'.*runs\[0\]\.split.*train, validation",
    ),
    ("subjects/s1/runs/0/repeat", -1, CorpusError, r"-1 is not a whole number.*runs\[0\]\.repeat"),
    ("subjects/s1/runs/0/responses", "s2.npy", CorpusError, r"no such file: s2.npy.*runs\[0\]\.responses"),
    (
        "subjects/s1/runs/0/responses",
        "s1.npz:x",
        CorpusError,
        r"no array 'x'.*responses.*one of wood, wind, wind2",
    ),
    ("subjects/s1/runs/0/responses", "s1.npz", CorpusError, "it is not said which array"),
    ("subjects/s1/runs/0/responses", "wood.flac", CorpusError, r"unknown kind of file '.flac'.*runs\[0\]"),
    ("subjects/s1/runs/0/responses", "ceiling.npy", CorpusError, r"the array has shape \(3,\)"),
    (
        "subjects/s1/runs/0/n_trs",
        31,
        CorpusError,
        r"rows 0 to 31 are asked for but the file has 30.*runs\[0\]",
    ),
    ("subjects/s1/runs/0/first_tr", 30, CorpusError, "rows 30 to 30 are asked for"),
    ("subjects/s1/regions/left", 3, CorpusError, "3 is not a list.*subjects.s1.regions.left"),
    ("subjects/s1/regions/left", ["A1"], CorpusError, r"no column 'A1'.*regions.left\[0\].*no names at all"),
    ("subjects/s1/regions/left", [3], RegionError, "do not exist, first 3 .*region left"),
    ("subjects/02/regions/language", ["A1"], CorpusError, r"no column 'A1'.*one of LATL, RATL, LIFG"),
    ("subjects/02/regions", "none.yaml", CorpusError, "no such file: none.yaml.*subjects.02.regions"),
    ("subjects/02/noise_ceiling", "s1.npz:wood", CorpusError, "90 values of noise ceiling.*noise_ceiling"),
    ("subjects", {10: {}}, CorpusError, "the name 10 is not a text.*yaml: subjects.*put it in quotes"),
    ("subjects/s1/excluded", {9: "x"}, CorpusError, "no voxel 9.*subjects.s1.excluded.9"),
]


@pytest.mark.parametrize(("key", "value", "kind", "text"), WRONG, ids=[f"{k}={v}" for k, v, *_ in WRONG])
def test_errors_name_the_key(root: Path, key: str, value: object, kind: type[BrainTuningError], text: str) -> None:
    description = _description()
    _set(description, key, value)
    with pytest.raises(kind, match=text):
        _read(root, description)
    assert [path.name for path in root.parent.iterdir()] == ["data"]


def test_files_of_another_form(root: Path) -> None:
    description = _description()
    np.save(root / "wide.npy", np.zeros((30, 4)))
    description["subjects"]["s1"]["runs"][1]["responses"] = "wide.npy"
    with pytest.raises(CorpusError, match=r"4 voxels, or other columns.*runs\[1\].responses.*expected 3 voxels"):
        _read(root, description)
    (root / "02.csv").write_text("1.0,2.0,3.0\n1.0,2.0,3.0\n")
    with pytest.raises(CorpusError, match=r"the first line holds numbers.*a header of column names"):
        _read(root, _description())
    (root / "02.csv").write_text("a,b,c\n1.0,2.0,x\n")
    with pytest.raises(CorpusError, match=r"subjects\.02\.runs\[0\]\.responses.*02\.csv"):
        _read(root, _description())
    (root / "02.csv").write_text("a,b\n1.0,2.0,3.0\n")
    with pytest.raises(CorpusError, match=r"3 columns of numbers.*expected 2 as in the header"):
        _read(root, _description())


def test_pickled_arrays_are_refused(root: Path) -> None:
    np.savez(root / "s1.npz", wood=np.array([{"x": 1}], dtype=object), wind=BOLD, wind2=BOLD)
    with pytest.raises(CorpusError, match=r"the file cannot be read.*allow_pickle=False"):
        _read(root, _description())


def test_annex_pointers(root: Path) -> None:
    """user-pains 17: pointers instead of data."""
    (root / "wind.wav").write_text("/annex/objects/MD5E-s1--ab.wav\n")
    with pytest.raises(AnnexPointerError, match=r"1 file\(s\).*wind\.wav.*datalad get wind\.wav"):
        _read(root, _description())


def test_no_description(root: Path) -> None:
    with pytest.raises(CorpusError, match=r"no such file.*corpus.yaml"):
        read_folder(root, destination=root.parent / "corpus")
    with pytest.raises(CorpusError, match="the YAML cannot be parsed"):
        _read(root, "name: [")
    with pytest.raises(CorpusError, match="is not a mapping"):
        _read(root, "just text")


def test_the_documented_example_is_accepted(root: Path) -> None:
    """The description in the module's docstring, word for word, on files of those names."""
    from brain_tuning.corpus.readers import folder

    text = (folder.__doc__ or "").split("::\n\n", 1)[1].split("\n\nWith ``first_tr``")[0]
    for name in ("audio", "s1"):
        (root / name).mkdir()
    soundfile.write(root / "audio" / "avatar.wav", np.zeros(16_000 * 610), 16_000)
    (root / "avatar.TextGrid").write_text(
        'File type = "ooTextFile"\n"TextGrid"\n0 1 <exists> 1\n"IntervalTier" "word" 0 1 1\n0 1 "so"\n'
    )
    np.save(root / "s1" / "avatar.npy", np.random.default_rng(0).standard_normal((300, 8)))
    np.save(root / "s1" / "ceiling.npy", np.ones(8))
    corpus = _read(root, text)
    assert corpus.story("avatar").words[0].text == "so"
    assert corpus.runs("s1")[0].onset_s == 10.025
    assert corpus.ledger("s1").reason[7] == "coil artefact"

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpus_builders import N_VOXELS, run_input, story_audio, subject_input

from brain_tuning.corpus import Corpus, Interval, RunInput, open_corpus
from brain_tuning.corpus import tables as tables_module
from brain_tuning.errors import CorpusError, RegionError, TimingError

Make = Callable[..., Path]


def _bold(seed: int, n_trs: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_trs, N_VOXELS)).astype(np.float32)


@pytest.fixture
def runs() -> list[RunInput]:
    return [
        run_input("wood", split="train", bold=_bold(0), trim="first 10 volumes"),
        run_input("wind", split="test", bold=_bold(1, 18), onset_s=0.0),
        run_input("wind", split="test", bold=_bold(2, 18), onset_s=0.0, repeat=1),
    ]


def test_what_is_written_is_read(make: Make, runs: list[RunInput]) -> None:
    regions = {"auditory": np.array([5, 1]), "none": np.array([], dtype=int)}
    ceiling = np.linspace(0, 1, N_VOXELS).astype(np.float32)
    path = make(
        subjects=[
            subject_input(*runs, regions=regions, region_kinds={"auditory": "functional"}, noise_ceiling=ceiling),
            subject_input(run_input("wood", bold=_bold(3)[:, :4]), subject="s2", n_voxels=4),
        ],
        surrogate_audio=True,
        notes=["a note"],
        extra={"seed": 3},
    )
    corpus = open_corpus(path)

    assert corpus.name == "small"
    assert corpus.subjects == ["s1", "s2"]
    assert corpus.story_names() == ["wood", "wind"]
    assert corpus.surrogate_audio is True
    assert corpus.meta["extra"] == {"seed": 3}
    assert corpus.meta["splits"] == {"train": ["wood"], "validation": [], "test": ["wind"]}
    story = corpus.story("wind")
    assert story.duration_s == 40.0
    assert story.words == (Interval("hello", 0.5, 1.0), Interval('"world"', 1.0, 1.75))
    assert story.phones == (Interval("HH", 0.5, 0.625),)
    np.testing.assert_array_equal(corpus.audio("wind"), story_audio(2))
    assert corpus.n_samples("wind") == 640_000

    assert [(r.story, r.repeat, r.n_trs, r.first_row) for r in corpus.runs("s1")] == [
        ("wood", 0, 20, 0),
        ("wind", 0, 18, 20),
        ("wind", 1, 18, 38),
    ]
    assert [r.repeat for r in corpus.runs("s1", "test")] == [0, 1]
    for stored, given in zip(corpus.runs("s1"), runs, strict=True):
        np.testing.assert_array_equal(corpus.bold(stored), given.bold)
        np.testing.assert_array_equal(corpus.bold(stored, np.array([6, 0])), given.bold[:, [6, 0]])
        assert (stored.subject, stored.split, stored.trim) == ("s1", given.split, given.trim)
    assert corpus.bold(corpus.runs("s2")[0]).shape == (20, 4)
    assert corpus.n_voxels("s2") == 4

    assert {name: list(v) for name, v in corpus.regions("s1").items()} == {"auditory": [1, 5], "none": []}
    assert corpus.region_kinds("s1") == {"auditory": "functional", "none": ""}
    assert corpus.regions("s2") == {}
    np.testing.assert_array_equal(corpus.noise_ceiling("s1"), ceiling)
    assert corpus.ledger("s1").counts() == {"ok": N_VOXELS, "nan": 0, "constant": 0, "excluded": 0}


def test_tr_times_are_the_centres_of_the_trs(make: Make) -> None:
    run = open_corpus(make()).runs("s1")[0]
    np.testing.assert_array_equal(run.tr_times_s, -1.0 + 2.0 * (np.arange(20) + 0.5))
    assert run.end_s == 39.0


def test_responses_are_a_view_of_the_file(make: Make, runs: list[RunInput]) -> None:
    """user-pains 21: array features of `datasets` are 10 to 1000 times slower than the file."""
    corpus = open_corpus(make(subjects=[subject_input(*runs)]))
    first, again = (corpus.bold(corpus.runs("s1")[1]) for _ in range(2))
    assert np.shares_memory(first, again)
    assert not first.flags.writeable


def test_responses_survive_any_number_of_files_and_batches(
    make: Make, runs: list[RunInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    monkeypatch.setattr(tables_module.TableWriter.__init__, "__defaults__", (1,))
    path = make(subjects=[subject_input(*runs)])
    assert len(list((path / "bold-s1").glob("data-*-of-00003.arrow"))) == 3
    corpus = open_corpus(path)
    for stored, given in zip(corpus.runs("s1"), runs, strict=True):
        np.testing.assert_array_equal(corpus.bold(stored), given.bold)

    table = tables_module.read_table(path / "bold-s1")
    scattered = pa.concat_tables([table.slice(0, 25), table.slice(25)])
    np.testing.assert_array_equal(tables_module.rows_as_matrix(scattered, "bold", 20, 18), runs[1].bold)


def test_float16_halves_the_file_and_reads_as_float32(make: Make, runs: list[RunInput]) -> None:
    corpus = open_corpus(make(subjects=[subject_input(*runs)], bold_dtype="float16"))
    stored = corpus.bold(corpus.runs("s1")[0])
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, np.asarray(runs[0].bold).astype(np.float16).astype(np.float32))


def test_nan_is_stored_as_it_is(make: Make) -> None:
    """user-pains 3: a NaN is neither repaired nor fatal; it is named in the ledger."""
    bold = _bold(0)
    bold[4, 2] = np.nan
    corpus = open_corpus(make(subjects=[subject_input(run_input(bold=bold))]))
    np.testing.assert_array_equal(corpus.bold(corpus.runs("s1")[0]), bold)
    ledger = corpus.ledger("s1")
    assert ledger.status[2] == "nan"
    assert ledger.reason[2] == "1 value(s) not finite in story wood run 0"
    assert list(ledger.usable) == [0, 1, 3, 4, 5, 6]


def test_audio_slices_equal_the_whole(make: Make) -> None:
    path = make()
    whole = open_corpus(path).audio("wood")
    fresh, warm = open_corpus(path), open_corpus(path)
    warm.audio("wood")
    for corpus in (fresh, warm):
        for start_s, stop_s in ((0, 0), (0, 0.4), (12.34567, 13.5), (39.99, 40)):
            expected = whole[round(start_s * 16_000) : round(stop_s * 16_000)]
            np.testing.assert_array_equal(corpus.audio_slice("wood", start_s, stop_s), expected)
    with pytest.raises(TimingError, match=r"audio from -1 to 2 s asked for \[story wood\]; expected a part of 0 to 40"):
        fresh.audio_slice("wood", -1, 2)


def test_names_that_do_not_exist_are_answered_with_those_that_do(make: Make) -> None:
    corpus = open_corpus(make(subjects=[subject_input(regions={"A1": np.array([0])})]))
    with pytest.raises(CorpusError, match=r"no subject 's9'.*one of s1"):
        corpus.runs("s9")
    with pytest.raises(CorpusError, match=r"no story 'wodo'.*one of wood, wind"):
        corpus.audio("wodo")
    with pytest.raises(RegionError, match=r"no region 'A2'.*subject s1.*one of A1"):
        corpus.region("s1", "A2")
    with pytest.raises(RegionError, match=r"a voxel asked for does not exist.*0 to 6"):
        corpus.bold(corpus.runs("s1")[0], np.array([7]))


def test_worker_processes_get_the_path_only(make: Make) -> None:
    corpus = open_corpus(make())
    corpus.audio("wood")
    assert len(pickle.dumps(corpus)) < 1000
    received = copy.deepcopy(corpus)  # by the same road: __reduce__
    assert received._heard == {}
    np.testing.assert_array_equal(received.audio("wood"), corpus.audio("wood"))


def test_tables_load_with_datasets(make: Make, runs: list[RunInput], tmp_path: Path) -> None:
    """user-pains 11: audio decoding must not need torchcodec."""
    import datasets

    path = make(subjects=[subject_input(*runs, regions={"A1": np.array([1])})])
    cache = str(tmp_path / "cache")
    stories = datasets.load_dataset(str(path), "stories", cache_dir=cache)["train"]
    assert stories.features["audio"] == datasets.Audio(sampling_rate=16_000, decode=False)
    assert stories[1]["story"] == "wind"
    assert stories[1]["audio"]["bytes"][:4] == b"fLaC"
    assert stories[0]["words"][0] == {"text": "hello", "start_s": 0.5, "end_s": 1.0}
    bold = datasets.load_dataset(str(path), "bold-s1", cache_dir=cache)["train"]
    assert bold[20]["story"] == "wind"
    assert bold[20]["tr"] == 0
    np.testing.assert_array_equal(np.array(bold[20]["bold"], np.float32), np.asarray(runs[1].bold)[0])
    for table in ("runs-s1", "voxels-s1", "regions-s1"):
        loaded = datasets.load_dataset(str(path), table, cache_dir=cache)["train"]
        assert loaded.num_rows == datasets.load_from_disk(path / table).num_rows > 0


def test_summary_counts(make: Make, runs: list[RunInput]) -> None:
    excluded = {3: "coil artefact"}
    summary = open_corpus(make(subjects=[subject_input(*runs, excluded=excluded)])).summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["n_stories"] == 2
    subject = summary["subjects"]["s1"]
    assert subject["n_trs"] == 56
    assert subject["hours"] == {"train": 0.011, "validation": 0.0, "test": 0.02}
    assert subject["voxels"] == {"ok": 6, "nan": 0, "constant": 0, "excluded": 1}
    assert np.isnan(open_corpus(summary["path"]).noise_ceiling("s1")[3])


def test_a_folder_that_is_no_corpus(make: Make, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.json is missing.*remedy: make one with"):
        open_corpus(tmp_path)
    with pytest.raises(CorpusError, match=r"no such corpus.*remedy: make one with"):
        open_corpus(tmp_path / "nowhere")
    path = make()
    description = json.loads((path / "corpus.json").read_text())
    (path / "corpus.json").write_text(json.dumps({**description, "version": 9}))
    with pytest.raises(CorpusError, match=r"of version 9.*expected version 1.*update brain-tuning"):
        open_corpus(path)
    (path / "corpus.json").write_text("{")
    with pytest.raises(CorpusError, match=r"corpus\.json is damaged"):
        open_corpus(path)
    (path / "corpus.json").write_text('{"format": "other"}')
    with pytest.raises(CorpusError, match='expected "format": "brain_tuning corpus"'):
        open_corpus(path)


def test_a_damaged_or_missing_table_is_named(make: Make) -> None:
    path = make()
    file = next((path / "bold-s1").glob("*.arrow"))
    corpus = Corpus(path)
    run = corpus.runs("s1")[0]
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(CorpusError, match=r"damaged.*data-00000-of-00001\.arrow.*copy or download"):
        corpus.bold(run)
    file.unlink()
    with pytest.raises(CorpusError, match=r"a table of the corpus is missing.*bold-s1"):
        corpus.bold(run)

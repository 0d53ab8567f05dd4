"""The worked example on the movie recordings (docs/forrest.md): the converter on small files, the effects on real ones.

Real BOLD and the true loudness, but surrogate audio in the corpus: no number of a baseline here says how well a model
of the true soundtrack would do.
"""

from __future__ import annotations

import csv
import importlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import yaml

from brain_tuning.analysis.alignment import AlignmentSettings, align
from brain_tuning.cli import _parser
from brain_tuning.corpus import Interval, open_corpus
from brain_tuning.corpus.readers.folder import read_folder
from brain_tuning.corpus.textgrid import read_textgrid, words_and_phones
from brain_tuning.encoding import fdr_bh, noise_ceiling, pearson_r, zscore
from brain_tuning.errors import CorpusError
from brain_tuning.features.low_level import baseline_features

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples" / "forrest"
DATA = CHECKOUT.parent / "shared" / "data" / "fmri_forrest"
needs_data = pytest.mark.skipif(
    not (DATA / "sub-01_avmovie_shen268.npz").is_file(),
    reason="the studyforrest recordings are not in ../shared/data/fmri_forrest beside the checkout",
)
LENGTHS = [451, 441, 438, 488, 462, 439, 542, 338]
SMALL_LENGTHS = [30, 31, 32, 33, 34, 35, 36, 37]
HEADER = "onset\tduration\tperson\tFG\tkind\tprosody\tsentence_grammar\ttext\tcommentary\n"
SENTENCES = (
    ("1.0", "4.0", "ERZAEHLER", "speech", "Ein Berg."),
    ("10.0", "2.0", "FORREST", "speech", "Mein Name ist - Forrest."),
    ("10.5", "0.0", "RADIO", "speech", "kaputt"),
    ("3.0", "1.0", "JENNY", "speech", 'Lauf, "Forrest"'),
    ("12.0", "60.44", "LT. DAN", "speech", "Socken"),
    ("14.0", "5.0", "OST", "song", "La la"),
    ("16.0", "1.0", "DEAN", "broadcast", "Gump!"),
    ("17.0", "1.0", "JENNY", "non", "hm"),
)


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The example's scripts, imported as they import each other."""
    names = ("prepare", "effects", "figures")
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in the format of the recordings, of six people and eight runs of a minute."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    common = [rng.standard_normal((n, 3)) for n in SMALL_LENGTHS]
    for k in range(1, 7):
        # Everybody has parcels 2, 5 and 9, in other columns and beside others.
        numbers = np.array([[2, 5, 9, 11], [1, 2, 5, 9], [9, 7, 5, 2]][k % 3], dtype=np.int16)
        runs = {}
        for run, shared in enumerate(common, 1):
            bold = rng.standard_normal((len(shared), 4))
            for column, number in enumerate(numbers):
                if number in (2, 5, 9):
                    bold[:, column] += 2 * shared[:, (2, 5, 9).index(number)]
            runs[f"run{run}"] = bold.astype(np.float16)
        np.savez(folder / f"sub-0{k}_avmovie_shen268.npz", roi1=numbers, **runs)
    loudness = {}
    for run, n in enumerate(SMALL_LENGTHS, 1):
        with (folder / f"avmovie_speech_run-{run}_events.tsv").open("w", encoding="utf-8", newline="") as file:
            file.write(HEADER)
            rows = csv.writer(file, delimiter="\t", lineterminator="\n")
            for onset, length, person, kind, text in SENTENCES:
                rows.writerow([onset, length, person, 1, kind, "regular", "HS", text, ""])
        level = rng.uniform(0.01, 0.1, n * 50)
        loudness[f"run{run}"] = np.column_stack([level, np.zeros(n * 50)]).astype(np.float32)
        sound = np.repeat(level, 640) * np.sign(np.sin(np.arange(n * 32_000) * 0.4))
        soundfile.write(folder / f"avmovie_run-{run}_surrogate_tts.ogg", sound, 16_000)
    np.savez(folder / "avmovie_audio_rms_25hz.npz", **loudness)
    return folder


def _copied(source: Path, target: Path, without: Sequence[str] = ()) -> Path:
    target.mkdir()
    for file in source.iterdir():
        if file.name not in without:
            (target / file.name).symlink_to(file)
    return target


def test_a_corpus_of_the_common_parcels(example: dict[str, ModuleType], small: Path, tmp_path: Path) -> None:
    prepare = example["prepare"]
    assert prepare.main([str(small), str(tmp_path / "data"), "--test-run", "3"]) == 0
    corpus = open_corpus(read_folder(tmp_path / "data", destination=tmp_path / "corpus"))
    assert corpus.subjects == ["group", *prepare.PEOPLE]
    splits = {run.story: run.split for run in corpus.runs("sub-02")}
    assert [name for name, split in splits.items() if split == "test"] == ["avmovie_run-3"]
    assert [name for name, split in splits.items() if split == "validation"] == ["avmovie_run-2"]
    assert corpus.meta["surrogate_audio"] is True
    run = corpus.runs("sub-02")[3]
    assert (run.story, run.n_trs, run.tr_s, run.onset_s) == ("avmovie_run-4", 33, 2.0, 0.0)
    with np.load(small / "sub-02_avmovie_shen268.npz") as file:
        assert file["roi1"].tolist() == [9, 7, 5, 2]
        np.testing.assert_array_equal(corpus.bold(run), file["run4"][:, [3, 2, 0]].astype(np.float32))
    assert {name: v.tolist() for name, v in corpus.regions("sub-02").items()} == {
        "shen-002": [0], "shen-005": [1], "shen-009": [2]
    }  # fmt: skip
    own = [zscore(corpus.bold(corpus.runs(name)[3]).astype(np.float64)) for name in prepare.PEOPLE]
    np.testing.assert_allclose(corpus.bold(corpus.runs("group")[3]), np.mean(own, axis=0), atol=1e-6)


def test_ceilings_are_of_all_runs(example: dict[str, ModuleType], small: Path, tmp_path: Path) -> None:
    prepare = example["prepare"]
    prepare.prepare(small, tmp_path)
    people, _ = prepare.read_people(small)
    bold = prepare.stacked(people)
    others = np.mean([bold[k] for k in range(6) if k != 2], axis=0)
    np.testing.assert_allclose(np.load(tmp_path / "sub-03-ceiling.npy"), pearson_r(others, bold[2]))
    np.testing.assert_allclose(np.load(tmp_path / "group-ceiling.npy"), noise_ceiling(bold))


def test_float16_is_widened_before_it_is_averaged(example: dict[str, ModuleType]) -> None:
    runs = [np.array([[30_000.0], [30_016.0], [30_048.0]], dtype=np.float16)] * 2
    bold = example["prepare"].stacked({"a": runs, "b": runs})
    assert bold.dtype == np.float64
    exact = np.array([30_000.0, 30_016.0, 30_048.0])
    np.testing.assert_allclose(bold[0, :3, 0], (exact - exact.mean()) / exact.std(), rtol=1e-12)


def test_only_what_was_heard_and_said_is_read(example: dict[str, ModuleType], small: Path) -> None:
    sentences = example["prepare"].read_sentences(small, 1)
    assert [(s.start_s, s.end_s, s.text) for s in sentences] == [
        (3.0, 4.0, 'Lauf, "Forrest"'), (10.0, 12.0, "Mein Name ist - Forrest."), (16.0, 17.0, "Gump!")
    ]  # fmt: skip
    assert [s.start_s for s in example["prepare"].read_sentences(small, 1, ("broadcast",))] == [16.0]


def test_words_share_their_sentence_evenly(example: dict[str, ModuleType]) -> None:
    prepare = example["prepare"]
    sentences = [
        prepare.Sentence(10.0, 12.0, "Mein Name ist - Forrest.", "speech"),
        prepare.Sentence(10.75, 11.75, "Forrest!", "speech"),
        prepare.Sentence(11.5, 12.5, "...", "speech"),
        prepare.Sentence(11.5, 11.7, "Ja", "speech"),
    ]
    assert prepare.estimated_words(sentences) == [
        Interval("Mein", 10.0, 10.5), Interval("Name", 10.5, 10.75), Interval("Forrest!", 10.75, 11.0),
        Interval("ist", 11.0, 11.5), Interval("Ja", 11.5, 11.7),
    ]  # fmt: skip
    assert prepare.estimated_words([]) == []


def test_the_textgrid_reads_back(example: dict[str, ModuleType], tmp_path: Path) -> None:
    words = (Interval("Grüß", 0.5, 1.0), Interval('"Gott"', 1.0, 2.25), Interval("Ende", 3.0, 60.0))
    path = tmp_path / "run.TextGrid"
    path.write_text(example["prepare"].textgrid(words, 60.0), encoding="utf-8")
    assert words_and_phones(path) == (words, ())
    tier = read_textgrid(path)["words"]
    assert (tier[0].start_s, tier[-1].end_s) == (0.0, 60.0)
    assert all(before.end_s == after.start_s for before, after in pairwise(tier))


def test_files_that_lack_or_do_not_fit_are_named(
    example: dict[str, ModuleType], small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = example["prepare"]
    for name in ("sub-03_avmovie_shen268.npz", "avmovie_speech_run-2_events.tsv", "avmovie_run-8_surrogate_tts.ogg"):
        folder = _copied(small, tmp_path / name, without=[name])
        assert prepare.main([str(folder), str(tmp_path / "out")]) == 2
        assert f"recordings is missing [{folder / name}]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    name = "sub-03_avmovie_shen268.npz"
    other = _copied(small, tmp_path / "other", without=[name])
    with np.load(small / name) as file:
        arrays = dict(file)
    np.savez(other / name, **{**arrays, "run5": arrays["run5"][:-1]})
    with pytest.raises(CorpusError, match=r"shape \(33, 4\) .*sub-03.*run5.*expected \(34, 4\): rows as sub-01"):
        prepare.read_people(other)
    np.savez(other / name, **{**arrays, "roi1": np.array([20, 21, 22, 23])})
    with pytest.raises(CorpusError, match="no parcel is common to all people"):
        prepare.read_people(other)

    torn = _copied(small, tmp_path / "torn", without=["avmovie_speech_run-1_events.tsv"])
    (torn / "avmovie_speech_run-1_events.tsv").write_text(HEADER + "1.0\tlang\tJENNY\t1\tspeech\tr\tHS\tJa\t\n")
    with pytest.raises(CorpusError, match=r"a sentence cannot be read: could not convert .*lang.*expected columns"):
        prepare.read_sentences(torn, 1)


def test_decibels_are_counted_from_below_the_loudest_frame(example: dict[str, ModuleType]) -> None:
    rms = np.array([0.5, 0.05, 0.5e-4, 0.5e-6, 0.0], dtype=np.float32)
    np.testing.assert_allclose(example["effects"].decibels(rms, "run1"), [80, 60, 0, 0, 0], atol=1e-4)
    with pytest.raises(CorpusError, match=r"no sound in a run's loudness \[run1\]"):
        example["effects"].decibels(np.zeros(3, np.float32), "run1")


def test_loudness_of_sound_is_that_of_its_frames(example: dict[str, ModuleType], small: Path) -> None:
    effects = example["effects"]
    true, again = effects.true_loudness_db(small)[0], effects.surrogate_loudness_db(small, 1)
    assert true.shape == again.shape == (1500,)
    assert np.corrcoef(true, again)[0, 1] > 0.9  # Vorbis is not exact


def test_a_planted_response_is_found_at_its_lag_and_predicted(example: dict[str, ModuleType], small: Path) -> None:
    effects = example["effects"]
    rng = np.random.default_rng(1)
    lengths = [80, 90, 300]
    courses = [np.repeat(rng.uniform(0, 60, n), 50) for n in lengths]
    rows = []
    for course, n in zip(courses, lengths, strict=True):
        response = np.convolve(course, effects.haemodynamic_response())[: len(course)]
        late_s = effects.row_centres_s(n) + 2.0
        planted = np.interp(late_s, effects.frame_centres_s(len(course)), response)
        rows.append(zscore(np.column_stack([planted, rng.standard_normal(n)])))
    bold = np.concatenate(rows)
    scan = effects.lag_scan(courses, bold, lengths)
    assert effects.LAGS_S[scan[:, 0].argmax()] == 2.0
    assert scan[:, 0].max() == pytest.approx(1.0, abs=1e-9)

    people = bold + 0.5 * rng.standard_normal((6, *bold.shape))
    people = np.stack([zscore(own, lengths) for own in people])
    features = effects.design(courses, lengths)
    assert features.shape == (470, 4)
    assert (features[[0, 80, 170]] == 0).all()  # delays never cross a run
    effect = effects.loudness_effect(features, people, lengths, n_permutations=199)
    assert effect.group_r[0] > 0.8 > 0.3 > abs(effect.group_r[1])
    assert effect.people_r.shape == (6, 2)
    assert effect.run_r.shape == (3, 2)
    assert fdr_bh(effect.chance.p).rejected.tolist() == [True, False]
    assert effect.flips.p[0] == effect.flips.smallest_p == 1 / 64


def test_a_run_is_predicted_from_the_others_only(example: dict[str, ModuleType]) -> None:
    effects = example["effects"]
    rng = np.random.default_rng(2)
    lengths = [40, 50, 60]
    features, bold = rng.standard_normal((150, 4)), zscore(rng.standard_normal((150, 3)), lengths)
    before = effects.leave_one_run_out(features, bold, lengths)
    changed = bold.copy()
    changed[40:90] = rng.standard_normal((50, 3))
    after = effects.leave_one_run_out(features, changed, lengths)
    np.testing.assert_array_equal(after[40:90], before[40:90])
    assert not np.allclose(after[:40], before[:40])


@pytest.fixture(scope="module")
def recorded(example: dict[str, ModuleType]) -> tuple[np.ndarray, list[int]]:
    """Responses of six people (n_people, n_trs, n_parcels), and the parcels."""
    people, parcels = example["prepare"].read_people(DATA)
    assert [len(run) for run in people["sub-04"]] == LENGTHS
    return example["prepare"].stacked(people), parcels


@needs_data
def test_people_share_what_they_are_known_to_share(
    example: dict[str, ModuleType], recorded: tuple[np.ndarray, list[int]]
) -> None:
    bold, parcels = recorded
    assert bold.shape == (6, 3599, 267)
    isc = example["prepare"].leave_one_out_isc(bold)
    mean = isc.mean(axis=0)
    assert 0.54 < mean.max() < 0.58
    assert parcels[mean.argmax()] == 210
    assert 0.11 < np.median(mean) < 0.13
    assert 0.65 < isc.max() < 0.72  # one person


@needs_data
def test_speech_drives_the_best_parcel_at_lag_0(
    example: dict[str, ModuleType], recorded: tuple[np.ndarray, list[int]]
) -> None:
    effects, (bold, parcels) = example["effects"], recorded
    group = zscore(bold.mean(axis=0), LENGTHS)
    loudness = effects.true_loudness_db(DATA)
    courses = effects.speech_boxcars(DATA, [len(course) for course in loudness])
    scan = effects.lag_scan(courses, group, LENGTHS, np.array([-6.0, -2.0, 0.0, 0.5, 2.0, 6.0]))
    assert scan[2].max() == pytest.approx(0.66, abs=0.015)
    assert parcels[scan[2].argmax()] == 210
    assert scan.max(axis=1).argmax() == 3
    assert scan[0].max() < 0.4 > scan[5].max() - 0.1


@needs_data
def test_true_loudness_predicts_runs_that_were_left_out(
    example: dict[str, ModuleType], recorded: tuple[np.ndarray, list[int]]
) -> None:
    """A tenth of the parcels, the best among them, so that the test takes seconds."""
    effects, (bold, parcels) = example["effects"], recorded
    chosen = sorted({parcels.index(56), parcels.index(210), *range(0, 267, 10)})
    features = effects.design(effects.true_loudness_db(DATA), LENGTHS)
    effect = effects.loudness_effect(features, bold[:, :, chosen], LENGTHS, n_permutations=999)
    best = int(effect.group_r.argmax())
    assert parcels[chosen[best]] == 56
    assert effect.group_r[best] == pytest.approx(0.54, abs=0.02)
    assert effect.run_r[:, best].min() > 0.3
    assert effect.people_r[:, best].min() > 0.2
    assert effect.chance.p[best] == effect.chance.smallest_p
    assert 0 < fdr_bh(effect.chance.p).rejected.mean() < 0.3
    assert not (effect.group_r > noise_ceiling(bold)[chosen]).any()


@needs_data
def test_speech_of_the_corpus_predicts_a_run_that_was_left_out(example: dict[str, ModuleType], tmp_path: Path) -> None:
    """Word rate of estimated words, the group, three of the eight runs: 6 and 7 are fitted, 8 is predicted."""
    description = example["prepare"].prepare(DATA, tmp_path / "data")
    chosen = yaml.safe_load(description.read_text())
    chosen["subjects"] = {"group": chosen["subjects"]["group"]}
    chosen["subjects"]["group"]["runs"] = chosen["subjects"]["group"]["runs"][5:]
    chosen["stories"] = dict(list(chosen["stories"].items())[5:])
    description.write_text(yaml.safe_dump(chosen))
    corpus = open_corpus(read_folder(tmp_path / "data", destination=tmp_path / "corpus"))
    assert [len(corpus.story(f"avmovie_run-{run}").words) for run in (6, 7, 8)] == [1254, 1441, 614]
    source = baseline_features("word-rate", corpus)
    measured, pieces, results = align(corpus, "group", {"word-rate": source}, AlignmentSettings())
    assert [run.story for run in pieces] == ["avmovie_run-8"]
    r = pearson_r(results["word-rate"].prediction, measured)
    assert r[corpus.region("group", "shen-210")[0]] > 0.55
    assert r.max() < 0.75


def test_documented_commands_are_understood() -> None:
    """Every command of docs/forrest.md: its options exist, and the script that it runs."""
    block = (CHECKOUT / "docs" / "forrest.md").read_text().split("```sh\n", 1)[1].split("```", 1)[0]
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    ours = [shlex.split(line)[1:] for line in lines if line.startswith("brain-tuning ")]
    assert [args[0] for args in ours] == ["corpus", "corpus", "align"]
    for args in ours:
        assert callable(_parser().parse_args(args).run)
    scripts = [shlex.split(line)[1] for line in lines if line.startswith("python ")]
    assert scripts == [f"examples/forrest/{name}.py" for name in ("prepare", "effects", "figures")]
    assert all((CHECKOUT / script).is_file() for script in scripts)


def test_the_table_never_says_that_chance_is_excluded(example: dict[str, ModuleType]) -> None:
    """The least p of 10,000 orders is 0.0001, which three digits would show as 0."""
    row = {"model": "word-rate", "r": 0.25}
    rows = [{**row, "region": "all", "p": 1 / 10_001}, {**row, "region": "shen-002", "p": 0.0034}]
    arrays = {"r/word-rate": np.array([0.1, 0.4]), "p/word-rate": np.array([0.5, 0.01])}
    lines = example["figures"].table(rows, arrays, [1, 2]).splitlines()
    assert lines[2] == "| word-rate | 0.250 (p < 0.001) | 0.250 (p 0.003) | shen-002 0.40 | 1 | 1 |"

"""The worked example on real recordings (docs/alice.md): what must come out, in seconds instead of minutes.

Real BOLD, but surrogate audio: no number here says how well a model of the true recording would do.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from brain_tuning.analysis.alignment import AlignmentSettings
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.cli import _parser
from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.readers.folder import read_folder
from brain_tuning.encoding.scores import zscore
from brain_tuning.errors import CorpusError
from brain_tuning.features.low_level import baseline_features
from brain_tuning.tuning.recipe import load_recipe

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples" / "alice"
DATA = CHECKOUT.parent / "shared" / "data" / "fmri_alice"
needs_data = pytest.mark.skipif(
    not (DATA / "alice_roi_timeseries.npz").is_file(),
    reason="the Alice recordings are not in ../shared/data/fmri_alice beside the checkout",
)
WORD_RATE, BOTH = "word-rate", "envelope+word-rate"


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The example's scripts, imported as they import each other."""
    names = ("prepare", "published", "figures")
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def corpus(example: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Group and three people, the recording whole."""
    root = tmp_path_factory.mktemp("alice")
    description = example["prepare"].prepare(DATA, root / "data")
    chosen = yaml.safe_load(description.read_text())
    chosen["subjects"] = {name: chosen["subjects"][name] for name in ("group", "s23", "s35")}
    description.write_text(yaml.safe_dump(chosen))
    return open_corpus(read_folder(root / "data", destination=root / "corpus"))


@pytest.fixture(scope="module")
def group(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Results of the group: model -> region -> row."""
    return _aligned(corpus, "group", ("envelope", WORD_RATE, BOTH))


def _aligned(corpus: Corpus, subject: str, baselines: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    job = EvaluationJob(
        str(corpus.path), subject, (), corpus.path.parent / subject, baselines,
        settings=AlignmentSettings(cross_validate=5),
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    results = evaluate_models(job)
    assert results["corpus"]["surrogate_audio"] is True
    for row in results["rows"]:
        found.setdefault(row["model"], {})[row["region"]] = row
    return found


@needs_data
def test_rows_lie_20_s_plus_2_s_a_row_after_the_onset(example: dict[str, ModuleType]) -> None:
    """user-pains 10: the published word rate is ours sampled there; half a TR off, either way, fits worse."""
    published = example["published"]
    lags_s = np.round(np.arange(-1, 1.001, 0.05), 2)
    for moment, starts_s in published.word_times_s(DATA).items():
        r = published.lag_scan(starts_s, published.regressors(DATA)["word rate"], lags_s)
        assert r.max() > 0.989, moment
        assert abs(lags_s[r.argmax()]) <= 0.15, moment
        assert max(r[0], r[-1]) < 0.96, moment


def test_high_pass_removes_what_is_slower_and_keeps_what_is_faster(example: dict[str, ModuleType]) -> None:
    n = np.arange(362)
    slow, fast = np.cos(np.pi * (2 * n + 1) * 11 / 724), np.cos(np.pi * (2 * n + 1) * 12 / 724)  # 132 s, 121 s
    both = (3.0 + slow + fast)[:, None]
    np.testing.assert_allclose(example["prepare"].high_pass(both, 128.0)[:, 0], fast, atol=1e-9)
    assert example["prepare"].high_pass(both, 0) is both


@needs_data
def test_what_is_prepared_is_what_was_recorded(corpus: Corpus, example: dict[str, ModuleType]) -> None:
    (run,) = corpus.runs("s23")
    assert (run.n_trs, run.tr_s, run.onset_s) == (362, 2.0, 20.0)
    assert list(run.tr_times_s[[0, -1]]) == [21.0, 743.0]
    assert len(corpus.story("alice_ch1").words) == 2127
    with np.load(DATA / "alice_roi_timeseries.npz", allow_pickle=False) as arrays:
        lifg_6mm = arrays["roi_6mm"][list(arrays["subjects"]).index("23"), :, 5]
    stored = corpus.bold(run)[:, corpus.region("s23", "LIFG-6mm")]
    assert np.corrcoef(stored[:, 0], example["prepare"].high_pass(lifg_6mm[:, None], 128.0)[:, 0])[0, 1] > 1 - 1e-9
    assert corpus.region("s23", "all-6mm").tolist() == [6, 7, 8, 9, 10, 11]


@needs_data
def test_word_rate_and_envelope_predict_the_group(group: dict[str, dict[str, Any]]) -> None:
    """Brennan et al. 2016: word rate and sound power predict all six regions; here of surrogate audio."""
    word_rate = {region: row["r"] for region, row in group[WORD_RATE].items()}
    assert min(word_rate.values()) > 0.25
    assert 0.31 < word_rate["all-10mm"] < 0.39
    assert 0.38 < word_rate["all-6mm"] < 0.46
    envelope = {region: row["r"] for region, row in group["envelope"].items()}
    assert min(r for region, r in envelope.items() if region.endswith("-6mm")) > 0.05
    assert 0.10 < envelope["all-10mm"] < envelope["all-6mm"] < 0.30
    assert envelope["LIFG-10mm"] < 0.05  # the one region the envelope does not reach
    # Side by side with the envelope, word rate loses: one penalty for both, and no more to explain.
    assert envelope["all-6mm"] < group[BOTH]["all-6mm"]["r"] < word_rate["all-6mm"]


@needs_data
def test_baselines_side_by_side_are_the_baselines(corpus: Corpus) -> None:
    times_s = corpus.runs("group")[0].tr_times_s
    both, seen = baseline_features("word-rate+word-rate", corpus)("alice_ch1", times_s)
    alone, _ = baseline_features("word-rate", corpus)("alice_ch1", times_s)
    np.testing.assert_array_equal(both, np.repeat(alone, 2, axis=1))
    assert seen.all()
    with pytest.raises(CorpusError, match=r"no baseline 'rate'; expected one of envelope, .* or several joined by \+"):
        baseline_features("envelope+rate", corpus)


@needs_data
def test_order_of_regions_is_that_of_the_published_word_rate(
    group: dict[str, dict[str, Any]], corpus: Corpus, example: dict[str, ModuleType]
) -> None:
    columns = corpus.meta["extra"]["columns"]["group"]
    published = example["published"].published_r(DATA)["word rate"]
    ours = np.array([group[WORD_RATE][column]["r"] for column in columns])
    for radius in (slice(0, 6), slice(6, 12)):
        assert spearmanr(ours[radius], published[radius]).statistic > 0.7
    assert ours.mean() < published.mean()  # held out against in sample


@needs_data
def test_a_person_is_noisier_than_the_group_and_below_the_group_ceiling(
    corpus: Corpus, group: dict[str, dict[str, Any]]
) -> None:
    for person in ("s23", "s35"):
        row = _aligned(corpus, person, (WORD_RATE,))[WORD_RATE]["all-6mm"]
        assert 0.05 < row["r"] < group[WORD_RATE]["all-6mm"]["r"]
    assert all(row["r"] < row["ceiling"] < 0.95 for row in group[WORD_RATE].values())


@needs_data
def test_a_constant_person_is_left_out_and_would_be_refused(
    corpus: Corpus, example: dict[str, ModuleType], tmp_path: Path
) -> None:
    """user-pains 2 and 3: person 33 is zero throughout; that stops nothing, is said, and is in no mean."""
    people, _ = example["prepare"].read_people(DATA)
    assert len(people) == 20
    assert [name for name, bold in people.items() if not example["prepare"].is_alive(bold)] == ["s33"]
    assert not people["s33"].any()
    description = yaml.safe_load(example["prepare"].prepare(DATA, tmp_path / "data").read_text())
    assert set(description["subjects"]) == {"group", *people} - {"s33"}
    assert any("the 19 people" in note and note.endswith("being constant: s33") for note in description["notes"])
    alive = np.stack([zscore(bold) for name, bold in people.items() if name != "s33"])
    stored = corpus.bold(corpus.runs("group")[0])
    np.testing.assert_allclose(zscore(stored), zscore(alive.mean(axis=0)), atol=1e-4)
    # The same folder with person 33 in it.
    header = (tmp_path / "data" / "s23.csv").read_text().splitlines()[0]
    np.savetxt(tmp_path / "data" / "s33.csv", people["s33"], "%.6g", ",", header=header, comments="")
    run = {**description["subjects"]["s23"]["runs"][0], "responses": "s33.csv"}
    description["subjects"] = {"s33": {"runs": [run]}}
    (tmp_path / "data" / "corpus.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(CorpusError, match=r"no voxel can be used.*constant.* \[subject s33\]"):
        read_folder(tmp_path / "data", destination=tmp_path / "corpus")


@needs_data
def test_pieces_for_tuning(example: dict[str, ModuleType], tmp_path: Path) -> None:
    """20 s lie between validation and test, so that haemodynamics do not reach over."""
    prepare = example["prepare"]
    assert prepare.main([str(DATA), str(tmp_path), "--pieces"]) == 0
    description = yaml.safe_load((tmp_path / "corpus.yaml").read_text())
    assert len(description["subjects"]) == 20
    spans = [
        (run["split"], run["first_tr"], run["first_tr"] + run["n_trs"])
        for run in description["subjects"]["s53"]["runs"]
    ]
    assert spans == [("train", 0, 240), ("validation", 240, 280), ("test", 290, 362)]
    assert (tmp_path / "alice_ch1.TextGrid").resolve() == (DATA / "alice_ch1.TextGrid").resolve()


def test_a_missing_file_is_named(
    example: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example["prepare"].main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "a file of the Alice recordings is missing [" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_documented_commands_are_understood() -> None:
    """Every command of docs/alice.md: its options exist, and the script that it runs."""
    block = (CHECKOUT / "docs" / "alice.md").read_text().split("```sh\n", 1)[1].split("```", 1)[0]
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    ours = [shlex.split(line)[1:] for line in lines if line.startswith("brain-tuning ")]
    assert [args[0] for args in ours] == ["corpus", "corpus", "corpus", "align", "align", "tune", "align"]
    for args in ours:
        assert callable(_parser().parse_args(args).run)
    scripts = [shlex.split(line)[1] for line in lines if line.startswith("python ")]
    assert len(scripts) == 4
    assert all((CHECKOUT / script).is_file() for script in scripts)


def test_the_recipe_is_valid() -> None:
    recipe = load_recipe(EXAMPLE / "recipe.yaml")
    assert recipe.loss == "mse"
    assert set(recipe.ours) <= set(recipe.to_dict())

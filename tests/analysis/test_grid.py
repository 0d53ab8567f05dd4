"""Subjects x models x layers x regions in one table, resumed where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from scipy import stats
from tiny_runs import BACKBONE, CHECKOUT, in_subprocess

from brain_tuning.analysis import evaluation
from brain_tuning.analysis.alignment import AlignmentSettings, align
from brain_tuning.analysis.command import format_table, format_tests
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.grid import evaluate_subjects, group_rows
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.analysis.significance import against_chance
from brain_tuning.corpus import Corpus, Run
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import (
    AdapterError,
    BackboneError,
    BrainTuningError,
    CorpusError,
    EncodingError,
    RegionError,
    StorageError,
    TimingError,
)
from brain_tuning.features.story import model_features
from brain_tuning.models import BrainWavLMForFMRIEncoding
from brain_tuning.timing import WindowPlan

SETTINGS = AlignmentSettings(delays_trs=(1, 2), penalties=(10.0, 1000.0))
PLAN = {"layer": 1, "context_s": 1.0, "stride_s": 4.0, "read": "all", "lanczos_lobes": 1}


def job_of(corpus: Corpus, output: Path, **values: Any) -> EvaluationJob:
    plain: dict[str, Any] = {"models": (), "regions": ("AC",), "settings": SETTINGS}
    return EvaluationJob(str(corpus.path), **{"subject": "s1", **plain, "output": output, **values})


@pytest.fixture(scope="module")
def table(corpus: Corpus, tuned_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("grid") / "out"
    job = job_of(
        corpus, output, models=(str(tuned_run),), layers=(0, 2), regions=("AC", "left & AC", "all - AC"),
        baselines=("word-rate",), n_permutations=50, features=output / "features",
    )  # fmt: skip
    rows = evaluate_subjects(job, ["s1", "s2"])
    assert json.loads((output / "table.json").read_text()) == rows
    return output


def rows_of(table: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(r["subject"], r["model"], r["region"]): r for r in json.loads((table / "table.json").read_text())}


def test_the_table_holds_every_combination(table: Path) -> None:
    rows = rows_of(table)
    labels = {
        "s1": {"untuned@0", "untuned@2", "tuned-AC@0", "tuned-AC@2", "word-rate"},
        "s2": {"untuned@0", "untuned@2", "tuned-AC-of-s1@0", "tuned-AC-of-s1@2", "word-rate"},
    }
    regions = ("AC", "left & AC", "all - AC")
    assert rows.keys() == {(s, m, region) for s, models in labels.items() for m in models for region in regions}
    columns = pq.read_table(table / "table.parquet").to_pylist()
    assert [(row["subject"], row["model"], row["region"]) for row in columns] == list(rows)
    for row, plain in zip(columns, rows.values(), strict=True):
        assert {key: value for key, value in row.items() if value is not None} == {
            key: value for key, value in plain.items() if value is not None
        }


def test_transfer_is_a_row_whose_model_was_tuned_on_another(table: Path) -> None:
    rows = rows_of(table)
    assert rows["s2", "tuned-AC-of-s1@2", "AC"]["tuned_on"] == "s1"
    assert rows["s1", "tuned-AC@2", "AC"]["tuned_on"] == "s1"
    assert rows["s1", "untuned@2", "AC"]["tuned_on"] is None
    assert rows["s1", "word-rate", "AC"]["layer"] is None


def test_a_region_is_an_expression(table: Path, corpus: Corpus) -> None:
    rows, stored = rows_of(table), corpus.regions("s1")
    assert rows["s1", "untuned@2", "left & AC"]["n_voxels"] == len(np.intersect1d(stored["left"], stored["AC"]))
    assert rows["s1", "untuned@2", "all - AC"]["n_voxels"] == corpus.n_voxels("s1") - len(stored["AC"])


def test_scores_are_those_of_the_layer(table: Path, corpus: Corpus) -> None:
    """Every layer of one pass equals the model that reads that layer alone."""
    stored = load_file(table / "s1" / "voxels.safetensors")
    model = BrainWavLMForFMRIEncoding.from_backbone(BACKBONE, **{**PLAN, "layer": 2})
    measured, _, found = align(corpus, "s1", {"two": model_features(model, corpus)}, SETTINGS)
    np.testing.assert_allclose(stored["r/untuned@2"], pearson_r(found["two"].prediction, measured), atol=1e-4)
    assert np.nanmax(np.abs(stored["r/untuned@2"] - stored["r/untuned@0"])) > 0.05
    # Nothing is tuned below the first layer.
    np.testing.assert_allclose(stored["r/tuned-AC@0"], stored["r/untuned@0"], atol=1e-6)


def test_tuned_is_tested_against_the_untuned_of_its_layer(table: Path) -> None:
    results = json.loads((table / "s1" / "results.json").read_text())
    assert {(row["model"], row["against"]) for row in results["comparisons"]} == {
        ("tuned-AC@0", "untuned@0"),
        ("tuned-AC@2", "untuned@2"),
    }
    rows = rows_of(table)
    for row in results["comparisons"]:
        tuned, untuned = (rows["s1", row[key], row["region"]] for key in ("model", "against"))
        assert row["difference"] == pytest.approx(tuned["r"] - untuned["r"], abs=1e-6)
        assert 1 / 51 <= row["p"] <= 1
        assert tuned["p_difference"] == row["p"]
    same = next(r for r in results["comparisons"] if r["model"] == "tuned-AC@0" and r["region"] == "AC")
    assert same["p"] > 0.5  # the same features
    stored = load_file(table / "s1" / "voxels.safetensors")
    assert stored["p/untuned@2"].shape == stored["r/untuned@2"].shape
    assert rows["s1", "word-rate", "AC"]["p"] >= 1 / 51


def test_it_goes_on_where_it_was_stopped(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished before Ctrl-C is not computed again, and the results are the same."""
    job = job_of(corpus, tmp_path / "stopped", baselines=("word-rate", "envelope", "phone-rate"))
    whole = evaluate_models(job_of(corpus, tmp_path / "whole", baselines=job.baselines))
    computed: list[str] = []
    real = evaluation.align_one

    def stopping(heard: Any, label: str, *rest: Any, **options: Any) -> Any:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(label)
        return real(heard, label, *rest, **options)

    monkeypatch.setattr(evaluation, "align_one", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(job)
    assert len(list((job.output / "parts").iterdir())) == 2
    assert not (job.output / "results.json").exists()
    computed.clear()
    resumed = evaluate_models(job)
    assert computed == ["phone-rate"]
    assert not (job.output / "parts").exists()
    assert resumed["rows"] == whole["rows"]
    monkeypatch.setattr(evaluation, "align_one", None)  # finished: nothing is computed
    assert evaluate_models(job) == resumed


def test_a_damaged_part_is_computed_anew(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(corpus, tmp_path / "out", baselines=("word-rate", "envelope"))
    real = evaluation._write

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(job)
    first, _ = sorted((job.output / "parts").iterdir())
    first.write_bytes(first.read_bytes()[:100])
    monkeypatch.setattr(evaluation, "_write", real)
    whole = evaluate_models(job_of(corpus, tmp_path / "whole", baselines=job.baselines))
    assert evaluate_models(job)["rows"] == whole["rows"]


def test_other_settings_are_another_evaluation(corpus: Corpus, tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "out", baselines=("word-rate",))
    first = evaluate_models(job)
    settings = AlignmentSettings(delays_trs=(3,), penalties=(10.0, 1000.0))
    second = evaluate_models(job_of(corpus, tmp_path / "out", baselines=("word-rate",), settings=settings))
    assert first["rows"] != second["rows"]


def test_a_model_with_another_head_is_another_evaluation(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    """Its features are the same, what its head predicts is not."""
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model", adapter="all")
    with torch.no_grad():
        next(iter(model.head.parameters())).mul_(-1.5)
    model.save_pretrained(tmp_path / "other")
    first = evaluate_models(job_of(corpus, tmp_path / "out", models=(str(tuned_run),)))
    second = evaluate_models(job_of(corpus, tmp_path / "out", models=(str(tmp_path / "other"),)))
    assert first["rows"] == second["rows"]
    assert first["key"] != second["key"]
    assert first["head"] != second["head"]


def test_features_on_disk_serve_the_next_run(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"backbone": BACKBONE, "recipe_config": PLAN, "features": tmp_path / "features"}
    first = evaluate_models(job_of(corpus, tmp_path / "first", layers=(1, 2), **values))
    monkeypatch.setattr(BrainWavLMForFMRIEncoding, "layer_features", None)
    monkeypatch.setattr(BrainWavLMForFMRIEncoding, "story_features", None)
    again = evaluate_models(job_of(corpus, tmp_path / "again", layers=(1, 2), **values))
    assert again["rows"] == first["rows"]


def test_a_plan_replaces_the_models_windows(corpus: Corpus, tmp_path: Path) -> None:
    plan = WindowPlan(1.0, 2.0, "last")
    job = job_of(corpus, tmp_path / "out", backbone=BACKBONE, recipe_config=PLAN, plan=plan)
    results = evaluate_models(job)
    assert results["models"]["untuned"]["window"] == {"context_s": 1.0, "stride_s": 2.0, "read": "last"}
    same = {**PLAN, "context_s": 1.0, "stride_s": 2.0, "read": "last"}
    alone = evaluate_models(job_of(corpus, tmp_path / "alone", backbone=BACKBONE, recipe_config=same))
    assert results["rows"] == alone["rows"]


def test_two_processes_give_what_one_gives(corpus: Corpus, tmp_path: Path) -> None:
    """Each takes its share of the stories, then of the sets of features.

    ``--cpu --num_processes 2`` would silently run one; this is what runs two.
    """
    options = [
        *("--corpus", str(corpus.path), "--subject", "s1", "--backbone", BACKBONE, "--context-s", "1"),
        *("--stride-s", "4", "--layer", "0", "--layer", "1", "--baseline", "word-rate", "--region", "AC"),
        *("--delays", "1", "2", "--penalties", "10", "1000"),
    ]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "no"]
    run = str(CHECKOUT / "evaluation" / "run.py")
    both = [*options, "--output", str(tmp_path / "two"), "--feature-cache", str(tmp_path / "features")]
    child = in_subprocess([*launch, "--main_process_port", "0", run, *both], ACCELERATE_USE_CPU="true")
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert out.count("results:") == 1
    child = in_subprocess([run, *options, "--output", str(tmp_path / "one")])
    err = child.communicate(timeout=300)[1]
    assert child.returncode == 0, err
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["rows"] for name in ("one", "two"))
    assert [(r["model"], r["region"]) for r in one] == [(r["model"], r["region"]) for r in two]
    np.testing.assert_allclose([r["r"] for r in one], [r["r"] for r in two], atol=1e-5)
    assert len(list((tmp_path / "features").glob("*/*.safetensors"))) == 2 * len(corpus.story_names())


def test_the_group_is_the_mean_of_the_subjects(table: Path) -> None:
    """Models tuned on oneself and on another are kept apart; two subjects make an interval, and a note."""
    rows = rows_of(table)
    group = {
        (r["model"], r["region"], r["tuned_on"], r["score"]): r for r in json.loads((table / "group.json").read_text())
    }
    both = group["untuned@2", "AC", None, "r"]
    assert both["mean"] == pytest.approx(np.mean([rows[s, "untuned@2", "AC"]["r"] for s in ("s1", "s2")]))
    assert (both["n_subjects"], both["n_values"]) == (2, 2)
    assert both["low"] < both["mean"] < both["high"]
    own = group["tuned-AC@2", "AC", "self", "difference"]
    assert own["mean"] == pytest.approx(rows["s1", "tuned-AC@2", "AC"]["difference"], abs=1e-6)
    assert (own["n_subjects"], own["low"]) == (1, None)
    assert own["notes"]
    other = group["tuned-AC@2", "AC", "other", "difference"]
    assert other["mean"] == pytest.approx(rows["s2", "tuned-AC-of-s1@2", "AC"]["difference"], abs=1e-6)


def test_seeds_are_replicates_within_a_subject() -> None:
    """Against the closed form of a balanced design: t interval over the subjects' means."""
    rng = np.random.default_rng(0)
    base = {"region": "AC", "layer": 9, "r_normalised": None}
    rows = [
        {**base, "subject": s, "model": "tuned-AC", "tuned_on": s, "r": 0.3 + 0.05 * k + 0.01 * rng.standard_normal()}
        for k, s in enumerate(("s1", "s2", "s3", "s4"))
        for _ in range(3)
    ]
    (row,) = group_rows(rows)
    means = [np.mean([r["r"] for r in rows if r["subject"] == s]) for s in ("s1", "s2", "s3", "s4")]
    assert row["mean"] == pytest.approx(np.mean(means))
    half = stats.t.ppf(0.975, 3) * np.std(means, ddof=1) / 2
    assert (row["low"], row["high"]) == pytest.approx((np.mean(means) - half, np.mean(means) + half), rel=1e-4)
    assert (row["n_subjects"], row["n_values"]) == (4, 12)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"layers": (7,)}, BackboneError, r"there is no layer 7 \[wavlm .*\]; expected 0, .* to 6, the last"),
        ({"regions": ("left & (AC",)}, RegionError, "left & "),
        ({"models": ("mine=nowhere",), "backbone": None}, BrainTuningError, "nowhere"),
        ({"models": ("mine=nowhere",)}, AdapterError, "a backbone is named beside tuned models"),
        ({"backbone": None, "baselines": ("envelope",), "layers": (1,)}, AdapterError, "and there is none; expected"),
        ({"baselines": ("word-vectors:gone.txt",)}, CorpusError, r"no such file of word vectors \[gone\.txt\]"),
        ({"plan": WindowPlan(4.0, 1e-4)}, TimingError, "no frame lies in the last stride_s=0.0001 of a window"),
        ({"layers": (9,), "features": Path("made-too-early")}, BackboneError, "there is no layer 9"),
        (
            {"settings": AlignmentSettings(delays_trs=(1, 500))},
            TimingError,
            r"a delay of 500 TRs is longer than every run; expected delays below \d+ TRs",
        ),
    ],
)
def test_mistakes_are_found_first(
    corpus: Corpus, tmp_path: Path, values: dict[str, Any], error: type[BrainTuningError], text: str
) -> None:
    with pytest.raises(error, match=text):
        evaluate_models(job_of(corpus, tmp_path / "out", **{"backbone": BACKBONE, "recipe_config": PLAN, **values}))
    assert not (tmp_path / "out").exists()
    assert not Path("made-too-early").exists()


@pytest.mark.parametrize(("file", "what"), [("corpus.json", "a corpus"), ("run.json", "that of a tuning run")])
def test_a_folder_of_another_kind_is_not_written_into(corpus: Corpus, tmp_path: Path, file: str, what: str) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(StorageError, match=rf"the output folder is {what} \["):
        evaluate_subjects(job_of(corpus, tmp_path, baselines=("envelope",)), ["s1"])
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("memory_mb", [0.0, -1.0, float("nan")])
def test_a_budget_of_nothing_is_refused(memory_mb: float) -> None:
    with pytest.raises(EncodingError, match=r"a budget of .* MiB; expected more than 0"):
        AlignmentSettings(memory_mb=memory_mb)


def test_subjects_are_named_once(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"subjects are named twice, or none is \[s1, s1\]"):
        evaluate_subjects(job_of(corpus, tmp_path / "out", baselines=("envelope",)), ["s1", "s1"])


def test_models_may_be_given_names(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    models = (f"first={tuned_run}", f"second={tuned_run / 'model'}")
    results = evaluate_models(job_of(corpus, tmp_path / "out", models=models))
    assert [row["model"] for row in results["rows"]] == ["untuned", "first", "second"]
    with pytest.raises(AdapterError, match="two models are both first"):
        evaluate_models(job_of(corpus, tmp_path / "no", models=(f"first={tuned_run}", f"first={tuned_run}")))


def test_many_models_stand_one_below_the_other() -> None:
    row = {"subject": "s1", "region": "AC", "n_voxels": 8, "r": 0.25, "r_normalised": None, "ceiling": 0.5}
    text = format_table([{**row, "model": f"untuned@{k}"} for k in range(6)]).splitlines()
    assert text[0].split() == ["subject", "region", "voxels", "model", "r", "(r/ceil)", "ceiling"]
    assert text[2].split() == ["s1", "AC", "8", "untuned@0", "0.250", "(-)", "0.500"]
    assert len(text) == 8


@pytest.mark.parametrize(("n_trs", "smallest"), [((200,), 1 / 501), ((60,), 1 / 60), ((100, 100), 1 / 501)])
def test_one_long_story_is_tested_more_finely_than_its_rotations_allow(n_trs: tuple[int, ...], smallest: float) -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((sum(n_trs), 3)).astype(np.float32)
    measured = signal + rng.standard_normal(signal.shape).astype(np.float32)
    measured[:, 2] = rng.standard_normal(len(measured))
    pieces = [Run("s1", f"story{k}", 0, 0, "test", 2.0, 0.0, n, 0) for k, n in enumerate(n_trs)]
    p, regions = against_chance(signal, measured, pieces, {"both": np.array([0, 1]), "none": np.array([2])}, 500)
    np.testing.assert_allclose(p[:2], smallest, rtol=1e-6)
    assert p[2] > 0.05
    how = "shuffled blocks of 20 TRs" if n_trs == (200,) else "rotated stories"
    assert regions["both"] == {"p": pytest.approx(smallest), "n_significant": 2, "p_by": how}
    assert regions["none"]["n_significant"] == 0


def test_tests_are_printed_by_region() -> None:
    row = {"subject": "s1", "region": "AC", "p": 0.0019, "n_significant": 7}
    gain = {"difference": 0.0312, "p_difference": 0.004, "n_better": 5, "n_worse": 0}
    text = format_tests([{**row, "model": "untuned"}, {**row, "model": "tuned-AC", **gain}]).splitlines()
    assert text[2].split() == ["s1", "AC", "untuned", "0.002", "7", "-", "-", "-", "-"]
    assert text[3].split() == ["s1", "AC", "tuned-AC", "0.002", "7", "0.031", "0.004", "5", "0"]

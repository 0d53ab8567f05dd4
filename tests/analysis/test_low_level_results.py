"""Low-level impact in results: rows by region, tables of all subjects, resumption, errors before the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from brain_tuning.analysis import evaluation
from brain_tuning.analysis.command import format_impact
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.grid import evaluate_subjects, group_impacts
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.corpus import Corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint


def job_of(corpus: Corpus, output: Path, **values: Any) -> EvaluationJob:
    return EvaluationJob(str(corpus.path), "s1", (), output, **values)


@pytest.fixture(scope="module")
def table(corpus: Corpus, tuned_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("impact") / "out"
    job = EvaluationJob(str(corpus.path), "s1", (str(tuned_run),), output, low_level_impact=("spectrum", "phones"))
    evaluate_subjects(job, ["s1", "s2"])
    return output


def test_results_hold_impact_of_tuned_and_untuned_by_region(corpus: Corpus, table: Path) -> None:
    results = json.loads((table / "s1" / "results.json").read_text())
    rows = {(row["model"], row["removed"], row["region"]): row for row in results["low_level_impact"]}
    regions = {row["region"] for row in results["rows"]}
    assert rows.keys() == {
        (model, removed, region)
        for model in ("untuned", "tuned-AC")
        for removed in ("spectrum", "phones")
        for region in regions
    }
    # What is removed is a set of features of its own, no model: it is not among the rows.
    assert {row["model"] for row in results["rows"]} == {"untuned", "tuned-AC"}
    for row in results["rows"]:
        assert rows[row["model"], "spectrum", row["region"]]["r"] == pytest.approx(row["r"], abs=1e-6)
        assert row["interval"] == "1 story; an interval needs 8"
    voxels = load_file(table / "s1" / "voxels.safetensors")
    left = voxels["r/tuned-AC without phones"][corpus.region("s1", "auditory-left")]
    expected = rows["tuned-AC", "phones", "auditory-left"]["r_without"]
    assert np.nanmean(left) == pytest.approx(expected, abs=1e-6)
    assert results["models"]["untuned without phones"]["without"]["baseline"] == "phones"
    assert results["corpus"]["fingerprint"] == corpus_fingerprint(corpus, "s1")


def test_auditory_alignment_is_low_level_and_semantic_alignment_less(table: Path) -> None:
    """The simulator's auditory voxels follow acoustics, its semantic ones word categories."""
    rows = json.loads((table / "low_level_impact.json").read_text())
    impact = {
        row["region"]: row["impact_percent"]
        for row in rows
        if (row["subject"], row["model"], row["removed"]) == ("s1", "untuned", "spectrum")
    }
    for region in ("auditory-left", "auditory-right"):
        assert 80 < impact[region] < 120
        assert impact[region] > impact["semantic-temporal"] + 30


def test_the_table_and_the_group_hold_all_subjects(table: Path) -> None:
    rows = json.loads((table / "low_level_impact.json").read_text())
    assert pq.read_table(table / "low_level_impact.parquet").to_pylist() == rows
    assert {row["subject"] for row in rows} == {"s1", "s2"}
    group = json.loads((table / "group.json").read_text())
    grouped = [row for row in group if row["score"] == "low_level_impact"]
    assert grouped == group_impacts(rows)
    pair = [
        row["impact_percent"]
        for row in rows
        if (row["model"], row["removed"], row["region"]) == ("untuned", "phones", "auditory-left")
    ]
    mean = next(r for r in grouped if (r["model"], r["removed"], r["region"]) == ("untuned", "phones", "auditory-left"))
    assert mean["mean"] == pytest.approx(np.mean(pair))
    assert mean["n_subjects"] == 2
    assert {row["tuned_on"] for row in grouped} == {None, "self", "other"}


def test_it_goes_on_where_it_was_stopped(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_runs import BACKBONE

    plan = {"layer": 1, "context_s": 1.0, "stride_s": 4.0, "read": "all", "lanczos_lobes": 1}
    values: dict[str, Any] = {"backbone": BACKBONE, "recipe_config": plan, "low_level_impact": ("phones", "envelope")}
    whole = evaluate_models(job_of(corpus, tmp_path / "whole", **values))
    computed: list[str] = []
    real = evaluation.align_one

    def stopping(heard: Any, label: str, *rest: Any, **options: Any) -> Any:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(label)
        return real(heard, label, *rest, **options)

    monkeypatch.setattr(evaluation, "align_one", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(job_of(corpus, tmp_path / "stopped", **values))
    assert computed == ["untuned", "untuned without phones"]
    computed.clear()
    resumed = evaluate_models(job_of(corpus, tmp_path / "stopped", **values))
    assert computed == ["untuned without envelope"]
    assert resumed["low_level_impact"] == whole["low_level_impact"]
    monkeypatch.setattr(evaluation, "align_one", None)  # finished: nothing is computed
    assert evaluate_models(job_of(corpus, tmp_path / "stopped", **values)) == resumed
    monkeypatch.setattr(evaluation, "align_one", real)
    less = evaluate_models(job_of(corpus, tmp_path / "stopped", **{**values, "low_level_impact": ("phones",)}))
    assert {row["removed"] for row in less["low_level_impact"]} == {"phones"}


def test_impact_stands_in_columns() -> None:
    row = {"subject": "s1", "region": "AC", "n_voxels": 80, "model": "untuned", "removed": "phones"}
    rows = [
        {**row, "r": 0.4, "r_without": 0.1, "impact_percent": 75.0, "low": 60.2, "high": 88.7},
        {**row, "r": None, "r_without": None, "impact_percent": None, "low": None, "high": None},
    ]
    assert format_impact(rows).splitlines() == [
        "subject  region  voxels  model    removed  r      r without  impact",
        "-------------------------------------------------------------------",
        "s1       AC      80      untuned  phones   0.400  0.100      75 % [60, 89]",
        "s1       AC      80      untuned  phones   -      -          -",
    ]

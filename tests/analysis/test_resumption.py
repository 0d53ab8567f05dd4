"""What an earlier run left is taken for what it is of, and for nothing else; mistakes come before the work."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_runs import BACKBONE

from brain_tuning.analysis import evaluation
from brain_tuning.analysis.alignment import AlignmentSettings
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.grid import evaluate_subjects, group_rows, write_table
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.corpus import Corpus
from brain_tuning.errors import AdapterError, BrainTuningError, CorpusError, EncodingError, RegionError, TimingError

SETTINGS = AlignmentSettings(delays_trs=(1, 2), penalties=(10.0, 1000.0))
PLAN = {"layer": 1, "context_s": 1.0, "stride_s": 4.0, "read": "all", "lanczos_lobes": 1}


def job_of(corpus: Corpus, output: Path, **values: Any) -> EvaluationJob:
    plain: dict[str, Any] = {"models": (), "regions": ("AC",), "settings": SETTINGS}
    return EvaluationJob(str(corpus.path), **{"subject": "s1", **plain, "output": output, **values})


@pytest.mark.parametrize("stopped", [False, True])
def test_other_windows_are_another_evaluation(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """The same weights read by another recipe have other features, whether the first run had finished or not."""
    first = job_of(corpus, tmp_path / "out", backbone=BACKBONE, recipe_config=PLAN)
    if stopped:

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(evaluation, "_write", stop)
            with pytest.raises(KeyboardInterrupt):
                evaluate_models(first)
        assert len(list((tmp_path / "out" / "parts").iterdir())) == 1
    else:
        evaluate_models(first)
    other = {**PLAN, "stride_s": 2.0}
    again = evaluate_models(job_of(corpus, tmp_path / "out", backbone=BACKBONE, recipe_config=other))
    alone = evaluate_models(job_of(corpus, tmp_path / "alone", backbone=BACKBONE, recipe_config=other))
    assert again["rows"] == alone["rows"]
    assert again["models"]["untuned"]["window"]["stride_s"] == 2.0


def test_results_without_their_voxels_are_not_finished(corpus: Corpus, tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "out", baselines=("word-rate",))
    first = evaluate_models(job)
    stored = (job.output / "voxels.safetensors").read_bytes()
    (job.output / "voxels.safetensors").unlink()
    assert evaluate_models(job)["rows"] == first["rows"]
    assert (job.output / "voxels.safetensors").read_bytes() == stored


def test_stopped_and_resumed_tables_are_the_same_bytes(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"baselines": ("word-rate", "envelope"), "n_permutations": 30}
    evaluate_subjects(job_of(corpus, tmp_path / "whole", **values), ["s1", "s2"])
    real, n_done = evaluation.align_one, 0

    def stopping(*given: Any, **options: Any) -> Any:
        nonlocal n_done
        n_done += 1
        if n_done in (2, 4):
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(evaluation, "align_one", stopping)
    for _ in range(2):  # within the first subject, then within the second
        with pytest.raises(KeyboardInterrupt):
            evaluate_subjects(job_of(corpus, tmp_path / "stopped", **values), ["s1", "s2"])
        assert not (tmp_path / "stopped" / "table.json").exists()
    evaluate_subjects(job_of(corpus, tmp_path / "stopped", **values), ["s1", "s2"])
    assert n_done == 6  # four sets of features, two of them begun twice
    for name in ("table.json", "table.parquet", "group.json", "s1/voxels.safetensors", "s2/voxels.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_table_of_one_subject_leaves_no_group_of_several(corpus: Corpus, tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "out", baselines=("word-rate",))
    evaluate_subjects(job, ["s1", "s2"])
    assert (tmp_path / "out" / "group.json").exists()
    evaluate_subjects(job, ["s2"])
    assert not (tmp_path / "out" / "group.json").exists()
    assert {row["subject"] for row in json.loads((tmp_path / "out" / "table.json").read_text())} == {"s2"}


def test_a_feature_set_asked_for_twice_is_one(corpus: Corpus, tmp_path: Path) -> None:
    results = evaluate_models(job_of(corpus, tmp_path / "out", baselines=("word-rate", "word-rate")))
    assert [row["model"] for row in results["rows"]] == ["word-rate"]
    assert results["options"]["baselines"] == ["word-rate"]


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"subjects": ("s1", "nobody")}, CorpusError, "no subject 'nobody'"),
        ({"n_permutations": -5}, EncodingError, "-5 permutations; expected at least 1, or 0"),
        (
            {"n_permutations": 50, "settings": AlignmentSettings(cross_validate=3)},
            EncodingError,
            r"cross-validated predictions would be far too small \[50 permutations with 3 blocks",
        ),
        ({"settings": AlignmentSettings(penalties=(1.0, -5.0))}, EncodingError, "penalties are not positive"),
        ({"settings": AlignmentSettings(delays_trs=(1, 1))}, TimingError, "twice"),
        ({"regions": ("AC", "broca")}, RegionError, "no region 'broca'"),
    ],
)
def test_mistakes_are_found_before_the_first_subject_is_computed(
    corpus: Corpus, tmp_path: Path, values: dict[str, Any], error: type[BrainTuningError], text: str
) -> None:
    lines: list[str] = []
    subjects = values.pop("subjects", ("s1", "s2"))
    with pytest.raises(error, match=text):
        evaluate_subjects(
            job_of(corpus, tmp_path / "out", baselines=("word-rate",), **values), subjects, report=lines.append
        )
    assert not lines
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_called_what_a_baseline_is(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "out", models=(f"word-rate={tuned_run}",), baselines=("word-rate",))
    with pytest.raises(
        AdapterError, match=r"two sets of features are both called word-rate \[labels untuned, word-rate"
    ):
        evaluate_models(job)


def test_cross_validation_of_a_tuned_model_says_what_it_is_not(
    corpus: Corpus, tuned_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = AlignmentSettings(delays_trs=(1, 2), cross_validate=3, n_folds=2, penalties=(10.0,))
    with caplog.at_level(logging.WARNING):
        results = evaluate_models(job_of(corpus, tmp_path / "cv", models=(str(tuned_run),), settings=settings))
    (note,) = results["notes"]
    assert note.startswith("cross-validation predicts all runs, those that tuned-AC may have been tuned on as well")
    assert note in caplog.text
    untuned = job_of(corpus, tmp_path / "untuned", backbone=BACKBONE, recipe_config=PLAN, settings=settings)
    assert evaluate_models(untuned)["notes"] == []
    assert evaluate_models(job_of(corpus, tmp_path / "test", models=(str(tuned_run),)))["notes"] == []


def test_seeds_of_a_model_are_replicates_and_not_models(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    """``LABEL#1`` and ``LABEL#2``: one row of the group, its values counted as of one subject."""
    base = {"region": "AC", "r_normalised": None}
    rows = [
        {**base, "subject": s, "model": f"tuned-of-{owner}#{seed}{at}", "tuned_on": owner, "layer": 2, "r": 0.1 * k + v}
        for k, s in enumerate(("s1", "s2", "s3"))
        for owner in ("s1", "s2", "s3")
        for seed, v in ((1, 0.0), (2, 0.02))
        for at in ("@2",)
    ]
    grouped = {row["tuned_on"]: row for row in group_rows(rows)}
    assert {row["model"] for row in grouped.values()} == {"tuned@2"}
    assert (grouped["self"]["n_subjects"], grouped["self"]["n_values"]) == (3, 6)
    assert (grouped["other"]["n_subjects"], grouped["other"]["n_values"]) == (3, 12)
    assert grouped["self"]["mean"] == pytest.approx(0.11)
    assert grouped["self"]["std_seeds"] == pytest.approx(0.02 / 2**0.5, rel=1e-3)
    models = (f"tuned#1={tuned_run}", f"tuned#2={tuned_run}")
    evaluate_subjects(job_of(corpus, tmp_path / "out", models=models), ["s1", "s2"])
    kept = [row for row in json.loads((tmp_path / "out" / "group.json").read_text()) if row["model"] == "tuned"]
    assert {(row["tuned_on"], row["n_values"], row["n_subjects"]) for row in kept} == {("self", 2, 1), ("other", 2, 1)}


def test_columns_have_one_type_in_every_table(tmp_path: Path) -> None:
    """A column that is null throughout must join with one that is not."""
    row = {"subject": "s1", "model": "m", "layer": None, "tuned_on": None, "r": None, "r_low": None, "n_voxels": 3}
    full = {**row, "layer": 2, "tuned_on": "s1", "r": 0.5, "r_low": 0.1}
    for name, one in (("empty", row), ("full", full)):
        write_table([one], tmp_path, name)
    empty, whole = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("empty", "full"))
    assert empty.schema == whole.schema
    assert pa.concat_tables([empty, whole]).to_pylist() == [row, full]

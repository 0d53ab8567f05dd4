"""results.json and voxels.safetensors: complete, strict, and the same numbers as everywhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_runs import BACKBONE, job_for

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.analysis.alignment import AlignmentSettings, align
from brain_tuning.analysis.command import format_table
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.corpus import Corpus
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import AdapterError, BackboneError, BrainTuningError, CorpusError, RegionError
from brain_tuning.features.low_level import baseline_features
from brain_tuning.tuning.loop import tune

SETTINGS = AlignmentSettings(delays_trs=(1, 2))
PLAN = {"layer": 1, "context_s": 1.0, "stride_s": 4.0, "read": "all", "lanczos_lobes": 1}
PLANTED = {
    *("auditory-left", "auditory-right", "phonetic-belt", "semantic-temporal"),
    *("semantic-inferior-frontal", "semantic-angular", "word-rate", "noise"),
}


def job_of(corpus: Corpus, output: Path, **values: Any) -> EvaluationJob:
    return EvaluationJob(
        **{"corpus": str(corpus.path), "subject": "s1", "models": (), "output": output, "settings": SETTINGS} | values
    )


def strict_json(path: Path) -> dict[str, Any]:
    """JSON as the standard has it: NaN and Infinity are errors."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return dict(json.loads(path.read_text(), parse_constant=refuse))


@pytest.fixture(scope="module")
def evaluated(corpus: Corpus, tuned_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluated") / "deep" / "results"
    evaluate_models(job_of(corpus, output, models=(str(tuned_run),), baselines=("envelope", "word-rate")))
    return output


def test_every_model_has_every_region(corpus: Corpus, evaluated: Path) -> None:
    """The untuned backbone is there without being asked for; mere selections of voxels are not reported."""
    results = strict_json(evaluated / "results.json")
    rows = {(row["model"], row["region"]): row for row in results["rows"]}
    models = {"untuned", "tuned-AC", "envelope", "word-rate"}
    assert rows.keys() == {(model, region) for model in models for region in PLANTED}
    for row in results["rows"]:
        assert set(row) == {
            *("subject", "region", "model", "layer", "tuned_on", "r", "r_normalised", "r2", "ceiling"),
            *("n_voxels", "n_unscored", "n_normalised", "r_low", "r_high", "interval"),
        }
        assert row["n_voxels"] == len(corpus.region("s1", row["region"]))
        assert row["n_unscored"] == (5 if row["region"] == "noise" else 0)


def test_rows_are_means_of_the_stored_voxels(corpus: Corpus, evaluated: Path) -> None:
    """User-pains 8: raw and normalised side by side, voxels below the ceiling's floor not normalised."""
    stored = load_file(evaluated / "voxels.safetensors")
    ceiling = corpus.noise_ceiling("s1")
    for row in strict_json(evaluated / "results.json")["rows"]:
        r = stored[f"r/{row['model']}"].astype(float)
        assert r.shape == (corpus.n_voxels("s1"),)
        inside = corpus.region("s1", row["region"])
        assert row["r"] == pytest.approx(np.nanmean(r[inside]), abs=1e-6)
        kept = inside[np.isfinite(r[inside]) & (ceiling[inside] >= 0.35)]
        assert row["n_normalised"] == len(kept)
        assert row["ceiling"] == pytest.approx(ceiling[kept].mean(), abs=1e-6)
        assert row["r_normalised"] == pytest.approx((r[kept] / ceiling[kept]).mean(), abs=1e-6)
    ledger = corpus.ledger("s1")
    np.testing.assert_array_equal(np.isnan(stored["r/untuned"]), ledger.status != "ok")


def test_correlations_are_those_of_the_alignment(corpus: Corpus, evaluated: Path) -> None:
    features = {"envelope": baseline_features("envelope", corpus)}
    measured, pieces, aligned = align(corpus, "s1", features, SETTINGS)
    stored = load_file(evaluated / "voxels.safetensors")
    np.testing.assert_allclose(stored["r/envelope"], pearson_r(aligned["envelope"].prediction, measured), atol=1e-6)
    np.testing.assert_array_equal(stored["tr_times_s"], pieces[0].tr_times_s)


def test_the_heads_predictions_are_the_models(corpus: Corpus, tuned_run: Path, evaluated: Path) -> None:
    stored = load_file(evaluated / "voxels.safetensors")
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model").eval()
    run = corpus.runs("s1", "test")[0]
    expected = model.predict(corpus.audio("test"), run.tr_times_s)
    np.testing.assert_allclose(stored["prediction/tuned-AC"], expected, atol=1e-5)
    voxels = corpus.region("s1", "AC")
    np.testing.assert_array_equal(stored["voxels/tuned-AC"], voxels)
    measured, _, _ = align(corpus, "s1", {}, SETTINGS)
    r = dict(zip(voxels, pearson_r(expected, measured[:, voxels]), strict=True))
    heads = strict_json(evaluated / "results.json")["head"]
    # Tuned on auditory cortex: its two sides, and no other planted region.
    assert {row["region"] for row in heads} == {"auditory-left", "auditory-right"}
    for row in heads:
        inside = corpus.region("s1", row["region"])
        assert row["n_voxels"] == len(inside)
        assert row["r"] == pytest.approx(np.mean([r[v] for v in inside]), abs=1e-5)


def test_the_untuned_baseline_is_the_backbone_alone(corpus: Corpus, tmp_path: Path, evaluated: Path) -> None:
    """Always beside the untuned model in the identical pipeline: from the command line it is the same."""
    alone = evaluate_models(job_of(corpus, tmp_path / "alone", backbone=BACKBONE, recipe_config=PLAN))
    assert {row["model"] for row in alone["rows"]} == {"untuned"}
    both = strict_json(evaluated / "results.json")
    assert [row for row in both["rows"] if row["model"] == "untuned"] == alone["rows"]
    assert alone["head"] == []


def test_everything_to_repeat_it_is_there(corpus: Corpus, evaluated: Path) -> None:
    """User-pains 5: which stories, which trims, which versions."""
    results = strict_json(evaluated / "results.json")
    assert results["subject"] == "s1"
    assert results["corpus"]["split"] == {
        "train": ["story00", "story01"], "validation": ["validation"], "test": ["test"],
    }  # fmt: skip
    assert results["corpus"]["n_test_repeats"] == 3
    assert results["corpus"]["trims"] == ["responses begin 10.025 s into the story"]
    assert results["corpus"]["tr_s"] == [2.0045]
    assert results["corpus"]["surrogate_audio"] is True
    assert results["corpus"]["ledger"] == corpus.ledger("s1").counts()
    assert results["settings"]["delays_trs"] == [1, 2]
    np.testing.assert_allclose(results["settings"]["penalties"], np.logspace(1, 4, 15) ** 2)
    tuned, untuned = results["models"]["tuned-AC"], results["models"]["untuned"]
    assert (tuned["subject"], tuned["roi"], tuned["recipe"], tuned["n_voxels"]) == ("s1", "AC", "small", 60)
    for key in ("backbone", "revision", "layer", "window"):
        assert tuned[key] == untuned[key]
    assert untuned["window"] == {"context_s": 1.0, "stride_s": 4.0, "read": "all"}
    assert {"torch", "transformers", "numpy", "python"} <= set(results["versions"])
    assert set(results["median_penalty"]) == {"untuned", "tuned-AC", "envelope", "word-rate"}


def test_a_model_of_one_window_a_tr_is_judged_beside_its_backbone_at_the_same_windows(
    corpus: Corpus, tmp_path: Path
) -> None:
    job = job_for(
        corpus, tmp_path / "run", epochs=1, history_trs=1, read="convolution", delays_trs=(0,),
        convolution={"channels": 4, "kernel_frames": 3, "stride_frames": 2},
    )  # fmt: skip
    tune(job)
    results = evaluate_models(job_of(corpus, tmp_path / "out", models=(str(job.output),)))
    window = {"context_s": 2.0045, "stride_s": 2.0045, "read": "all"}
    for described in results["models"].values():
        assert described["window"] == pytest.approx(window)
    plan = {"layer": 1, "lanczos_lobes": 1, **results["models"]["untuned"]["window"]}
    alone = evaluate_models(job_of(corpus, tmp_path / "alone", backbone=BACKBONE, recipe_config=plan))
    assert [row for row in results["rows"] if row["model"] == "untuned"] == alone["rows"]
    model = BrainWavLMForFMRIEncoding.from_pretrained(job.output / "model")
    run = corpus.runs("s1", "test")[0]
    stored = load_file(tmp_path / "out" / "voxels.safetensors")
    expected = model.predict(corpus.audio("test"), run.tr_times_s)
    np.testing.assert_allclose(stored["prediction/tuned-AC"], expected, atol=1e-5)


def test_another_subject_can_be_predicted_by_the_same_model(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "s2", models=(str(tuned_run / "model"),), regions=("AC", "all"))
    rows = evaluate_models(EvaluationJob(**{**vars(job), "subject": "s2"}))["rows"]
    assert {(row["subject"], row["region"]) for row in rows} == {("s2", "AC"), ("s2", "all")}
    assert next(row["n_voxels"] for row in rows if row["region"] == "all") == corpus.n_voxels("s2")


def test_cross_validation_scores_every_block(corpus: Corpus, tmp_path: Path, tuned_run: Path) -> None:
    settings = AlignmentSettings(delays_trs=(1, 2), cross_validate=3, n_folds=2, penalties=(10.0,))
    job = job_of(corpus, tmp_path / "cv", models=(str(tuned_run),), baselines=("word-rate",), settings=settings)
    results = evaluate_models(job)
    assert results["head"] == []  # the head has seen most of these stories
    assert results["settings"]["cross_validate"] == 3
    stored = load_file(tmp_path / "cv" / "voxels.safetensors")
    n_trs = sum(run.n_trs for run in corpus.runs("s1") if run.repeat == 0)
    assert len(stored["tr_times_s"]) == n_trs
    assert np.isfinite(stored["r/word-rate"][corpus.ledger("s1").usable]).all()
    assert "prediction/tuned-AC" not in stored


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        (
            {},
            AdapterError,
            "there is nothing to evaluate; expected a tuned model, a baseline or a backbone; remedy: pass",
        ),
        ({"baselines": ("meaning",)}, CorpusError, "there is no baseline 'meaning'; expected one of envelope"),
        ({"baselines": ("envelope",), "subject": "s9"}, CorpusError, "no subject 's9'"),
        (
            {"baselines": ("envelope",), "regions": ("broca",)},
            RegionError,
            "no region 'broca' [subject s1]; expected one of",
        ),
        ({"backbone": "no/such-backbone"}, BackboneError, "the backbone cannot be loaded [no/such-backbone]"),
    ],
)
def test_mistakes_are_found_before_anything_is_computed(
    corpus: Corpus, tmp_path: Path, values: dict[str, Any], error: type[BrainTuningError], text: str
) -> None:
    lines: list[str] = []
    with pytest.raises(error) as caught:
        evaluate_models(job_of(corpus, tmp_path / "out", **values), report=lines.append)
    assert text in str(caught.value)
    assert not lines
    assert not (tmp_path / "out").exists()


def test_models_that_share_no_baseline_are_refused(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "other", roi="left", epochs=1, stride_s=2.0, block_trs=16)
    tune(job)
    with pytest.raises(AdapterError, match="differ in backbone, layer or window plan; expected models that share one"):
        evaluate_models(job_of(corpus, tmp_path / "out", models=(str(tuned_run), str(job.output))))
    with pytest.raises(AdapterError, match=r"two models are both tuned-AC \[.*tuned-ac\]"):
        evaluate_models(job_of(corpus, tmp_path / "out", models=(str(tuned_run), str(tuned_run))))


def test_a_run_that_is_not_finished_is_named(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes((tuned_run / "run.json").read_bytes())
    with pytest.raises(AdapterError, match=r"the run has no tuned model yet \[.*run\]; .*remedy: .*--resume"):
        evaluate_models(job_of(corpus, tmp_path / "out", models=(str(tmp_path / "run"),)))


def test_the_table_stands_in_columns() -> None:
    row = {"subject": "s1", "region": "AC", "n_voxels": 80, "ceiling": 0.9}
    rows = [
        {**row, "model": "untuned", "r": 0.2, "r_normalised": 0.25},
        {**row, "model": "tuned-AC", "r": 0.31, "r_normalised": None},
        {**row, "region": "noise", "model": "untuned", "r": None, "r_normalised": None, "ceiling": None},
    ]
    assert format_table(rows).splitlines() == [
        "subject  region  voxels  untuned r (r/ceil)  tuned-AC r (r/ceil)  ceiling",
        "-------------------------------------------------------------------------",
        "s1       AC      80      0.200 (0.250)       0.310 (-)            0.900",
        "s1       noise   80      - (-)               -                    -",
    ]
    assert format_table([{**rows[0], "truth": 0.95}]).splitlines()[2].endswith("0.900    0.950")

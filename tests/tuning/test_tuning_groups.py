"""Several subjects tuned together: one pass of the backbone for all of them, an adapter for each in the end."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_processes import LAUNCH, QUIET
from test_resume import wait_for_steps
from tiny_runs import arguments, in_subprocess, metrics, small_recipe

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.analysis.alignment import AlignmentSettings
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.corpus import Corpus, Run, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import AdapterError
from brain_tuning.models import adapters, encoders
from brain_tuning.models.convolutions import convolve
from brain_tuning.models.group_head import READOUTS
from brain_tuning.tuning.data import BlockDataset, hearings
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tune
from brain_tuning.tuning.selection import validation_score

RATE = 16_000
N_VOXELS = {"s1": 8, "s.2": 6}
#: subject -> training stories; s.2 missed one
HEARD = {"s1": ("a", "b", "c"), "s.2": ("a", "c")}
LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.3, "target_modules": ["q_proj", "v_proj"]}


def written(folder: Path, n_voxels: dict[str, int]) -> Corpus:
    """A corpus of noise in which one of two subjects missed a story, and all responses follow the audio's loudness."""
    rng = np.random.default_rng(0)
    loudness = {name: rng.uniform(0.02, 0.2, size=20) for name in ("a", "b", "c", "validation", "test")}
    stories = [
        StoryInput(name, (np.repeat(level, 2 * RATE) * rng.standard_normal(40 * RATE)).astype(np.float32))
        for name, level in loudness.items()
    ]

    def run(name: str, n: int, split: str) -> RunInput:
        felt = np.convolve(loudness[name], [0, 0.5, 0.5])[:18, None] * np.linspace(1, 2, n)
        return RunInput(name, 0, 0, split, 2.0, 0.0, felt * 20 + rng.standard_normal((18, n)) * 0.3)

    subjects = [
        SubjectInput(
            s, n, [*(run(name, n, "train") for name in HEARD[s]), *(run(x, n, x) for x in ("validation", "test"))]
        )
        for s, n in n_voxels.items()
    ]
    return open_corpus(
        write_corpus(folder / "corpus", name="two", source="x", licence="x", stories=stories, subjects=subjects)
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return written(tmp_path_factory.mktemp("pair"), N_VOXELS)


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """As ``pair``, on a common surface of eight vertices."""
    return written(tmp_path_factory.mktemp("surface"), {"s1": 8, "s.2": 8})


def job_of(
    corpus: Corpus, output: Path, *, subject: Any = ("s1", "s.2"), save_every: int = 200, **recipe: Any
) -> TuningJob:
    plain = {"lora": LORA, "epochs": 3, "block_trs": 8, "learning_rate_adapter": 1e-3, "learning_rate_head": 1e-2}
    return TuningJob(
        small_recipe(**{**plain, **recipe}), str(corpus.path), subject, "all", output, save_every=save_every
    )


def started(job: TuningJob, corpus: Corpus) -> tuple[BrainWavLMForFMRIEncoding, BlockDataset]:
    """The model and the data that a job begins with."""
    torch.manual_seed(job.recipe.seed)
    voxels = {s: corpus.ledger(s).usable for s in job.subjects}
    model = build_model(job.recipe, job, voxels, tr_s=2.0)
    runs = {s: corpus.runs(s, "train") for s in job.subjects}
    recipe = job.recipe
    return model, BlockDataset(corpus, runs, voxels, model.config, block_trs=recipe.block_trs, seed=recipe.seed)


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in metrics(output)]


# Which runs are heard together


def run_of(subject: str, **values: Any) -> Run:
    plain = {"story": "a", "run": 0, "repeat": 0, "split": "train", "tr_s": 2.0, "onset_s": 0.0, "n_trs": 9}
    return Run(subject=subject, first_row=0, **{**plain, **values})


def test_runs_on_one_grid_are_heard_together_and_others_are_not() -> None:
    s1 = [run_of("s1"), run_of("s1", repeat=1), run_of("s1", story="b")]
    s2 = [run_of("s2", onset_s=2.0), run_of("s2", run=3), run_of("s2", story="b", n_trs=8)]
    found = hearings({"s1": s1, "s2": s2})
    assert [heard.runs for heard in found] == [
        {"s1": s1[0], "s2": s2[1]}, {"s1": s1[1]}, {"s1": s1[2]}, {"s2": s2[0]}, {"s2": s2[2]},
    ]  # fmt: skip
    assert found[0].first is s1[0]


def test_repeats_go_together_in_order() -> None:
    runs = {s: [run_of(s, repeat=k) for k in range(n)] for s, n in (("s1", 2), ("s2", 3))}
    found = hearings(runs)
    assert [heard.runs for heard in found] == [
        {"s1": runs["s1"][0], "s2": runs["s2"][0]}, {"s1": runs["s1"][1], "s2": runs["s2"][1]}, {"s2": runs["s2"][2]},
    ]  # fmt: skip


def test_a_block_holds_the_responses_of_those_who_heard_it(pair: Corpus, tmp_path: Path) -> None:
    _, data = started(job_of(pair, tmp_path), pair)
    assert not data.all_hear_all
    assert [list(heard.runs) for heard in data.hearings] == [["s1", "s.2"], ["s1"], ["s1", "s.2"]]
    assert len(data) == 3 * 2
    for index, block in enumerate(data.blocks):
        item, heard = data[index], data.hearings[block.hearing]
        assert set(item["labels"]) == set(heard.runs)
        for subject, run in heard.runs.items():
            rows = slice(block.first_tr, block.first_tr + block.n_trs)
            np.testing.assert_array_equal(item["labels"][subject].numpy(), zscore(pair.bold(run))[rows])
    _, alone = started(job_of(pair, tmp_path, subject="s1"), pair)
    assert alone.all_hear_all
    assert isinstance(alone[0]["labels"], torch.Tensor)


# Tuning


@pytest.mark.parametrize("readout", ["own", "shared_basis"])
def test_the_backbone_runs_once_for_all_and_the_loss_is_the_mean(
    pair: Corpus, tmp_path: Path, readout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(pair, tmp_path, lora={**LORA, "lora_dropout": 0.0}, readout=readout)
    model, data = started(job, pair)
    calls: list[int] = []
    monkeypatch.setattr(encoders, "convolve", lambda *a: (calls.append(1), convolve(*a))[1])
    model.train()
    for index in range(len(data)):
        batch = data[index]
        calls.clear()
        with torch.no_grad():
            found = model(**batch).loss
        # The stem takes windows one at a time, each of them once.
        assert len(calls) == sum(len(group) for group in batch["input_values"])
        singles = []
        for subject, bold in batch["labels"].items():
            with torch.no_grad():
                singles.append(model(**{**batch, "labels": {subject: bold}}).loss)
        torch.testing.assert_close(found, torch.stack(singles).mean(), rtol=0, atol=0)


@pytest.fixture(scope="module")
def tuned_pair(pair: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = job_of(pair, tmp_path_factory.mktemp("tuned") / "run", epochs=8)
    tune(job)
    return job.output


def test_two_subjects_one_of_whom_missed_a_story(pair: Corpus, tuned_pair: Path) -> None:
    found = losses(tuned_pair)
    assert len(found) == 8 * 6
    assert np.mean(found[-6:]) < np.mean(found[:6]) - 0.1
    described = json.loads((tuned_pair / "run.json").read_text())
    assert (described["subject"], described["subjects"]) == ("s1+s.2", ["s1", "s.2"])
    assert (described["n_voxels"], described["n_voxels_by_subject"]) == (14, {"s1": 8, "s.2": 6})
    assert described["adapter"] == "together-all"
    assert described["corpus"]["splits"]["train"] == ["a", "b", "c"]
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_pair / "model", adapter="all")
    assert model.config.default_adapter == "s1-all"
    said = {"readout": "own", "roi": "all", "recipe": "small", "tuned_with": ["s1", "s.2"]}
    assert model.config.adapters == {
        "s1-all": {"n_voxels": 8, "subject": "s1", **said}, "s-2-all": {"n_voxels": 6, "subject": "s.2", **said},
    }  # fmt: skip


def test_the_adapters_left_are_those_that_were_tuned(pair: Corpus, tuned_pair: Path) -> None:
    """Every tensor of the last checkpoint is in the model, under each subject's name."""
    stored = load_file(tuned_pair / "checkpoints" / "step-00000048" / "tuned.safetensors")
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_pair / "model", adapter="all")
    for k, name in enumerate(("s1-all", "s-2-all")):
        own = adapters.adapter_parameters(model.backbone, name)
        assert len(own) == 4
        for key, value in own.items():
            assert torch.equal(value, stored["backbone." + adapters.renamed(key, "together-all")])
        for key, value in model.heads[name].state_dict().items():
            member = 0 if key.startswith("norm.") else k  # statistics over time are shared
            assert torch.equal(value, stored[f"heads.together-all.members.{member}.{key}"]), key
    assert len(stored) == 4 + 2 * 5 + 3


@pytest.mark.parametrize("readout", ["shared_basis", "shared"])
def test_what_is_shared_while_tuning_is_shared_in_the_end(surface: Corpus, tmp_path: Path, readout: str) -> None:
    job = job_of(surface, tmp_path / "run", readout=readout, epochs=2)
    model = BrainWavLMForFMRIEncoding.from_pretrained(tune(job), adapter="all")
    if readout == "shared":
        assert list(model.heads) == ["group-all"]
        assert model.config.adapters["group-all"]["subject"] == "group"
        assert model.config.adapters["group-all"]["tuned_with"] == ["s1", "s.2"]
    else:
        one, other = model.heads["s1-all"], model.heads["s-2-all"]
        assert torch.equal(one.bottleneck.weight, other.bottleneck.weight)
        assert not torch.equal(one.readout.weight, other.readout.weight)


def test_one_head_for_all_needs_a_common_surface(pair: Corpus, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"one readout for all needs the same number of voxels .*'s1': 8, 's.2': 6"):
        tune(job_of(pair, tmp_path / "run", readout="shared"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("subjects", "name"), [(("s.1", "S-1"), "s-1-all"), (("s1", "together"), "together-all")])
def test_adapters_that_would_be_called_alike_are_found_before_tuning(
    pair: Corpus, tmp_path: Path, subjects: tuple[str, ...], name: str
) -> None:
    job = job_of(pair, tmp_path, subject=subjects)
    with pytest.raises(
        AdapterError, match=rf"two adapters would be called '{name}' \[subjects {', '.join(subjects)}\]"
    ):
        build_model(job.recipe, job, dict.fromkeys(subjects, np.arange(3)), tr_s=2.0)


@pytest.mark.parametrize("how", ["head", "ridge"])
def test_epochs_are_chosen_by_the_mean_over_subjects(pair: Corpus, tmp_path: Path, how: str) -> None:
    job = job_of(pair, tmp_path / "run", select=how, epochs=2)
    tune(job)
    best = max(metrics(job.output, "validation"), key=lambda line: line["r"])
    model = BrainWavLMForFMRIEncoding.from_pretrained(job.output / "model", adapter="all")
    scores = []
    for subject, name in (("s1", "s1-all"), ("s.2", "s-2-all")):
        model.set_adapter(name)
        runs = {split: pair.runs(subject, split) for split in ("train", "validation")}
        score = validation_score(how, model, pair, {subject: runs}, {subject: np.arange(N_VOXELS[subject])})
        if how == "head":
            (run,) = runs["validation"]
            expected = np.mean(pearson_r(model.predict(pair.audio(run.story), run.tr_times_s), pair.bold(run)))
            assert score == pytest.approx(expected, abs=1e-6)
        scores.append(score)
    assert best["r"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert json.loads((job.output / "run.json").read_text())["finished"]["validation_r"] == best["r"]


def test_resuming_a_finished_group_changes_nothing(pair: Corpus, tmp_path: Path) -> None:
    job = job_of(pair, tmp_path / "run", epochs=1)
    tune(job)
    before = {path.name: path.read_bytes() for path in (job.output / "model").iterdir()}
    tune(job, resume=True)
    assert {path.name: path.read_bytes() for path in (job.output / "model").iterdir()} == before


@pytest.mark.parametrize("readout", ["own", *(pytest.param(r, marks=pytest.mark.slow) for r in READOUTS[1:])])
def test_a_killed_group_run_goes_on_as_if_it_had_not_been(surface: Corpus, tmp_path: Path, readout: str) -> None:
    killed = job_of(surface, tmp_path / "killed", save_every=2, epochs=5, select="head", readout=readout)
    process = in_subprocess(["training/run.py", *arguments(killed, tmp_path)])
    wait_for_steps(process, killed.output, 9)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (killed.output / "model").exists(), "it was too fast to be killed"
    tune(killed, resume=True)
    whole = job_of(surface, tmp_path / "whole", save_every=2, epochs=5, select="head", readout=readout)
    tune(whole)
    assert len(metrics(whole.output)) == 5 * 6
    assert metrics(killed.output) == metrics(whole.output)
    assert metrics(killed.output, "validation") == metrics(whole.output, "validation")
    weights = "model/model.safetensors"
    assert (killed.output / weights).read_bytes() == (whole.output / weights).read_bytes()


@pytest.mark.slow
def test_two_processes_tune_a_group(pair: Corpus, tmp_path: Path) -> None:
    """A block that one subject missed leaves that head without a gradient on one of the processes."""
    job = job_of(pair, tmp_path / "run", epochs=2, lora={**LORA, "lora_dropout": 0.0})
    command = [*LAUNCH, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", *QUIET, "training/run.py"]
    process = in_subprocess([*command, *arguments(job, tmp_path)], ACCELERATE_USE_CPU="true")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert json.loads((job.output / "run.json").read_text())["n_processes"] == 2
    assert [line["step"] for line in metrics(job.output)] == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(losses(job.output)).all()
    start, data = started(job, pair)
    first = [start.train()(**data[k]).loss.item() for k in range(2)]
    assert losses(job.output)[0] == pytest.approx(np.mean(first), abs=1e-6)
    model = BrainWavLMForFMRIEncoding.from_pretrained(job.output / "model", adapter="all")
    assert set(model.heads) == {"s1-all", "s-2-all"}


# Evaluation


def evaluated(corpus: Corpus, output: Path, run: Path, subject: str) -> dict[str, Any]:
    settings = AlignmentSettings(delays_trs=(1, 2), penalties=(10.0, 1000.0))
    return evaluate_models(EvaluationJob(str(corpus.path), subject, (str(run),), output, settings=settings))


@pytest.mark.parametrize(("subject", "name"), [("s1", "s1-all"), ("s.2", "s-2-all")])
def test_each_subject_is_judged_by_its_own_head(
    pair: Corpus, tuned_pair: Path, tmp_path: Path, subject: str, name: str
) -> None:
    results = evaluated(pair, tmp_path / "out", tuned_pair, subject)
    assert results["models"]["tuned-all"]["adapter"] == name
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_pair / "model", adapter=name)
    (run,) = pair.runs(subject, "test")
    expected = pearson_r(model.predict(pair.audio("test"), run.tr_times_s), pair.bold(run))
    (row,) = results["head"]
    assert (row["subject"], row["n_voxels"]) == (subject, N_VOXELS[subject])
    assert row["r"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_head_of_another_subject_is_not_scored(pair: Corpus, tmp_path: Path) -> None:
    job = job_of(pair, tmp_path / "run", subject="s1", epochs=1)
    tune(job)
    assert evaluated(pair, tmp_path / "own", job.output, "s1")["head"]
    other = evaluated(pair, tmp_path / "other", job.output, "s.2")
    assert other["head"] == []
    assert {row["model"] for row in other["rows"]} == {"untuned", "tuned-all-of-s1"}


def test_a_shared_head_predicts_every_subject(surface: Corpus, tmp_path: Path) -> None:
    job = job_of(surface, tmp_path / "run", readout="shared", epochs=1)
    tune(job)
    for subject in ("s1", "s.2"):
        (row,) = evaluated(surface, tmp_path / subject, job.output, subject)["head"]
        assert (row["subject"], row["n_voxels"]) == (subject, 8)

"""Checkpoints: what they hold, what resuming refuses, and what it survives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import job_for, metrics

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint
from brain_tuning.errors import CheckpointError
from brain_tuning.tuning.checkpoint import KEPT, restore_best, tuned_state
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import tune


@pytest.fixture
def copied_run(tuned_run: Path, tmp_path: Path) -> Path:
    """A finished run of two epochs, with the checkpoints of both, to be spoilt."""
    return Path(shutil.copytree(tuned_run, tmp_path / "run"))


def spoil(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_checkpoint_holds_what_is_tuned_and_no_more(tuned_run: Path) -> None:
    """User-pains 20; hf-notes section 7: accelerate's own checkpoints hold the frozen base too."""
    checkpoints = sorted((tuned_run / "checkpoints").glob("*"))
    assert [path.name for path in checkpoints] == ["step-00000004", "step-00000008"]
    assert {path.name for path in checkpoints[1].iterdir()} == {
        "tuned.safetensors", "optimiser.safetensors", "random-0.safetensors", "progress.json",
    }  # fmt: skip
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")
    expected, stored = tuned_state(model), load_file(checkpoints[1] / "tuned.safetensors")
    assert expected.keys() == stored.keys()
    assert all(torch.equal(value, expected[key]) for key, value in stored.items())
    assert all(".lora_" in key or key.startswith("heads.") for key in stored)
    progress = json.loads((checkpoints[1] / "progress.json").read_text())
    assert (progress["step"], progress["epoch"], progress["blocks"]) == (8, 2, 0)


def test_the_last_few_are_kept(corpus: Corpus, tmp_path: Path) -> None:
    tune(job_for(corpus, tmp_path / "run", epochs=3, save_every=1))
    found = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert found == ["step-00000011", "step-00000012"]
    assert len(found) == KEPT


def test_resuming_a_finished_run_changes_nothing(corpus: Corpus, copied_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in (copied_run / "model").iterdir()}
    lines = (copied_run / "metrics.jsonl").read_text()
    tune(job_for(corpus, copied_run), resume=True)
    assert {path.name: path.read_bytes() for path in (copied_run / "model").iterdir()} == before
    assert (copied_run / "metrics.jsonl").read_text() == lines


def test_a_run_without_its_last_checkpoint_ends_as_it_did(corpus: Corpus, copied_run: Path, tuned_run: Path) -> None:
    """The line of metrics that a kill cut short is dropped, and so is all that comes again."""
    shutil.rmtree(copied_run / "checkpoints" / "step-00000008")
    shutil.rmtree(copied_run / "model")
    with (copied_run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "kind": "st')
    tune(job_for(corpus, copied_run), resume=True)
    assert metrics(copied_run) == metrics(tuned_run)
    weights = "model/model.safetensors"
    assert (copied_run / weights).read_bytes() == (tuned_run / weights).read_bytes()


def test_a_run_stopped_before_its_first_checkpoint_starts_from_the_beginning(
    corpus: Corpus, copied_run: Path, tuned_run: Path
) -> None:
    shutil.rmtree(copied_run / "checkpoints")
    shutil.rmtree(copied_run / "model")
    tune(job_for(corpus, copied_run), resume=True)
    assert metrics(copied_run) == metrics(tuned_run)


def test_the_time_of_all_sessions_is_counted(corpus: Corpus, copied_run: Path) -> None:
    def finished() -> dict[str, float]:
        return dict(json.loads((copied_run / "run.json").read_text())["finished"])

    before = finished()
    assert before["seconds"] == before["seconds_of_this_session"] > 0
    progress = copied_run / "checkpoints" / "step-00000004" / "progress.json"
    said = json.loads(progress.read_text())
    assert 0 < said["seconds"] <= before["seconds"] + 0.1
    progress.write_text(json.dumps({**said, "seconds": 1000.0}))
    shutil.rmtree(copied_run / "checkpoints" / "step-00000008")
    tune(job_for(corpus, copied_run), resume=True)
    after = finished()
    assert after["seconds"] == pytest.approx(1000 + after["seconds_of_this_session"], abs=0.11)
    last = json.loads((copied_run / "checkpoints" / "step-00000008" / "progress.json").read_text())
    assert 1000 < last["seconds"] <= after["seconds"] + 0.1


@pytest.mark.parametrize(
    "name", ["tuned.safetensors", "optimiser.safetensors", "random-0.safetensors", "progress.json"]
)
@pytest.mark.parametrize("damage", [spoil, Path.unlink])
def test_damage_is_named_and_the_checkpoint_before_takes_over(
    corpus: Corpus, copied_run: Path, tuned_run: Path, name: str, damage: Callable[[Path], None]
) -> None:
    place = copied_run / "checkpoints" / "step-00000008"
    damage(place / name)
    lines = (copied_run / "metrics.jsonl").read_text()
    with pytest.raises(
        CheckpointError,
        match=r"checkpoint (is damaged|cannot be read) \(.*\[.*step-00000008\]; remedy: .*delete it and resume",
    ):
        tune(job_for(corpus, copied_run), resume=True)
    if name == "progress.json":
        assert (copied_run / "metrics.jsonl").read_text() == lines
    shutil.rmtree(place)
    tune(job_for(corpus, copied_run), resume=True)
    assert metrics(copied_run) == metrics(tuned_run)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"epochs": 3}, "another recipe.epochs (2, now 3)"),
        ({"learning_rate_head": 1e-3}, "another recipe.learning_rate_head (0.003, now 0.001)"),
        ({"seed": 1}, "another recipe.seed (42, now 1)"),
        ({"lora": None}, "another recipe.lora ({'r': 2"),
        ({"roi": "semantic-temporal"}, "another roi ('AC', now 'semantic-temporal')"),
    ],
)
def test_other_settings_are_named(corpus: Corpus, tuned_run: Path, changed: dict[str, Any], text: str) -> None:
    """What is impossible differs from what may be: the hardware and versions may."""
    with pytest.raises(CheckpointError) as caught:
        tune(job_for(corpus, tuned_run, **changed), resume=True)
    assert f"the run was started with {text}" in str(caught.value)
    assert f"[{tuned_run}]; expected the settings it was started with; remedy: start anew" in str(caught.value)


def test_another_subject_is_named(corpus: Corpus, tuned_run: Path) -> None:
    job = job_for(corpus, tuned_run)
    with pytest.raises(CheckpointError, match=r"another subject \('s1', now 's2'\)"):
        tune(TuningJob(job.recipe, job.corpus, "s2", job.roi, job.output), resume=True)


def test_a_corpus_of_the_same_name_with_other_responses_is_refused(corpus: Corpus, copied_run: Path) -> None:
    described = json.loads((copied_run / "run.json").read_text())
    assert described["corpus_fingerprints"] == {"s1": corpus_fingerprint(corpus, "s1")}
    described["corpus_fingerprints"] = {"s1": corpus_fingerprint(corpus, "s2")}
    (copied_run / "run.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"the run was started with another corpus_fingerprints\.s1"):
        tune(job_for(corpus, copied_run), resume=True)


def test_another_machine_may_resume(corpus: Corpus, copied_run: Path) -> None:
    described = json.loads((copied_run / "run.json").read_text())
    described.update(hardware="abacus, 1 cores", versions={"torch": "0.1"}, device="cuda")
    (copied_run / "run.json").write_text(json.dumps(described))
    tune(job_for(corpus, copied_run), resume=True)


def test_there_must_be_a_run_to_resume(corpus: Corpus, tmp_path: Path, copied_run: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"there is no run to resume \[.*nowhere\].*remedy: start without --resume"
    ):
        tune(job_for(corpus, tmp_path / "nowhere"), resume=True)
    assert not (tmp_path / "nowhere").exists()
    spoil(copied_run / "run.json")
    with pytest.raises(CheckpointError, match=r"run.json cannot be read"):
        tune(job_for(corpus, copied_run), resume=True)


@pytest.mark.parametrize("text", ["[]", "{}", '"run"'])
def test_what_does_not_describe_a_run_is_refused(corpus: Corpus, copied_run: Path, text: str) -> None:
    (copied_run / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json does not describe a run \[.*\]; remedy: start anew"):
        tune(job_for(corpus, copied_run), resume=True)


@pytest.mark.parametrize("line", ["7", '{"step": 1}', '{"kind": "step"}'])
def test_metrics_that_are_not_of_a_run_are_refused(corpus: Corpus, copied_run: Path, line: str) -> None:
    file = copied_run / "metrics.jsonl"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(CheckpointError, match="a line of the metrics is not a run's"):
        tune(job_for(corpus, copied_run), resume=True)


def test_a_progress_without_its_step_is_damage_and_not_a_beginning(corpus: Corpus, copied_run: Path) -> None:
    """Tuned weights with a step of 0 would be tuned from the start once more."""
    (copied_run / "checkpoints" / "step-00000008" / "progress.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"the checkpoint is damaged \(progress\.json lacks best_epoch\)"):
        tune(job_for(corpus, copied_run), resume=True)


@pytest.mark.parametrize("damage", [spoil, Path.unlink])
def test_a_lost_best_epoch_has_a_remedy_that_helps(copied_run: Path, damage: Callable[[Path], None]) -> None:
    best = copied_run / "checkpoints" / "step-00000008" / "tuned.safetensors"
    model = BrainWavLMForFMRIEncoding.from_pretrained(copied_run / "model")
    damage(best)
    with pytest.raises(CheckpointError, match=r"remedy: the best epoch is lost: start anew in another --output"):
        restore_best(best, model)


def test_a_checkpoint_of_another_model_is_refused(corpus: Corpus, copied_run: Path) -> None:
    from safetensors.torch import save_file

    file = copied_run / "checkpoints" / "step-00000008" / "tuned.safetensors"
    state = load_file(file)
    removed = sorted(state)[0]
    del state[removed]
    save_file(state, file)
    with pytest.raises(CheckpointError, match=f"belongs to another model.*{removed}"):
        tune(job_for(corpus, copied_run), resume=True)

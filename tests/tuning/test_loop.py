"""The tuning loop: what it learns, what it leaves alone, what it writes, and when it stops."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import BACKBONE, SIMULATION, job_for, metrics, small_recipe

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.cortex.regions import select_voxels
from brain_tuning.errors import CheckpointError, CorpusError, EncodingError, RecipeError, RegionError
from brain_tuning.models.backbones import load_backbone
from brain_tuning.tuning.data import BlockDataset
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tune


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in metrics(output)]


def untuned(corpus: Corpus, job: TuningJob) -> tuple[BrainWavLMForFMRIEncoding, BlockDataset]:
    """The model and the data that a job begins with."""
    torch.manual_seed(job.recipe.seed)
    runs = {subject: corpus.runs(subject, "train") for subject in job.subjects}
    voxels = {s: select_voxels(job.roi, corpus.regions(s), corpus.ledger(s).usable) for s in job.subjects}
    model = build_model(job.recipe, job, voxels, tr_s=runs[job.subjects[0]][0].tr_s)
    data = BlockDataset(corpus, runs, voxels, model.config, block_trs=job.recipe.block_trs, seed=job.recipe.seed)
    return model, data


def test_the_loss_goes_down(corpus: Corpus, tmp_path: Path) -> None:
    tune(job_for(corpus, tmp_path / "run", epochs=6))
    found = losses(tmp_path / "run")
    assert len(found) == 6 * 4
    assert all(-1 <= loss <= 1 for loss in found)
    assert np.mean(found[-4:]) < np.mean(found[:4]) - 0.15


def test_the_first_loss_is_that_of_the_untuned_model_on_the_first_block(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run", epochs=1)
    tune(job)
    model, data = untuned(corpus, job)
    assert losses(job.output)[0] == pytest.approx(model.train()(**data[0]).loss.item(), abs=1e-6)


def test_accumulated_blocks_give_the_average_gradient(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[torch.Tensor]] = []
    plain_step = torch.optim.Adam.step

    def recorded(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        steps.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
        return plain_step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    job = job_for(corpus, tmp_path / "run", epochs=1, blocks_per_step=2)
    tune(job)
    model, data = untuned(corpus, job)
    values = [model.train()(**data[k]).loss for k in range(2)]
    (sum(values) / 2).backward()  # type: ignore[union-attr]
    named = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    expected = [p.grad for key, p in named if not key.startswith("heads.")]
    expected += [p.grad for key, p in named if key.startswith("heads.")]
    assert len(steps) == 2
    assert len(steps[0]) == len(expected)
    for ours, theirs in zip(steps[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    assert sum(float(grad.abs().sum()) > 0 for grad in steps[0]) > len(steps[0]) / 2
    assert losses(job.output)[0] == pytest.approx(np.mean([v.item() for v in values]), abs=1e-6)


def test_only_the_adapter_and_the_head_change(corpus: Corpus, tuned_run: Path) -> None:
    tuned = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")
    stock = load_backbone(BACKBONE).state_dict()
    state = {key.replace(".base_layer", ""): value for key, value in tuned.backbone.state_dict().items()}
    base = {key: value for key, value in state.items() if ".lora_" not in key}
    assert base.keys() == stock.keys()
    assert all(torch.equal(value, stock[key]) for key, value in base.items())
    adapter = {key: value for key, value in state.items() if ".lora_" in key}
    # One layer is computed; q, k, v with A and B each.
    assert len(adapter) == 6
    assert all("layers.0.attention" in key for key in adapter)
    assert all(float(value.abs().max()) > 0 for key, value in adapter.items() if "lora_B" in key)
    start, _ = untuned(corpus, job_for(corpus, tuned_run))
    moved = [not torch.equal(a, b) for a, b in zip(start.head.parameters(), tuned.head.parameters(), strict=True)]
    assert all(moved)
    assert int(tuned.head.norm.n_blocks) == 8


def test_full_fine_tuning_changes_the_computed_layers_only(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run", lora=None, epochs=1)
    tuned = BrainWavLMForFMRIEncoding.from_pretrained(tune(job))
    stock = load_backbone(BACKBONE).state_dict()
    changed = {key for key, value in tuned.backbone.state_dict().items() if not torch.equal(value, stock[key])}
    assert changed
    assert all(key.startswith("encoder.layers.0.") for key in changed)


def test_adapter_and_head_learn_at_their_own_rates(corpus: Corpus, tmp_path: Path) -> None:
    """Adam's first step is the learning rate in every element that has a gradient."""
    job = job_for(
        corpus, tmp_path / "run", epochs=1, blocks_per_step=4, learning_rate_adapter=1e-3, learning_rate_head=1e-2
    )
    tuned = BrainWavLMForFMRIEncoding.from_pretrained(tune(job)).state_dict()
    before = untuned(corpus, job)[0].state_dict()
    steps = {key: float((tuned[key] - before[key]).abs().max()) for key in before}
    assert steps["heads.s1-ac.readout.weight"] == pytest.approx(1e-2, rel=1e-3)
    lora = {key: step for key, step in steps.items() if "lora_B" in key}
    assert lora
    assert all(step == pytest.approx(1e-3, rel=1e-2) for step in lora.values())


def test_gradients_are_clipped_at_the_norm(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    plain_step = torch.optim.Adam.step

    def recorded(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for g in self.param_groups for p in g["params"])))
        return plain_step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    tune(job_for(corpus, tmp_path / "plain", epochs=1))
    free, norms = norms[:], norms[len(norms) :]
    norms.clear()
    tune(job_for(corpus, tmp_path / "clipped", epochs=1, max_grad_norm=free[0] / 2))
    assert norms[0] == pytest.approx(free[0] / 2, rel=1e-3)


def test_schedule_and_seed_reach_the_metrics(corpus: Corpus, tmp_path: Path) -> None:
    tune(job_for(corpus, tmp_path / "a", epochs=1, schedule="linear", warmup_share=0.25))
    factors = [line["learning_rate_factors"] for line in metrics(tmp_path / "a")]
    np.testing.assert_allclose(factors, [[f, f] for f in (1 / 2, 1, 2 / 3, 1 / 3)])
    tune(job_for(corpus, tmp_path / "b", epochs=1, schedule="linear", warmup_share=0.25))
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    tune(job_for(corpus, tmp_path / "c", epochs=1, schedule="linear", warmup_share=0.25, seed=43))
    assert losses(tmp_path / "c")[0] != losses(tmp_path / "a")[0]


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"cache_mb": 0}, 0.0),
        ({"cache_mb": 0, "disk_cache": "disk"}, 0.0),
        ({"disk_cache": "disk", "disk_cache_gb": 1e-4}, 0.0),
        ({"workers": 1}, 0.0),
        ({"gradient_checkpointing": True}, 1e-6),
    ],
)
def test_what_saves_time_or_memory_changes_no_loss(
    corpus: Corpus, tmp_path: Path, tuned_run: Path, settings: dict, tolerance: float
) -> None:
    """User-pains 24: gradient checkpointing with adapters, too."""
    job = job_for(corpus, tmp_path / "run")
    if "disk_cache" in settings:
        settings = {**settings, "disk_cache": tmp_path / settings["disk_cache"]}
    tune(TuningJob(**{**vars(job), **settings}))
    np.testing.assert_allclose(losses(job.output), losses(tuned_run), rtol=0, atol=tolerance)


def test_the_run_says_what_it_was(corpus: Corpus, tuned_run: Path) -> None:
    """User-pains 5: split, seeds and versions in every result."""
    described = json.loads((tuned_run / "run.json").read_text())
    assert described["recipe"] == small_recipe().to_dict()
    assert described["corpus"]["splits"] == {
        "train": ["story00", "story01"], "validation": ["validation"], "test": ["test"],
    }  # fmt: skip
    assert described["corpus"]["surrogate_audio"] is True
    assert described["corpus"]["name"] == f"simulated-seed{SIMULATION.seed}"
    assert (described["subject"], described["roi"], described["adapter"]) == ("s1", "AC", "s1-ac")
    assert described["n_voxels"] == len(corpus.region("s1", "AC"))
    assert described["n_audited_adapter_tensors"] == 6
    assert described["n_processes"] == 1
    assert described["n_blocks_per_epoch"] == 4
    assert len(described["backbone"]["revision"]) == 40
    assert {"torch", "transformers", "peft", "python"} <= set(described["versions"])
    assert described["finished"]["steps"] == 8
    assert described["finished"]["kept_epoch"] == 1
    tensors = load_file(tuned_run / "checkpoints" / "step-00000008" / "tuned.safetensors")
    assert described["n_trained_parameters"] == sum(
        value.numel() for key, value in tensors.items() if "norm." not in key and not key.endswith("voxels")
    )


def test_the_tuned_model_predicts_its_voxels(corpus: Corpus, tuned_run: Path) -> None:
    """User-pains 7: the head comes back with the adapter."""
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")
    np.testing.assert_array_equal(model.head.voxels.numpy(), corpus.region("s1", "AC"))
    run = corpus.runs("s1", "test")[0]
    assert model.predict(corpus.audio("test"), run.tr_times_s).shape == (run.n_trs, model.head.voxels.numel())


def test_a_loss_that_is_not_finite_names_its_block(corpus: Corpus, tmp_path: Path) -> None:
    """User-pains 23: NaN stops the run at the block where it appears, and the disk holds no NaN."""
    job = job_for(corpus, tmp_path / "run", loss="mse", learning_rate_head=1e30, epochs=3)
    with pytest.raises(
        EncodingError,
        match=r"the loss is (nan|inf) at step \d+ \[story0[01] run 0 repeat 0 TR \d+-\d+\]; expected a finite loss; "
        "remedy: lower the learning rates, or set mixed_precision: no",
    ):
        tune(job)
    assert all(math.isfinite(loss) for loss in losses(job.output))
    assert not (job.output / "model").exists()
    assert not list(job.output.rglob("*.partial*"))


def test_an_output_that_holds_a_run_is_refused(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    before = (tuned_run / "run.json").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"holds a run already \[.*tuned-ac\]; remedy: pass --resume to continue it"
    ):
        tune(job_for(corpus, tuned_run))
    assert (tuned_run / "run.json").read_bytes() == before


def test_epochs_are_not_chosen_without_a_validation_story(tmp_path: Path) -> None:
    """Found out before tuning, not after the first epoch."""
    rng = np.random.default_rng(0)
    stories = [StoryInput(name, rng.standard_normal(16_000 * 30).astype(np.float32) / 10) for name in "ab"]
    runs = [RunInput(name, 0, 0, "train", 2.0, 0.0, rng.standard_normal((14, 5))) for name in "ab"]
    made = write_corpus(
        tmp_path / "corpus", name="x", source="x", licence="x", stories=stories, subjects=[SubjectInput("s1", 5, runs)]
    )
    with pytest.raises(CorpusError, match=r"select: ridge needs a validation story .*or set select: last"):
        tune(job_for(open_corpus(made), tmp_path / "run", roi="all", select="ridge"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"save_every": 0}, "save_every: 0 is out of range; expected at least 1"),
        ({"workers": -1}, "workers: -1 is out of range; expected at least 0"),
        ({"cache_mb": -1}, "cache_mb: -1 is out of range; expected at least 0"),
        ({"disk_cache_gb": -0.5}, "disk_cache_gb: -0.5 is out of range; expected at least 0"),
        ({"disk_cache_gb": float("nan")}, "disk_cache_gb: nan is out of range; expected at least 0"),
        ({"subject": ()}, r"the subjects are \(none\); expected at least one, each named once"),
        ({"subject": ("s1", "s2", "s1")}, "the subjects are s1, s2, s1; expected at least one, each named once"),
    ],
)
def test_settings_of_a_job_are_checked(corpus: Corpus, tmp_path: Path, settings: dict, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        TuningJob(**{**vars(job_for(corpus, tmp_path)), **settings})


def test_a_job_names_its_subjects(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path)
    assert job.subjects == ("s1",)
    assert TuningJob(**{**vars(job), "subject": ("s2", "s1")}).subjects == ("s2", "s1")


def test_bad_input_leaves_no_output(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with pytest.raises(RegionError, match=r"there is no region 'broca' \[subject s1\]; expected one of all, AC,"):
        tune(job_for(corpus, output, roi="broca"))
    with pytest.raises(CorpusError, match=r"no subject 's9'.*expected one of s1, s2"):
        tune(TuningJob(small_recipe(), str(corpus.path), "s9", "AC", output))
    with pytest.raises(EncodingError, match=r"4 blocks cannot make one step; expected at least 5"):
        tune(job_for(corpus, output, blocks_per_step=5))
    assert not (output / "model").exists()

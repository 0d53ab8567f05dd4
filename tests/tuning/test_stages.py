"""What recipes of the literature ask of the loop: stages, schedules, penalties, orders, selections of voxels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import BACKBONE, job_for, metrics

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus
from brain_tuning.cortex.regions import select_voxels
from brain_tuning.errors import RegionError
from brain_tuning.models.backbones import load_backbone
from brain_tuning.tuning.data import BlockDataset
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tune, tuned_voxels

DROPOUT = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.3, "target_modules": ["q_proj", "v_proj"]}


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in metrics(output)]


def untuned(corpus: Corpus, job: TuningJob) -> tuple[BrainWavLMForFMRIEncoding, BlockDataset]:
    """The model and the data that a job begins with."""
    torch.manual_seed(job.recipe.seed)
    runs = {"s1": corpus.runs("s1", "train")}
    voxels = {"s1": tuned_voxels(job.recipe, corpus, "s1", job.roi)}
    model = build_model(job.recipe, job, voxels, tr_s=runs["s1"][0].tr_s)
    recipe = job.recipe
    return model, BlockDataset(
        corpus, runs, voxels, model.config, block_trs=recipe.block_trs, seed=recipe.seed, order=recipe.order
    )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[torch.Tensor, torch.Tensor | None, float]]]:
    """What Adam is given at each step: (weights, gradient, rate) of every tensor, the head's last."""
    taken: list[list[tuple[torch.Tensor, torch.Tensor | None, float]]] = []
    plain_step = torch.optim.Adam.step

    def recorded(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        taken.append(
            [
                (p.detach().clone(), None if p.grad is None else p.grad.clone(), group["lr"])
                for group in self.param_groups
                for p in group["params"]
            ]
        )
        return plain_step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    return taken


def backbone_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load_file(folder / "tuned.safetensors").items() if k.startswith("backbone.")}


# The head alone first


@pytest.mark.parametrize("lora", [DROPOUT, None], ids=["lora", "full"])
def test_the_backbone_stays_as_it_is_in_the_first_epochs_and_moves_after(
    corpus: Corpus, tmp_path: Path, lora: dict | None
) -> None:
    job = job_for(corpus, tmp_path / "run", epochs=3, head_only_epochs=2, lora=lora, save_every=4)
    tune(job)
    places = sorted((job.output / "checkpoints").glob("step-*"))
    assert [place.name for place in places] == ["step-00000008", "step-00000012"]
    start = {k: v for k, v in untuned(corpus, job)[0].state_dict().items() if k.startswith("backbone.")}
    before, after = (backbone_of(place) for place in places)
    assert before
    assert all(torch.equal(value, start[key]) for key, value in before.items())
    moved = {key for key, value in after.items() if not torch.equal(value, start[key])}
    # A, whose gradient is zero while B is, moves from the second step on.
    assert moved == set(after)
    heads = [{k: v for k, v in load_file(p / "tuned.safetensors").items() if "readout" in k} for p in places]
    assert all(not torch.equal(heads[0][key], heads[1][key]) for key in heads[0])


def test_in_the_first_epochs_only_the_head_has_gradients(corpus: Corpus, tmp_path: Path, steps: list) -> None:
    tune(job_for(corpus, tmp_path / "run", epochs=2, head_only_epochs=1, learning_rate_adapter=2e-3))
    assert len(steps) == 8
    for step, tensors in enumerate(steps):
        has_gradient = {gradient is not None for _, gradient, rate in tensors if rate == 2e-3}
        assert has_gradient == {step >= 4}
        assert all(gradient is not None for _, gradient, rate in tensors if rate == 3e-3)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_run_resumes_across_the_border_of_its_stages(corpus: Corpus, tmp_path: Path, lost: int) -> None:
    """From the last checkpoint of the first stage, and from within it; with dropout, whose masks must be the same."""
    settings = {"epochs": 3, "head_only_epochs": 1, "lora": DROPOUT, "select": "head", "save_every": 3}
    whole = job_for(corpus, tmp_path / "whole", **settings)
    tune(whole)

    class Killed(Exception):
        pass

    stopped = job_for(corpus, tmp_path / "stopped", **settings)
    plain_step, n_taken = torch.optim.Adam.step, [0]

    def counted(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        n_taken[0] += 1
        if n_taken[0] > 6:
            raise Killed
        return plain_step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", counted)
        with pytest.raises(Killed):
            tune(stopped)
    places = sorted((stopped.output / "checkpoints").glob("step-*"))
    assert [place.name for place in places] == ["step-00000004", "step-00000006"]
    for place in places[len(places) - lost + 1 :]:
        shutil.rmtree(place)
    tune(stopped, resume=True)
    assert metrics(stopped.output) == metrics(whole.output)
    assert metrics(stopped.output, "validation") == metrics(whole.output, "validation")
    weights = "model/model.safetensors"
    assert (stopped.output / weights).read_bytes() == (whole.output / weights).read_bytes()


def test_remembering_the_backbone_in_the_first_stage_changes_no_loss(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"epochs": 3, "head_only_epochs": 1, "lora": DROPOUT}
    jobs = [job_for(corpus, tmp_path / name, **settings) for name in ("cached", "plain")]
    tune(jobs[0])
    tune(TuningJob(**{**vars(jobs[1]), "cache_mb": 0}))
    assert losses(jobs[0].output) == losses(jobs[1].output)


# Rates and penalties


def test_head_and_backbone_follow_their_own_schedules(corpus: Corpus, tmp_path: Path, steps: list) -> None:
    job = job_for(
        corpus, tmp_path / "run", epochs=2, schedule="linear", schedule_head="decay", decay_per_epoch=0.5,
        learning_rate_adapter=2e-3, learning_rate_head=1e-2,
    )  # fmt: skip
    tune(job)
    linear, decay = 1 - np.arange(8) / 8, np.repeat([1.0, 0.5], 4)
    found = [line["learning_rate_factors"] for line in metrics(job.output)]
    np.testing.assert_allclose(found, np.stack([linear, decay], axis=1))
    rates = [(tensors[0][2], tensors[-1][2]) for tensors in steps]
    np.testing.assert_allclose(rates, np.stack([2e-3 * linear, 1e-2 * decay], axis=1))


def test_the_l2_penalty_is_that_of_the_sum_of_squares(corpus: Corpus, tmp_path: Path, steps: list) -> None:
    """One step of Adam on the loss + penalty / 2 x sum of squared weights, written out."""
    penalty, rate = 0.3, 3e-3
    job = job_for(corpus, tmp_path / "run", epochs=1, blocks_per_step=4, l2_penalty=penalty)
    tune(job)
    model, data = untuned(corpus, job)
    model.train()
    loss = sum(model(**data[k]).loss for k in range(4)) / 4
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    (loss + penalty / 2 * sum(p.square().sum() for p in trained.values())).backward()
    adam = torch.optim.Adam(trained.values(), lr=rate)
    adam.step()
    tuned = load_file(job.output / "checkpoints" / "step-00000001" / "tuned.safetensors")
    assert len(steps) == 2
    for key, parameter in trained.items():
        if "lora_B" not in key:  # their gradient is of the order of rounding in some elements, which Adam scales up
            torch.testing.assert_close(tuned[key], parameter.detach(), rtol=0, atol=rate / 20)
    large = [key for key, p in trained.items() if "readout.weight" in key or "bottleneck.weight" in key]
    assert large
    for key in large:
        sure = trained[key].grad.abs() > 1e-3
        assert sure.float().mean() > 0.5
        torch.testing.assert_close(tuned[key][sure], trained[key].detach()[sure], rtol=0, atol=1e-6)


# Order and voxels


def test_stories_come_one_after_the_other(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run", order="stories")
    _, data = untuned(corpus, job)
    for epoch in range(5):
        data.set_epoch(epoch)
        # Each epoch begins with the next story: what makes no whole step is left out at another place.
        n_stories = len(data.hearings)
        places = [((block.hearing - epoch) % n_stories, block.first_tr) for block in data.blocks]
        assert places == sorted(places)
    _, mixed = untuned(corpus, job_for(corpus, tmp_path / "run"))
    places = []
    for epoch in range(5):
        mixed.set_epoch(epoch)
        places.append([(block.hearing, block.first_tr) for block in mixed.blocks])
        data.set_epoch(epoch)
        assert set(mixed.blocks) == set(data.blocks)
        assert len(mixed.blocks) == len(data.blocks)
    assert any(found != sorted(found) for found in places)


def test_the_loop_tunes_in_the_order_of_the_recipe(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run", order="stories", epochs=1)
    tune(job)
    model, data = untuned(corpus, job)
    assert losses(job.output)[0] == pytest.approx(model.train()(**data[0]).loss.item(), abs=1e-6)
    assert data.blocks[0].hearing == 0


def test_voxels_below_the_ceiling_are_not_tuned_on(corpus: Corpus, tmp_path: Path) -> None:
    ceiling = corpus.noise_ceiling("s1")
    region = select_voxels("AC", corpus.regions("s1"), corpus.ledger("s1").usable)
    least = float(np.median(ceiling[region]))
    job = job_for(corpus, tmp_path / "run", epochs=1, min_noise_ceiling=least)
    model = BrainWavLMForFMRIEncoding.from_pretrained(tune(job))
    expected = region[ceiling[region] > least]
    assert 0 < len(expected) < len(region)
    np.testing.assert_array_equal(model.head.voxels.numpy(), expected)
    assert json.loads((job.output / "run.json").read_text())["n_voxels"] == len(expected)
    with pytest.raises(RegionError, match=r"has a noise ceiling above 1.0 \[subject s1\]; expected at least one voxel"):
        tune(job_for(corpus, tmp_path / "none", min_noise_ceiling=1.0))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("loss", ["mse", "ceiling_weighted"])
def test_ceilings_reach_the_losses_that_ask_for_them(corpus: Corpus, tmp_path: Path, loss: str) -> None:
    job = job_for(corpus, tmp_path / "run", epochs=1, loss=loss)
    tune(job)
    model, data = untuned(corpus, job)
    ceiling = torch.from_numpy(corpus.noise_ceiling("s1")[tuned_voxels(job.recipe, corpus, "s1", "AC")]).float()
    expected = model.train()(**data[0], loss=loss, noise_ceiling=ceiling).loss.item()
    assert losses(job.output)[0] == pytest.approx(expected, abs=1e-6)


# One window a TR


@pytest.mark.parametrize(
    "settings",
    [
        {"read": "mean", "lora": None},
        {"read": "convolution", "convolution": {"channels": 8, "kernel_frames": 5, "stride_frames": 3}},
    ],
    ids=["mean", "convolution"],
)
def test_a_recipe_of_one_window_a_tr_is_tuned_selected_and_resumed(
    corpus: Corpus, tmp_path: Path, settings: dict
) -> None:
    plain = {
        "history_trs": 1, "delays_trs": (0,), "normalise_features": False, "bottleneck": 0, "loss": "mse", "epochs": 3,
        "head_only_epochs": 1, "select": "head",
    }  # fmt: skip
    job = job_for(corpus, tmp_path / "run", **{**plain, **settings})
    model = BrainWavLMForFMRIEncoding.from_pretrained(tune(job))
    n_blocks = len(metrics(job.output)) // 3
    assert np.mean(losses(job.output)[-n_blocks:]) < np.mean(losses(job.output)[:n_blocks])
    assert (model.head.norm, model.config.history_trs) == (None, 1)
    assert (model.head.read is None) == (settings["read"] == "mean")
    best = max(metrics(job.output, "validation"), key=lambda line: line["r"])
    (run,) = corpus.runs("s1", "validation")
    predicted = model.predict(corpus.audio(run.story), run.tr_times_s)
    measured = corpus.bold(run, model.head.voxels.numpy())
    r = [np.corrcoef(predicted[:, k], measured[:, k])[0, 1] for k in range(measured.shape[1])]
    assert best["r"] == pytest.approx(np.mean(r), abs=1e-5)


def test_upper_layers_alone_are_tuned(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run", layer_depth=0.5, adapt_from_depth=0.34, epochs=1, lora=None)
    tuned = BrainWavLMForFMRIEncoding.from_pretrained(tune(job))
    assert (tuned.config.layer, tuned.config.first_adapted_layer) == (3, 2)
    stock = load_backbone(BACKBONE).state_dict()
    changed = {key for key, value in tuned.backbone.state_dict().items() if not torch.equal(value, stock[key])}
    assert changed
    assert all(key.startswith("encoder.layers.2.") for key in changed)

"""``multi-brain-tuning``, two subjects on a tiny backbone, against Moussa and Toneva 2025 (NeurIPS)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from paper_formulas import check_heads_gradient, warm_up_and_down, whole
from paper_runs import N_VOXELS, clip_run
from tiny_families import N_LAYERS, WIDTH
from transformers import Wav2Vec2Config, Wav2Vec2Model

from brain_tuning.errors import AdapterError
from brain_tuning.models.adapters import attach, lora_config, tuner_layers
from brain_tuning.tuning.loop import build_model
from brain_tuning.tuning.recipe import load_recipe


def test_all_subjects_share_one_linear_head_on_a_common_surface(papers: Path) -> None:
    run = clip_run(papers, "multi-brain-tuning")
    # One weight and one bias, whoever it was that listened.
    assert [tuple(p.shape) for p in run.start[1]] == [(N_VOXELS, WIDTH), (N_VOXELS,)]
    model = run.untuned()
    first = run.first_step(model)
    assert first.prediction.shape == (2, 128, N_VOXELS)
    expected = first.features @ run.start[1][0].T + run.start[1][1]
    assert all(torch.allclose(prediction, expected, atol=1e-5) for prediction in first.prediction)
    assert list(run.tuned().heads) == ["group-all"]
    with pytest.raises(AdapterError, match="expected responses on a common surface"):
        build_model(run.recipe, run.job, {"s1": np.arange(5), "s2": np.arange(7)}, tr_s=2.0)


def test_the_group_has_lora_on_q_k_v_and_out_of_rank_8_and_alpha_32(papers: Path) -> None:
    run = clip_run(papers, "multi-brain-tuning")
    model = run.untuned()
    adapted = tuner_layers(model.backbone)
    assert set(adapted) == {
        f"encoder.layers.{layer}.attention.{part}_proj" for layer in range(N_LAYERS) for part in ("q", "k", "v", "out")
    }
    for module in adapted.values():
        assert module.lora_A["together-all"].weight.shape == (8, WIDTH)
        assert (module.scaling["together-all"], module.lora_dropout["together-all"].p) == (32 / 8, 0.1)
    assert len(run.start[0]) == N_LAYERS * 4 * 2
    assert all(not torch.equal(a, b) for a, b in zip(run.start[0], run.weights[-1][0], strict=True))
    stock = whole("wav2vec2").state_dict()
    base = {key.replace(".base_layer", ""): value for key, value in run.tuned().backbone.state_dict().items()}
    assert all(torch.equal(value, base[key]) for key, value in stock.items())


def test_the_groups_lora_is_0_62_per_cent_of_wav2vec2_base() -> None:
    recipe = load_recipe("multi-brain-tuning")
    with torch.device("meta"):
        base = Wav2Vec2Model(Wav2Vec2Config())
        n_base = sum(p.numel() for p in base.parameters())
        attach(base, "together", lora_config(base, recipe.lora or {}, range(recipe.layer(12))))
    n_lora = sum(p.numel() for key, p in base.named_parameters() if ".lora_" in key)
    assert f"{100 * n_lora / (n_base + n_lora):.2f}" == "0.62"


def test_the_groups_rates_and_batches_over_all_30_epochs(papers: Path) -> None:
    run = clip_run(papers, "multi-brain-tuning")
    n = run.steps_per_epoch
    assert (run.recipe.epochs, n) == (30, 1)
    expected = 1e-4 * warm_up_and_down(30 * n, 3 * n)
    np.testing.assert_allclose(run.rates, np.stack([expected, expected], 1), rtol=1e-9)
    assert all(sum(n_trs for _, _, n_trs in blocks) == 128 for blocks in run.blocks)


def test_the_mean_squared_error_and_the_heads_gradient_are_the_formulas(papers: Path) -> None:
    """Over the subjects, too."""
    check_heads_gradient(clip_run(papers, "multi-brain-tuning"), n_subjects=2)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_builders import ALL_TARGETS, LORA, shake, stock_wavlm, story, tr_times, tuned_model, waves
from transformers import WavLMModel

from brain_tuning.errors import AdapterError
from brain_tuning.models import adapters
from brain_tuning.models.families import family_of

QKV = {**LORA, "target_modules": ["q_proj", "k_proj", "v_proj"]}


def backbone_with(lora: dict, layer: int = 3, *, prepared: bool = True) -> WavLMModel:
    backbone = stock_wavlm("group")
    backbone.requires_grad_(False)
    if prepared:
        family_of(backbone.config).prepare(backbone)
    adapters.attach(backbone, "a", adapters.lora_config(backbone, lora, range(layer)))
    return backbone


def audit(backbone: WavLMModel, layer: int = 3, **options: bool) -> int:
    windows = waves(2, 6_000)
    return adapters.audit_gradients(
        backbone, "a", lambda: backbone(windows, output_hidden_states=True).hidden_states[layer], **options
    )


@pytest.mark.parametrize(("lora", "n_dead", "n_all"), [(QKV, 18, 18), (LORA, 24, 36)])
def test_the_audit_refuses_lora_on_stock_wavlm(lora: dict, n_dead: int, n_all: int) -> None:
    """user-pains 1: transformers' attention bypasses LoRA; with other targets beside it nothing fails by itself."""
    backbone = backbone_with(lora, prepared=False)
    with pytest.raises(AdapterError) as caught:
        audit(backbone)
    text = str(caught.value)
    assert text.startswith(f"{n_dead} of {n_all} adapter tensors receive no gradient [encoder.layers.0.attention.")
    assert "the backbone bypasses its projections" in text


def test_the_audit_proves_every_tensor_and_leaves_nothing_behind() -> None:
    backbone = backbone_with(LORA)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    assert audit(backbone) == 2 * len(ALL_TARGETS) * 3
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_the_audit_finds_a_single_dead_tensor() -> None:
    backbone = backbone_with(LORA)
    backbone.encoder.layers[1].attention.v_proj.lora_A["a"].weight.requires_grad_(False)
    weight = backbone.encoder.layers[1].attention.v_proj.lora_B["a"].weight
    weight.register_hook(torch.zeros_like)
    backbone.encoder.layers[1].attention.v_proj.lora_A["a"].weight.requires_grad_(True)
    with pytest.raises(AdapterError, match=r"1 of 36 adapter tensors .*layers\.1\.attention\.v_proj\.lora_B"):
        audit(backbone)


def test_the_audit_refuses_an_adapter_that_is_not_there() -> None:
    with pytest.raises(AdapterError, match=r"the adapter has no tensors \[b\]"):
        adapters.audit_gradients(backbone_with(LORA), "b", lambda: torch.zeros(1))


def test_lora_goes_only_to_layers_that_are_computed() -> None:
    backbone = backbone_with(LORA, layer=2)
    layers = {key.split(".")[2] for key in adapters.adapter_parameters(backbone, "a")}
    assert layers == {"0", "1"}
    assert audit(backbone, layer=2) == 2 * len(ALL_TARGETS) * 2


def test_the_model_audits_itself_on_its_longest_windows(tiny_wavlm: Path) -> None:
    """The story's tail is one frame long, where attention has no choice: it must not be the one examined."""
    model = tuned_model(tiny_wavlm, context_s=0.0, stride_s=0.5)
    audio = story(3.03)
    assert model.plan(audio, tr_times(2))["input_values"][-1].shape == (1, 480)
    model.train()
    assert model.audit(audio, tr_times(2)) == 2 * len(ALL_TARGETS) * 3
    assert model.training


@pytest.mark.parametrize(
    ("lora", "text"),
    [
        ({**LORA, "rank": 4}, "unknown LoRA key 'rank'; expected some of r, lora_alpha"),
        ({**LORA, "target_modules": ["gru_rel_pos_linear"]}, "LoRA cannot go to 'gru_rel_pos_linear' of a wavlm"),
        ({**LORA, "target_modules": []}, "the LoRA settings name no target_modules; expected some of q_proj"),
        ({"r": 4}, "the LoRA settings name no target_modules"),
        ({**LORA, "target_modules": "q_proj"}, "the LoRA settings name no target_modules; expected some of q_proj"),
        ({**LORA, "r": 0}, "the LoRA settings are {'r': 0, 'lora_alpha': 4, 'lora_dropout': 0.0}; expected r of at"),
        ({**LORA, "r": 2.5}, "the LoRA settings are {'r': 2.5,"),
        ({**LORA, "r": "4"}, "the LoRA settings are {'r': '4',"),
        ({**LORA, "r": True}, "the LoRA settings are {'r': True,"),
        ({**LORA, "lora_alpha": 0}, "the LoRA settings are {'r': 2, 'lora_alpha': 0,"),
        ({**LORA, "lora_alpha": float("nan")}, "the LoRA settings are {'r': 2, 'lora_alpha': nan,"),
        ({**LORA, "lora_dropout": 1.0}, "lora_alpha above 0, lora_dropout from 0 to below 1; remedy: leave lora out"),
        ({**LORA, "lora_dropout": -0.1}, "the LoRA settings are {'r': 2, 'lora_alpha': 4, 'lora_dropout': -0.1}"),
    ],
)
def test_lora_settings_that_cannot_be_are_refused(lora: dict, text: str) -> None:
    with pytest.raises(AdapterError) as caught:
        adapters.lora_config(stock_wavlm("group"), lora, range(2))
    assert text in str(caught.value)


def test_merging_adds_the_delta_of_the_named_adapter_only() -> None:
    backbone = backbone_with(LORA)
    adapters.attach(backbone, "layers", adapters.lora_config(backbone, LORA, range(3)))
    shake(backbone)
    module = backbone.encoder.layers[0].feed_forward.output_dense
    key = "encoder.layers.0.feed_forward.output_dense.weight"
    base = module.base_layer.weight.detach()
    for name in ("a", "layers"):
        delta = module.lora_B[name].weight.detach() @ module.lora_A[name].weight.detach() * (4 / 2)
        for sign in (1.0, -1.0):
            merged = adapters.merged_state_dict(backbone, {name: sign})
            torch.testing.assert_close(merged[key], base + sign * delta, rtol=1e-6, atol=1e-7)
            assert set(merged) == set(stock_wavlm("group").state_dict())
        assert torch.equal(adapters.merged_state_dict(backbone, name)[key], (base + delta))
    torch.testing.assert_close(adapters.merged_state_dict(backbone, None)[key], base, rtol=0, atol=0)


def test_merging_an_adapter_that_is_not_there_is_an_error() -> None:
    """The plain base would come back, and nobody would notice."""
    with pytest.raises(AdapterError, match=r"there is no adapter 'b'; expected one of a"):
        adapters.merged_state_dict(backbone_with(LORA), {"a": 0.5, "b": 0.5})


def test_an_adapter_called_like_a_module_is_not_mixed_up_with_the_others() -> None:
    backbone = backbone_with(LORA)
    adapters.attach(backbone, "layers", adapters.lora_config(backbone, LORA, range(3)))
    found = adapters.adapter_parameters(backbone, "layers")
    assert len(found) == 36
    assert all(key.endswith(".layers.weight") for key in found)

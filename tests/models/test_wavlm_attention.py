from __future__ import annotations

import copy

import pytest
import torch
from model_builders import ALL_TARGETS, LORA, shake, stock_wavlm, waves
from transformers import WavLMModel

from brain_tuning.models import adapters
from brain_tuning.models.wavlm_attention import use_projected_attention

KINDS = ("group", "layer")


def projected(stock: WavLMModel) -> WavLMModel:
    ours = copy.deepcopy(stock)
    assert use_projected_attention(ours) == 3
    return ours


def with_lora(stock: WavLMModel) -> WavLMModel:
    ours = projected(stock)
    torch.manual_seed(5)
    adapters.attach(ours, "a", adapters.lora_config(ours, LORA, layer=3))
    shake(ours)
    return ours


@pytest.mark.parametrize("kind", KINDS)
def test_padded_batches_give_what_transformers_gives(kind: str) -> None:
    stock = stock_wavlm(kind)
    windows = waves(3, 8_000)
    mask = torch.ones(3, 8_000, dtype=torch.long)
    mask[1, 5_000:] = 0
    mask[2, 700:] = 0
    with torch.no_grad():
        expected = stock(windows, attention_mask=mask, output_hidden_states=True).hidden_states
        found = projected(stock)(windows, attention_mask=mask, output_hidden_states=True).hidden_states
        unmasked = stock(windows, output_hidden_states=True).hidden_states
    for layer in range(4):
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-5, atol=1e-5)
    assert (unmasked[3] - expected[3]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_transformers(kind: str) -> None:
    stock = stock_wavlm(kind)
    ours = projected(stock)
    windows = waves(2, 6_000)
    aim = torch.randn(2, 18, 32, generator=torch.Generator().manual_seed(2))
    for model in (stock, ours):
        (model(windows).last_hidden_state * aim).sum().backward()
    expected = {key: parameter.grad for key, parameter in stock.named_parameters()}
    assert sum(grad is not None for grad in expected.values()) > 50
    for key, parameter in ours.named_parameters():
        if expected[key] is None:
            assert parameter.grad is None, key
        else:
            difference = (parameter.grad - expected[key]).abs().max()
            assert difference <= 1e-5 * max(1.0, float(expected[key].abs().max())), key
    for part in ("q_proj.weight", "rel_attn_embed.weight", "gru_rel_pos_linear.weight", "gru_rel_pos_const"):
        assert expected[f"encoder.layers.0.attention.{part}"].abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_every_lora_tensor_is_trained_and_merging_changes_nothing(kind: str) -> None:
    """user-pains 1: in stock WavLM the gradients are None, and merging changes the model."""
    stock = stock_wavlm(kind)
    ours = with_lora(stock)
    windows = waves(2, 6_000)
    tuned = ours(windows).last_hidden_state
    tuned.square().sum().backward()
    trained = adapters.adapter_parameters(ours, "a")
    assert len(trained) == 2 * len(ALL_TARGETS) * 3
    for key, parameter in trained.items():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key

    merged = copy.deepcopy(stock)
    merged.load_state_dict(adapters.merged_state_dict(ours, "a"), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(merged(windows).last_hidden_state, tuned, rtol=1e-5, atol=1e-5)
        assert (stock(windows).last_hidden_state - tuned).abs().max() > 0.01


def test_the_class_can_be_swapped_after_lora_was_injected() -> None:
    stock = stock_wavlm("group")
    before = with_lora(stock)
    after = copy.deepcopy(stock)
    torch.manual_seed(5)
    adapters.attach(after, "a", adapters.lora_config(after, LORA, layer=3))
    shake(after)
    use_projected_attention(after)
    windows = waves(1, 5_000)
    with torch.no_grad():
        expected = before(windows).last_hidden_state
        torch.testing.assert_close(after(windows).last_hidden_state, expected, rtol=0, atol=0)


def test_bfloat16_autocast_stays_close() -> None:
    stock = stock_wavlm("group")
    windows = waves(1, 6_000)
    with torch.no_grad():
        expected = stock(windows).last_hidden_state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = projected(stock)(windows).last_hidden_state.float()
    assert torch.nn.functional.cosine_similarity(found.ravel(), expected.ravel(), dim=0) > 0.999

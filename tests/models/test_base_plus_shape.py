"""The shape of microsoft/wavlm-base-plus, with random weights: what holds for tiny models holds there."""

from __future__ import annotations

import pytest
import torch
from model_builders import LORA, waves
from transformers import WavLMConfig, WavLMModel

from brain_tuning.models import adapters
from brain_tuning.models.families import family_of, hidden_state

QKV = {**LORA, "r": 4, "target_modules": ["q_proj", "k_proj", "v_proj"]}


@pytest.fixture(scope="module")
def base_plus() -> WavLMModel:
    torch.manual_seed(0)
    return WavLMModel(WavLMConfig(num_buckets=320, max_bucket_distance=800)).eval()


@pytest.mark.slow
def test_the_forward_pass_is_that_of_transformers(base_plus: WavLMModel) -> None:
    windows = waves(2, 64_000)
    family = family_of(base_plus.config)
    with torch.no_grad():
        expected = base_plus(windows, output_hidden_states=True).hidden_states
        family.prepare(base_plus)
        for layer in (1, 9, 12):
            found = hidden_state(base_plus, windows, layer)
            torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_every_tensor_of_the_papers_adapter_is_trained(base_plus: WavLMModel) -> None:
    """user-pains 1."""
    family = family_of(base_plus.config)
    family.prepare(base_plus)
    base_plus.requires_grad_(False)
    adapters.attach(base_plus, "a", adapters.lora_config(base_plus, QKV, range(9)))
    windows = waves(2, 32_000)
    proved = adapters.audit_gradients(base_plus, "a", lambda: hidden_state(base_plus, windows, 9)[:, -1])
    assert proved == 9 * 3 * 2
    assert sum(p.numel() for p in adapters.adapter_parameters(base_plus, "a").values()) == 9 * 3 * 2 * 4 * 768

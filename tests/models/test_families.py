from __future__ import annotations

import copy

import pytest
import torch
from model_builders import stock_wavlm, waves
from transformers import WavLMConfig

from brain_tuning.errors import BackboneError
from brain_tuning.models.families import family_named, family_of, quiet_config
from brain_tuning.models.wavlm_attention import ProjectedWavLMAttention

KINDS = ("group", "layer")


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_that_of_transformers(kind: str) -> None:
    stock = stock_wavlm(kind)
    ours = copy.deepcopy(stock)
    family = family_of(ours.config)
    family.prepare(ours)
    windows = waves(2, 8_000)
    with torch.no_grad():
        expected = stock(windows, output_hidden_states=True)
        stem = family.stem(ours, windows)
        torch.testing.assert_close(stem, stock.feature_extractor(windows).transpose(1, 2), rtol=0, atol=0)
        for layer in range(1, 4):
            found = family.hidden_state(ours, stem, layer)
            torch.testing.assert_close(found, expected.hidden_states[layer], rtol=1e-5, atol=1e-5)
    # The layers differ by far more than the tolerance, so that an off-by-one could not pass.
    assert (expected.hidden_states[2] - expected.hidden_states[3]).abs().max() > 0.1


def test_layers_above_the_one_that_is_read_are_not_computed() -> None:
    stock = stock_wavlm("group")
    family = family_of(stock.config)
    computed: list[int] = []
    for index, block in enumerate(family.layers(stock)):
        block.register_forward_hook(lambda *_, index=index: computed.append(index))
    family.hidden_state(stock, family.stem(stock, waves(1, 4_000)), 2)
    assert computed == [0, 1]


def test_the_attention_of_other_instances_stays_as_it_is() -> None:
    ours, other = stock_wavlm("group"), stock_wavlm("group")
    names = list(ours.state_dict())
    family_of(ours.config).prepare(ours)
    assert type(ours.encoder.layers[0].attention) is ProjectedWavLMAttention
    assert type(other.encoder.layers[0].attention).__name__ == "WavLMAttention"
    assert list(ours.state_dict()) == names


def test_quiet_config_is_a_copy_without_anything_random() -> None:
    """user-pains 6."""
    config = WavLMConfig(layerdrop=0.3, mask_time_prob=0.2)
    quiet = quiet_config(config)
    assert config.layerdrop == 0.3
    assert config.hidden_dropout == 0.1
    assert not quiet.apply_spec_augment
    for key in ("layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
        assert getattr(quiet, key) == 0.0
    # The masking vector stays a part of the model, or its weights would not fit.
    assert quiet.mask_time_prob == 0.2


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(BackboneError, match=r"type 'bert' cannot be brain-tuned \[here\]; expected one of wavlm"):
        family_named("bert", where="here")

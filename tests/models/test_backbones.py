from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_builders import BUNDLED_NAME
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, WavLMModel

from brain_tuning.errors import BackboneError
from brain_tuning.models import BrainWavLMForFMRIEncoding
from brain_tuning.models.backbones import (
    backbone_location,
    bundled_revision,
    expects_normalised_input,
    load_backbone,
    load_backbone_config,
    pinned_revision,
)
from brain_tuning.models.wavlm_attention import ProjectedWavLMAttention


def test_a_loaded_backbone_is_the_checkpoint_made_ready_for_lora(tiny_wavlm: Path) -> None:
    """user-pains 25: all tensors are compared, the weight-normalised positional convolution among them."""
    backbone = load_backbone(str(tiny_wavlm))
    stored = load_file(tiny_wavlm / "model.safetensors")
    state = backbone.state_dict()
    assert set(state) == set(stored)
    assert any("pos_conv_embed.conv.parametrizations" in key for key in stored)
    for key, value in stored.items():
        assert torch.equal(state[key], value), key
    assert type(backbone.encoder.layers[0].attention) is ProjectedWavLMAttention
    assert backbone.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in backbone.feature_extractor.parameters())


def test_dropout_is_off_unless_asked_for(tiny_wavlm: Path) -> None:
    """user-pains 6."""
    assert load_backbone(str(tiny_wavlm)).config.hidden_dropout == 0.0
    assert load_backbone(str(tiny_wavlm), dropout=True).config.hidden_dropout == 0.1
    assert load_backbone_config(str(tiny_wavlm)).layerdrop == 0.5


def test_a_bundled_backbone_is_pinned_by_its_content() -> None:
    revision = bundled_revision(BUNDLED_NAME)
    assert len(revision) == 40
    assert pinned_revision(BUNDLED_NAME, None) == revision
    assert Path(backbone_location(BUNDLED_NAME), "model.safetensors").is_file()
    assert load_backbone_config(BUNDLED_NAME, revision).num_hidden_layers == 6
    with pytest.raises(BackboneError) as caught:
        load_backbone(BUNDLED_NAME, "0" * 40)
    assert str(caught.value).startswith(f"the bundled backbone {BUNDLED_NAME} is not the one this model was tuned from")
    assert f"expected content hash {'0' * 40}" in str(caught.value)


def test_a_local_folder_has_no_revision(tiny_wavlm: Path) -> None:
    assert pinned_revision(str(tiny_wavlm), None) is None


@pytest.mark.parametrize("name", ["lab/nothing", "/no/such/folder", "a b"])
def test_a_backbone_that_cannot_be_reached(name: str) -> None:
    with pytest.raises(BackboneError) as caught:
        load_backbone(name)
    assert str(caught.value).startswith(f"the backbone cannot be loaded [{name}]; expected a folder, a Hub id that can")
    assert BUNDLED_NAME in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"the folder holds no config\.json that can be read \[.*\]; expected a model as transformers saves it"),
        ("not JSON", r"the folder holds no config\.json that can be read"),
        (
            "{}",
            r"transformers does not know what kind of model this is \[.*: config\.json\]; expected a model_type that",
        ),
        (
            '{"model_type": "nonsense"}',
            r"transformers does not know what kind of model this is .* one of wavlm, wav2vec2",
        ),
    ],
)
def test_a_folder_whose_config_names_no_model(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(BackboneError, match=said):
        load_backbone_config(str(tmp_path))


def test_a_checkpoint_with_a_missing_weight(tiny_wavlm: Path, copied: Callable[[Path], Path]) -> None:
    folder = copied(tiny_wavlm)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layers.1.attention.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder))
    assert str(caught.value).startswith("1 weights are missing from the backbone's checkpoint [")
    assert "copy: encoder.layers.1.attention.q_proj.weight]" in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_checkpoint(tiny_wavlm: Path, copied: Callable[[Path], Path], damage: str) -> None:
    file = copied(tiny_wavlm) / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:5_000])
    else:
        file.unlink()
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(file.parent))
    assert str(caught.value).startswith("the backbone's weights cannot be loaded (")
    assert "\n" not in str(caught.value)


def test_a_model_that_is_no_speech_encoder(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(
        BackboneError, match=r"a model of type 'bert' cannot be brain-tuned: .* \[.*\]; expected one of wavlm"
    ):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_hidden_layers": "x"}, "config.json describes no model (Validation error for field 'num_hidden_layers'"),
        ({"hidden_size": -1}, "config.json describes no wavlm model (Trying to create tensor with negative dimension"),
    ],
)
def test_a_config_that_describes_no_model(
    tiny_wavlm: Path, copied: Callable[[Path], Path], change: dict, text: str
) -> None:
    file = copied(tiny_wavlm) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BackboneError) as caught:
        BrainWavLMForFMRIEncoding.from_backbone(str(file.parent), layer=1)
    assert str(caught.value).startswith(text)
    assert str(file.parent) in str(caught.value)


def test_a_folder_with_an_adapter_on_top_of_its_weights_is_refused(
    tiny_wavlm: Path, copied: Callable[[Path], Path]
) -> None:
    """transformers loads the adapter with the weights, without a word."""
    folder = copied(tiny_wavlm)
    config = LoraConfig(target_modules=["intermediate_dense"], init_lora_weights=False)
    get_peft_model(WavLMModel.from_pretrained(tiny_wavlm), config).save_pretrained(folder)
    with pytest.raises(BackboneError, match=r"has an adapter on top of it.*copy: adapter_config\.json\]"):
        BrainWavLMForFMRIEncoding.from_backbone(str(folder), layer=1)


@pytest.mark.parametrize("said", ['{"do_normalize": fal', '{"do_normalize": "false"}'])
def test_an_illegible_preprocessor_config_is_not_passed_over(
    tiny_wavlm: Path, copied: Callable[[Path], Path], said: str
) -> None:
    folder = copied(tiny_wavlm)
    (folder / "preprocessor_config.json").write_text(said)
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json does not say whether the backbone's input is"):
        expects_normalised_input(str(folder))
    (folder / "preprocessor_config.json").write_text("{}")
    assert expects_normalised_input(str(folder)) is False


def test_a_backbone_for_another_sampling_rate_is_refused(tiny_wavlm: Path, copied: Callable[[Path], Path]) -> None:
    folder = copied(tiny_wavlm)
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000, "do_normalize": false}')
    with pytest.raises(BackboneError, match=r"trained on audio of 8000 Hz \[.*json\]; expected 16000 Hz"):
        BrainWavLMForFMRIEncoding.from_backbone(str(folder), layer=1)


def test_a_checkpoint_with_a_task_head_gives_its_encoder(tiny_wavlm: Path, tmp_path: Path) -> None:
    from transformers import WavLMForCTC

    model = WavLMForCTC.from_pretrained(tiny_wavlm)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["WavLMForCTC"]
    expected = WavLMModel.from_pretrained(tiny_wavlm).state_dict()
    state = load_backbone(str(tmp_path)).state_dict()
    assert all(torch.equal(state[key], value) for key, value in expected.items())

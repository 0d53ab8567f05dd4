from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_builders import wavlm_config
from transformers import AutoConfig, WavLMConfig

import brain_tuning  # noqa: F401  registers the config class
from brain_tuning.errors import BackboneError, TimingError
from brain_tuning.models import BrainWavLMConfig, BrainWavLMForFMRIEncoding
from brain_tuning.timing import FrameGrid, WindowPlan


def test_a_config_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    config = BrainWavLMConfig(
        speech_config=wavlm_config("layer"),
        base_model_name_or_path="lab/encoder",
        base_model_revision="0" * 40,
        layer=2,
        context_s=1.5,
        read="mean",
        delays_trs=(2, 3),
        lora={"r": 2, "lora_alpha": 4, "lora_dropout": 0.1, "target_modules": ["q_proj"]},
        adapters={"s1-ac": {"n_voxels": 7, "subject": "s1"}},
        default_adapter="s1-ac",
        backbone_dropout=True,
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is BrainWavLMConfig
    assert type(loaded.speech_config) is WavLMConfig
    assert loaded.speech_config.do_stable_layer_norm
    assert loaded.hidden_size == 32
    # A file must not depend on whether the config was built or read: lists, not tuples.
    loaded.save_pretrained(tmp_path / "again")
    first, second = (json.loads((place / "config.json").read_text()) for place in (tmp_path, tmp_path / "again"))
    assert first == second
    for key in ("layer", "context_s", "read", "lora", "adapters", "default_adapter", "backbone_dropout"):
        assert getattr(loaded, key) == getattr(config, key)
    assert list(loaded.delays_trs) == [2, 3]


def test_window_plan_and_frame_grid_follow_from_the_numbers() -> None:
    config = BrainWavLMConfig(context_s=2.0, stride_s=0.5, read="first")
    assert config.window_plan == WindowPlan(2.0, 0.5, "first")
    assert config.frame_grid == FrameGrid(16_000, 320, 400)
    with pytest.raises(TimingError, match="unknown read 'each'"):
        _ = BrainWavLMConfig(read="each").window_plan


@pytest.mark.parametrize("said", [{"model_type": "nonsense"}, {"model_type": "clip"}, AutoConfig.for_model("t5")])
def test_a_backbone_of_another_kind_is_refused(said: object) -> None:
    model_type = said["model_type"] if isinstance(said, dict) else "t5"
    with pytest.raises(BackboneError) as caught:
        BrainWavLMConfig(speech_config=said)
    assert str(caught.value).startswith(f"a model of type {model_type!r} cannot be brain-tuned; expected one of wavlm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [0, -1, 4])
def test_a_layer_that_the_backbone_lacks_is_refused(layer: int) -> None:
    config = BrainWavLMConfig(speech_config=wavlm_config("group"), layer=layer)
    with pytest.raises(BackboneError, match=rf"layer {layer} cannot be read .*; expected 1 to 3, .* has 3 layers"):
        BrainWavLMForFMRIEncoding(config)

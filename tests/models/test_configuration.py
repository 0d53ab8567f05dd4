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

CONVOLUTION = {"channels": 4, "kernel_frames": 3, "stride_frames": 2}


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
    assert str(caught.value).startswith(
        f"a model of type {model_type!r} cannot be brain-tuned: it is not a speech encoder known here; "
        "expected one of wavlm, wav2vec2, "
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [0, -1, 4])
def test_a_layer_that_the_backbone_lacks_is_refused(layer: int) -> None:
    config = BrainWavLMConfig(speech_config=wavlm_config("group"), layer=layer)
    with pytest.raises(BackboneError, match=rf"layer {layer} cannot be read .*; expected 1 to 3, .* has 3 layers"):
        BrainWavLMForFMRIEncoding(config)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"first_adapted_layer": 2},
            "layers from 2 on cannot be adapted [lab/encoder]; expected 0 to 1, as layer 2 is",
        ),
        ({"first_adapted_layer": -1}, "layers from -1 on cannot be adapted [lab/encoder]; expected 0 to 1"),
        (
            {"read": "convolution"},
            "read 'convolution' with convolution None and history_trs None; expected a convolution",
        ),
        ({"convolution": CONVOLUTION, "history_trs": 2}, "read 'last' with convolution {'channels': 4"),
        (
            {"read": "convolution", "convolution": CONVOLUTION},
            "and history_trs None; expected a convolution where read is",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict, text: str) -> None:
    config = BrainWavLMConfig(
        speech_config=wavlm_config("group"), base_model_name_or_path="lab/encoder", layer=2, **settings
    )
    with pytest.raises(BackboneError) as caught:
        BrainWavLMForFMRIEncoding(config)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_adapted_layers_lie_between_the_first_and_the_one_that_is_read() -> None:
    assert BrainWavLMConfig(layer=9).adapted_layers == range(9)
    assert BrainWavLMConfig(layer=9, first_adapted_layer=6).adapted_layers == range(6, 9)


def test_what_a_history_model_reads_comes_back_from_json(tmp_path: Path) -> None:
    config = BrainWavLMConfig(
        speech_config=wavlm_config("group"), layer=2, first_adapted_layer=1, history_trs=6, read="convolution",
        convolution=CONVOLUTION, normalise_features=False, delays_trs=[0],
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    for key in ("history_trs", "read", "convolution", "normalise_features", "first_adapted_layer"):
        assert getattr(loaded, key) == getattr(config, key)

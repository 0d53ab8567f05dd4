"""The speech-encoder families this package tunes: one table, so that nothing else asks for the family."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from brain_tuning.errors import BackboneError
from brain_tuning.timing import FrameGrid

from . import encoders

#: what recipes call the six projections of a layer; a family may have other names for them
ROLES = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense")


@dataclass(frozen=True)
class Family:
    """What the package must know of one family.

    A backbone is the encoder alone: audio -> stem -> ``enter`` -> layers. A published root is the whole model,
    so that its other parts (a decoder, say) keep working.

    Args:
        encoder_path: module and name of transformers' class of the backbone; imported when it is needed.
        stem: (backbone, windows (batch, samples) float32) -> (batch, frames, channels): the convolutions, which no
            recipe tunes.
        stem_modules: the modules whose weights decide what ``stem`` gives.
        enter: (backbone, stem output) -> (batch, frames, width), transformers' ``hidden_states[0]``.
        run: (backbone, hidden state, first, stop) -> ``hidden_states[stop]`` from ``hidden_states[first]``.
        layers: the backbone's list of transformer layers.
        frame_grid: (config, Hz) -> hop and receptive field of its frames.
        lora_targets: role -> this family's name of it; LoRA may go to these.
        quiet: config values that switch off SpecAugment, LayerDrop and dropout.
        padding_is_exact: whether features of a padded window with an attention mask are those of the window alone.
        why_padding_changes: said when a padded batch is refused.
        normalise_input: whether a checkpoint expects windows of zero mean and unit variance, unless its
            preprocessor_config.json says otherwise.
        prepare: makes a freshly built backbone ready for LoRA, in place.
        whole_path: class of the model that is published; None if the backbone is all of it.
        prefixes: what the whole model's checkpoints put before the encoder's tensor names.
    """

    encoder_path: str
    stem: Callable[[Any, torch.Tensor], torch.Tensor]
    stem_modules: Callable[[Any], list[nn.Module]]
    enter: Callable[[Any, torch.Tensor], torch.Tensor]
    run: Callable[[Any, torch.Tensor, int, int], torch.Tensor]
    layers: Callable[[Any], nn.ModuleList]
    frame_grid: Callable[[Any, int], FrameGrid]
    lora_targets: Mapping[str, str]
    quiet: Mapping[str, object]
    padding_is_exact: Callable[[Any], bool]
    why_padding_changes: str
    normalise_input: Callable[[Any], bool]
    prepare: Callable[[Any], object]
    whole_path: str | None = None
    prefixes: tuple[str, ...] = ()

    @property
    def encoder_class(self) -> type[PreTrainedModel]:
        """transformers' class of the backbone."""
        return _imported(self.encoder_path)

    @property
    def whole_class(self) -> type[PreTrainedModel]:
        """transformers' class of the model that is published."""
        return _imported(self.whole_path or self.encoder_path)

    def target_names(self, roles: list[str] | tuple[str, ...]) -> list[str]:
        """This family's names of the projections that a recipe names; names it does not know stay as they are."""
        return [self.lora_targets.get(role, role) for role in roles]


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


_NORM_SPANS_TIME = (
    "the group norm of its first convolution spans the whole window, so that appended silence changes every frame"
)

_SAME_NAMES = {role: role for role in ROLES}

_QUIET_WAV2VEC2 = {
    "apply_spec_augment": False,
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}


def _wav2vec2_like(encoder_path: str, **special: Any) -> Family:
    values: dict[str, Any] = {
        "stem": encoders.convolutions,
        "stem_modules": encoders.feature_extractor,
        "enter": encoders.enter_wav2vec2,
        "run": encoders.run_wav2vec2,
        "layers": encoders.encoder_layers,
        "frame_grid": encoders.convolution_grid,
        "lora_targets": _SAME_NAMES,
        "quiet": _QUIET_WAV2VEC2,
        "padding_is_exact": encoders.layer_norm_stem,
        "why_padding_changes": _NORM_SPANS_TIME,
        "normalise_input": lambda config: True,
        "prepare": encoders.freeze_feature_encoder,
    }
    return Family(encoder_path, **{**values, **special})


#: transformers' ``model_type`` -> family
FAMILIES: dict[str, Family] = {
    "wavlm": _wav2vec2_like(
        "transformers.WavLMModel",
        run=encoders.run_wavlm,
        prepare=encoders.prepare_wavlm,
        # The large model heard normalised audio in pre-training, base and base+ did not (microsoft/unilm issue 708).
        normalise_input=encoders.layer_norm_stem,
    ),
    "wav2vec2": _wav2vec2_like("transformers.Wav2Vec2Model"),
    "wav2vec2-conformer": _wav2vec2_like(
        "transformers.Wav2Vec2ConformerModel",
        enter=encoders.enter_conformer,
        run=encoders.run_conformer,
        lora_targets={"q_proj": "linear_q", "k_proj": "linear_k", "v_proj": "linear_v", "out_proj": "linear_out"}
        | {role: role for role in ROLES[4:]},
        quiet=_QUIET_WAV2VEC2 | {"conformer_conv_dropout": 0.0},
        padding_is_exact=lambda config: False,
        why_padding_changes="its convolution modules mix each frame with those appended to it",
        prepare=encoders.prepare_conformer,
    ),
    "hubert": _wav2vec2_like("transformers.HubertModel", enter=encoders.enter_hubert),
    "whisper": Family(
        "transformers.models.whisper.modeling_whisper.WhisperEncoder",
        stem=encoders.whisper_stem,
        stem_modules=lambda backbone: [backbone.conv1, backbone.conv2],
        enter=encoders.enter_whisper,
        run=encoders.run_whisper,
        layers=lambda backbone: backbone.layers,
        frame_grid=encoders.whisper_grid,
        lora_targets=_SAME_NAMES | {"intermediate_dense": "fc1", "output_dense": "fc2"},
        quiet={
            "apply_spec_augment": False,
            "encoder_layerdrop": 0.0,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
        },
        padding_is_exact=lambda config: False,
        why_padding_changes="it has no attention mask, so that every frame attends to appended silence",
        normalise_input=lambda config: False,
        prepare=lambda backbone: None,
        whole_path="transformers.WhisperForConditionalGeneration",
        prefixes=("model.encoder.", "encoder."),
    ),
    "speecht5": Family(
        "transformers.models.speecht5.modeling_speecht5.SpeechT5EncoderWithSpeechPrenet",
        stem=encoders.speecht5_stem,
        stem_modules=lambda backbone: [backbone.prenet.feature_encoder],
        enter=encoders.enter_speecht5,
        run=encoders.run_speecht5,
        layers=lambda backbone: backbone.wrapped_encoder.layers,
        frame_grid=encoders.convolution_grid,
        lora_targets=_SAME_NAMES,
        quiet={
            "apply_spec_augment": False,
            "encoder_layerdrop": 0.0,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "feat_proj_dropout": 0.0,
            "positional_dropout": 0.0,
        },
        padding_is_exact=encoders.layer_norm_stem,
        why_padding_changes=_NORM_SPANS_TIME,
        normalise_input=lambda config: False,
        prepare=lambda backbone: backbone.prenet.freeze_feature_encoder(),
        whole_path="transformers.SpeechT5ForSpeechToText",
        prefixes=("speecht5.encoder.",),
    ),
}


def family_of(config: PreTrainedConfig) -> Family:
    """The family of a backbone's config.

    Raises:
        BackboneError: this package does not tune that kind of model.
    """
    return family_named(config.model_type, where=getattr(config, "_name_or_path", ""))


def family_named(model_type: str, where: str = "") -> Family:
    """The family that transformers calls ``model_type``; ``where`` is for the error.

    Raises:
        BackboneError: this package does not tune that kind of model.
    """
    if model_type not in FAMILIES:
        raise BackboneError(
            f"a model of type {model_type!r} cannot be brain-tuned: it is not a speech encoder known here",
            where=where,
            expected=f"one of {', '.join(FAMILIES)}",
            remedy="choose another --backbone, e.g. microsoft/wavlm-base-plus",
        )
    return FAMILIES[model_type]


def quiet_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a backbone config with SpecAugment, LayerDrop and every dropout switched off."""
    quiet = copy.deepcopy(config)
    for key, value in family_of(config).quiet.items():
        setattr(quiet, key, value)
    return quiet


def frame_grid(config: PreTrainedConfig, sampling_rate_hz: int) -> FrameGrid:
    """Hop and receptive field of a backbone's frames."""
    return family_of(config).frame_grid(config, sampling_rate_hz)


def hidden_state(backbone: PreTrainedModel, windows: torch.Tensor, layer: int) -> torch.Tensor:
    """transformers' ``hidden_states[layer]`` of equally long windows, without computing the layers above.

    Args:
        backbone: of a known family.
        windows: (n_windows, n_samples).
        layer: index into ``hidden_states``.

    Returns:
        (n_windows, frames, width).
    """
    family = family_of(backbone.config)
    return family.run(backbone, family.enter(backbone, family.stem(backbone, windows)), 0, layer)


def encoder_state(family: Family, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's tensors, under its own names, out of a whole model's state dict."""
    for prefix in family.prefixes:
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if found:
            return found
    return dict(tensors)


def check_layers(layers: Sequence[int], config: PreTrainedConfig) -> None:
    """Refuse indices that are none of a backbone's ``hidden_states``.

    Raises:
        BackboneError: an index is negative or beyond the last layer.
    """
    n_layers = int(config.num_hidden_layers)
    wrong = [layer for layer in layers if not 0 <= layer <= n_layers]
    if wrong:
        raise BackboneError(
            f"there is no layer {wrong[0]}",
            where=f"{config.model_type} {getattr(config, '_name_or_path', '')}".strip(),
            expected=f"0, what enters the first layer, to {n_layers}, the last layer's output",
        )


def check_padding(config: PreTrainedConfig, attention_mask: torch.Tensor) -> None:
    """Refuse a padded batch for a backbone whose features padding changes.

    Args:
        config: of the backbone.
        attention_mask: (batch, samples), 0 where a window is padded at its end.

    Raises:
        BackboneError: something is padded, and the backbone does not bear it; or it is padded elsewhere.
    """
    family = family_of(config)
    n_padded = int((attention_mask == 0).any(1).sum())
    if n_padded and not family.padding_is_exact(config):
        raise BackboneError(
            f"{n_padded} of {len(attention_mask)} windows are padded, which changes the features of this backbone: "
            + family.why_padding_changes,
            where=f"{config.model_type} {getattr(config, '_name_or_path', '')}".strip(),
            expected="windows of equal length without padding",
            remedy="call the model once for each length",
        )
    if bool((attention_mask[:, 1:] != 0).gt(attention_mask[:, :-1] != 0).any()):
        raise BackboneError(
            "a window is padded before its end, which would move its frames",
            where="attention_mask",
            expected="zeros only after the last sample that counts",
            remedy="pad windows on the right",
        )

"""The speech-encoder families this package tunes: one table, so that nothing else asks for the family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from brain_tuning.errors import BackboneError
from brain_tuning.timing import FrameGrid

from .wavlm_attention import use_projected_attention


@dataclass(frozen=True)
class Family:
    """What the package must know of one family.

    Args:
        model_type: transformers' name of it.
        lora_targets: names of the projections LoRA may go to.
        prepare: makes a freshly built backbone ready for LoRA, in place.
        stem: (backbone, input_values (batch, samples)) -> (batch, frames, channels), the convolutions, which
            no recipe tunes.
        hidden_state: (backbone, stem output, layer) -> (batch, frames, width), equal to transformers'
            ``hidden_states[layer]`` without computing the layers above.
        layers: the backbone's list of transformer layers.
        quiet: config values that switch off SpecAugment, LayerDrop and dropout.
    """

    model_type: str
    lora_targets: tuple[str, ...]
    prepare: Callable[[nn.Module], object]
    stem: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    hidden_state: Callable[[nn.Module, torch.Tensor, int], torch.Tensor]
    layers: Callable[[nn.Module], nn.ModuleList]
    quiet: tuple[tuple[str, object], ...]


def _prepare_wavlm(backbone: Any) -> None:
    use_projected_attention(backbone)
    # Without this the stem marks its input as needing a gradient, and backward runs through all of it.
    backbone.freeze_feature_encoder()


def _wavlm_stem(backbone: Any, input_values: torch.Tensor) -> torch.Tensor:
    return backbone.feature_extractor(input_values).transpose(1, 2)


def _wavlm_hidden_state(backbone: Any, stem_output: torch.Tensor, layer: int) -> torch.Tensor:
    # Neither SpecAugment nor LayerDrop is here: the one refuses short windows, the other moves the layers.
    hidden, _ = backbone.feature_projection(stem_output)
    encoder = backbone.encoder
    hidden = hidden + encoder.pos_conv_embed(hidden)
    if not backbone.config.do_stable_layer_norm:
        hidden = encoder.layer_norm(hidden)
    hidden = encoder.dropout(hidden)
    position_bias = None
    for index, block in enumerate(encoder.layers[:layer]):
        hidden, position_bias = block(hidden, position_bias=position_bias, index=index)
    return hidden


def _wavlm_layers(backbone: Any) -> nn.ModuleList:
    return backbone.encoder.layers


FAMILIES: dict[str, Family] = {
    "wavlm": Family(
        model_type="wavlm",
        lora_targets=("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"),
        prepare=_prepare_wavlm,
        stem=_wavlm_stem,
        hidden_state=_wavlm_hidden_state,
        layers=_wavlm_layers,
        quiet=(
            ("apply_spec_augment", False),
            ("layerdrop", 0.0),
            ("hidden_dropout", 0.0),
            ("attention_dropout", 0.0),
            ("activation_dropout", 0.0),
            ("feat_proj_dropout", 0.0),
        ),
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
            f"a model of type {model_type!r} cannot be brain-tuned",
            where=where,
            expected=f"one of {', '.join(FAMILIES)}",
            remedy="choose another --backbone, e.g. microsoft/wavlm-base-plus",
        )
    return FAMILIES[model_type]


def quiet_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a backbone config with SpecAugment, LayerDrop and every dropout switched off."""
    quiet = copy.deepcopy(config)
    for key, value in family_of(config).quiet:
        setattr(quiet, key, value)
    return quiet


def frame_grid(config: PreTrainedConfig, sampling_rate_hz: int) -> FrameGrid:
    """Hop and receptive field of a convolutional stem, from its kernel and stride lists."""
    hop, field = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return FrameGrid(sampling_rate_hz, hop, field)

"""How the encoder of each family is run: stem, entrance and layers, as transformers computes them.

Each function is what a field of :class:`~brain_tuning.models.families.Family` asks for; the table says which.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from brain_tuning.errors import TimingError
from brain_tuning.timing import FrameGrid

from . import whisper_mel
from .convolutions import convolve
from .wavlm_attention import use_projected_attention

# wav2vec 2.0 and its relatives: seven convolutions, a projection, positions by convolution.


def convolutions(backbone: Any, windows: torch.Tensor) -> torch.Tensor:
    return convolve(backbone.feature_extractor, windows.to(backbone.dtype))


def feature_extractor(backbone: Any) -> list[nn.Module]:
    return [backbone.feature_extractor]


def freeze_feature_encoder(backbone: Any) -> None:
    # Without this the stem marks its input as needing a gradient, and backward runs through all of it.
    backbone.feature_extractor._freeze_parameters()


def convolution_grid(config: Any, sampling_rate_hz: int) -> FrameGrid:
    hop, field = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return FrameGrid(sampling_rate_hz, hop, field)


def enter_wav2vec2(backbone: Any, stem_output: torch.Tensor) -> torch.Tensor:
    hidden, _ = backbone.feature_projection(stem_output)
    return positioned(backbone, hidden)


def enter_hubert(backbone: Any, stem_output: torch.Tensor) -> torch.Tensor:
    return positioned(backbone, backbone.feature_projection(stem_output))


def positioned(backbone: Any, hidden: torch.Tensor) -> torch.Tensor:
    # Neither SpecAugment nor LayerDrop is here: the one refuses short windows, the other moves the layers.
    encoder = backbone.encoder
    hidden = hidden + encoder.pos_conv_embed(hidden)
    if not backbone.config.do_stable_layer_norm:
        hidden = encoder.layer_norm(hidden)
    return encoder.dropout(hidden)


def run_wav2vec2(backbone: Any, hidden: torch.Tensor, first: int, stop: int) -> torch.Tensor:
    for block in backbone.encoder.layers[first:stop]:
        hidden = block(hidden, attention_mask=None)
    return hidden


def run_wavlm(backbone: Any, hidden: torch.Tensor, first: int, stop: int) -> torch.Tensor:
    layers = backbone.encoder.layers
    # The first layer holds the position bias of all.
    position_bias = layers[0].attention.distance_bias(hidden.shape[1]) if first else None
    for index in range(first, stop):
        hidden, position_bias = layers[index](hidden, position_bias=position_bias, index=index)
    return hidden


def prepare_wavlm(backbone: Any) -> None:
    use_projected_attention(backbone)
    freeze_feature_encoder(backbone)


class FrozenBatchNorm(nn.BatchNorm1d):
    """Batch norm with its pretrained statistics, while tuning as well: they are no part of an adapter."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(
            values, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def prepare_conformer(backbone: Any) -> None:
    freeze_feature_encoder(backbone)
    for module in backbone.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = FrozenBatchNorm


def enter_conformer(backbone: Any, stem_output: torch.Tensor) -> torch.Tensor:
    hidden, _ = backbone.feature_projection(stem_output)
    return backbone.encoder.dropout(hidden)


def run_conformer(backbone: Any, hidden: torch.Tensor, first: int, stop: int) -> torch.Tensor:
    positions = backbone.encoder.embed_positions
    # In float32: transformers keeps its table of positions in the type it was last asked in, rounded for good.
    relative = None if positions is None else positions(hidden.float()).to(hidden.dtype)
    for block in backbone.encoder.layers[first:stop]:
        hidden = block(hidden, attention_mask=None, relative_position_embeddings=relative)
    return hidden


def encoder_layers(backbone: Any) -> nn.ModuleList:
    return backbone.encoder.layers


# Whisper: a spectrogram, two convolutions, a table of positions.


def whisper_stem(backbone: Any, windows: torch.Tensor) -> torch.Tensor:
    n_samples, grid = windows.shape[1], whisper_grid(backbone.config, whisper_mel.SAMPLING_RATE_HZ)
    grid.check_length(n_samples, parts="windows", to_shorten="the windows")
    if n_samples < grid.shortest_samples:
        raise TimingError(
            "a window is too short for a spectrum",
            where=f"{n_samples} samples",
            expected=f"at least {grid.shortest_samples} samples, which give one frame",
            remedy="use longer windows",
        )
    mel = whisper_mel.log_mel(windows, backbone.num_mel_bins).to(backbone.conv1.weight.dtype)
    hidden = functional.gelu(backbone.conv1(mel))
    return functional.gelu(backbone.conv2(hidden)).transpose(1, 2)


def enter_whisper(backbone: Any, stem_output: torch.Tensor) -> torch.Tensor:
    hidden = stem_output + backbone.embed_positions.weight[: stem_output.shape[1]]
    return functional.dropout(hidden, p=backbone.dropout, training=backbone.training)


def run_whisper(backbone: Any, hidden: torch.Tensor, first: int, stop: int) -> torch.Tensor:
    for block in backbone.layers[first:stop]:
        hidden = block(hidden, None)
    # transformers' last hidden state is the normalised one.
    return backbone.layer_norm(hidden) if stop == len(backbone.layers) else hidden


def whisper_grid(config: Any, sampling_rate_hz: int) -> FrameGrid:
    # A frame sees 5 columns of 400 samples, 160 apart, and is centred on the third. Columns are centred on their
    # samples by reflection, and the last column is dropped.
    hop = 2 * whisper_mel.HOP_SAMPLES
    field = 4 * whisper_mel.HOP_SAMPLES + whisper_mel.N_FFT
    return FrameGrid(
        sampling_rate_hz,
        hop,
        field,
        padding_samples=(field // 2, field // 2 - whisper_mel.HOP_SAMPLES),
        shortest_samples=whisper_mel.N_FFT,
        longest_samples=config.max_source_positions * hop,
    )


# SpeechT5: wav2vec 2.0's stem with two kinds of positions, and relative ones in attention.


def speecht5_stem(backbone: Any, windows: torch.Tensor) -> torch.Tensor:
    return convolve(backbone.prenet.feature_encoder, windows.to(backbone.dtype))


def enter_speecht5(backbone: Any, stem_output: torch.Tensor) -> torch.Tensor:
    prenet, encoder = backbone.prenet, backbone.wrapped_encoder
    hidden, _ = prenet.feature_projection(stem_output)
    hidden = hidden + prenet.pos_conv_embed(hidden)
    nothing_padded = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    hidden = hidden + prenet.pos_sinusoidal_embed(nothing_padded)
    return encoder.dropout(encoder.layer_norm(hidden))


def run_speecht5(backbone: Any, hidden: torch.Tensor, first: int, stop: int) -> torch.Tensor:
    encoder = backbone.wrapped_encoder
    position_bias = encoder.embed_positions(hidden)
    for block in encoder.layers[first:stop]:
        hidden = block(hidden, attention_mask=None, position_bias=position_bias)[0]
    return hidden


def layer_norm_stem(config: Any) -> bool:
    return config.feat_extract_norm == "layer"

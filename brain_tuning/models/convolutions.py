"""The convolution stem of wav2vec 2.0 and its relatives, computed in tiles of a few frames.

As transformers computes it, the first convolution's output alone is 512 channels at 3.2 kHz: 390 MB for a minute
of audio, held two or three times. A tile of output frames needs only the samples that its frames see, and all that
lies between fits a processor's cache. Time runs along the rows here, so that a convolution is a product of
matrices that are views of its input.

Group norm (the base models) is the one part that sees the whole window. It follows the first convolution, which
is linear: mean and variance of its channels follow from mean and covariance of the stretches of samples under
the kernel, and normalising is scaling the kernel and adding a bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from brain_tuning.errors import BackboneError, TimingError

#: Output frames of a tile on a CPU: the widest activations of WavLM base+ are then 8 MB.
TILE_FRAMES = 64
#: Stretches of samples that are summed at a time for group norm.
MOMENT_ROWS = 2**14


@torch.no_grad()
def convolve(feature_extractor: Any, input_values: torch.Tensor, *, tile_frames: int | None = None) -> torch.Tensor:
    """What ``feature_extractor(input_values).transpose(1, 2)`` gives, without gradients and in little memory.

    Tiles are computed one after the other, window by window, so the result for a window does not depend on which
    others it is computed with.

    Args:
        feature_extractor: of wav2vec 2.0, HuBERT, WavLM or SpeechT5 (``feature_encoder``): ``conv_layers``, with
            group norm after the first, layer norm after each, or no norm.
        input_values: (batch, samples), of the weights' type.
        tile_frames: output frames computed at a time; default is :data:`TILE_FRAMES` on a CPU, and elsewhere all
            frames of all windows at once, by transformers.

    Returns:
        (batch, frames, channels).

    Raises:
        TimingError: windows too short for one frame.
        BackboneError: the stem is not one of those above.
    """
    if tile_frames is None and input_values.device.type != "cpu":
        return feature_extractor(input_values).transpose(1, 2)
    input_values = input_values.contiguous()
    steps = [_step(layer, first=index == 0) for index, layer in enumerate(feature_extractor.conv_layers)]
    n_frames = input_values.shape[1]
    for step in steps:
        n_frames = (n_frames - step.kernel) // step.stride + 1
    if n_frames < 1:
        raise TimingError(
            "a window is too short for the convolutions",
            where=f"{input_values.shape[1]} samples",
            expected=f"at least {_span(steps, 0, 1).stop} samples, which give one frame",
            remedy="use longer windows",
        )
    output = input_values.new_empty(len(input_values), n_frames, steps[-1].weight.shape[1])
    tile_frames = tile_frames or TILE_FRAMES
    for samples, frames in zip(input_values, output, strict=True):
        first = _normalised(steps[0], samples)
        for start in range(0, n_frames, tile_frames):
            stop = min(start + tile_frames, n_frames)
            tile = samples[_span(steps, start, stop), None]
            for step in (first, *steps[1:]):
                tile = step.finish(_product(tile, step))
            frames[start:stop] = tile
    return output


@dataclass(frozen=True)
class _Step:
    """One convolution: a matrix (kernel x channels in, channels out), a bias, and what follows."""

    kernel: int
    stride: int
    weight: torch.Tensor
    bias: torch.Tensor | None
    finish: Callable[[torch.Tensor], torch.Tensor]
    group_norm: nn.GroupNorm | None


def _step(layer: Any, first: bool) -> _Step:
    conv, norm, activation = layer.conv, getattr(layer, "layer_norm", None), layer.activation
    plain = conv.padding == (0,) and conv.dilation == (1,) and conv.groups == 1
    by_channel = isinstance(norm, nn.GroupNorm) and norm.affine and norm.num_groups == norm.num_channels
    if not plain or not (norm is None or isinstance(norm, nn.LayerNorm) or (by_channel and first)):
        raise BackboneError(
            "these convolutions cannot be computed in tiles",
            where=f"{conv}, {norm}",
            expected="convolutions without padding, then layer norm, or group norm of each channel after the first",
            remedy="call the feature extractor itself",
        )
    return _Step(
        kernel=conv.kernel_size[0],
        stride=conv.stride[0],
        weight=conv.weight.permute(2, 1, 0).flatten(0, 1).contiguous(),
        bias=conv.bias,
        finish=(lambda rows: activation(norm(rows))) if isinstance(norm, nn.LayerNorm) else activation,
        group_norm=norm if by_channel else None,
    )


def _span(steps: list[_Step], start: int, stop: int) -> slice:
    """The samples that some output frames see."""
    for step in reversed(steps):
        start, stop = start * step.stride, (stop - 1) * step.stride + step.kernel
    return slice(start, stop)


def _product(rows: torch.Tensor, step: _Step) -> torch.Tensor:
    """The convolution of (time, channels in), contiguous: (time out, channels out)."""
    n_channels = rows.shape[1]
    n_rows = (len(rows) - step.kernel) // step.stride + 1
    # Taps of one stride side by side are a matrix that needs no copy. Samples, of one channel, are cheap to copy.
    width = step.kernel if n_channels == 1 else step.stride
    output = None
    for tap in range(0, step.kernel, width):
        weight = step.weight[tap * n_channels : (tap + width) * n_channels]
        seen = rows.as_strided(
            (n_rows, len(weight)), (step.stride * n_channels, 1), rows.storage_offset() + tap * n_channels
        )
        if output is not None:
            output.addmm_(seen, weight)
        else:
            output = seen @ weight if step.bias is None else torch.addmm(step.bias, seen, weight)
    assert output is not None
    return output


def _normalised(step: _Step, samples: torch.Tensor) -> _Step:
    """The first convolution of one window with its group norm, if it has one, folded into weight and bias.

    With mean m and covariance C of the stretches of samples under the kernel, channel w has mean m'w and variance
    w'Cw. All in float64: the variance of a channel may be far smaller than that of the samples.
    """
    norm = step.group_norm
    if norm is None:
        return step
    mean, covariance = _moments(samples, step.kernel, step.stride)
    weight = step.weight.double()
    scale = norm.weight.double() / ((covariance @ weight).mul_(weight).sum(0) + norm.eps).sqrt()
    # The convolution's own bias moves the mean by as much and cancels.
    bias = norm.bias.double() - mean @ weight * scale
    return replace(step, weight=(weight * scale).to(step.weight.dtype), bias=bias.to(step.weight.dtype))


def _moments(samples: torch.Tensor, kernel: int, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (kernel,) and covariance (kernel, kernel), float64, of the stretches of samples that a kernel sees."""
    stretches = samples.unfold(0, kernel, stride)
    total = samples.new_zeros(kernel, dtype=torch.float64)
    for some in stretches.split(MOMENT_ROWS):
        total += some.sum(0, dtype=torch.float64)
    mean = total / len(stretches)
    products = total.new_zeros(kernel, kernel)
    for some in stretches.split(MOMENT_ROWS):
        centred = some.double() - mean
        products.addmm_(centred.T, centred)
    return mean, products / len(stretches)

"""The whole forward of WavLM, without gradients.

Workload: audio of 16 s, a usual window (in full 60 s), a WavLM of base+ shape with random weights, float32, all 12
layers.
Peer: transformers' ``WavLMModel``.
Goal: for 60 s or more 1.6 times faster and a fifth of the memory above the weights, for less no slower; last hidden
states equal to 1e-5 of their size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import WavLMConfig, WavLMModel

from benchmarks.harness import Build, Case, Goal, Side, Work
from brain_tuning.models.convolutions import convolve
from brain_tuning.models.families import family_of

DEVICES = ("cpu", "cuda")
_HZ = 16_000


@dataclass(frozen=True)
class Sizes:
    """Of the workload."""

    seconds: int = 16
    width: int = 768
    n_layers: int = 12
    conv_width: int = 512


FULL = Sizes(seconds=60)


def prepare(sizes: Sizes, device: str) -> tuple[WavLMModel, WavLMModel, torch.Tensor]:
    """The model of transformers, the same made ready by this package, and audio (1, n_samples)."""
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.n_layers,
        num_attention_heads=max(1, sizes.width // 64),
        intermediate_size=4 * sizes.width,
        conv_dim=[sizes.conv_width] * 7,
    )
    stock = WavLMModel(config).eval().requires_grad_(False)
    # As initialised, the position bias is too small for an error in it to be seen.
    torch.nn.init.normal_(stock.encoder.layers[0].attention.rel_attn_embed.weight)
    prepared = copy.deepcopy(stock)
    family_of(config).prepare(prepared)
    return stock.to(device), prepared.to(device), torch.randn(1, sizes.seconds * _HZ).to(device)


@torch.no_grad()
def ours(model: WavLMModel, audio: torch.Tensor) -> torch.Tensor:
    """Last hidden states (1, frames, width), as this package computes them."""
    family = family_of(model.config)
    with torch.autocast(audio.device.type, enabled=False):
        stem = convolve(model.feature_extractor, audio)
    hidden = family.enter(model, stem)
    return family.run(model, hidden, 0, model.config.num_hidden_layers)


@torch.no_grad()
def peer(model: WavLMModel, audio: torch.Tensor) -> torch.Tensor:
    """Last hidden states (1, frames, width), as transformers computes them."""
    return model(audio).last_hidden_state


def flops(config: WavLMConfig, n_samples: int, n_layers: int) -> float:
    """Multiplications and additions of the products of matrices in stem and layers, two for each pair of factors."""
    frames, channels, total = n_samples, 1, 0
    for kernel, stride, width in zip(config.conv_kernel, config.conv_stride, config.conv_dim, strict=True):
        frames = (frames - kernel) // stride + 1
        total += frames * kernel * channels * width
        channels = width
    width = config.hidden_size
    positions = config.num_conv_pos_embeddings * width // config.num_conv_pos_embedding_groups
    layer = 4 * width + 2 * config.intermediate_size + 2 * frames
    return 2.0 * (total + frames * width * (channels + positions + n_layers * layer))


def build(sizes: Sizes, folder: Path, device: str, *, bf16: bool = False) -> Case:
    """The case; in bfloat16 under autocast, our convolutions in float32, as tuning has them."""
    stock, prepared, audio = prepare(sizes, device)

    def under_autocast(run: Callable[[WavLMModel, torch.Tensor], torch.Tensor], model: WavLMModel) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return run(model, audio)

    return Case(
        ours=Side("own attention and convolutions", partial(under_autocast, ours, prepared)),
        peer=Side("transformers WavLMModel", partial(under_autocast, peer, stock)),
        goal=Goal(ratio=1.6, memory_share=0.2) if sizes.seconds >= FULL.seconds else Goal(ratio=1.0),
        work=Work(flops=flops(stock.config, audio.shape[1], sizes.n_layers), bf16=bf16, audio_s=sizes.seconds),
        differences=lambda ours, peer: {"hidden states": float((ours - peer).abs().max() / peer.abs().max())},
        tolerances={"hidden states": 0.1 if bf16 else 1e-5},
    )


CASES: dict[str, Build] = {"base_plus": build}

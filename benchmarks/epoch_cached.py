"""Later epochs against the first, which is the only one that computes what is frozen.

Workload: a block of eight TRs (windows of 16 s, 2 s kept) of WavLM base+ with LoRA on q, k, v, forward and backward.
``stem``: all layers below the ninth are tuned, the convolutions are remembered. ``layers``: layers 9 to 11 of 12 are
tuned, and the hidden state below them is remembered.
Peer: the same step with nothing remembered.
Goal: 1.3 times faster (stem), 4 times (layers), to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Build, Case, Goal, Side, Work
from benchmarks.speech_models import speechlike, tuned_model, wavlm_folder
from brain_tuning.models.frozen_cache import FrozenCache

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Sizes:
    """Of the workload; layers from three quarters of ``n_layers`` on are the upper ones."""

    n_trs: int = 2
    context_s: int = 14
    width: int = 768
    n_layers: int = 12
    n_voxels: int = 5_000


FULL = Sizes(n_trs=8, n_voxels=95_556)


def _build(sizes: Any, folder: Path, device: str, *, upper_only: bool) -> Case:
    place = wavlm_folder(folder, width=sizes.width, n_layers=sizes.n_layers)
    first = sizes.n_layers * 3 // 4
    layer = sizes.n_layers if upper_only else first
    adapted = {"first_adapted_layer": first if upper_only else 0}
    model = tuned_model(place, layer, sizes.n_voxels, context_s=sizes.context_s, **adapted)
    model.to(device).train()  # type: ignore[arg-type]
    start_s = sizes.context_s + 2.0
    audio = speechlike(start_s + 2.0 * (sizes.n_trs + 8))
    block = model.plan(audio, start_s + (np.arange(sizes.n_trs) + 0.5) * 2.0)
    bold = torch.randn(sizes.n_trs, sizes.n_voxels, generator=torch.Generator().manual_seed(0))
    cache = FrozenCache(2**31)

    def step(remembered: FrozenCache | None) -> dict[str, torch.Tensor]:
        model.frozen_cache = remembered
        model.head.norm.n_blocks.zero_()  # type: ignore[operator, union-attr]
        loss = model(**block, labels=bold).loss
        loss.backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        return {"loss": loss.detach(), **gradients}

    step(cache)
    return Case(
        ours=Side("remembered", partial(step, cache)),
        peer=Side("computed", partial(step, None)),
        goal=Goal(ratio=4.0 if upper_only else 1.3),
        work=Work(),
        differences=lambda a, b: {"gradients": max(float((a[key] - b[key]).abs().max()) for key in b)},
        tolerances={"gradients": 0.0 if device == "cpu" else 1e-6},
    )


CASES: dict[str, Build] = {"stem": partial(_build, upper_only=False), "layers": partial(_build, upper_only=True)}

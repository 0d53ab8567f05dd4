"""Features of a story at TR rate from a frozen speech model, to be regressed on.

Workload: speech-like audio of 24 s (in full 120 s), a WavLM of base+ shape with random weights, float32, hidden state
of layer 9, TRs of 2 s.
Ours: windows of 16 s, one a TR, whose last 2 s are kept; no frame hears more than one TR of its future.
Peer: the field's plan, a window of 16.1 s every 0.1 s whose last frame is read, by transformers' ``WavLMModel`` as in
the field's scripts. It takes hours, so only a few of its windows are timed; on a GPU these are one batch.
Goal: 20 times faster. The plans give other features; that they predict as well is shown on the simulator by
``tests/features/test_window_plans.py``. What must agree here is ours under the peer's plan, on the windows timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WavLMModel

from benchmarks.harness import Build, Case, Goal, Side, Work
from benchmarks.speech_models import RATE_HZ, speechlike, wavlm_folder
from benchmarks.wavlm_forward import flops
from brain_tuning.models import BrainWavLMForFMRIEncoding

DEVICES = ("cpu", "cuda")
_TR_S = 2.0
_CONTEXT_S, _STRIDE_S = 16.0, 0.1


@dataclass(frozen=True)
class Sizes:
    """Of the workload; ``n_timed`` of the peer's windows are timed."""

    seconds: int = 24
    n_timed: int = 3
    width: int = 768
    n_layers: int = 12


FULL = Sizes(seconds=120)


def build(sizes: Sizes, folder: Path, device: str, *, bf16: bool = False) -> Case:
    """The case; in bfloat16 both models have their weights in it."""
    place = wavlm_folder(folder, width=sizes.width, n_layers=sizes.n_layers)
    layer = sizes.n_layers * 3 // 4
    model = BrainWavLMForFMRIEncoding.from_backbone(
        str(place), layer=layer, context_s=14.0, stride_s=_TR_S, read="all"
    ).eval()
    stock, dtype = WavLMModel.from_pretrained(place).eval(), torch.bfloat16 if bf16 else torch.float32
    for each in (model, stock):
        each.to(device, dtype)
    audio = speechlike(sizes.seconds)
    tr_times_s = (np.arange(sizes.seconds / _TR_S) + 0.5) * _TR_S
    # The windows that end the story: those at its start are shorter.
    ends = [round((sizes.seconds - k * _STRIDE_S) * RATE_HZ) for k in range(sizes.n_timed)]
    length = round((_CONTEXT_S + _STRIDE_S) * RATE_HZ)
    windows = torch.from_numpy(np.stack([audio[end - length : end] for end in ends])).to(device)
    batches = windows.to(dtype).split(1 if device == "cpu" else len(windows))
    n_windows = round(sizes.seconds / _STRIDE_S)
    # Of our windows; those at the story's start are shorter.
    lengths = [round(min(tr_time_s + _TR_S / 2, 14.0 + _TR_S) * RATE_HZ) for tr_time_s in tr_times_s]

    @torch.no_grad()
    def peer() -> torch.Tensor:
        states = [stock(batch, output_hidden_states=True).hidden_states[layer] for batch in batches]
        return torch.cat([state[:, -1] for state in states])

    def differences(_: Any, theirs: torch.Tensor) -> dict[str, float]:
        with torch.no_grad():
            mine = torch.cat([model.hidden_state(batch)[:, -1] for batch in batches])
        return {"the peer's windows": float((mine - theirs).abs().max() / theirs.abs().max())}

    return Case(
        ours=Side("windows of 16 s, one a TR", lambda: model.story_features(audio, tr_times_s)),
        peer=Side("transformers, 16.1 s every 0.1 s", peer, share=sizes.n_timed / n_windows),
        goal=Goal(ratio=20.0),
        work=Work(flops=sum(flops(stock.config, n, layer) for n in lengths), bf16=bf16, audio_s=sizes.seconds),
        differences=differences,
        tolerances={"the peer's windows": 0.1 if bf16 else 1e-4},
    )


CASES: dict[str, Build] = {"field": build}

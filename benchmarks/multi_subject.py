"""One tuning step for several people who heard the same story.

Workload: a block of TRs (windows of 16 s, 2 s kept) of WavLM base+ with LoRA on q, k, v and one head for each of eight
people, forward and backward.
Peer: eight separate passes, one a person, whose gradients add up.
Goal: 5 times faster, gradients equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Build, Case, Goal, Side, Work
from benchmarks.speech_models import LORA, moved, speechlike, step_flops, wavlm_folder
from brain_tuning.models import BrainWavLMForFMRIEncoding

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Sizes:
    """Of the workload."""

    n_subjects: int = 8
    n_trs: int = 2
    context_s: int = 14
    width: int = 256
    n_layers: int = 6
    n_voxels: int = 3_000


FULL = Sizes(n_trs=10, width=768, n_layers=12, n_voxels=95_556)


def build(sizes: Any, folder: Path, device: str, *, bf16: bool = False) -> Case:
    """The case; in bfloat16 under autocast."""
    place = wavlm_folder(folder, width=sizes.width, n_layers=sizes.n_layers)
    torch.manual_seed(1)
    layer = sizes.n_layers * 3 // 4
    model = BrainWavLMForFMRIEncoding.from_backbone(
        str(place), layer=layer, context_s=sizes.context_s, stride_s=2.0, read="all"
    )
    subjects = [f"s{k}" for k in range(sizes.n_subjects)]
    model.add_group("together", {subject: np.arange(sizes.n_voxels) for subject in subjects}, lora=LORA)
    model.to(device).train()  # type: ignore[arg-type]
    start_s = sizes.context_s + 2.0
    audio = speechlike(start_s + 2.0 * (sizes.n_trs + 8))
    block = moved(model.plan(audio, start_s + (np.arange(sizes.n_trs) + 0.5) * 2.0), device)
    generator = torch.Generator().manual_seed(0)
    bold = moved(
        {subject: torch.randn(sizes.n_trs, sizes.n_voxels, generator=generator) for subject in subjects}, device
    )

    def gradients() -> dict[str, torch.Tensor]:
        found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        return found

    def loss(labels: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return model(**block, labels=labels).loss

    def together() -> dict[str, torch.Tensor]:
        loss(bold).backward()
        return gradients()

    def separately() -> dict[str, torch.Tensor]:
        for subject in subjects:
            (loss({subject: bold[subject]}) / len(subjects)).backward()
        return gradients()

    flops = step_flops(
        block["input_values"], width=sizes.width, n_layers=layer, n_trs=sizes.n_trs, n_voxels=sizes.n_voxels,
        n_heads=sizes.n_subjects,
    )  # fmt: skip
    return Case(
        ours=Side("one pass", together),
        peer=Side(f"{sizes.n_subjects} passes", separately),
        goal=Goal(ratio=5.0),
        work=Work(flops=flops, bf16=bf16, audio_s=2.0 * sizes.n_trs),
        differences=lambda a, b: {
            "gradients": max(float((a[key] - b[key]).norm() / b[key].norm().clamp_min(1e-12)) for key in b)
        },
        tolerances={"gradients": 0.05 if bf16 else 1e-3},
    )


CASES: dict[str, Build] = {"eight": build}

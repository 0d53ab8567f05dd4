"""One optimiser step of brain-tuning on a GPU, in bfloat16.

Workload: eight clips of 16 s, enough to keep a GPU busy, through a WavLM of base+ shape with LoRA on q, k, v, layer 9
read, a head on 95,556 voxels, under autocast; the stem's output is remembered, as in every epoch but the first.
Peer: transformers and peft as one writes them, under autocast; all else as in :mod:`benchmarks.tuning_step`.
Goal: 2.5 times faster with a quarter of the memory, and 40 % of the GPU's own rate of bfloat16 products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import tuning_step
from benchmarks.harness import Build, Case

DEVICES = ("cuda",)


@dataclass(frozen=True)
class Sizes(tuning_step.Sizes):
    """Of the workload."""

    n_clips: int = 8


FULL = Sizes()


def build(sizes: Any, folder: Path, device: str) -> Case:
    """The case of later epochs, with the GPU's goal."""
    case = tuning_step.build(sizes, folder, device, bf16=True, cached=True)
    return replace(case, goal=replace(case.goal, rate_share=0.4))


CASES: dict[str, Build] = {"later_epochs": build}

"""The whole forward of WavLM on a GPU, in bfloat16.

Workload: audio of 60 s, a WavLM of base+ shape, all 12 layers, under autocast.
Peer: transformers' ``WavLMModel``, under autocast; all else as in :mod:`benchmarks.wavlm_forward`.
Goal: 1.6 times faster, with a fifth of the memory above the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks import wavlm_forward
from benchmarks.harness import Build

DEVICES = ("cuda",)


@dataclass(frozen=True)
class Sizes(wavlm_forward.Sizes):
    """Of the workload."""

    seconds: int = 60


FULL = Sizes()
CASES: dict[str, Build] = {"base_plus": partial(wavlm_forward.build, bf16=True)}

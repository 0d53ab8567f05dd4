"""Features of a story on a GPU, in bfloat16.

Workload: 120 s of speech-like audio, a WavLM of base+ shape, layer 9, at most one TR of future, weights in bfloat16.
Peer: the field's windows of 16.1 s every 0.1 s by transformers, 16 of them in one batch, weights in bfloat16; all else
as in :mod:`benchmarks.features_story`.
Goal: 20 times faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks import features_story
from benchmarks.harness import Build

DEVICES = ("cuda",)


@dataclass(frozen=True)
class Sizes(features_story.Sizes):
    """Of the workload."""

    seconds: int = 120
    n_timed: int = 16


FULL = Sizes()
CASES: dict[str, Build] = {"field": partial(features_story.build, bf16=True)}

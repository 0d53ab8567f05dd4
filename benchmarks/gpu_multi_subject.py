"""One tuning step on a GPU for several people who heard the same story, in bfloat16.

Workload: ten TRs of eight people with 95,556 voxels each, a WavLM of base+ shape with LoRA on q, k, v, forward and
backward under autocast.
Peer: eight separate passes, one a person; all else as in :mod:`benchmarks.multi_subject`.
Goal: 5 times faster, gradients equal to the precision of bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks import multi_subject
from benchmarks.harness import Build

DEVICES = ("cuda",)


@dataclass(frozen=True)
class Sizes(multi_subject.Sizes):
    """Of the workload."""

    n_trs: int = 10
    width: int = 768
    n_layers: int = 12
    n_voxels: int = 95_556


FULL = Sizes()
CASES: dict[str, Build] = {"eight": partial(multi_subject.build, bf16=True)}

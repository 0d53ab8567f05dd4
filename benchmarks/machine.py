"""The machine's own rates: how fast it multiplies matrices and copies memory while a benchmark runs.

A program can only be as fast as the machine it shares with others lets it be, so these are measured between the
timed pairs of the same run.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

#: side of the square matrices, and bytes copied, by device: large enough for full speed, over in 0.1 s
_SIDE = {"cpu": 1536, "cuda": 8192}
_COPIED_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}


@dataclass(frozen=True)
class Rates:
    """Medians over the samples.

    Attributes:
        gemm_float32, gemm_bfloat16: products of square matrices, FLOP/s.
        copy: bytes read plus bytes written a second, by a copy larger than the caches.
    """

    gemm_float32: float
    gemm_bfloat16: float
    copy: float


class Machine:
    """Samples the rates of a device.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        side, n = _SIDE[device], _COPIED_BYTES[device] // 4
        self._matrices = {
            dtype: [torch.full((side, side), 0.5, dtype=dtype, device=device) for _ in range(3)]
            for dtype in (torch.float32, torch.bfloat16)
        }
        self._source = torch.ones(n, device=device)
        self._target = torch.empty_like(self._source)
        self._samples: list[Rates] = []
        self._measure()  # the first touch of memory and of the kernels

    def sample(self) -> None:
        """Measure each rate once more."""
        self._samples.append(self._measure())

    def rates(self) -> Rates:
        """Median of each rate over the samples."""
        names = ("gemm_float32", "gemm_bfloat16", "copy")
        return Rates(**{name: median(getattr(sample, name) for sample in self._samples) for name in names})

    def _measure(self) -> Rates:
        return Rates(
            gemm_float32=self._gemm(torch.float32),
            gemm_bfloat16=self._gemm(torch.bfloat16),
            copy=2 * _COPIED_BYTES[self.device] / self._seconds(lambda: self._target.copy_(self._source)),
        )

    def _gemm(self, dtype: torch.dtype) -> float:
        a, b, out = self._matrices[dtype]
        return 2 * _SIDE[self.device] ** 3 / self._seconds(lambda: torch.mm(a, b, out=out))

    def _seconds(self, run: Callable[[], object]) -> float:
        synchronise(self.device)
        begin = perf_counter()
        run()
        synchronise(self.device)
        return perf_counter() - begin


def give_back(device: str) -> None:
    """Let other processes have the device memory that torch keeps after its tensors are gone."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def synchronise(device: str) -> None:
    """Wait for everything that was asked of the device."""
    if device == "cuda":
        torch.cuda.synchronize()

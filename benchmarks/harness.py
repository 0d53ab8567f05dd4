"""Two programs that do the same work, timed in turn: ours, the peer, ours, the peer, ...

On a shared machine seconds mean little and ratios of neighbouring runs mean much, so a ratio is taken pair by
pair and printed with its spread. No ratio exists for programs whose results differ: see :func:`check_agreement`.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

from benchmarks.machine import Machine, Rates, give_back, synchronise
from benchmarks.memory import Peak, peak_in_fresh_process
from brain_tuning.errors import BrainTuningError

#: Calls shorter than this are repeated until they fill it: a clock and a scheduler have their own grain.
SAMPLE_S = 0.2
_MAX_CALLS = 2000


class DisagreementError(BrainTuningError):
    """The two programs of a benchmark do not compute the same."""


@dataclass(frozen=True)
class Side:
    """One of the two programs.

    Attributes:
        label: what it is, e.g. ``"himalaya RidgeCV"``.
        run: does the work once and returns its result.
        before: brings back the state that ``run`` starts from; called before each run, not timed.
        share: part of the work that ``run`` does, where all of it would take hours and time is proportional to work;
            its seconds are divided by it, and the label says so.
    """

    label: str
    run: Callable[[], Any]
    before: Callable[[], object] | None = None
    share: float = 1.0

    @property
    def described(self) -> str:
        """The label, and what was timed if that was not all."""
        return self.label if self.share == 1.0 else f"{self.label} (timed on {self.share:.2g} of the work)"


@dataclass(frozen=True)
class Goal:
    """What ours has to reach; None where nothing is asked.

    Attributes:
        ratio: the peer's time over ours, at least.
        memory_share: our growth of memory over the peer's, at most.
        resident_bytes: memory of our whole process, at most.
        rate_share: share of the machine's own rate, at least.
    """

    ratio: float
    memory_share: float | None = None
    resident_bytes: float | None = None
    rate_share: float | None = None


@dataclass(frozen=True)
class Work:
    """What ours has to do at least, from the sizes alone: products of matrices, or else bytes read and written.

    Attributes:
        flops: operations of the products.
        bytes: read and written.
        bf16: the products are in bfloat16, and it is the machine's rate of these that they are held against.
        audio_s: seconds of a story that are heard, each counted once.
    """

    flops: float = 0.0
    bytes: float = 0.0
    bf16: bool = False
    audio_s: float = 0.0


@dataclass(frozen=True)
class Case:
    """A comparison, ready to run.

    Attributes:
        ours, peer: the two programs.
        goal: what ours has to reach.
        work: what it takes.
        differences: how far our result and the peer's are apart, by name.
        tolerances: the greatest difference that counts as agreement, by the same names.
    """

    ours: Side
    peer: Side
    goal: Goal
    work: Work
    differences: Callable[[Any, Any], Mapping[str, float]]
    tolerances: Mapping[str, float]


#: sizes, a folder for files that both sides read, device -> the case
Build = Callable[[Any, Path, str], Case]


class Benchmark(Protocol):
    """What a module of this folder defines."""

    __name__: str
    #: frozen dataclass of numbers; as it comes it fits two cores and a minute or two
    Sizes: type
    #: the sizes that the goals are meant for
    FULL: Any
    #: the devices it runs on
    DEVICES: tuple[str, ...]
    #: what is compared, by name
    CASES: dict[str, Build]


@dataclass(frozen=True)
class Result:
    """What one comparison gave.

    Attributes:
        name: benchmark and case.
        sizes: of the workload.
        device: ``cpu`` or ``cuda``.
        ours, peer: labels.
        ours_s, peer_s: seconds that the work took, pair by pair.
        ours_calls, peer_calls: calls of one timing.
        differences, tolerances: how far the results are apart, and how far they may be.
        goal, work: as in the case.
        rates: the machine's own, measured between the pairs.
        ours_peak, peer_peak: memory, each in a process of its own; None where it was not measured.
    """

    name: str
    sizes: dict[str, Any]
    device: str
    ours: str
    peer: str
    ours_s: list[float]
    peer_s: list[float]
    ours_calls: int
    peer_calls: int
    differences: dict[str, float]
    tolerances: dict[str, float]
    goal: Goal
    work: Work
    rates: Rates
    ours_peak: Peak | None = None
    peer_peak: Peak | None = None
    ratios: list[float] = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.ours_s, self.peer_s, strict=True)
        object.__setattr__(self, "ratios", [peer / ours for ours, peer in pairs])

    @property
    def ratio(self) -> float:
        """The peer's time over ours, median of the pairs: how many times faster ours is."""
        return median(self.ratios)

    @property
    def rate_share(self) -> float | None:
        """Share of the machine's matrix-product rate, or of its copying rate, that ours reaches."""
        seconds = median(self.ours_s)
        if self.work.flops:
            products = self.rates.gemm_bfloat16 if self.work.bf16 else self.rates.gemm_float32
            return self.work.flops / seconds / products
        return self.work.bytes / seconds / self.rates.copy if self.work.bytes else None

    @property
    def audio_rates(self) -> tuple[float, float] | None:
        """Seconds of audio that ours and the peer hear in a second."""
        audio_s = self.work.audio_s
        return (audio_s / median(self.ours_s), audio_s / median(self.peer_s)) if audio_s else None

    @property
    def memory_share(self) -> float | None:
        """Our growth of memory over the peer's."""
        if self.ours_peak is None or self.peer_peak is None or self.peer_peak.growth == 0:
            return None
        return self.ours_peak.growth / self.peer_peak.growth

    def missed(self) -> list[str]:
        """The goals that were not reached, in words; a goal that could not be checked is missed."""
        goal, found = self.goal, []
        resident = None if self.ours_peak is None else float(self.ours_peak.resident)
        if not self.ratio >= goal.ratio:
            found.append("time")
        for name, value, limit in (
            ("memory share", self.memory_share, goal.memory_share),
            ("memory", resident, goal.resident_bytes),
        ):
            if limit is not None and (value is None or not value <= limit):
                found.append(name)
        if goal.rate_share is not None and not (self.rate_share or 0.0) >= goal.rate_share:
            found.append("rate")
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        derived = {
            "ratio": self.ratio,
            "rate_share": self.rate_share,
            "audio_rates": self.audio_rates,
            "memory_share": self.memory_share,
            "missed": self.missed(),
        }
        return {**asdict(self), **derived}


def run_case(
    benchmark: Benchmark,
    case_name: str,
    sizes: Any,
    folder: Path,
    *,
    device: str = "cpu",
    repeats: int = 5,
    sample_s: float = SAMPLE_S,
    memory: bool = True,
) -> Result:
    """Run one comparison.

    Args:
        benchmark: the module.
        case_name: one of its ``CASES``.
        sizes: a ``Sizes`` of the module.
        folder: existing folder for files that both sides read; fresh processes read them there again.
        device: ``cpu`` or ``cuda``.
        repeats: pairs of runs.
        sample_s: see :data:`SAMPLE_S`.
        memory: also measure the peak memory of each side.

    Returns:
        The result.

    Raises:
        DisagreementError: the two sides do not compute the same.
    """
    case = benchmark.CASES[case_name](sizes, folder, device)
    _, ours_result = _timed(case.ours, 1, device)
    _, peer_result = _timed(case.peer, 1, device)
    name = f"{benchmark.__name__.rpartition('.')[2]}/{case_name}"
    differences = check_agreement(name, case, ours_result, peer_result)
    del ours_result, peer_result
    ours_calls, peer_calls = (_calls(side, sample_s, device) for side in (case.ours, case.peer))
    machine = Machine(device)
    ours_s, peer_s = [], []
    for _ in range(repeats):
        gc.collect()
        ours_s.append(_timed(case.ours, ours_calls, device)[0])
        peer_s.append(_timed(case.peer, peer_calls, device)[0])
        machine.sample()
    rates = machine.rates()
    labels, goal, work, tolerances = (
        (case.ours.described, case.peer.described),
        case.goal,
        case.work,
        dict(case.tolerances),
    )
    # What this process holds would only press on the memory of those that measure it.
    del case, machine
    give_back(device)
    peaks = [
        peak_in_fresh_process(benchmark, case_name, side, sizes, folder, device) if memory else None
        for side in ("ours", "peer")
    ]
    return Result(
        name=name,
        sizes=asdict(sizes),
        device=device,
        ours=labels[0],
        peer=labels[1],
        ours_s=ours_s,
        peer_s=peer_s,
        ours_calls=ours_calls,
        peer_calls=peer_calls,
        differences=differences,
        tolerances=tolerances,
        goal=goal,
        work=work,
        rates=rates,
        ours_peak=peaks[0],
        peer_peak=peaks[1],
    )


def check_agreement(name: str, case: Case, ours: Any, peer: Any) -> dict[str, float]:
    """Differences of two results by name, if each is within its tolerance.

    Raises:
        DisagreementError: one is not, or is not a number: a ratio of different computations means nothing.
    """
    found = {key: float(value) for key, value in case.differences(ours, peer).items()}
    for key, tolerance in case.tolerances.items():
        difference = found.get(key, math.nan)
        if not difference <= tolerance:
            raise DisagreementError(
                f"{case.ours.label} and {case.peer.label} differ by {difference:.3g} in {key}",
                where=name,
                expected=f"at most {tolerance:.3g}",
                remedy="a ratio is printed only once both compute the same",
            )
    return found


def _calls(side: Side, sample_s: float, device: str) -> int:
    """How many calls fill a sample."""
    seconds = _timed(side, 1, device)[0] * side.share
    return min(_MAX_CALLS, max(1, math.ceil(sample_s / max(seconds, 1e-9))))


def _timed(side: Side, calls: int, device: str) -> tuple[float, Any]:
    """Seconds that all of the work takes, without ``before``, and the last result."""
    seconds, result = 0.0, None
    for _ in range(calls):
        result = None  # the last result is freed outside the clock
        if side.before is not None:
            side.before()
        synchronise(device)
        begin = perf_counter()
        result = side.run()
        synchronise(device)
        seconds += perf_counter() - begin
    return seconds / calls / side.share, result

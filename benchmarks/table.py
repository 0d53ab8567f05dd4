"""The printed table of results: one line a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.harness import Goal, Result

HEADINGS = (
    "name",
    "ours",
    "peer",
    "ratio",
    "spread",
    "goal",
    "reached",
    "memory ours/peer",
    "of the machine's rate",
    "audio-s/s ours/peer",
)


def render(results: Sequence[Result]) -> str:
    """Results as text.

    Args:
        results: one a line.

    Returns:
        A table with aligned columns, and below it who the peers are and what the machine's own rates were.
    """
    rows = [HEADINGS, *(_row(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    lines.append("")
    lines += [f"{r.name}: {r.ours} against {r.peer}; {len(r.ratios)} pairs; agreed to {_agreed(r)}" for r in results]
    if results:
        lines.append(_machine(results))
    return "\n".join(lines)


def seconds(value: float) -> str:
    """A duration with three digits and its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def size(n_bytes: float) -> str:
    """An amount of memory with three digits and its unit."""
    return f"{n_bytes / 2**30:.3g} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.3g} MiB"


def _row(result: Result) -> tuple[str, ...]:
    missed = result.missed()
    return (
        result.name,
        seconds(median(result.ours_s)),
        seconds(median(result.peer_s)),
        _times(result.ratio),
        f"{_times(min(result.ratios))} to {_times(max(result.ratios))}",
        _goal(result.goal),
        f"no: {', '.join(missed)}" if missed else "yes",
        "-"
        if result.ours_peak is None or result.peer_peak is None
        else f"{size(result.ours_peak.growth)} / {size(result.peer_peak.growth)}",
        _share(result),
        "-" if result.audio_rates is None else " / ".join(f"{rate:.3g}" for rate in result.audio_rates),
    )


def _goal(goal: Goal) -> str:
    parts = [f">= {goal.ratio:g}x"]
    if goal.memory_share is not None:
        parts.append(f"memory <= {goal.memory_share:.2g}x")
    if goal.resident_bytes is not None:
        parts.append(f"< {size(goal.resident_bytes)}")
    if goal.rate_share is not None:
        parts.append(f">= {goal.rate_share:.0%} of rate")
    return ", ".join(parts)


def _share(result: Result) -> str:
    share = result.rate_share
    if share is None:
        return "-"
    products = "bf16 GEMM" if result.work.bf16 else "GEMM"
    return f"{share:.2g} of {products if result.work.flops else 'copy'}"


def _agreed(result: Result) -> str:
    return ", ".join(
        f"{result.differences[key]:.2g} in {key} (at most {tolerance:.2g})"
        for key, tolerance in result.tolerances.items()
    )


def _times(ratio: float) -> str:
    return f"{ratio:.3g}x" if ratio < 1000 else f"{ratio:.0f}x"


def _machine(results: Sequence[Result]) -> str:
    gemm, half, copy = (
        median(getattr(result.rates, name) for result in results) for name in ("gemm_float32", "gemm_bfloat16", "copy")
    )
    return (
        f"this machine, between the pairs: float32 GEMM {gemm / 1e9:.0f} GFLOP/s, bfloat16 GEMM {half / 1e9:.0f} "
        f"GFLOP/s, copy {copy / 1e9:.1f} GB/s (read + written)"
    )

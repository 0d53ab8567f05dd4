"""Numbers of a report as the texts that its tables show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .results import RegionResult

STATUSES = ("ok", "nan", "constant", "excluded")


def table_row(result: RegionResult, models: Sequence[str], tuned: Sequence[str]) -> dict[str, Any]:
    return {
        "region": result.region,
        "r": [_decimals(result.r.get(model, math.nan)) for model in models],
        "r_normalised": [_decimals(result.r_normalised.get(model, math.nan)) for model in models],
        "gains": [_gain(result, model) for model in tuned],
        "ceiling": " / ".join(_decimals(value) for value in result.ceiling) or _decimals(math.nan),
        "truth": " / ".join(_decimals(value) for value in result.truth) or _decimals(math.nan),
        "n_voxels": " / ".join(f"{n:,}" for n in result.n_voxels) or _decimals(math.nan),
    }


def _gain(result: RegionResult, model: str) -> dict[str, str]:
    gain, percent = result.gain(model), result.gain_percent(model)
    sign = "up" if gain > 0 else "down" if gain < 0 else ""
    shown_percent = f"{percent:+.1f} %".replace("-", "\N{MINUS SIGN}") if math.isfinite(percent) else ""
    return {"r": _decimals(gain, "+"), "percent": shown_percent, "sign": sign if abs(gain) >= 0.0005 else ""}


def _decimals(value: float, sign: str = "") -> str:
    """Three decimals with a real minus sign; ``n/a`` for NaN."""
    if not math.isfinite(value):
        return "n/a"
    return f"{0.0 if abs(value) < 0.0005 else value:{sign}.3f}".replace("-", "\N{MINUS SIGN}")


def headlines_of(results: Sequence[RegionResult], tuned: Sequence[str]) -> list[dict[str, Any]]:
    """For each tuned model, how many pairs of subject and region rose, and the median change."""
    headlines = []
    for model in tuned:
        gains = [gain for result in results if math.isfinite(gain := result.gain(model))]
        if gains:
            n_up = sum(gain > 0 for gain in gains)
            headlines.append({"model": model, "median": _decimals(median(gains), "+"), "n_up": n_up, "n": len(gains)})
    return headlines


def ledger_lines(ledger: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    lines = []
    for row in ledger:
        counts = {status: int(row.get(status) or 0) for status in STATUSES}
        total = sum(counts.values())
        share = f"{100 * counts['ok'] / total:.1f} %" if total else "n/a"
        lines.append({"subject": str(row.get("subject")), **{k: f"{n:,}" for k, n in counts.items()}, "usable": share})
    return lines

"""Numbers of a report as the texts that its tables show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median
from typing import Any

from .results import RegionResult

#: what a table shows where nothing could be estimated
_MISSING = "n/a"
_MINUS = "\N{MINUS SIGN}"
STATUSES = ("ok", "nan", "constant", "excluded")


def table_row(result: RegionResult, models: Sequence[str], twins: Mapping[str, str]) -> dict[str, Any]:
    """Texts of one line of a subject's table: r and r / ceiling of ``models``, gains of those that have twins."""
    return {
        "region": result.region,
        "r": [_decimals(result.r.get(model, math.nan)) for model in models],
        "r_normalised": [_decimals(result.r_normalised.get(model, math.nan)) for model in models],
        "gains": [_gain(result, model, untuned) for model, untuned in twins.items()],
        "ceiling": " / ".join(map(_decimals, result.ceiling)) or _MISSING,
        "truth": " / ".join(map(_decimals, result.truth)) or _MISSING,
        "n_voxels": " / ".join(f"{n:,}" for n in result.n_voxels) or _MISSING,
    }


def _gain(result: RegionResult, model: str, untuned: str) -> dict[str, str]:
    gain, percent = result.gain(model, untuned), result.gain_percent(model, untuned)
    shown = _decimals(gain, "+")
    return {
        "r": shown,
        "percent": f"{percent:+.1f} %".replace("-", _MINUS) if math.isfinite(percent) else "",
        "sign": {"+": "up", _MINUS: "down"}.get(shown[0], ""),
    }


def _decimals(value: float, sign: str = "") -> str:
    """Three decimals with a real minus sign; zero has no sign."""
    if not math.isfinite(value):
        return _MISSING
    return f"{value:{sign}.3f}".replace("-", _MINUS) if abs(value) >= 0.0005 else "0.000"


def headlines_of(results: Sequence[RegionResult], twins: Mapping[str, str]) -> list[dict[str, Any]]:
    """For each tuned model, how many pairs of subject and region rose, and the median change.

    Subjects on whom a model was not tuned are counted apart.
    """
    headlines = []
    for (model, untuned), transfer in product(twins.items(), (False, True)):
        of_kind = [result for result in results if result.is_transfer(model) == transfer]
        gains = {(result.subject, result.region): result.gain(model, untuned) for result in of_kind}
        found = {key: gain for key, gain in gains.items() if math.isfinite(gain)}
        if found:
            headlines.append(
                {
                    "model": f"{model}, on other subjects than it was tuned on" if transfer else model,
                    "untuned": untuned,
                    "median": _decimals(median(found.values()), "+"),
                    "n_up": sum(gain > 0 for gain in found.values()),
                    "n": len(found),
                    "n_subjects": len({subject for subject, _ in found}),
                }
            )
    return headlines


def lines_of_tests(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Texts of the tests of each subject, region and model that was tested; none where nothing was."""
    keys = ("p", "n_significant", "difference", "p_difference", "n_better", "n_worse")
    return [
        {
            **{key: str(row[key]) for key in ("subject", "region", "model")},
            **{key: _tested(row.get(key), key) for key in keys},
        }
        for row in rows
        if row.get("p") is not None or row.get("p_difference") is not None
    ]


def _tested(value: Any, key: str) -> str:
    if value is None:
        return _MISSING
    if key.startswith("n_"):
        return f"{int(value):,}"
    return _decimals(float(value), "+") if key == "difference" else f"{float(value):.2g}"


def ledger_lines(ledger: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Voxels of each subject by status, and the share that can be used."""
    lines = []
    for row in ledger:
        counts = {status: int(row.get(status) or 0) for status in STATUSES}
        total = sum(counts.values())
        share = f"{100 * counts['ok'] / total:.1f} %" if total else _MISSING
        lines.append({"subject": str(row.get("subject")), **{k: f"{n:,}" for k, n in counts.items()}, "usable": share})
    return lines

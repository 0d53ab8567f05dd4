"""Rows of results gathered side by side: every model of a subject's region on one line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brain_tuning.cortex.regions import GROUP
from brain_tuning.errors import BrainTuningError

from .context import UNTUNED

#: a gain is not divided by an untuned r below this: the quotient would be noise
MIN_BASE_R = 0.01


@dataclass(frozen=True)
class RegionResult:
    """One region of one subject, all models side by side.

    Args:
        subject, region: whose and where.
        r, r_normalised: by model; NaN where it could not be estimated, absent where there is no row.
        ceiling, truth: estimated and true noise ceiling; more than one value where the models' rows differ.
        n_voxels: likewise.
        tuned_on: by model, whose responses it was tuned on; absent where that is not said.
    """

    subject: str
    region: str
    r: Mapping[str, float]
    r_normalised: Mapping[str, float]
    ceiling: tuple[float, ...]
    truth: tuple[float, ...]
    n_voxels: tuple[int, ...]
    tuned_on: Mapping[str, str] = field(default_factory=dict)

    def gain(self, model: str, untuned: str) -> float:
        """``r(model) - r(untuned)``; NaN if either is missing."""
        return self.r.get(model, math.nan) - self.r.get(untuned, math.nan)

    def gain_percent(self, model: str, untuned: str) -> float:
        """``100 gain / r(untuned)``; NaN where the untuned r is below ``MIN_BASE_R``."""
        base = self.r.get(untuned, math.nan)
        return 100 * self.gain(model, untuned) / base if base >= MIN_BASE_R else math.nan

    def is_transfer(self, model: str) -> bool:
        """Whether the model was tuned on somebody else's responses."""
        return self.tuned_on.get(model, self.subject) not in (self.subject, GROUP)


def as_number(value: Any) -> float:
    """A float; NaN for None."""
    return math.nan if value is None else float(value)


def models_of(labels: Iterable[str]) -> list[str]:
    """Distinct models in their order of appearance, the untuned one, or its layers, first."""
    return sorted(dict.fromkeys(labels), key=lambda model: not _is_untuned(model))


def twins_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The untuned model that each tuned one is compared with: of the same layer, where results are by layer.

    Args:
        rows: as in :class:`ReportContext`.

    Returns:
        Tuned model -> untuned model; without those that have none, and without baselines (``tuned_on`` None).
    """
    labels = {str(row["model"]) for row in rows}
    twins = {}
    for row in rows:
        model = str(row["model"])
        if _is_untuned(model) or ("tuned_on" in row and row["tuned_on"] is None):
            continue
        of_layer = f"{UNTUNED}@{row.get('layer')}"
        twin = of_layer if of_layer in labels else UNTUNED
        if twin in labels:
            twins[model] = twin
    return twins


def _is_untuned(model: str) -> bool:
    return model.partition("@")[0] == UNTUNED


def gather(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[RegionResult]]:
    """Put the models of each subject's region side by side.

    Args:
        rows: as in :class:`ReportContext`.

    Returns:
        Subject -> its regions, both in their order of appearance.

    Raises:
        BrainTuningError: a row lacks subject, region or model, or two rows are of the same three.
    """
    groups: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for number, row in enumerate(rows):
        missing = [key for key in ("subject", "region", "model") if key not in row]
        if missing:
            raise BrainTuningError(
                f"a row of results lacks {', '.join(missing)}",
                where=f"row {number}",
                expected="the keys subject, region, model, r, r_normalised, ceiling, n_voxels",
            )
        by_model = groups.setdefault((str(row["subject"]), str(row["region"])), {})
        if str(row["model"]) in by_model:
            raise BrainTuningError(
                "two rows of results are of the same subject, region and model",
                where=f"{row['subject']}, {row['region']}, {row['model']}",
                remedy="average repetitions such as seeds beforehand, or give the models different names",
            )
        by_model[str(row["model"])] = row
    gathered: dict[str, list[RegionResult]] = {}
    for (subject, region), by_model in groups.items():
        ordered = {model: by_model[model] for model in models_of(by_model)}
        result = RegionResult(
            subject,
            region,
            r={model: as_number(row.get("r")) for model, row in ordered.items()},
            r_normalised={model: as_number(row.get("r_normalised")) for model, row in ordered.items()},
            ceiling=_distinct(ordered, "ceiling"),
            truth=_distinct(ordered, "truth"),
            n_voxels=tuple(
                dict.fromkeys(int(row["n_voxels"]) for row in ordered.values() if row.get("n_voxels") is not None)
            ),
            tuned_on={model: str(row["tuned_on"]) for model, row in ordered.items() if row.get("tuned_on")},
        )
        gathered.setdefault(subject, []).append(result)
    return gathered


def _distinct(by_model: Mapping[str, Mapping[str, Any]], key: str) -> tuple[float, ...]:
    """Finite values of the models' rows that differ at the three decimals that are shown."""
    values = [as_number(row.get(key)) for row in by_model.values()]
    return tuple({f"{value:.3f}": value for value in reversed(values) if math.isfinite(value)}.values())[::-1]

"""What a report is told: plain values, gathered by whoever tuned and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from brain_tuning.errors import BrainTuningError

UNTUNED = "untuned"
HEMISPHERES = ("left", "right")


@dataclass(frozen=True)
class Curve:
    """The course of one tuning run.

    Args:
        label: e.g. ``"s1 tuned-AC"``.
        steps: optimiser steps.
        loss: loss of each step, lower is better.
        validation: (step, value) pairs.
        validation_quantity: what these values are: ``"r"`` (mean Pearson r on the validation stories, higher
            is better), or ``"loss"`` (the loss on them, lower is better).
        loss_name: which loss it is, as recipes call it.
    """

    label: str
    steps: Sequence[int]
    loss: Sequence[float]
    validation: Sequence[tuple[int, float]] = ()
    validation_quantity: Literal["r", "loss"] = "r"
    loss_name: str = "spatial_correlation"


@dataclass(frozen=True, eq=False)
class FlatMap:
    """One subject's voxels on the flattened cortex.

    Args:
        subject: e.g. ``"s1"``.
        positions: (n_voxels, 2) in any unit; each hemisphere may have its own origin.
        hemisphere: ``"left"`` or ``"right"`` of each voxel.
        region: name of each voxel's region; an empty name is not written.
        values: label of a model -> Pearson r of each voxel (n_voxels,), NaN where not scored.
    """

    subject: str
    positions: npt.NDArray[np.floating[Any]]
    hemisphere: Sequence[str]
    region: Sequence[str]
    values: Mapping[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class ReportContext:
    """All that a report says.

    Args:
        title, subtitle: of the page.
        warnings: shown loudly above everything else, e.g. ``"Simulated data"``.
        curves: of the tuning runs.
        rows: one mapping for each subject, region and model (``"untuned"``, ``"tuned-all"``, ...) with the keys
            ``subject``, ``region``, ``model``, ``r``, ``r_normalised``, ``ceiling``, ``n_voxels`` and, where a
            simulator knows it, ``truth`` (the true ceiling). None and NaN both mean "could not be estimated".
            With a ``layer``, a model is compared with the untuned one of that layer (``"untuned@9"``); with a
            ``tuned_on`` of None it is a baseline, and compared with none. What was tested stands in ``p``,
            ``n_significant``, ``difference``, ``p_difference``, ``n_better`` and ``n_worse``.
        maps: one for each subject.
        facts: corpus, split, seeds, versions, seconds...: name -> text or number.
        ledger: one mapping for each subject: ``subject`` and the number of voxels that are ``ok``, ``nan``,
            ``constant`` and ``excluded``.
    """

    title: str
    subtitle: str = ""
    warnings: Sequence[str] = ()
    curves: Sequence[Curve] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    maps: Sequence[FlatMap] = ()
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    ledger: Sequence[Mapping[str, Any]] = ()


def check_flat_map(flat_map: FlatMap) -> None:
    """Refuse a flat map whose parts are not of the same voxels.

    Raises:
        BrainTuningError: naming the part that does not fit.
    """
    where = f"flat map of {flat_map.subject}"
    positions = np.asarray(flat_map.positions)
    if positions.ndim != 2 or positions.shape[1] != 2 or not positions.size:
        raise BrainTuningError(f"the positions have shape {positions.shape}", where=where, expected="(n_voxels, 2)")
    if not np.isfinite(positions).all():
        n_lost = int((~np.isfinite(positions).all(1)).sum())
        raise BrainTuningError(f"{n_lost} voxels have no position", where=where, remedy="leave them out of the map")
    if not flat_map.values:
        raise BrainTuningError("there is no value to map", where=where, expected="at least one model")
    parts = {"hemisphere": len(flat_map.hemisphere), "region": len(flat_map.region)}
    parts.update({f"values of {label!r}": np.size(r) for label, r in flat_map.values.items()})
    for part, size in parts.items():
        if size != len(positions):
            raise BrainTuningError(f"{part} has {size} entries", where=where, expected=f"{len(positions)}, one a voxel")
    unknown = sorted(set(map(str, flat_map.hemisphere)) - set(HEMISPHERES))
    if unknown:
        raise BrainTuningError(f"unknown hemisphere {unknown[0]!r}", where=where, expected=" or ".join(HEMISPHERES))

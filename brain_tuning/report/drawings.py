"""The figures that a report shows, and the words that go with each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .context import Curve, FlatMap, ReportContext
from .figures import flat_maps, gain_scatter, region_bars, training_curves
from .results import twins_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure of the page before it is drawn.

    Args:
        section: of the page, where it stands.
        name: unique within the page.
        alt: read aloud in its place.
        caption: below it.
        draw: draws it.
    """

    section: str
    name: str
    alt: str
    caption: str
    draw: Callable[[], Figure]


def drawings_of(context: ReportContext) -> list[Drawing]:
    """All figures of a report, in the order of the page.

    Gains are shown voxel by voxel where there are maps, else region by region.
    """
    drawings = []
    if context.rows:
        drawings.append(_bars(context))
    drawings += [_map(flat_map, k) for k, flat_map in enumerate(context.maps)]
    if context.maps:
        drawings += [_voxel_gains(flat_map, k) for k, flat_map in enumerate(context.maps)]
    elif twins_of(context.rows):
        drawings.append(_region_gains(context))
    if context.curves:
        drawings.append(_curves(context.curves))
    return drawings


def _bars(context: ReportContext) -> Drawing:
    subjects = ", ".join(dict.fromkeys(str(row.get("subject")) for row in context.rows))
    return Drawing(
        section="results",
        name="bars",
        alt=f"Grouped bars of Pearson r for each region and model, subjects {subjects}, with the noise ceiling as "
        "a line. The numbers are in the tables below.",
        caption="Mean Pearson r of each region on held-out stories, for each model. Lines: noise ceiling. "
        "Subjects share one scale.",
        draw=partial(region_bars, context.rows),
    )


def _map(flat_map: FlatMap, k: int) -> Drawing:
    return Drawing(
        section="maps",
        name=f"map{k}",
        alt=f"Flattened cortex of subject {flat_map.subject}, left and right hemisphere: Pearson r of each voxel for "
        f"{', '.join(flat_map.values)}, and the change from untuned to tuned.",
        caption=f"Subject {flat_map.subject}: Pearson r of each voxel, and what tuning changed (red: higher, blue: "
        "lower). Dark grey: not scored. Arrowheads on a scale: some voxels lie beyond it.",
        draw=partial(flat_maps, flat_map),
    )


def _voxel_gains(flat_map: FlatMap, k: int) -> Drawing:
    return Drawing(
        section="gains",
        name=f"gain{k}",
        alt=f"Scatter of untuned against tuned Pearson r, one dot a voxel of subject {flat_map.subject}, with the "
        "diagonal of no change.",
        caption=f"Subject {flat_map.subject}: one dot a voxel. Above the dashed diagonal, tuning raised r.",
        draw=partial(gain_scatter, flat_map),
    )


def _region_gains(context: ReportContext) -> Drawing:
    return Drawing(
        section="gains",
        name="gain",
        alt="Scatter of untuned against tuned Pearson r, one dot a subject and region, with the diagonal of no change.",
        caption="One dot a subject and region. Above the dashed diagonal, tuning raised r.",
        draw=partial(gain_scatter, context.rows),
    )


def _curves(curves: Sequence[Curve]) -> Drawing:
    labels = ", ".join(curve.label for curve in curves)
    return Drawing(
        section="training",
        name="curves",
        alt=f"Loss over optimiser steps for {labels}, and the scores on validation stories.",
        caption="Thin: loss of each step. Thick: running mean over steps."
        + " The spatial-correlation loss is minus the correlation across voxels, averaged over TRs."
        * any(curve.loss_name == "spatial_correlation" for curve in curves),
        draw=partial(training_curves, curves),
    )

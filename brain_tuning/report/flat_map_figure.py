"""The figure of one subject's flat maps: r of each model, and what tuning changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_tuning.errors import BrainTuningError

from .context import HEMISPHERES, UNTUNED, FlatMap, check_flat_map
from .images import INK, PAPER, report_style
from .results import models_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_WIDTH_IN = 11.0
#: space between the hemispheres, as a share of their width together
_GAP = 0.06
_CORTEX, _NOT_SCORED = "#c3c8cf", "#858b94"


def flat_maps(flat_map: FlatMap) -> Figure:
    """A scatter flat map of r for each model on one colour scale, and of the change from untuned to tuned.

    Two models make one row; with more, each change stands below its model. The colour scales end at the
    1st and 99th percentile, so that no single voxel sets them; arrows at their ends say where they do.

    Args:
        flat_map: of one subject.

    Returns:
        The figure; voxels without a score are dark grey and counted above their panel.

    Raises:
        BrainTuningError: parts of the map are not of the same voxels, or none has a score.
        MissingExtraError: matplotlib is not installed.
    """
    check_flat_map(flat_map)
    values = {label: np.asarray(flat_map.values[label], dtype=float) for label in models_of(flat_map.values)}
    changes = {label: r - values[UNTUNED] for label, r in values.items() if UNTUNED in values and label != UNTUNED}
    low, high, largest = _limits(values, changes, flat_map.subject)
    positions = _apart(flat_map)
    width, height = np.maximum(np.ptp(positions, axis=0), 1e-9)
    in_one_row = len(values) + len(changes) <= 3
    n_columns = len(values) + len(changes) * in_one_row
    n_lines = 1 if in_one_row or not changes else 2
    panel_in = _WIDTH_IN / n_columns
    with report_style():
        import matplotlib
        from matplotlib.figure import Figure

        height_in = n_lines * (panel_in * min(2.0, height / width) + 0.75) + 0.7
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        grid = figure.subplots(n_lines, n_columns, squeeze=False)
        for panel in grid.ravel():
            panel.set_axis_off()
        above = list(grid[0, : len(values)])
        below = list(grid[-1, n_columns - len(changes) :]) if changes else []
        side_pt = _voxel_pt(positions, 72 * 0.93 * panel_in / width)
        viridis = matplotlib.colormaps["viridis"]
        for panel, (label, r) in zip(above, values.items(), strict=True):
            dots = _draw_map(panel, positions, r, side_pt, cmap=viridis, vmin=low, vmax=high)
            panel.set_title(f"{label}\nmean r {_mean(r):.3f}; {_unscored(r)}", size=10)
        scale = {"location": "bottom", "shrink": 0.7, "aspect": 36, "pad": 0.02}
        figure.colorbar(dots, ax=above, extend=_extend(values, low, high), label="Pearson r", **scale)
        for panel, (label, change) in zip(below, changes.items(), strict=True):
            dots = _draw_map(panel, positions, change, side_pt, cmap="RdBu_r", vmin=-largest, vmax=largest)
            panel.set_title(f"{label} - {UNTUNED}\nmean {_mean(change):+.3f}; {_unscored(change)}", size=10)
        if changes:
            ends = _extend(changes, -largest, largest)
            figure.colorbar(dots, ax=below, extend=ends, label="Change of Pearson r", **scale)
        names = [_name_parts(panel, flat_map, positions) for panel in [*above, *below]]
        figure.draw_without_rendering()
        for texts in names:
            _push_apart(texts)
        return figure


def _limits(
    values: Mapping[str, np.ndarray], changes: Mapping[str, np.ndarray], subject: str
) -> tuple[float, float, float]:
    """Ends of the scale of r, and of the symmetric scale of change."""
    r = np.concatenate(list(values.values()))
    r = r[np.isfinite(r)]
    if not r.size:
        raise BrainTuningError("no voxel has a score", where=f"flat map of {subject}")
    low, high = min(0.0, float(np.percentile(r, 1))), float(np.percentile(r, 99))
    change = np.concatenate([*changes.values(), [0.0]])
    largest = float(np.percentile(np.abs(change[np.isfinite(change)]), 99))
    return low, max(high, low + 1e-3), max(largest, 1e-3)


def _apart(flat_map: FlatMap) -> np.ndarray:
    """Positions with the left hemisphere left of the right one, at the same height and on the same scale."""
    positions = np.array(flat_map.positions, dtype=float)
    sides = [inside for name in HEMISPHERES if (inside := _of(flat_map.hemisphere, name)).any()]
    gap = _GAP * sum(np.ptp(positions[inside, 0]) for inside in sides)
    begin = 0.0
    for inside in sides:
        low, high = positions[inside].min(0), positions[inside].max(0)
        positions[inside] += [begin - low[0], -(low[1] + high[1]) / 2]
        begin += high[0] - low[0] + gap
    return positions


def _of(names: Sequence[str], name: str) -> np.ndarray:
    return np.array([str(other) == name for other in names])


def _voxel_pt(positions: np.ndarray, pt_per_unit: float) -> float:
    """Diameter of a dot that just touches its neighbours, in points."""
    from scipy.spatial import cKDTree

    distinct = np.unique(positions, axis=0)
    if len(distinct) < 2:
        return 9.0
    nearest = cKDTree(distinct).query(distinct, k=2)[0][:, 1]
    return float(np.clip(1.1 * pt_per_unit * np.median(nearest), 0.8, 9.0))


def _draw_map(panel: Axes, positions: np.ndarray, values: np.ndarray, side_pt: float, **scale: Any) -> Any:
    """Cortex in light grey behind, voxels without a score in dark grey, the others in colour."""
    x, y = positions.T
    scored = np.isfinite(values)
    dots: dict[str, Any] = {"lw": 0, "rasterized": True}
    panel.scatter(x, y, s=(side_pt + 5) ** 2, color=_CORTEX, **dots)
    panel.scatter(x[~scored], y[~scored], s=side_pt**2, color=_NOT_SCORED, label="not scored", **dots)
    panel.set_aspect("equal")
    return panel.scatter(x[scored], y[scored], s=side_pt**2, c=values[scored], label="scored", **scale, **dots)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _unscored(values: np.ndarray) -> str:
    return f"{int((~np.isfinite(values)).sum()):,} of {values.size:,} not scored"


def _extend(values: Mapping[str, np.ndarray], low: float, high: float) -> str:
    """Which ends of a colour scale are passed by a value."""
    everything = np.concatenate(list(values.values()))
    under, over = bool((everything < low).any()), bool((everything > high).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((under, over), "both")


def _name_parts(panel: Axes, flat_map: FlatMap, positions: np.ndarray) -> list[Text]:
    """Write each hemisphere's name below it, and each region's at its centroid within the hemisphere."""
    from matplotlib.patheffects import withStroke

    texts = []
    for side in HEMISPHERES:
        here = _of(flat_map.hemisphere, side)
        if not here.any():
            continue
        middle = (positions[here, 0].min() + positions[here, 0].max()) / 2
        panel.annotate(
            side, (middle, positions[:, 1].min()), (0, -6), textcoords="offset points", ha="center", va="top", size=8
        )
        for region in dict.fromkeys(str(name) for name in flat_map.region if str(name)):
            inside = here & _of(flat_map.region, region)
            if inside.any():
                text = panel.text(
                    *positions[inside].mean(0), region.replace("-", "-\n"), size=7.5, ha="center", va="center",
                    linespacing=0.95, path_effects=[withStroke(linewidth=2.2, foreground=PAPER)], color=INK,
                )  # fmt: skip
                text.set_in_layout(False)
                texts.append(text)
    return texts


def _push_apart(texts: list[Text], n_rounds: int = 60) -> None:
    """Move names that overlap up and down until they do not, or until the rounds are over."""
    if not texts:
        return
    boxes = [text.get_window_extent() for text in texts]
    shifts = np.zeros(len(texts))
    for _ in range(n_rounds):
        moved = False
        for a in range(len(texts)):
            for b in range(a):
                one, other = boxes[a].translated(0, shifts[a]), boxes[b].translated(0, shifts[b])
                overlap = min(one.y1, other.y1) - max(one.y0, other.y0)
                if overlap > 0 and min(one.x1, other.x1) > max(one.x0, other.x0):
                    up = 1 if one.y0 + one.y1 >= other.y0 + other.y1 else -1
                    shifts[a] += up * (overlap / 2 + 0.5)
                    shifts[b] -= up * (overlap / 2 + 0.5)
                    moved = True
        if not moved:
            break
    for text, shift in zip(texts, shifts, strict=True):
        to_data = text.axes.transData.inverted() if text.axes is not None else None
        if shift and to_data is not None and text.axes is not None:
            x, y = text.axes.transData.transform(text.get_position())
            text.set_position(to_data.transform((x, y + shift)))

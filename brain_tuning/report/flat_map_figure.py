"""The figure of one subject's flat maps: r of each model, and what tuning changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_tuning.errors import BrainTuningError

from .context import HEMISPHERES, UNTUNED, FlatMap, check_flat_map
from .images import report_style
from .palette import OTHER_REGIONS, PAPER, region_colours
from .results import models_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_PANEL_IN = 3.2
#: space between the hemispheres, as a share of their width together
_GAP = 0.06
#: more names than this cannot be read
_MAX_NAMES = 24
_CORTEX, _NOT_SCORED = "#c3c8cf", "#858b94"


def flat_maps(flat_map: FlatMap) -> Figure:
    """A scatter flat map of r for each model on one colour scale, and of the change from untuned to tuned.

    Each change stands below its model, and a map that names the regions below the untuned one, so that no
    name hides a voxel. The colour scales end at the 1st and 99th percentile, so that no single voxel sets
    them; arrows at their ends say where values lie beyond.

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
    n_rows = 2 if changes else 1
    n_columns = len(values) if changes else len(values) + 1
    with report_style():
        import matplotlib
        from matplotlib.figure import Figure

        height_in = n_rows * (_PANEL_IN * min(2.0, height / width) + 0.85)
        figure = Figure(figsize=(_PANEL_IN * n_columns + 1.4, height_in), layout="constrained")
        panels = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
        key = panels.pop(len(values))
        of_values, of_changes = panels[: len(values)], panels[len(values) :]
        dot_pt = _dot_pt(positions, 72 * 0.93 * _PANEL_IN / width)
        scale: dict[str, Any] = {"location": "right", "shrink": 0.75, "aspect": 18, "pad": 0.02}
        viridis = matplotlib.colormaps["viridis"]
        for panel, (label, r) in zip(of_values, values.items(), strict=True):
            dots = _draw_map(panel, positions, r, dot_pt, cmap=viridis, vmin=low, vmax=high)
            panel.set_title(f"{label}\nmean r {_mean(r)}; {_unscored(r)}", size=10)
        figure.colorbar(dots, ax=of_values, extend=_extend(values, low, high), label="Pearson r", **scale)
        for panel, (label, change) in zip(of_changes, changes.items(), strict=True):
            dots = _draw_map(panel, positions, change, dot_pt, cmap="RdBu_r", vmin=-largest, vmax=largest)
            panel.set_title(
                f"{label} \N{MINUS SIGN} {UNTUNED}\nmean {_mean(change, '+')}; {_unscored(change)}", size=10
            )
        if changes:
            ends = _extend(changes, -largest, largest)
            figure.colorbar(dots, ax=[key, *of_changes], extend=ends, label="Change of Pearson r", **scale)
        names = _draw_key(key, flat_map, positions, dot_pt)
        for panel in [key, *panels]:
            _name_hemispheres(panel, flat_map, positions)
        figure.draw_without_rendering()
        _push_apart(key, names)
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


def _dot_pt(positions: np.ndarray, pt_per_unit: float) -> float:
    """Diameter of a dot that just touches its neighbours, in points."""
    from scipy.spatial import cKDTree

    distinct = np.unique(positions, axis=0)
    if len(distinct) < 2:
        return 9.0
    nearest = cKDTree(distinct).query(distinct, k=2)[0][:, 1]
    return float(np.clip(1.1 * pt_per_unit * np.median(nearest), 0.8, 9.0))


def _draw_map(panel: Axes, positions: np.ndarray, values: np.ndarray, dot_pt: float, **scale: Any) -> Any:
    """Cortex in light grey behind, voxels without a score in dark grey, the others in colour."""
    x, y = positions.T
    scored = np.isfinite(values)
    dots: dict[str, Any] = {"lw": 0, "rasterized": True}
    panel.scatter(x, y, s=(dot_pt + 5) ** 2, color=_CORTEX, **dots)
    panel.scatter(x[~scored], y[~scored], s=dot_pt**2, color=_NOT_SCORED, label="not scored", **dots)
    panel.set_aspect("equal")
    panel.set_axis_off()
    return panel.scatter(x[scored], y[scored], s=dot_pt**2, c=values[scored], label="scored", **scale, **dots)


def _mean(values: np.ndarray, sign: str = "") -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():{sign}.3f}".replace("-", "\N{MINUS SIGN}") if finite.size else "n/a"


def _unscored(values: np.ndarray) -> str:
    return f"{int((~np.isfinite(values)).sum()):,} of {values.size:,} not scored"


def _extend(values: Mapping[str, np.ndarray], low: float, high: float) -> str:
    """Which ends of a colour scale are passed by a value."""
    everything = np.concatenate(list(values.values()))
    under, over = bool((everything < low).any()), bool((everything > high).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((under, over), "both")


def _draw_key(panel: Axes, flat_map: FlatMap, positions: np.ndarray, dot_pt: float) -> list[Text]:
    """Where the regions are, in the colours of the gain scatter, each named at its centroid in the hemisphere."""
    regions = np.array([str(region) for region in flat_map.region])
    colours = region_colours(regions.tolist())
    x, y = positions.T
    dots: dict[str, Any] = {"lw": 0, "rasterized": True}
    panel.scatter(x, y, s=(dot_pt + 5) ** 2, color=_CORTEX, **dots)
    dot_colours = [colours.get(region, colours[OTHER_REGIONS]) for region in regions]
    panel.scatter(x, y, s=dot_pt**2, c=dot_colours, **dots)
    panel.set_aspect("equal")
    panel.set_axis_off()
    largest = [region for region, _ in Counter(regions[regions != ""].tolist()).most_common(_MAX_NAMES)]
    n_regions = len(set(regions.tolist()) - {""})
    named = f"the {_MAX_NAMES} largest of " if n_regions > _MAX_NAMES else ""
    panel.set_title(f"regions\n{named}{n_regions} in {regions.size:,} voxels", size=10)
    texts = []
    for side in HEMISPHERES:
        for region in largest:
            inside = _of(flat_map.hemisphere, side) & (regions == region)
            if inside.any():
                box = {"boxstyle": "round,pad=0.15", "color": PAPER, "alpha": 0.8, "lw": 0}
                across, up = positions[inside].mean(0)
                name = region.replace("-", "-\n")
                texts.append(panel.text(across, up, name, size=7, ha="center", va="center", linespacing=0.95, bbox=box))
                texts[-1].set_in_layout(False)
    return texts


def _name_hemispheres(panel: Axes, flat_map: FlatMap, positions: np.ndarray) -> None:
    for side in HEMISPHERES:
        here = _of(flat_map.hemisphere, side)
        if here.any():
            below = ((positions[here, 0].min() + positions[here, 0].max()) / 2, positions[:, 1].min())
            panel.annotate(side, below, (0, -7), textcoords="offset points", ha="center", va="top", size=8)


def _push_apart(panel: Axes, texts: list[Text], n_rounds: int = 60) -> None:
    """Move names that overlap up and down until they do not, or until the rounds are over."""
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
    to_pixels = panel.transData
    for text, shift in zip(texts, shifts, strict=True):
        x, y = to_pixels.transform(text.get_position())
        x, y = to_pixels.inverted().transform((x, y + shift))
        text.set_position((x, y))

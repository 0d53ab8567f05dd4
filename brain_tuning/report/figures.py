"""Figures of a run: training curves, bars by region, voxel gains; flat maps are in ``flat_map_figure``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_tuning.errors import BrainTuningError

from .context import UNTUNED, Curve, FlatMap, check_flat_map
from .flat_map_figure import flat_maps
from .images import report_style
from .palette import COLOURS, INK, OTHER_REGIONS, model_colours, nth_line, region_colours
from .results import RegionResult, gather, models_of, twins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MAX_REGIONS", "flat_maps", "gain_scatter", "region_bars", "training_curves"]

#: more groups of bars than this cannot be told apart on a page
MAX_REGIONS = 24
_WIDTH_IN = 10.0
#: a longer curve is smaller as pixels than as lines
_MANY_STEPS = 2000
#: letters of a region's name that fit side by side below the bars
_LETTERS_ACROSS = 105


def training_curves(curves: Sequence[Curve]) -> Figure:
    """Loss of every step, its running mean, and what was measured on the validation stories.

    Args:
        curves: one for each tuning run.

    Returns:
        One panel for the loss and one for each validation quantity.

    Raises:
        BrainTuningError: there is no curve, or one has not as many losses as steps.
        MissingExtraError: matplotlib is not installed.
    """
    if not curves:
        raise BrainTuningError("there is no training curve")
    for curve in curves:
        if len(curve.steps) != len(curve.loss):
            raise BrainTuningError(
                f"a training curve has {len(curve.steps)} steps and {len(curve.loss)} losses", where=curve.label
            )
    quantities = list(dict.fromkeys(curve.validation_quantity for curve in curves if len(curve.validation)))
    with report_style():
        from matplotlib.figure import Figure

        size_in = (_WIDTH_IN / 2 * max(2, 1 + len(quantities)), 3.6 + 0.22 * math.ceil(len(curves) / 4))
        figure = Figure(figsize=size_in, layout="constrained")
        panels = figure.subplots(1, 1 + len(quantities), squeeze=False, sharex=True)[0]
        longest = max(len(curve.steps) for curve in curves)
        window = max(1, longest // 20)
        for k, curve in enumerate(curves):
            colour, dashes = nth_line(k)
            steps, loss = np.asarray(curve.steps), np.asarray(curve.loss, dtype=float)
            panels[0].plot(steps, loss, color=colour, lw=0.6, alpha=0.3, rasterized=len(steps) > _MANY_STEPS)
            panels[0].plot(steps, _running_mean(loss, window), dashes, color=colour, lw=1.8, label=curve.label)
        panels[0].set(xlabel="Optimiser step", ylabel=f"{_loss_named(curves)} (lower is better)")
        panels[0].set_title("Training" + f" (thick: mean of {window} steps)" * (window > 1), loc="left")
        for panel, quantity in zip(panels[1:], quantities, strict=True):
            _draw_validation(panel, curves, quantity)
        for panel in panels:
            panel.grid(color=INK, alpha=0.12, lw=0.6)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(curves)))
        return figure


def region_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Pearson r of every model in every region, below the noise ceiling.

    Args:
        rows: results as in :class:`ReportContext`.

    Returns:
        One panel a subject; where a subject has more than ``MAX_REGIONS`` regions, those with the highest r.

    Raises:
        BrainTuningError: there is no row, or rows are incomplete or doubled.
        MissingExtraError: matplotlib is not installed.
    """
    by_subject = gather(rows)
    if not by_subject:
        raise BrainTuningError("there is no row of results")
    models = models_of(str(row["model"]) for row in rows)
    with report_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH_IN, 0.6 + 2.9 * len(by_subject)), layout="constrained")
        panels = figure.subplots(len(by_subject), 1, squeeze=False, sharey=True)[:, 0]
        for panel, (subject, results) in zip(panels, by_subject.items(), strict=True):
            _draw_bars(panel, subject, results, models)
        handles: dict[str, Any] = {}
        for panel in panels:
            handles.update(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        names = sorted(handles, key=[*models, *handles].index)
        figure.legend([handles[name] for name in names], names, loc="outside upper center", ncols=min(6, len(names)))
        return figure


def gain_scatter(points: FlatMap | Sequence[Mapping[str, Any]]) -> Figure:
    """Untuned against tuned r, with the diagonal of no change.

    Args:
        points: a map, for a dot a voxel, or rows of results, for a dot a subject and region.

    Returns:
        One panel for each tuned model that has an untuned one beside it.

    Raises:
        BrainTuningError: there is none such, or the values do not fit together.
        MissingExtraError: matplotlib is not installed.
    """
    unit, groups, values, twins = _points(points)
    if not twins:
        raise BrainTuningError(
            "a gain needs the untuned and a tuned model", where=", ".join(values), expected=f"{UNTUNED!r} and one more"
        )
    everything = np.concatenate([values[model] for model in (*twins, *twins.values())])
    finite = everything[np.isfinite(everything)]
    if not finite.size:
        raise BrainTuningError(f"no {unit} could be scored")
    margin = 0.04 * max(float(np.ptp(finite)), 0.1)
    limits = (float(finite.min()) - margin, float(finite.max()) + margin)
    with report_style():
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        columns = min(len(twins), 2)
        n_lines = math.ceil(len(twins) / columns)
        colours = region_colours(groups)
        legend_in = 0.25 * math.ceil(len(colours) / 4)
        figure = Figure(figsize=(_WIDTH_IN * columns / 2, 4.9 * n_lines + legend_in), layout="constrained")
        panels = figure.subplots(n_lines, columns, squeeze=False).ravel()
        for panel, (model, untuned) in zip(panels, twins.items(), strict=False):
            dot_colours = [colours.get(group, colours[OTHER_REGIONS]) for group in groups]
            _draw_gain(panel, unit, dot_colours, values[untuned], values[model])
            panel.set_title(model, loc="left")
            panel.set(
                xlim=limits, ylim=limits, xlabel=f"{untuned}: Pearson r", ylabel=f"{model}: Pearson r", aspect="equal"
            )
        for panel in panels[len(twins) :]:
            panel.remove()
        if set(groups) <= set(colours):
            colours.pop(OTHER_REGIONS)
        handles = [Line2D([], [], ls="", marker="o", color=colour, label=name) for name, colour in colours.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        return figure


def _loss_named(curves: Sequence[Curve]) -> str:
    """``Loss``, and which one where all curves are of the same."""
    names = {curve.loss_name for curve in curves}
    return f"Loss: {names.pop().replace('_', ' ')}" if len(names) == 1 else "Loss"


def _running_mean(loss: np.ndarray, window: int) -> np.ndarray:
    """Mean of the window's finite values around each step; NaN where there is none."""
    finite = np.isfinite(loss)
    kernel = np.ones(window)
    n = np.convolve(finite, kernel, "full")[(window - 1) // 2 :][: loss.size]
    total = np.convolve(np.where(finite, loss, 0.0), kernel, "full")[(window - 1) // 2 :][: loss.size]
    return np.divide(total, n, out=np.full(loss.size, np.nan), where=n > 0)


def _draw_validation(panel: Axes, curves: Sequence[Curve], quantity: str) -> None:
    higher_is_better = quantity == "r"
    for k, curve in enumerate(curves):
        if curve.validation_quantity != quantity or not len(curve.validation):
            continue
        steps, values = np.asarray(curve.validation, dtype=float).T
        colour, dashes = nth_line(k)
        panel.plot(steps, values, dashes, color=colour, lw=1.4, marker="o", ms=4)
        if np.isfinite(values).any():
            best = np.nanargmax(values) if higher_is_better else np.nanargmin(values)
            panel.plot(steps[best], values[best], "*", ms=13, color=colour, mec=INK, mew=0.8, zorder=3)
    better = "higher" if higher_is_better else "lower"
    what = "Pearson r" if higher_is_better else _loss_named(curves)
    panel.set(xlabel="Optimiser step", ylabel=f"{what} ({better} is better)")
    panel.set_title("Validation stories (star: best)", loc="left")


def _draw_bars(panel: Axes, subject: str, results: list[RegionResult], models: Sequence[str]) -> None:
    shown = results
    title = f"Subject {subject}"
    if len(results) > MAX_REGIONS:
        best = sorted(results, key=lambda result: -max(_finite(result.r.values()), default=-math.inf))[:MAX_REGIONS]
        shown = [result for result in results if result in best]
        title += f": the {MAX_REGIONS} of {len(results)} regions with the highest r"
    width = 0.8 / len(models)
    n_absent = 0
    for k, model in enumerate(models):
        places = np.arange(len(shown)) + (k - (len(models) - 1) / 2) * width
        heights = [result.r.get(model, math.nan) for result in shown]
        panel.bar(places, heights, width * 0.92, color=model_colours(models)[model], label=model)
        for place, height, result in zip(places, heights, shown, strict=True):
            if model in result.r and not math.isfinite(height):
                n_absent += 1
                panel.annotate(
                    "n/a", (place, 0), (0, 3), textcoords="offset points", rotation=90, ha="center", va="bottom", size=8
                )
    _draw_ceilings(panel, [r.ceiling for r in shown], color=INK, ls="-", label="noise ceiling (estimated)")
    _draw_ceilings(panel, [r.truth for r in shown], color=COLOURS[5], ls=(0, (2, 1.2)), label="true ceiling")
    if n_absent:
        title += f"; n/a: {n_absent} score{'s' * (n_absent > 1)} could not be estimated"
    panel.set_title(title, loc="left")
    names = [_in_lines(result.region) for result in shown]
    turned: dict[str, Any] = {}
    if max(len(line) for name in names for line in name.split("\n")) * len(shown) > _LETTERS_ACROSS:
        names = [result.region for result in shown]
        turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(np.arange(len(shown)), names, size=9, **turned)
    panel.tick_params(axis="x", length=0)
    panel.axhline(0, color=INK, lw=0.8)
    panel.spines["bottom"].set_visible(False)
    panel.set_xlim(-0.6, len(shown) - 0.4)
    panel.set_ylabel("Pearson r")
    panel.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
    panel.set_axisbelow(True)


def _in_lines(region: str) -> str:
    """A name broken at its blanks and hyphens; an operator of an expression stays with what it acts on."""
    return re.sub(r"(?<=\w)-(?=\w)", "-\n", re.sub(r"(?<=[\w)]) ", "\n", region))


def _draw_ceilings(panel: Axes, ceilings: Sequence[tuple[float, ...]], *, label: str, **line: Any) -> None:
    places = [(k, value) for k, several in enumerate(ceilings) for value in several]
    if places:
        x, y = np.asarray(places, dtype=float).T
        panel.hlines(y, x - 0.44, x + 0.44, lw=1.8, label=label, **line)


def _finite(values: Any) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _points(
    points: FlatMap | Sequence[Mapping[str, Any]],
) -> tuple[str, list[str], dict[str, np.ndarray], dict[str, str]]:
    """What a point is, its group, its r by model, and the untuned model of each tuned one."""
    if isinstance(points, FlatMap):
        check_flat_map(points)
        values = {label: np.asarray(r, dtype=float) for label, r in points.values.items()}
        twins = {model: UNTUNED for model in values if UNTUNED in values and model != UNTUNED}
        return "voxel", [str(region) for region in points.region], values, twins
    results = [result for several in gather(points).values() for result in several]
    models = models_of(str(row["model"]) for row in points)
    values = {model: np.array([result.r.get(model, math.nan) for result in results]) for model in models}
    return "region", [result.region for result in results], values, twins_of(points)


def _draw_gain(panel: Axes, unit: str, colours: Sequence[str], untuned: np.ndarray, tuned: np.ndarray) -> None:
    scored = np.flatnonzero(np.isfinite(untuned) & np.isfinite(tuned))
    # in the regions' order, the last region would hide the others
    order = np.random.default_rng(0).permutation(scored)
    panel.scatter(
        untuned[order],
        tuned[order],
        s=float(np.clip(9000 / max(1, scored.size), 2, 45)),
        c=[colours[k] for k in order],
        alpha=0.8,
        lw=0,
        rasterized=unit == "voxel",
    )
    change = (tuned - untuned)[scored]
    note = f"{int((change > 0).sum()):,} of {scored.size:,} {unit}s above the diagonal"
    if scored.size:
        note += f"\nmedian change {np.median(change):+.3f}".replace("-", "\N{MINUS SIGN}")
    if scored.size < untuned.size:
        note += f"\n{untuned.size - scored.size:,} not scored, not drawn"
    panel.text(0.03, 0.97, note, transform=panel.transAxes, va="top", size=9)
    panel.axline((0, 0), slope=1, color=INK, lw=1, ls="--", alpha=0.7)
    panel.grid(color=INK, alpha=0.12, lw=0.6)

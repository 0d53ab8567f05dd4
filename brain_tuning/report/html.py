"""The one-file HTML report of a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from brain_tuning.atomic import whole_file
from brain_tuning.errors import BrainTuningError

from .context import UNTUNED, ReportContext
from .figures import MAX_REGIONS, flat_maps, gain_scatter, region_bars, training_curves
from .images import inline_svg, save_figure
from .results import MIN_BASE_R, RegionResult, gather, models_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MAX_BYTES", "save_figure", "write_report"]

log = logging.getLogger(__name__)

#: a report stays small enough to be sent by mail
MAX_BYTES = 3_000_000
#: pixels an inch of dense dots; the later ones only if the report would be too large
_DPI = (200, 110, 60)
#: what drawing unusual values is known to raise; anything else is a fault of ours and must show
_DRAWING_ERRORS = (BrainTuningError, ValueError, KeyError, IndexError, TypeError, RuntimeError)
_LEDGER = ("ok", "nan", "constant", "excluded")


@dataclass(frozen=True)
class _Drawing:
    """A figure of the page: what draws it, and the words that go with it."""

    section: str
    name: str
    alt: str
    caption: str
    draw: Callable[[], Figure]


def write_report(path: str | Path, context: ReportContext) -> Path:
    """Write the report of a run as one HTML file that loads nothing from anywhere.

    A figure that cannot be drawn is replaced by a sentence that says why.

    Args:
        path: of the file, e.g. ``runs/s1-ac/report.html``; replaced if it exists.
        context: what the report says.

    Returns:
        The path.

    Raises:
        BrainTuningError: rows of results are incomplete or doubled.
        StorageError: the disk is full or the path cannot be written; nothing half-written is left.
    """
    path = Path(path)
    text = _render(context)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _render(context: ReportContext) -> str:
    """The page, with its figures as fine as ``MAX_BYTES`` allows, and the last ones left out if it must be."""
    drawings = _drawings(context)
    drawn = [_draw(drawing) for drawing in drawings]
    values = _page_values(context)
    for dpi in _DPI:
        shown = [_embed(drawing, figure, dpi) for drawing, figure in zip(drawings, drawn, strict=True)]
        page = _fill(values, shown)
        if len(page.encode()) <= MAX_BYTES:
            return page
    for k in reversed(range(len(shown))):
        shown[k] = {**shown[k], "svg": "", "failure": f"it would make this file larger than {MAX_BYTES:,} bytes"}
        page = _fill(values, shown)
        if len(page.encode()) <= MAX_BYTES:
            break
    return page


def _drawings(context: ReportContext) -> list[_Drawing]:
    rows, maps, curves = context.rows, context.maps, context.curves
    drawings = []
    if rows:
        subjects = ", ".join(dict.fromkeys(str(row.get("subject")) for row in rows))
        drawings.append(
            _Drawing(
                "results",
                "bars",
                f"Grouped bars of Pearson r for each region and model, subjects {subjects}, with the noise "
                "ceiling as a line. The numbers are in the tables below.",
                "Mean Pearson r of each region on held-out stories, for each model. Lines: noise ceiling. "
                "Subjects share one scale.",
                lambda: region_bars(rows),
            )
        )
    for flat_map in maps:
        drawings.append(
            _Drawing(
                "maps",
                f"map{len(drawings)}",
                f"Flattened cortex of subject {flat_map.subject}, left and right hemisphere: Pearson r of each "
                f"voxel for {', '.join(flat_map.values)}, and the change from untuned to tuned.",
                f"Subject {flat_map.subject}: Pearson r of each voxel, and what tuning changed (red: higher, "
                "blue: lower). Dark grey: not scored. Arrowheads on a scale: some voxels lie beyond it.",
                lambda flat_map=flat_map: flat_maps(flat_map),  # type: ignore[misc]
            )
        )
    for points, whose in [(m, f"subject {m.subject}") for m in maps] or ([(rows, "all subjects")] if rows else []):
        one = "voxel" if maps else "region"
        drawings.append(
            _Drawing(
                "gains",
                f"gain{len(drawings)}",
                f"Scatter of untuned against tuned Pearson r, one dot a {one}, {whose}, with the diagonal.",
                f"{whose[0].upper()}{whose[1:]}: one dot a {one}. Above the dashed diagonal, tuning raised r.",
                lambda points=points: gain_scatter(points),  # type: ignore[misc]
            )
        )
    if curves:
        drawings.append(
            _Drawing(
                "training",
                "curves",
                f"Spatial-correlation loss over optimiser steps for {', '.join(curve.label for curve in curves)}, "
                "and the scores on validation stories.",
                "Thin: loss of each step. Thick: running mean. The spatial-correlation loss is minus the "
                "correlation across voxels, averaged over TRs.",
                lambda: training_curves(curves),
            )
        )
    return drawings


def _draw(drawing: _Drawing) -> Figure | str:
    try:
        return drawing.draw()
    except _DRAWING_ERRORS as error:
        return _failure(drawing, error)


def _embed(drawing: _Drawing, figure: Figure | str, dpi: int) -> dict[str, Any]:
    shown: dict[str, Any] = {"section": drawing.section, "caption": drawing.caption, "svg": "", "failure": ""}
    if isinstance(figure, str):
        return {**shown, "failure": figure}
    try:
        return {**shown, "svg": Markup(inline_svg(figure, drawing.name, str(escape(drawing.alt)), dpi=dpi))}
    except _DRAWING_ERRORS as error:
        return {**shown, "failure": _failure(drawing, error)}


def _failure(drawing: _Drawing, error: Exception) -> str:
    log.warning("figure %s could not be drawn: %r", drawing.name, error)
    return str(error) if isinstance(error, BrainTuningError) else f"{type(error).__name__}: {error}"


def _page_values(context: ReportContext) -> dict[str, Any]:
    by_subject = gather(context.rows)
    models = models_of(str(row["model"]) for row in context.rows)
    tuned = [model for model in models if model != UNTUNED] if UNTUNED in models else []
    return {
        "context": context,
        "models": models,
        "tuned": tuned,
        "subjects": {
            subject: [_table_row(result, models, tuned) for result in results]
            for subject, results in by_subject.items()
        },
        "has_truth": any(result.truth for results in by_subject.values() for result in results),
        "headlines": _headlines([result for results in by_subject.values() for result in results], tuned),
        "facts": {name: f"{fact:.6g}" if isinstance(fact, float) else str(fact) for name, fact in context.facts.items()},
        "ledger": _ledger(context.ledger),
        "min_base_r": MIN_BASE_R,
        "max_regions": MAX_REGIONS,
    }


def _fill(values: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    return template.render(values, figures=figures) + "\n"


def _table_row(result: RegionResult, models: Sequence[str], tuned: Sequence[str]) -> dict[str, Any]:
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
    return {"r": _decimals(gain, "+"), "percent": shown_percent, "sign": sign}


def _decimals(value: float, sign: str = "") -> str:
    """Three decimals with a real minus sign; ``n/a`` for NaN."""
    return f"{value:{sign}.3f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "n/a"


def _headlines(results: Sequence[RegionResult], tuned: Sequence[str]) -> list[dict[str, Any]]:
    """For each tuned model, how many pairs of subject and region rose, and the median change."""
    headlines = []
    for model in tuned:
        gains = sorted(gain for result in results if math.isfinite(gain := result.gain(model)))
        if gains:
            middle = (gains[(len(gains) - 1) // 2] + gains[len(gains) // 2]) / 2
            n_up = sum(gain > 0 for gain in gains)
            headlines.append({"model": model, "median": _decimals(middle, "+"), "n_up": n_up, "n": len(gains)})
    return headlines


def _ledger(ledger: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    lines = []
    for row in ledger:
        counts = {status: int(row.get(status) or 0) for status in _LEDGER}
        total = sum(counts.values())
        share = f"{100 * counts['ok'] / total:.1f} %" if total else "n/a"
        lines.append({"subject": str(row.get("subject")), **{k: f"{n:,}" for k, n in counts.items()}, "usable": share})
    return lines

"""The one-file HTML report of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from brain_tuning.atomic import whole_file
from brain_tuning.errors import BrainTuningError

from .context import ReportContext
from .drawings import Drawing, drawings_of
from .images import inline_svg, save_figure
from .results import MIN_BASE_R, gather, models_of, twins_of
from .tables import headlines_of, ledger_lines, lines_of_tests, table_row

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
    """The page, with its figures as fine as ``MAX_BYTES`` allows, and the largest left out if need be."""
    values = _page_values(context)  # first, as it refuses rows that do not fit together
    drawings = drawings_of(context)
    drawn = [_draw(drawing) for drawing in drawings]
    for dpi in _DPI:
        shown = [_embed(drawing, figure, dpi) for drawing, figure in zip(drawings, drawn, strict=True)]
        page = _fill(values, shown)
        if len(page.encode()) <= MAX_BYTES:
            return page
    for k in sorted(range(len(shown)), key=lambda k: -len(shown[k]["svg"])):
        shown[k] |= {"svg": "", "failure": f"with it, this file would be larger than {MAX_BYTES:,} bytes."}
        page = _fill(values, shown)
        if len(page.encode()) <= MAX_BYTES:
            break
    return page


def _draw(drawing: Drawing) -> Figure | str:
    try:
        return drawing.draw()
    except _DRAWING_ERRORS as error:
        return _failure(drawing, error)


def _embed(drawing: Drawing, figure: Figure | str, dpi: int) -> dict[str, Any]:
    shown: dict[str, Any] = {"section": drawing.section, "caption": drawing.caption, "svg": "", "failure": ""}
    if isinstance(figure, str):
        return {**shown, "failure": figure}
    try:
        return {**shown, "svg": Markup(inline_svg(figure, drawing.name, str(escape(drawing.alt)), dpi=dpi))}
    except _DRAWING_ERRORS as error:
        return {**shown, "failure": _failure(drawing, error)}


def _failure(drawing: Drawing, error: Exception) -> str:
    log.warning("figure %s could not be drawn: %r", drawing.name, error)
    return str(error) if isinstance(error, BrainTuningError) else f"{type(error).__name__}: {error}"


def _page_values(context: ReportContext) -> dict[str, Any]:
    by_subject = gather(context.rows)
    models = models_of(str(row["model"]) for row in context.rows)
    twins = twins_of(context.rows)
    return {
        "context": context,
        "models": models,
        "tuned": list(twins),
        "subjects": {
            subject: [table_row(result, models, twins) for result in results] for subject, results in by_subject.items()
        },
        "has_truth": any(result.truth for results in by_subject.values() for result in results),
        "headlines": headlines_of([result for results in by_subject.values() for result in results], twins),
        "tests": lines_of_tests(context.rows),
        "facts": {
            name: f"{fact:.6g}" if isinstance(fact, float) else str(fact) for name, fact in context.facts.items()
        },
        "ledger": ledger_lines(context.ledger),
        "min_base_r": MIN_BASE_R,
    }


def _fill(values: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    return template.render(values, figures=figures) + "\n"

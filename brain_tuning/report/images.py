"""Matplotlib figures as files for the Hub and as SVG inside a page, in one style."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brain_tuning.atomic import whole_file
from brain_tuning.errors import require_package

from .palette import INK, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    # a region named "$\sum" is a name, not a formula
    "text.parse_math": False,
    "svg.fonttype": "path",
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "svg.hashsalt": "brain_tuning",
}


@contextmanager
def report_style() -> Iterator[None]:
    """Draw in the report's own style, whatever the user's matplotlibrc says.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_package("matplotlib")
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure as a PNG file on white, whole or not at all.

    Args:
        figure: to write.
        path: of the file.
        dpi: pixels an inch.

    Returns:
        The path.

    Raises:
        StorageError: the disk is full or the path cannot be written.
    """
    path = Path(path)
    with whole_file(path) as partial, report_style():
        figure.savefig(partial, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return path


def inline_svg(figure: Figure, name: str, alt: str, *, dpi: int) -> str:
    """A figure as an ``<svg>`` element for an HTML page.

    Letters are drawn as outlines, so no font is needed. Ink and paper follow the page's ``color`` and
    ``--paper``. The same figure always gives the same text.

    Args:
        figure: to convert.
        name: prefix of all ids, unique within the page.
        alt: what the figure shows, read aloud in its place; must be escaped for an attribute.
        dpi: pixels an inch of its rasterised parts.

    Returns:
        The element, without namespaces, comments or metadata: HTML needs none of them.
    """
    stream = io.StringIO()
    with report_style():
        figure.savefig(stream, format="svg", dpi=dpi, facecolor="none", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    for unwanted in (r"<!--.*?-->\s*", r"<metadata>.*?</metadata>\s*", r"<style.*?</style>\s*"):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    width, height = (length * 72 for length in figure.get_size_inches())
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" style="--width: {width:g}pt" role="img" aria-label="{alt}">'
    svg = re.sub(r"^<svg[^>]*>\s*", "", svg)
    svg = re.sub(r'"data:image/png;base64,([^"]*)"', lambda png: f'"{_smaller(png[1])}"', svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace("xlink:href", "href")
    return opening + svg.replace(INK, "currentColor").replace(PAPER, "var(--paper)")


def _smaller(png_base64: str) -> str:
    """Data URI of a rasterised part as WebP, a fifth of its size, or as it came if Pillow cannot write that."""
    from PIL import Image, features

    if not features.check("webp"):
        return "data:image/png;base64," + "".join(png_base64.split())
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png_base64))) as image:
        image.save(stream, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()

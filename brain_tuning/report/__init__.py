"""What a brain-tuning run found, as figures and as one HTML file, from plain values alone."""

from __future__ import annotations

from .context import Curve, FlatMap, ReportContext
from .figures import flat_maps, gain_scatter, region_bars, training_curves
from .html import write_report
from .images import save_figure

__all__ = [
    "Curve",
    "FlatMap",
    "ReportContext",
    "flat_maps",
    "gain_scatter",
    "region_bars",
    "save_figure",
    "training_curves",
    "write_report",
]

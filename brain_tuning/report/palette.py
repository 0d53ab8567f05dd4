"""Colours that mean the same in every figure of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .context import UNTUNED

#: lines and letters, and what lies behind letters: within a page both follow its colour scheme
INK, PAPER = "#1b2027", "#fdfdfc"
#: Okabe & Ito 2008: told apart with any colour vision; two of their eight are replaced, which do not show
#: on white or on black
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9a8700", "#6f4fb3")
GREY = "#8b929c"
OTHER_REGIONS = "other regions"


def nth_line(k: int) -> tuple[str, str]:
    """Colour and dashes of the k-th curve."""
    return COLOURS[k % len(COLOURS)], ("-", "--", ":", "-.")[k // len(COLOURS) % 4]


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """Colour by model: grey for the untuned one."""
    tuned = [model for model in models if model != UNTUNED]
    return {UNTUNED: GREY, **{model: nth_line(k)[0] for k, model in enumerate(tuned)}}


def region_colours(regions: Iterable[str]) -> dict[str, str]:
    """Colour by region for those with the most voxels; :data:`OTHER_REGIONS` stands for the rest.

    Args:
        regions: name of each voxel's region; an empty name is no region.

    Returns:
        Region -> colour, in order of appearance; grey :data:`OTHER_REGIONS` at the end.
    """
    counts = Counter(region for region in regions if region)
    most = {region for region, _ in counts.most_common(len(COLOURS))}
    shown = [region for region in counts if region in most]
    return {**dict(zip(shown, COLOURS, strict=False)), OTHER_REGIONS: GREY}

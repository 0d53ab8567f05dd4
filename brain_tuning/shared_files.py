"""Where the files that ship beside the package are: recipes, metric modules and card templates."""

from __future__ import annotations

import sysconfig
from pathlib import Path, PurePosixPath

from brain_tuning.errors import BrainTuningError


def _places() -> list[Path]:
    """Folders that may hold shipped files: the checkout first, then the data folders of the installation."""
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    installed = [Path(sysconfig.get_path("data", scheme)) / "share" / "brain_tuning" for scheme in schemes]
    return [Path(__file__).resolve().parents[1], *installed]


def shared_file(name: str) -> Path:
    """Find a file or folder that ships with brain_tuning outside of the Python package.

    Args:
        name: its path in the checkout, with forward slashes, e.g. ``"hub_cards/model_card.md.jinja"``.

    Returns:
        The existing path: in the checkout if there is one, else under ``share/brain_tuning/``.

    Raises:
        BrainTuningError: the name leaves the checkout, or the file is in none of the places.
    """
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        raise BrainTuningError(
            "a shipped file is named by its path in the checkout",
            where=name,
            expected="a relative path such as hub_cards/model_card.md.jinja",
        )
    places = _places()
    for place in places:
        if (place / name).exists():
            return place / name
    raise BrainTuningError(
        "a file that ships with brain_tuning is missing",
        where=name,
        expected="it in " + " or ".join(str(place) for place in dict.fromkeys(places)),
        remedy="reinstall with 'pip install --force-reinstall brain-tuning', or run from a complete checkout",
    )

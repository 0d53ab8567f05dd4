"""Choosing the voxels of a region by its name or by a set expression over names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from hashlib import sha256

import numpy as np

from brain_tuning.errors import RegionError

from .expressions import Ceiling, Expression, Name, Not, evaluate, marked, parse
from .literature import ALIASES, SETS, labels_of, stored_as, synonyms

#: names every corpus understands without storing them
ALL = "all"
#: what stands for the subject of an adapter whose head several subjects share
GROUP = "group"
#: hemispheres, where a corpus stores them as regions
SIDES = ("left", "right")
#: regions that an error lists; an atlas has hundreds
MAX_LISTED = 40
#: words of an expression longer than this are cut in names; the Hub allows 96 characters with what goes before
MAX_SLUG = 60
_WORDS = {"&": "and", "|": "or", "-": "not"}


def select_voxels(
    roi: str,
    regions: Mapping[str, np.ndarray],
    usable: np.ndarray,
    *,
    subject: str = "",
    noise_ceiling: np.ndarray | None = None,
) -> np.ndarray:
    """Usable voxels of a region.

    A name is looked for, in this order, among: ``"all"``; the stored regions (case matters not if it is
    unambiguous); their names as atlas labels, so that ``A1`` is ``L_A1_ROI`` and ``R_A1_ROI``; the literature's
    sets (``literature.py``), put together from stored Glasser labels.

    Args:
        roi: a name, e.g. ``"AC"``, ``"left"``, or a set expression (``expressions.py``), e.g.
            ``"left & (IFG | AG) - A1"``. A stored region of just this name, or a set of the literature, goes before
            the expression.
        regions: voxel indices by region name.
        usable: indices of voxels that are neither NaN, constant nor excluded, ascending.
        subject: named in errors.
        noise_ceiling: of all voxels of the subject, NaN where it is not known; expressions that name the
            ceiling need it.

    Returns:
        Ascending voxel indices, int64, (n_voxels,).

    Raises:
        RegionError: no such region, the expression cannot be read, or none of its voxels is usable.
    """
    every = np.asarray(usable, dtype=np.int64)
    whole = Name(roi, 0, len(roi))
    literally = roi == ALL or labels_of(roi) is not None or _stored(roi, regions) is not None
    expression = whole if literally else parse(roi)
    subject = f"subject {subject}" if subject else ""

    def voxels_of(name: Name) -> np.ndarray:
        if name.text == ALL:
            return every
        where = [subject] if isinstance(expression, Name) else [subject, _marked(roi, name)]
        return region_voxels(name.text, regions, where=", ".join(filter(None, where)))

    chosen = evaluate(expression, voxels_of, every, noise_ceiling)
    if chosen.size == 0:
        raise RegionError(
            f"region {roi!r} has no usable voxel",
            where=subject,
            expected="at least one voxel that is neither NaN, constant nor excluded",
            remedy=_why_empty(expression, lambda part: evaluate(part, voxels_of, every, noise_ceiling)),
        )
    return chosen


def region_voxels(name: str, regions: Mapping[str, np.ndarray], *, where: str = "") -> np.ndarray:
    """Voxels of one name: a stored region, an atlas label on both sides, or a set of the literature.

    A set that is stored under another of its names is that region: ``auditory-cortex`` is a stored ``AC``.

    Args:
        name: what is looked for.
        regions: voxel indices by region name.
        where: named in errors.

    Returns:
        Voxel indices, ascending where several regions are put together.

    Raises:
        RegionError: nothing has that name, or the corpus lacks labels of a set of the literature.
    """
    stored = _stored(name, regions)
    if stored is not None:
        return np.asarray(regions[stored])
    alike = [] if _spellings(name, regions) else stored_as(name, regions) or _by_another_name(name, regions)
    if not alike:
        alike = _literature(name, regions, where)
    return np.unique(np.concatenate([regions[region] for region in alike])).astype(np.int64)


def by_hemisphere(regions: Mapping[str, np.ndarray], *, where: str = "") -> dict[str, np.ndarray]:
    """Each region cut into hemispheres, e.g. for a summary of scores by region and side.

    Args:
        regions: voxel indices by name, among them ``left`` and ``right``.
        where: named in errors.

    Returns:
        ``left`` and ``right``, then ``left AC``, ``right AC`` and so on in the order of the regions; a side that
        holds nothing of a region is left out.

    Raises:
        RegionError: ``left`` or ``right`` is not among the regions.
    """
    lacking = [side for side in SIDES if side not in regions]
    if lacking:
        raise RegionError(
            f"the hemispheres are not known: no region {' and no region '.join(lacking)}",
            where=where,
            expected="regions left and right",
            remedy="give each voxel's side as regions when the corpus is written",
        )
    sides = {side: np.asarray(regions[side], dtype=np.int64) for side in SIDES}
    whole = {name: voxels for name, voxels in regions.items() if name not in SIDES}
    cut = {f"{side} {name}": np.intersect1d(voxels, sides[side]) for name, voxels in whole.items() for side in SIDES}
    return sides | {name: voxels for name, voxels in cut.items() if voxels.size}


def above_ceiling(voxels: np.ndarray, noise_ceiling: np.ndarray, least: float, *, subject: str = "") -> np.ndarray:
    """Those of some voxels whose noise ceiling is above ``least``; an unknown ceiling is not.

    Args:
        voxels: ascending indices, (n_voxels,).
        noise_ceiling: of all voxels of the subject, NaN where it is not known.
        least: ceiling that is not enough.
        subject: named in errors.

    Raises:
        RegionError: none is left.

    Source: Moussa et al. 2025 tune on voxels above 0.4.
    """
    chosen = voxels[noise_ceiling[voxels] > least]
    if chosen.size == 0:
        known = noise_ceiling[voxels][np.isfinite(noise_ceiling[voxels])]
        highest = f"the highest ceiling here is {known.max():.3f}" if known.size else "none of these ceilings is known"
        raise RegionError(
            f"none of {voxels.size} voxels has a noise ceiling above {least}",
            where=f"subject {subject}",
            expected=f"at least one voxel; {highest}",
            remedy="lower min_noise_ceiling in the recipe, or repeat a test story so that ceilings are known",
        )
    return chosen


def adapter_name(subject: str, roi: str) -> str:
    """Name of the adapter of a subject and region, e.g. ``s1-ac``; see :func:`region_slug`."""
    return f"{_plain(subject)}-{region_slug(roi)}"


def region_slug(roi: str) -> str:
    """A region or expression in lower-case letters, digits, ``_`` and ``-``, for names of adapters and folders.

    A plain name keeps its characters. Of an expression the operators become words: ``left & AC`` is
    ``left-and-ac``. Words cannot hold brackets: where reading them back would give another expression, where they
    are long, and where a plain name would read as an expression, six digits of a hash of the canonical expression
    follow, so that two different expressions have different names: ``left & (IFG | AG) - A1`` is
    ``left-and-ifg-or-ag-not-a1-0ae319``.
    """
    try:
        expression: Expression = parse(roi)
    except RegionError:  # a stored name that is no expression, e.g. one with spaces
        expression = Name(roi)
    words = _spoken(expression)
    canonical = str(expression)
    read = _read_back(words)
    if isinstance(expression, Name):
        enough = isinstance(read, Name)
    else:
        enough = str(read).lower() == canonical.lower() and len(words) <= MAX_SLUG
    if enough:
        return words
    return f"{words[:MAX_SLUG].rstrip('-')}-{sha256(canonical.encode()).hexdigest()[:6]}"


def _stored(name: str, regions: Mapping[str, np.ndarray]) -> str | None:
    """Name of the stored region meant, None if there is none or several differ in case only."""
    if name in regions:
        return name
    alike = _spellings(name, regions)
    return alike[0] if len(alike) == 1 else None


def _spellings(name: str, regions: Mapping[str, np.ndarray]) -> list[str]:
    return [region for region in regions if region.lower() == name.lower()]


def _by_another_name(name: str, regions: Mapping[str, np.ndarray]) -> list[str]:
    """The stored region that is the same set of the literature, in a list; none if there is none."""
    found = [stored for other in synonyms(name) if (stored := _stored(other, regions)) is not None]
    return found[:1]


def _literature(name: str, regions: Mapping[str, np.ndarray], where: str) -> list[str]:
    """Stored regions that make up a set of the literature."""
    labels = labels_of(name)
    if labels is None or _spellings(name, regions):
        raise _unknown(name, regions, where)
    found = {label: stored_as(label, regions) for label in labels}
    lacking = [label for label, alike in found.items() if not alike]
    if len(lacking) == len(labels):
        raise _unknown(name, regions, where, f"; of its Glasser labels {', '.join(labels)} none is stored")
    if lacking:
        raise RegionError(
            f"region {name!r} cannot be put together: the corpus lacks the Glasser labels {', '.join(lacking)}",
            where=where,
            expected=f"a region {name}, or all of the labels {', '.join(labels)}",
            remedy="join those that are stored in an expression of your own",
        )
    return [region for alike in found.values() for region in alike]


def _unknown(name: str, regions: Mapping[str, np.ndarray], where: str, further: str = "") -> RegionError:
    known = [ALL, *sorted(regions)]
    sets = [each for each in (*SETS, *ALIASES) if all(stored_as(label, regions) for label in labels_of(each) or ())]
    by_key = {each.casefold(): each for each in (*sets, *known)}
    near = [by_key[key] for key in get_close_matches(name.casefold(), by_key, n=3, cutoff=0.6)]
    listed = known if len(known) <= MAX_LISTED else [*known[:MAX_LISTED], f"{len(known) - MAX_LISTED} more"]
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if "-" in name and {part.casefold() for part in name.split("-")} & set(by_key):
        hints.append("a minus between two regions has spaces around it")
    return RegionError(
        f"there is no region {name!r}{further}",
        where=where,
        expected=f"one of {', '.join(listed)}",
        remedy="; ".join(hints),
    )


def _why_empty(expression: Expression, voxels_in: Callable[[Expression], np.ndarray]) -> str:
    if isinstance(expression, Name):
        return "see `brain-tuning corpus inspect` for the voxel ledger"
    sizes = {str(part): voxels_in(part).size for part in _leaves(expression)}
    return f"usable voxels by themselves: {', '.join(f'{part}: {size}' for part, size in sizes.items())}"


def _leaves(expression: Expression) -> Iterator[Name | Ceiling]:
    """The names and thresholds that an expression is made of, from left to right."""
    if isinstance(expression, Name | Ceiling):
        yield expression
    elif isinstance(expression, Not):
        yield from _leaves(expression.inner)
    else:
        for part in expression.parts:
            yield from _leaves(part)


def _marked(roi: str, name: Name) -> str:
    return f"character {name.start + 1} of {marked(roi, name.start, name.stop)}"


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in text.lower())


def _spoken(expression: Expression) -> str:
    if isinstance(expression, Name):
        return _plain(expression.text)
    if isinstance(expression, Not):
        return f"not-{_spoken(expression.inner)}"
    if isinstance(expression, Ceiling):
        return _plain(f"ceiling-{'from' if expression.or_equal else 'above'}-{expression.least}")
    return f"-{_WORDS[expression.operator]}-".join(_spoken(part) for part in expression.parts)


def _read_back(words: str) -> Expression:
    for operator, word in _WORDS.items():
        words = words.replace(f"-{word}-", f" {operator} ")
    try:
        return parse(words)
    except RegionError:
        return Name(words)

"""Choosing the voxels of a region by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brain_tuning.errors import RegionError

#: names every corpus understands without storing them
ALL = "all"
#: what stands for the subject of an adapter whose head several subjects share
GROUP = "group"


def select_voxels(roi: str, regions: Mapping[str, np.ndarray], usable: np.ndarray, *, subject: str = "") -> np.ndarray:
    """Usable voxels of a region.

    Args:
        roi: ``"all"``, or the name of a stored region (case matters not if it is unambiguous), e.g. ``"AC"``,
            ``"left"``, ``"right"``.
        regions: voxel indices by region name.
        usable: indices of voxels that are neither NaN, constant nor excluded, ascending.
        subject: named in errors.

    Returns:
        Ascending voxel indices, int64, (n_voxels,).

    Raises:
        RegionError: no such region, or none of its voxels is usable.
    """
    if roi == ALL:
        chosen = np.asarray(usable, dtype=np.int64)
    else:
        chosen = np.intersect1d(regions[_spelled(roi, regions, subject)], usable).astype(np.int64)
    if chosen.size == 0:
        raise RegionError(
            f"region {roi!r} has no usable voxel",
            where=f"subject {subject}",
            expected="at least one voxel that is neither NaN, constant nor excluded",
            remedy="see `brain-tuning corpus inspect` for the voxel ledger",
        )
    return chosen


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


def _spelled(roi: str, regions: Mapping[str, np.ndarray], subject: str) -> str:
    if roi in regions:
        return roi
    alike = [name for name in regions if name.lower() == roi.lower()]
    if len(alike) == 1:
        return alike[0]
    raise RegionError(
        f"there is no region {roi!r}",
        where=f"subject {subject}",
        expected=f"one of {', '.join([ALL, *sorted(regions)])}",
    )


def adapter_name(subject: str, roi: str) -> str:
    """Name of the adapter of a subject and region, e.g. ``s1-ac``."""
    keep = (c if c.isalnum() or c in "_-" else "-" for c in f"{subject}-{roi}".lower())
    return "".join(keep)

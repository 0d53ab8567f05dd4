"""Where the simulated voxels lie on a flattened cortex, for pictures."""

from __future__ import annotations

import numpy as np

#: region -> centre of its patch in the right hemisphere (x grows away from the midline, y upwards)
CENTRES = {
    "auditory": (0.0, 0.0),
    "phonetic-belt": (0.75, -0.1),
    "semantic-temporal": (0.35, -0.75),
    "semantic-inferior-frontal": (-0.85, 0.45),
    "semantic-angular": (0.95, 0.75),
    "word-rate": (-0.35, -0.55),
}
#: half axes of a hemisphere
EXTENT = (1.7, 1.25)
#: distance of neighbouring voxels
SPACING = 0.085
#: between the hemispheres' centres
SEPARATION = 4.0


def flat_map(region_of: np.ndarray, hemisphere_of: np.ndarray) -> np.ndarray:
    """Positions of voxels: a round patch for each region, all others spread over the rest of the hemisphere.

    Args:
        region_of: region of each voxel, (n_voxels,).
        hemisphere_of: ``"left"`` or ``"right"`` for each voxel, (n_voxels,).

    Returns:
        (n_voxels, 2), in arbitrary units; the left hemisphere is the mirror image of the right.
    """
    positions = np.zeros((len(region_of), 2))
    for side in ("left", "right"):
        here = hemisphere_of == side
        patches = {name: np.flatnonzero(here & (region_of == name)) for name in CENTRES}
        for name, voxels in patches.items():
            positions[voxels] = np.array(CENTRES[name]) + _sunflower(len(voxels))
        rest = np.flatnonzero(here & ~np.isin(region_of, list(CENTRES)))
        positions[rest] = _background(len(rest), {name: len(voxels) for name, voxels in patches.items()})
        mirror = -1 if side == "left" else 1
        positions[here, 0] = mirror * (positions[here, 0] + SEPARATION / 2)
    return positions


def _sunflower(n: int) -> np.ndarray:
    """``n`` points of even density in a disc, (n, 2)."""
    k = np.arange(n) + 0.5
    radius, angle = SPACING * np.sqrt(k / 2), k * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _background(n: int, patch_sizes: dict[str, int]) -> np.ndarray:
    """``n`` points spread evenly over the hemisphere's ellipse, outside of the patches, (n, 2)."""
    free = np.zeros((0, 2))
    n_drawn = n
    while len(free) < n:
        n_drawn += max(16, n // 4)
        k = np.arange(n_drawn) + 0.5
        radius, angle = np.sqrt(k / n_drawn), k * np.pi * (3 - np.sqrt(5))
        spread = np.stack([EXTENT[0] * radius * np.cos(angle), EXTENT[1] * radius * np.sin(angle)], axis=1)
        clear = np.ones(n_drawn, bool)
        for name, size in patch_sizes.items():
            reach = SPACING * (np.sqrt(size / 2) + 0.7)
            clear &= np.hypot(*(spread - np.array(CENTRES[name])).T) > reach
        free = spread[clear]
    return free[np.linspace(0, len(free) - 1, n).round().astype(int)]

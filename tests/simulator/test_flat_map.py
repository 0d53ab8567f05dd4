from __future__ import annotations

import numpy as np

from brain_tuning.corpus.simulator.cortex import make_subject
from brain_tuning.corpus.simulator.flat_map import CENTRES, SEPARATION, SPACING, flat_map


def test_voxels_have_places_of_their_own_and_regions_are_patches() -> None:
    subject = make_subject("s1", seed=0, index=0, widths={"acoustic": 8})
    positions = flat_map(subject.region_of, subject.hemisphere_of)
    distance = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > SPACING / 3
    left, right = positions[subject.hemisphere_of == "left"], positions[subject.hemisphere_of == "right"]
    assert (left[:, 0] < 0).all()
    assert (right[:, 0] > 0).all()
    np.testing.assert_allclose(left * [-1, 1], right)
    for region, centre in CENTRES.items():
        inside = (subject.region_of == region) & (subject.hemisphere_of == "right")
        middle = positions[inside].mean(0) - [SEPARATION / 2, 0]
        np.testing.assert_allclose(middle, centre, atol=SPACING)
        # The voxel nearest to a region's centre is one of the region.
        nearest = np.argmin(np.hypot(*(positions - centre - [SEPARATION / 2, 0]).T))
        assert inside[nearest]

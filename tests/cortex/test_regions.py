"""Choosing voxels by the name of a region."""

from __future__ import annotations

import numpy as np
import pytest

from brain_tuning.cortex.regions import above_ceiling, adapter_name, select_voxels
from brain_tuning.errors import RegionError

REGIONS = {"AC": np.array([1, 2, 5]), "left": np.array([0, 1, 2]), "V1": np.array([7]), "v1": np.array([8])}
USABLE = np.array([0, 1, 2, 4, 8, 9])


def test_only_usable_voxels_are_chosen() -> None:
    """User-pains 2: a degenerate voxel is left out, it stops nothing."""
    chosen = select_voxels("AC", REGIONS, USABLE)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == [1, 2]
    assert select_voxels("all", REGIONS, USABLE).tolist() == USABLE.tolist()
    assert select_voxels("left", REGIONS, USABLE).tolist() == [0, 1, 2]


def test_case_matters_only_where_it_decides() -> None:
    assert select_voxels("ac", REGIONS, USABLE).tolist() == [1, 2]
    assert select_voxels("v1", REGIONS, USABLE).tolist() == [8]
    with pytest.raises(RegionError, match=r"there is no region 'vI'"):
        select_voxels("vI", REGIONS, USABLE)
    ambiguous = {"Aud": np.array([0]), "aUd": np.array([1])}
    with pytest.raises(RegionError, match=r"there is no region 'AUD'.*expected one of all, Aud, aUd"):
        select_voxels("AUD", ambiguous, USABLE)


def test_an_unknown_region_lists_those_there_are() -> None:
    with pytest.raises(
        RegionError, match=r"there is no region 'broca' \[subject s1\]; expected one of all, AC, V1, left, v1"
    ):
        select_voxels("broca", REGIONS, USABLE, subject="s1")


def test_a_region_without_a_usable_voxel_points_to_the_ledger() -> None:
    with pytest.raises(RegionError, match=r"region 'V1' has no usable voxel \[subject s1\].*corpus inspect"):
        select_voxels("V1", REGIONS, USABLE, subject="s1")
    with pytest.raises(RegionError, match="region 'all' has no usable voxel"):
        select_voxels("all", REGIONS, np.array([], dtype=np.int64))


@pytest.mark.parametrize(
    ("subject", "roi", "name"),
    [("UTS03", "AC", "uts03-ac"), ("s.1", "semantic temporal", "s-1-semantic-temporal"), ("s1", "a_b-c", "s1-a_b-c")],
)
def test_adapter_names_suit_the_hub_and_pytorch(subject: str, roi: str, name: str) -> None:
    assert adapter_name(subject, roi) == name


def test_voxels_above_a_ceiling_keep_their_order_and_unknown_ceilings_are_not_enough() -> None:
    ceiling = np.array([0.5, 0.4, np.nan, 0.41, 0.9, 0.1, np.nan])
    assert above_ceiling(np.array([0, 1, 2, 3, 5]), ceiling, 0.4).tolist() == [0, 3]
    assert above_ceiling(np.arange(7), ceiling, -1.0).tolist() == [0, 1, 3, 4, 5]


def test_a_ceiling_that_no_voxel_reaches_names_the_highest() -> None:
    ceiling = np.array([0.5, 0.35, np.nan, 0.9])
    with pytest.raises(RegionError) as caught:
        above_ceiling(np.array([0, 1, 2]), ceiling, 0.6, subject="s1")
    assert str(caught.value) == (
        "none of 3 voxels has a noise ceiling above 0.6 [subject s1]; expected at least one voxel; the highest ceiling "
        "here is 0.500; remedy: lower min_noise_ceiling in the recipe, or repeat a test story so that ceilings are "
        "known"
    )
    with pytest.raises(RegionError, match="at least one voxel; none of these ceilings is known; remedy"):
        above_ceiling(np.array([2]), ceiling, 0.0)

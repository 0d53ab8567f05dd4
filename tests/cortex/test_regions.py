"""Choosing voxels by the name of a region."""

from __future__ import annotations

import numpy as np
import pytest

from brain_tuning.cortex.regions import (
    MAX_LISTED,
    above_ceiling,
    adapter_name,
    by_hemisphere,
    region_slug,
    region_voxels,
    select_voxels,
)
from brain_tuning.encoding.scores import summarise_by_region
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


def test_expressions_choose_among_usable_voxels() -> None:
    assert select_voxels("left - AC", REGIONS, USABLE).tolist() == [0]
    assert select_voxels("AC | v1", REGIONS, USABLE).tolist() == [1, 2, 8]
    assert select_voxels("~left", REGIONS, USABLE).tolist() == [4, 8, 9]
    assert select_voxels("all - (AC | left)", REGIONS, USABLE).tolist() == [4, 8, 9]
    chosen = select_voxels("left & ac", REGIONS, USABLE)
    assert (chosen.tolist(), chosen.dtype) == ([1, 2], np.int64)


def test_expressions_with_a_ceiling_agree_with_above_ceiling() -> None:
    ceiling = np.array([0.5, 0.3, 0.6, 0.9, np.nan, 0.9, 0.9, 0.9, 0.4, 0.41])
    for roi in ("all", "AC", "left"):
        wanted = above_ceiling(select_voxels(roi, REGIONS, USABLE), ceiling, 0.4)
        chosen = select_voxels(f"{roi} & ceiling > 0.4", REGIONS, USABLE, noise_ceiling=ceiling)
        assert chosen.tolist() == wanted.tolist()
    with pytest.raises(RegionError, match="no noise ceiling is known here"):
        select_voxels("AC & ceiling > 0.4", REGIONS, USABLE)


def test_an_empty_expression_points_to_the_ledger() -> None:
    with pytest.raises(RegionError, match=r"region 'AC - left - v1 & V1' has no usable voxel \[subject s1\]"):
        select_voxels("AC - left - v1 & V1", REGIONS, USABLE, subject="s1")


def test_an_empty_expression_tells_how_large_its_parts_are() -> None:
    regions = {"left": np.array([0, 1, 2, 8]), "A1": np.array([2, 9]), "a b": np.array([3])}
    ceiling = np.array([0.1, 0.2, 0.3, np.nan, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    with pytest.raises(RegionError) as caught:
        select_voxels('left & ~A1 & ceiling > 0.5 - "a b"', regions, np.arange(8), noise_ceiling=ceiling)
    assert str(caught.value) == (
        "region 'left & ~A1 & ceiling > 0.5 - \"a b\"' has no usable voxel; expected at least one voxel that is "
        "neither NaN, constant nor excluded; remedy: usable voxels by themselves: left: 3, A1: 1, ceiling > 0.5: 4, "
        '"a b": 1'
    )


def test_an_unknown_name_in_an_expression_is_shown_where_it_stands() -> None:
    with pytest.raises(RegionError) as caught:
        select_voxels("left & (AC | lft)", REGIONS, USABLE, subject="s1")
    assert str(caught.value) == (
        "there is no region 'lft' [subject s1, character 14 of left & (AC | >>lft<<)]; expected one of all, AC, V1, "
        "left, v1; remedy: did you mean left?"
    )
    with pytest.raises(RegionError, match="a minus between two regions has spaces around it"):
        select_voxels("left-AC", REGIONS, USABLE, subject="s1")


def test_an_atlas_is_not_listed_whole() -> None:
    atlas = {f"parcel{k:03}": np.array([k]) for k in range(360)}
    with pytest.raises(RegionError) as caught:
        select_voxels("parcl007", atlas, np.arange(360))
    assert f", {361 - MAX_LISTED} more; " in str(caught.value)
    assert "did you mean parcel007" in str(caught.value)


def test_a_stored_name_is_taken_literally_before_it_is_read_as_an_expression() -> None:
    regions = {
        "semantic temporal": np.array([1]),
        "AC - left": np.array([2]),
        "AC": np.array([3]),
        "left": np.array([4]),
    }
    assert select_voxels("semantic temporal", regions, np.arange(9)).tolist() == [1]
    assert select_voxels("Semantic Temporal", regions, np.arange(9)).tolist() == [1]
    assert select_voxels('"semantic temporal" | left', regions, np.arange(9)).tolist() == [1, 4]
    assert select_voxels("AC - left", regions, np.arange(9)).tolist() == [2]
    assert select_voxels("AC-  left", regions, np.arange(9)).tolist() == [3]
    assert region_voxels("AC", regions).tolist() == [3]


@pytest.mark.parametrize(
    ("roi", "slug"),
    [
        ("AC", "ac"),
        ("(AC)", "ac"),
        ("IFG (left)", "ifg--left-"),
        ("left & AC", "left-and-ac"),
        ("left&AC", "left-and-ac"),
        ("a | b & c - d", "a-or-b-and-c-not-d"),
        ("left & (IFG | AG) - A1", "left-and-ifg-or-ag-not-a1-0ae319"),
    ],
)
def test_expressions_have_readable_names(roi: str, slug: str) -> None:
    assert region_slug(roi) == slug
    assert adapter_name("s1", roi) == f"s1-{slug}"


def test_different_expressions_have_different_names() -> None:
    rois = [
        "left & (IFG | AG) - A1", "(left & (IFG | AG)) - A1 | x", "left & IFG | AG - A1", "(left & (IFG | AG - A1))",
        "~AC", "not-AC", "left & AC", "left-and-AC", '"left and AC"', "a - (b - c)", "a - b - c",
        '"a b" & c', "a-b & c",
        "ceiling > 0.4", "ceiling >= 0.4", "ceiling > 0.40001", "ceiling-above-0-4", "(a | b) & c", "a | (b & c)",
        " | ".join(f"r{k}" for k in range(40)), " | ".join(f"r{k}" for k in range(41)),
    ]  # fmt: skip
    names = [adapter_name("s1", roi) for roi in rois]
    assert len(set(names)) == len(rois)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for name in names)
    assert max(map(len, names)) <= len("s1-") + 60 + len("-123456")


def test_regions_are_cut_by_hemisphere_for_the_summary() -> None:
    regions = {
        "AC": np.array([1, 2, 5]), "left": np.array([0, 1, 2, 3]), "right": np.array([4, 5, 6]), "V1": np.array([0, 3])
    }  # fmt: skip
    cut = by_hemisphere(regions)
    assert {name: voxels.tolist() for name, voxels in cut.items()} == {
        "left": [0, 1, 2, 3], "right": [4, 5, 6], "left AC": [1, 2], "right AC": [5], "left V1": [0, 3]
    }  # fmt: skip
    rows = summarise_by_region(np.array([0.0, 0.1, 0.3, np.nan, 0.5, 0.7, 0.9]), cut)
    assert [row["region"] for row in rows] == list(cut)
    assert [row["mean_r"] for row in rows] == pytest.approx([0.4 / 3, 0.7, 0.2, 0.7, 0.0])
    assert [row["n_nan"] for row in rows] == [1, 0, 0, 0, 1]
    with pytest.raises(RegionError, match=r"the hemispheres are not known: no region right \[s1\]"):
        by_hemisphere({"left": np.array([0])}, where="s1")

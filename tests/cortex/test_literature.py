"""The literature's region sets and the atlas labels they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from brain_tuning.cortex.literature import ALIASES, SETS, bare_label, labels_of, stored_as
from brain_tuning.cortex.regions import ALL, region_slug, region_voxels, select_voxels
from brain_tuning.errors import RegionError


def test_the_sets_are_those_of_moussa_and_toneva() -> None:
    assert SETS["IFG"] == ("44", "45", "IFJa", "IFSp")
    assert SETS["MFG"] == ("55b",)
    assert SETS["angular-gyrus"] == ("PFm", "PGs", "PGi", "TPOJ2", "TPOJ3")
    assert len(SETS["lateral-temporal"]) == 13
    assert SETS["early-auditory"] == ("A1", "PBelt", "MBelt", "LBelt", "RI", "A4")
    parts = [SETS[name] for name in ("angular-gyrus", "lateral-temporal", "IFG", "MFG")]
    assert SETS["late-language"] == sum(parts, ())
    assert len(set(SETS["late-language"])) == 23
    assert not set(SETS["late-language"]) & set(SETS["early-auditory"])
    assert SETS["AC"] == SETS["early-auditory"]
    assert set(ALIASES.values()) <= set(SETS)


@pytest.mark.parametrize("name", ["angular-gyrus", "Angular gyrus", "angular_gyrus", "AG", "ag"])
def test_a_set_is_known_by_several_names(name: str) -> None:
    assert labels_of(name) == SETS["angular-gyrus"]
    assert labels_of("broca") is None


@pytest.mark.parametrize(
    "stored", ["A1", "L_A1_ROI", "R_A1_ROI", "L_A1", "lh.A1", "rh_A1", "A1-lh", "L_A1_ROI-lh", "A1_ROI"]
)
def test_labels_are_known_with_their_decoration(stored: str) -> None:
    assert bare_label(stored) == "A1"
    assert stored_as("a1", [stored, "A10", "PA1"]) == [stored]


@pytest.mark.parametrize("label", ["L", "a9-46v", "LBelt", "RI", "Ig", "10r", "p32pr", "Lat_Fis-ant-Horizont"])
def test_labels_without_decoration_stay(label: str) -> None:
    assert bare_label(label) == label


def glasser(name: str) -> dict[str, np.ndarray]:
    """A corpus of 23 late-language and 6 early-auditory labels, each of one voxel a side."""
    labels = (*SETS["late-language"], *SETS["early-auditory"])
    plain = {label: np.array([k, 100 + k]) for k, label in enumerate(labels)}
    if name == "plain":
        return plain
    return {f"{side}_{label}_ROI": voxels[[k]] for label, voxels in plain.items() for k, side in enumerate(("L", "R"))}


@pytest.mark.parametrize("stored", ["plain", "decorated"])
def test_a_set_is_put_together_from_stored_labels(stored: str) -> None:
    regions = glasser(stored)
    usable = np.arange(200)
    late = [*range(23), *range(100, 123)]
    assert select_voxels("late-language", regions, usable).tolist() == late
    assert select_voxels("AG | LTC | ifg | MFG", regions, usable).tolist() == late
    assert select_voxels("primary-auditory", regions, usable).tolist() == [23, 123]
    assert select_voxels("A1", regions, usable).tolist() == [23, 123]
    assert select_voxels("early-auditory - A1", regions, usable).tolist() == [*range(24, 29), *range(124, 129)]
    assert select_voxels("AC", regions, usable).tolist() == [*range(23, 29), *range(123, 129)]


def test_one_side_of_a_set_is_chosen_by_the_stored_hemisphere() -> None:
    regions = glasser("decorated") | {"left": np.arange(100)}
    assert select_voxels("left & MFG", regions, np.arange(200)).tolist() == [22]
    assert select_voxels("L_55b_ROI", regions, np.arange(200)).tolist() == [22]


def test_a_stored_region_goes_before_the_set_of_its_name() -> None:
    regions = glasser("plain") | {"AC": np.array([7, 8]), "ifg": np.array([9])}
    assert select_voxels("AC", regions, np.arange(200)).tolist() == [7, 8]
    assert select_voxels("IFG", regions, np.arange(200)).tolist() == [9]


def test_decorated_stored_regions_go_before_the_set_of_their_name() -> None:
    regions = glasser("plain") | {"L_AC_ROI": np.array([3]), "R_AC_ROI": np.array([4])}
    assert region_voxels("AC", regions).tolist() == [3, 4]


def test_missing_labels_are_listed() -> None:
    regions = glasser("plain")
    del regions["IFJa"], regions["45"]
    with pytest.raises(RegionError) as caught:
        select_voxels("left | IFG", regions | {"left": np.array([0])}, np.arange(200), subject="s1")
    assert str(caught.value) == (
        "region 'IFG' cannot be put together: the corpus lacks the Glasser labels 45, IFJa "
        "[subject s1, character 8 of left | >>IFG<<]; expected a region IFG, or all of the labels 44, 45, IFJa, IFSp; "
        "remedy: join those that are stored in an expression of your own"
    )


def test_a_corpus_without_any_label_does_not_know_the_set() -> None:
    with pytest.raises(RegionError) as caught:
        select_voxels("MFG", {"AC": np.array([0])}, np.arange(3), subject="s1")
    assert str(caught.value).startswith(
        f"there is no region 'MFG'; of its Glasser labels 55b none is stored [subject s1]; expected one of {ALL}, AC"
    )


def test_sets_are_proposed_only_where_their_labels_are_stored() -> None:
    with pytest.raises(RegionError, match="remedy: did you mean early-auditory"):
        select_voxels("early-auditry", glasser("plain"), np.arange(200))
    with pytest.raises(RegionError, match=r"expected one of all, AC$"):
        select_voxels("early-auditry", {"AC": np.array([0])}, np.arange(200))


@pytest.mark.parametrize("name", ["late language", "Early auditory", "angular gyrus", "lateral temporal"])
def test_a_set_may_be_written_with_a_space(name: str) -> None:
    """Where it is the whole region; within an expression it is quoted."""
    regions, usable = glasser("plain"), np.arange(200)
    hyphened = select_voxels(name.replace(" ", "-"), regions, usable)
    assert select_voxels(name, regions, usable).tolist() == hyphened.tolist()
    assert select_voxels(f'all & "{name}"', regions, usable).tolist() == hyphened.tolist()
    assert region_slug(name) == region_slug(name.replace(" ", "-"))


@pytest.mark.parametrize(
    ("stored", "name"),
    [("AC", "auditory-cortex"), ("auditory-cortex", "AC"), ("angular-gyrus", "AG"), ("ag", "Angular gyrus"),
     ("Late-Language", "late_language")],
)  # fmt: skip
def test_a_set_that_is_stored_is_meant_by_each_of_its_names(stored: str, name: str) -> None:
    """So a hand-drawn AC is not replaced by atlas labels when it is asked for as auditory cortex."""
    regions = {**glasser("plain"), stored: np.array([150, 151])}
    assert region_voxels(name, regions).tolist() == [150, 151]
    assert select_voxels(f'all & "{name}"', regions, np.arange(151)).tolist() == [150]
    assert region_voxels("early-auditory", regions).size == 12

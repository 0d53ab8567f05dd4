from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brain_tuning.corpus.ledger import VoxelLedger, examine
from brain_tuning.errors import CorpusError

RNG = np.random.default_rng(0)


def _runs(n_voxels: int = 10) -> list[tuple[str, np.ndarray]]:
    return [(f"story {s} run 0", RNG.standard_normal((50, n_voxels))) for s in ("a", "b", "c")]


def test_sound_voxels_are_ok_whatever_their_units() -> None:
    """MEG in tesla and raw BOLD around 10,000 are both sound."""
    for scale, offset in ((1.0, 0.0), (1e-13, 0.0), (40.0, 1e4)):
        ledger = examine((label, bold * scale + offset) for label, bold in _runs())
        assert list(ledger.usable) == list(range(10))
        assert (ledger.reason == "").all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_placed(bad: float) -> None:
    """user-pains 3: one NaN must not abort unnamed."""
    runs = _runs()
    runs[1][1][3:5, 7] = bad
    runs[2][1][0, 7] = bad
    ledger = examine(runs)
    assert ledger.status[7] == "nan"
    assert ledger.reason[7] == "2 value(s) not finite in story b run 0 and in 1 other run(s)"
    assert ledger.counts() == {"ok": 9, "nan": 1, "constant": 0, "excluded": 0}


@pytest.mark.parametrize(
    "flat",
    [
        np.zeros(50),
        np.full(50, 3.3, np.float32),
        np.full(50, 1e-300),
        RNG.standard_normal(50) * 1e-10,
        1e4 + RNG.standard_normal(50) * 1e-3,
    ],
    ids=["zero", "3.3", "tiny", "variance 1e-20", "1e4 with rounding noise"],
)
def test_a_voxel_that_does_not_vary_in_one_run_is_constant(flat: np.ndarray) -> None:
    """user-pains 2 and 3: all-zero and 1e-19-variance voxels, and voxels constant in some fold."""
    runs = _runs()
    runs[2][1][:, 4] = flat
    ledger = examine(runs)
    assert ledger.status[4] == "constant"
    assert ledger.reason[4].startswith("variance ")
    assert ledger.reason[4].endswith("in story c run 0")
    assert len(ledger.usable) == 9


def test_many_constant_voxels_do_not_hide_each_other() -> None:
    runs = _runs()
    for _, bold in runs:
        bold[:, :9] = RNG.standard_normal((50, 9)) * 0
        bold[:, 0] = RNG.standard_normal(50) * 1e-10
    assert list(examine(runs).usable) == [9]


def test_exclusion_goes_first() -> None:
    runs = _runs()
    runs[0][1][0, 2] = np.nan
    ledger = examine(runs, excluded={2: "outside the brain"})
    assert (ledger.status[2], ledger.reason[2]) == ("excluded", "outside the brain")


def test_wide_runs_are_judged_as_narrow_ones() -> None:
    bold = RNG.standard_normal((6, 9000))
    bold[:, [5, 8999]] = 1.0
    bold[2, 4096] = np.nan
    ledger = examine([("run", bold)])
    assert {i: ledger.status[i] for i in np.flatnonzero(ledger.status != "ok")} == {
        5: "constant",
        4096: "nan",
        8999: "constant",
    }


def test_runs_must_agree() -> None:
    with pytest.raises(CorpusError, match=r"a run has 3 voxels \[y\]; expected 4 as in x"):
        examine([("x", np.ones((2, 4))), ("y", np.ones((2, 3)))])
    with pytest.raises(CorpusError, match="a subject without runs"):
        examine([])


def test_a_real_degenerate_subject_is_found() -> None:
    """user-pains 2: subject 33 of the Alice data is constant."""
    path = Path(__file__).parents[3] / "shared" / "data" / "fmri_alice" / "alice_roi_timeseries.npz"
    if not path.is_file():
        pytest.skip("the Alice data are not beside the checkout")
    with np.load(path, allow_pickle=False) as data:
        subjects, bold = list(data["subjects"]), data["roi_10mm"]
    usable = {s: len(examine([("chapter 1", bold[i])]).usable) for i, s in enumerate(subjects)}
    assert usable.pop("33") == 0
    assert set(usable.values()) == {6}


def test_a_ledger_counts_every_status() -> None:
    ledger = VoxelLedger(np.array(["ok", "nan"]), np.array(["", "x"]))
    assert ledger.counts() == {"ok": 1, "nan": 1, "constant": 0, "excluded": 0}

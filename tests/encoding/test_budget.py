"""The cost stated in advance: products counted, memory measured in a fresh process, budgets kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from brain_tuning.encoding.budget import MIB, ridge_cost, voxels_for_budget
from brain_tuning.encoding.folds import story_folds
from brain_tuning.encoding.ridge import huth_penalties, ridge_cv
from brain_tuning.errors import EncodingError

_GROWTH = """
import json, sys
import numpy as np
import torch
from brain_tuning.encoding.folds import story_folds
from brain_tuning.encoding.ridge import ridge_cv

def resident(which):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(which))

def growth(n_trs, n_features, n_voxels, memory_mb):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_trs, n_features), dtype=np.float32)
    y = rng.standard_normal((n_trs, n_voxels), dtype=np.float32)
    folds = story_folds(list("abcd"), [n_trs // 4] * 4)
    with open("/proc/self/clear_refs", "w") as mark:
        mark.write("5")
    before = resident("VmRSS")
    ridge_cv(x, y, folds, [1.0, 10.0, 100.0], voxels_per_block=3000, memory_mb=memory_mb)
    return resident("VmHWM") - before

torch.set_num_threads(1)
growth(200, 20, 20, None)
print(json.dumps([growth(*one) for one in json.loads(sys.argv[1])]))
"""
#: TRs, features, voxels, and what takes most memory
SIZES = {
    (1600, 900, 300): "decomposition",
    (3000, 300, 3000): "block",
    (900, 2400, 300): "decomposition",
    (600, 1500, 3000): "block",
}
BUDGET_MB = 50


@pytest.fixture(scope="module")
def growth() -> dict[tuple[int, ...], int]:
    """Bytes by which the resident memory of a process grows while it fits, by sizes; the last under a budget."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the kernel has no mark of resident memory")
    asked = [*((*sizes, None) for sizes in SIZES), (3000, 300, 3000, BUDGET_MB)]
    # glibc keeps freed pieces below this size for later, as if they were in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", _GROWTH, json.dumps(asked)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(zip([*SIZES, (BUDGET_MB,)], json.loads(ran.stdout), strict=True))


@pytest.mark.parametrize("sizes", SIZES)
def test_predicted_memory_is_what_a_process_takes(growth, sizes: tuple[int, int, int]) -> None:
    """User-pains 28: a memory plan, within a quarter of the truth, and never far below it."""
    cost = ridge_cost(*sizes, 3, 4, voxels_per_block=3000)
    assert (cost.peak_bytes == cost.decomposition_bytes) == (SIZES[sizes] == "decomposition")
    assert 0.98 < cost.peak_bytes / growth[sizes] < 1.25, (cost.peak_bytes, growth[sizes])


def test_a_budget_is_kept(growth) -> None:
    assert growth[3000, 300, 3000] > 1.4 * BUDGET_MB * MIB
    assert growth[BUDGET_MB,] < 1.03 * BUDGET_MB * MIB


@pytest.mark.parametrize("n_folds", [4, 10])
@pytest.mark.parametrize(("n_trs", "n_features"), [(120, 30), (60, 100)])
def test_counted_products_are_those_that_run(n_trs: int, n_features: int, n_folds: int) -> None:
    """With many folds X'Y of all rows is computed for itself."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_trs, n_features)).astype(np.float32)
    y = rng.normal(size=(n_trs, 50)).astype(np.float32)
    folds = story_folds([f"s{k}" for k in range(n_folds)], [n_trs // n_folds] * n_folds)
    with FlopCounterMode(display=False) as counter:
        ridge_cv(x, y, folds, huth_penalties(7))
    cost = ridge_cost(n_trs, n_features, 50, 7, n_folds)
    # Gram matrices are summed in place, which torch does not count.
    grams = 2 * n_trs**2 * n_features if cost.form == "kernel" else 2 * 2 * n_trs * n_features**2
    assert cost.product_flops == pytest.approx(counter.get_total_flops() + grams, rel=0.03)


def test_the_whole_cortex_fits_into_eight_gigabytes() -> None:
    """T = 9,133 x F = 3,072 x V = 95,556, 15 penalties, 5 folds, with the features and the interpreter beside it."""
    cost = ridge_cost(9133, 3072, 95_556)
    features = 9133 * 3072 * 4
    assert cost.form == "primal"
    assert cost.peak_bytes < 2 * 2**30
    assert cost.peak_bytes + features + 2**30 < 8 * 2**30
    assert ridge_cost(9133, 3072, 95_556, weights_on_disk=True).fixed_bytes == cost.fixed_bytes - 3072 * 95_556 * 4


def test_work_grows_linearly_with_voxels() -> None:
    """Three points on a line; only what does not depend on voxels is left at none."""
    one, two, three = (ridge_cost(2000, 600, n_voxels) for n_voxels in (1000, 2000, 3000))
    assert three.flops - two.flops == pytest.approx(two.flops - one.flops)
    assert three.fixed_bytes - two.fixed_bytes == two.fixed_bytes - one.fixed_bytes
    assert one.eigen_flops == three.eigen_flops
    assert one.bytes_per_voxel == three.bytes_per_voxel


@pytest.mark.parametrize("form", ["primal", "kernel"])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_more_voxels_fit_into_more_memory_and_the_least_budget_is_named(form: str, n_folds: int) -> None:
    cost = ridge_cost(800, 700, 5000, n_folds=n_folds, form=form, voxels_per_block=4000)
    least = max(cost.decomposition_bytes, cost.fixed_bytes + cost.bytes_per_voxel)
    with pytest.raises(EncodingError, match=r"a budget of 1 MiB is too small .* expected at least \d+ MiB") as raised:
        voxels_for_budget(1, cost)
    named = float(raised.value.expected.split()[2])
    assert named - 1 < least / MIB <= named
    fitting = [voxels_for_budget(named + extra, cost) for extra in (0, 10, 20, 10_000)]
    assert fitting == sorted(fitting)
    assert 1 <= fitting[0] < fitting[2] < fitting[3] == 4000
    for extra, voxels in zip((0, 10, 20), fitting, strict=False):
        block = ridge_cost(800, 700, 5000, n_folds=n_folds, form=form, voxels_per_block=voxels)
        assert block.peak_bytes <= (named + extra) * MIB


def test_an_infinite_budget_is_none() -> None:
    cost = ridge_cost(800, 700, 5000, voxels_per_block=4000)
    assert voxels_for_budget(float("inf"), cost) == 4000
    with pytest.raises(EncodingError, match="a budget of nan MiB is too small"):
        voxels_for_budget(float("nan"), cost)


def test_sizes_below_one_are_named() -> None:
    with pytest.raises(EncodingError, match="n_voxels=0; expected at least 1"):
        ridge_cost(100, 10, 0)


def test_ridge_keeps_the_budget_and_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 12)), rng.normal(size=(80, 50))
    folds = story_folds(list("abcd"), [20] * 4)
    asked = []

    class Blocks:
        shape = y.shape

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            asked.append(key[1].stop - key[1].start)
            return y[key]

    cost = ridge_cost(80, 12, 50, 15, 4, dtype=np.float64)
    budget = (cost.fixed_bytes + 7.5 * cost.bytes_per_voxel) / MIB
    fit = ridge_cv(x, Blocks(), folds, memory_mb=budget)
    assert max(asked) == 7
    np.testing.assert_allclose(fit.weights, ridge_cv(x, y, folds).weights, rtol=1e-10)
    with pytest.raises(EncodingError, match="is too small for this ridge"):
        ridge_cv(x, y, folds, memory_mb=0.001)

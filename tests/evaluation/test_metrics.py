"""Metric modules load offline by local path and equal the functions they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from brain_tuning.encoding.scores import summarise_by_region
from brain_tuning.errors import EncodingError

METRICS = Path(__file__).resolve().parents[2] / "evaluation" / "metrics"


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import evaluate

    cache = tmp_path_factory.mktemp("evaluate")

    def by_name(name: str) -> Any:
        return evaluate.load(str(METRICS / name), cache_dir=str(cache))

    return by_name


def responses(n_trs: int = 90, n_voxels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    measured = (rng.normal(size=(n_trs, n_voxels)) + 500).astype(np.float32)
    predicted = (0.3 * measured + rng.normal(size=(n_trs, n_voxels))).astype(np.float32)
    return predicted, measured


def test_batches_give_what_scipy_gives(load) -> None:
    metric = load("voxelwise_pearson")
    predicted, measured = responses()
    expected = [stats.pearsonr(predicted[:, v], measured[:, v]).statistic for v in range(12)]
    for begin in range(0, 90, 40):
        rows = slice(begin, begin + 40)
        metric.add_batch(predictions=predicted[rows], references=torch.from_numpy(measured[rows]))
    scores = metric.compute(return_per_voxel=True)
    np.testing.assert_allclose(scores["per_voxel"], expected, atol=1e-6)
    assert scores["mean_r"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert scores["median_r"] == pytest.approx(np.median(expected), abs=1e-6)
    assert (scores["n_voxels"], scores["n_nan"], scores["n_trs"]) == (12, 0, 90)


def test_compute_alone_equals_batches_and_starts_afresh(load) -> None:
    metric = load("voxelwise_pearson")
    predicted, measured = responses()
    whole = metric.compute(predictions=predicted, references=measured)
    for prediction, reference in zip(predicted, measured, strict=True):
        metric.add(prediction=prediction, reference=reference)
    row_by_row = metric.compute()
    assert row_by_row["n_trs"] == whole["n_trs"] == 90
    assert row_by_row["mean_r"] == pytest.approx(whole["mean_r"], abs=1e-9)
    assert metric.compute(predictions=predicted, references=measured) == whole
    with pytest.raises(EncodingError, match="nothing to score; remedy: call add_batch"):
        metric.compute()


def test_the_ceiling_has_a_floor_and_nan_voxels_are_counted(load) -> None:
    """User-pains 2, 3 and 8: constant voxels are NaN and counted; a low ceiling does not explode."""
    metric = load("voxelwise_pearson")
    predicted, measured = responses()
    measured[:, 0] = 500.0
    measured[3, 1] = np.nan
    ceiling = np.full(12, 0.8)
    ceiling[2] = 1e-3
    scores = metric.compute(predictions=predicted, references=measured, noise_ceiling=ceiling, return_per_voxel=True)
    r = scores["per_voxel"]
    assert np.isnan(r).tolist() == [True, True] + [False] * 10
    assert scores["n_nan"] == 2
    assert scores["mean_r"] == pytest.approx(r[2:].mean())
    assert scores["r_normalised"] == pytest.approx((r[3:] / 0.8).mean())
    assert (scores["n_normalised"], scores["mean_ceiling"]) == (9, pytest.approx(0.8))
    loose = metric.compute(predictions=predicted, references=measured, noise_ceiling=ceiling, min_ceiling=1e-4)
    assert loose["n_normalised"] == 10
    assert loose["r_normalised"] > 5 * scores["r_normalised"]


def test_region_summary(load) -> None:
    scores = [0.1, 0.2, np.nan, 0.4]
    regions = {"ac": [0, 1, 2], "ifg": [False, False, False, True]}
    rows = load("region_summary").compute(
        predictions=scores, regions=regions, noise_ceiling=[0.5, 0.2, 0.6, 0.8], min_ceiling=0.3
    )["regions"]
    assert [row["region"] for row in rows] == ["ac", "ifg"]
    assert (rows[0]["n_nan"], rows[0]["n_below_floor"]) == (1, 1)
    assert rows[0]["mean_r_normalised"] == pytest.approx(0.2)
    assert rows == summarise_by_region(scores, regions, [0.5, 0.2, 0.6, 0.8], 0.3)
    with pytest.raises(EncodingError, match="nothing to summarise; expected predictions"):
        load("region_summary").compute(predictions=scores)


@pytest.mark.parametrize("name", ["voxelwise_pearson", "region_summary"])
def test_each_metric_is_described(load, name: str) -> None:
    metric = load(name)
    assert (METRICS / name / "README.md").is_file()
    assert "noise_ceiling" in metric.inputs_description
    assert metric.description.strip()

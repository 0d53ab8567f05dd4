from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import mean_squared_error

from brain_tuning.errors import EncodingError
from brain_tuning.models.losses import LOSSES, mean_squared_error_loss, spatial_correlation_loss

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
ALL = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def pair(n_trs: int = 6, n_voxels: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    bold = rng.normal(size=(n_trs, n_voxels))
    prediction = 0.5 * bold + rng.normal(size=(n_trs, n_voxels)) + 2.0
    return torch.from_numpy(prediction.astype(np.float32)), torch.from_numpy(bold.astype(np.float32))


def test_spatial_correlation_is_pearson_across_voxels_averaged_over_trs() -> None:
    prediction, bold = pair()
    expected = -np.mean([pearsonr(p, b).statistic for p, b in zip(prediction.numpy(), bold.numpy(), strict=True)])
    assert float(spatial_correlation_loss(prediction, bold)) == pytest.approx(expected, abs=1e-6)
    # Across voxels, not across TRs.
    across_time = -np.mean(
        [pearsonr(p, b).statistic for p, b in zip(prediction.numpy().T, bold.numpy().T, strict=True)]
    )
    assert abs(across_time - expected) > 0.01
    assert float(spatial_correlation_loss(bold * 3.0 - 1.0, bold)) == pytest.approx(-1.0, abs=1e-6)
    assert float(spatial_correlation_loss(-bold, bold)) == pytest.approx(1.0, abs=1e-6)


def test_mean_squared_error_is_scikit_learns() -> None:
    prediction, bold = pair()
    expected = mean_squared_error(bold.numpy(), prediction.numpy())
    assert float(mean_squared_error_loss(prediction, bold)) == pytest.approx(expected, rel=1e-6)


@ALL
@pytest.mark.parametrize("missing", [float("nan"), float("inf")])
def test_voxels_not_measured_are_left_out_whole(loss: Loss, missing: float) -> None:
    """user-pains 3: one NaN must neither abort nor distort."""
    prediction, bold = pair()
    bold[2, 4] = missing
    prediction.requires_grad_()
    value = loss(prediction, bold)
    kept = [v for v in range(9) if v != 4]
    assert torch.equal(value, loss(prediction[:, kept], bold[:, kept]))
    value.backward()
    assert torch.equal(prediction.grad[:, 4], torch.zeros(6))
    assert bool((prediction.grad[:, kept] != 0).all())


@ALL
def test_gradients_are_finite_differences(loss: Loss) -> None:
    prediction, bold = pair()
    bold[1, 3] = float("nan")
    exact = prediction.clone().requires_grad_()
    loss(exact, bold).backward()
    step = 1e-2
    for t, v in [(0, 0), (1, 2), (1, 3), (5, 8)]:
        shifted = [prediction.clone(), prediction.clone()]
        shifted[0][t, v] += step
        shifted[1][t, v] -= step
        slope = float(loss(shifted[0], bold) - loss(shifted[1], bold)) / (2 * step)
        assert slope == pytest.approx(float(exact.grad[t, v]), abs=1e-4), (t, v)


@ALL
def test_bfloat16_is_computed_in_float32(loss: Loss) -> None:
    """user-pains 23. 4,000 voxels around 100: in bfloat16 neither a mean nor a correlation would survive."""
    prediction, bold = (value + 100.0 for value in pair(3, 4_000))
    half = prediction.to(torch.bfloat16)
    value = loss(half, bold)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(half.float(), bold))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.1, 33.3])
def test_a_flat_pattern_counts_as_no_correlation(constant: float) -> None:
    prediction, bold = pair()
    bold[2] = constant
    others = [t for t in range(6) if t != 2]
    expected = float(spatial_correlation_loss(prediction[others], bold[others])) * 5 / 6
    assert float(spatial_correlation_loss(prediction, bold)) == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_finite_and_so_is_its_gradient_where_the_prediction_is_flat() -> None:
    prediction, bold = pair()
    prediction[2] = 0.1
    prediction.requires_grad_()
    spatial_correlation_loss(prediction, bold).backward()
    assert bool(prediction.grad.isfinite().all())


@ALL
def test_arrays_of_other_shapes_are_refused(loss: Loss) -> None:
    prediction, bold = pair()
    with pytest.raises(EncodingError, match=r"prediction has shape \(6, 9\), BOLD \(6, 8\); expected equal shapes"):
        loss(prediction, bold[:, :8])


@pytest.mark.parametrize(("name", "left", "needed"), [("spatial_correlation", 1, 2), ("mse", 0, 1)])
def test_too_few_voxels_are_refused(name: str, left: int, needed: int) -> None:
    prediction, bold = pair()
    bold[0, left:] = float("nan")
    with pytest.raises(EncodingError) as caught:
        LOSSES[name](prediction, bold)
    assert str(caught.value).startswith(f"{left} of 9 voxels are free of NaN in this block; expected at least {needed}")

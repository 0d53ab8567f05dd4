"""Losses against scipy, scikit-learn and closed forms in float64; gradients against finite differences of those."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_blocks import ALL, NAN, block
from scipy.spatial import distance
from scipy.special import huber, log_softmax
from scipy.stats import pearsonr
from sklearn.metrics import mean_squared_error
from sklearn.metrics.pairwise import cosine_similarity

from brain_tuning.models.losses import (
    LOSSES,
    Loss,
    ceiling_weighted_loss,
    cosine_huber_loss,
    mean_squared_error_loss,
    nt_xent_loss,
    spatial_correlation_loss,
    spatial_correlation_mse_loss,
    temporal_correlation_loss,
)

Reference = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def mean_r(prediction: np.ndarray, bold: np.ndarray) -> float:
    """Mean over rows of scipy's Pearson r."""
    return float(np.mean([pearsonr(p, b).statistic for p, b in zip(prediction, bold, strict=True)]))


def mean_cosine(prediction: np.ndarray, bold: np.ndarray) -> float:
    return float(np.mean([1 - distance.cosine(p, b) for p, b in zip(prediction, bold, strict=True)]))


def weighted(prediction: np.ndarray, bold: np.ndarray, weight: np.ndarray) -> float:
    return float(np.mean([distance.correlation(p, b, w=weight) for p, b in zip(prediction, bold, strict=True)])) - 1


REFERENCES: dict[str, Reference] = {
    "spatial_correlation": lambda p, b, c: -mean_r(p, b),
    "mse": lambda p, b, c: float(mean_squared_error(b, p)),
    "temporal_correlation": lambda p, b, c: -mean_r(p.T, b.T),
    "spatial_correlation_mse": lambda p, b, c: 1 - mean_r(p, b) + float(mean_squared_error(b, p)),
    "cosine_huber": lambda p, b, c: 1 - mean_cosine(p, b) + float(huber(0.6, p - b).mean()),
    "nt_xent": lambda p, b, c: -float(np.diag(log_softmax(cosine_similarity(p, b) / 0.5, axis=1)).mean()),
    "ceiling_weighted": weighted,
}


def gradient(loss: Loss, prediction: torch.Tensor, bold: torch.Tensor, ceiling: torch.Tensor) -> torch.Tensor:
    leaf = prediction.clone().requires_grad_()
    loss(leaf, bold, ceiling).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_every_loss_has_a_reference() -> None:
    assert list(REFERENCES) == list(LOSSES)


@settings(max_examples=25, deadline=None)
@given(n_trs=st.integers(3, 12), n_voxels=st.integers(3, 40), seed=st.integers(0, 2**31))
@pytest.mark.parametrize("name", LOSSES)
def test_values_are_those_of_scipy_and_scikit_learn(name: str, n_trs: int, n_voxels: int, seed: int) -> None:
    prediction, bold, ceiling = block(n_trs, n_voxels, seed)
    value = LOSSES[name](prediction, bold, ceiling)
    assert value.dtype == torch.float32
    assert value.shape == ()
    expected = REFERENCES[name](prediction.numpy(), bold.numpy(), ceiling.numpy())
    assert float(value) == pytest.approx(expected, rel=1e-5, abs=3e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences_of_the_reference(name: str) -> None:
    """The loss is computed in float32; the differences are taken in float64 of the reference."""
    prediction, bold, ceiling = block()
    exact = gradient(LOSSES[name], prediction, bold, ceiling)
    step = 1e-5
    for t in range(6):
        for v in range(9):
            ends = []
            for sign in (1, -1):
                shifted = prediction.numpy().copy()
                shifted[t, v] += sign * step
                ends.append(REFERENCES[name](shifted, bold.numpy(), ceiling.numpy()))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert float(exact[t, v]) == pytest.approx(slope, rel=1e-4, abs=1e-6), (t, v)


def test_the_two_correlations_differ_in_their_axis() -> None:
    prediction, bold, _ = block()
    spatial, temporal = spatial_correlation_loss(prediction, bold), temporal_correlation_loss(prediction, bold)
    assert abs(float(spatial - temporal)) > 0.01
    assert torch.equal(temporal_correlation_loss(prediction.T, bold.T), spatial)


# What is not measured, what is flat, and other types


@ALL
@pytest.mark.parametrize("missing", [NAN, float("inf")])
def test_voxels_not_measured_are_left_out_whole(loss: Loss, missing: float) -> None:
    """user-pains 3: one NaN must neither abort nor distort."""
    prediction, bold, ceiling = block()
    bold[2, 4] = missing
    prediction[0, 4] = missing
    kept = [v for v in range(9) if v != 4]
    without = prediction[:, kept], bold[:, kept], ceiling[kept]
    assert torch.equal(loss(prediction, bold, ceiling), loss(*without))
    slopes = gradient(loss, prediction, bold, ceiling)
    assert torch.equal(slopes[:, 4], torch.zeros(6, dtype=slopes.dtype))
    assert torch.equal(slopes[:, kept], gradient(loss, *without))
    assert bool((slopes[:, kept] != 0).all())


@ALL
def test_bfloat16_is_computed_in_float32(loss: Loss) -> None:
    """user-pains 23. 4,000 voxels around 100: in bfloat16 neither a mean nor a correlation would survive."""
    prediction, bold, ceiling = block(3, 4_000)
    half = [value.to(torch.bfloat16) for value in (prediction + 100.0, bold + 100.0, ceiling)]
    value = loss(*half)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*[part.float() for part in half]))
    assert torch.equal(value, loss(*[part.double() for part in half]))


@ALL
def test_autocast_takes_nothing_down_to_bfloat16(loss: Loss) -> None:
    prediction, bold, ceiling = block(3, 4_000)
    expected = loss(prediction, bold, ceiling)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(prediction, bold, ceiling)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.1, 33.3])
@pytest.mark.parametrize("flat", ["prediction", "bold"])
def test_a_flat_pattern_counts_as_no_correlation(constant: float, flat: str) -> None:
    prediction, bold, ceiling = block()
    (prediction if flat == "prediction" else bold)[2] = constant
    others = [t for t in range(6) if t != 2]
    for loss in (spatial_correlation_loss, ceiling_weighted_loss):
        expected = float(loss(prediction[others], bold[others], ceiling)) * 5 / 6
        assert float(loss(prediction, bold, ceiling)) == pytest.approx(expected, abs=1e-6)


def test_a_voxel_that_does_not_vary_counts_as_no_correlation_over_time() -> None:
    prediction, bold, _ = block()
    bold[:, 3] = 0.7
    others = [v for v in range(9) if v != 3]
    expected = float(temporal_correlation_loss(prediction[:, others], bold[:, others])) * 8 / 9
    assert float(temporal_correlation_loss(prediction, bold)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", [cosine_huber_loss, nt_xent_loss])
def test_an_all_zero_pattern_has_cosine_zero(loss: Loss) -> None:
    prediction, bold, _ = block()
    prediction[2] = 0.0
    others = [t for t in range(6) if t != 2]
    if loss is nt_xent_loss:
        sims = cosine_similarity(prediction[others], bold) / 0.5
        expected = (math.log(6) - sum(log_softmax(sims, axis=1)[k, t] for k, t in enumerate(others))) / 6
    else:
        error = huber(0.6, (prediction - bold).numpy()).mean()
        expected = 1 - mean_cosine(prediction[others].numpy(), bold[others].numpy()) * 5 / 6 + error
    assert float(loss(prediction, bold)) == pytest.approx(expected, abs=1e-6)


@ALL
@pytest.mark.parametrize("constant", [0.0, 0.1, 33.3])
@pytest.mark.parametrize("where", [np.s_[2], np.s_[:, 3], np.s_[:]], ids=["a TR", "a voxel", "all"])
@pytest.mark.parametrize("flat", ["prediction", "bold", "both"])
def test_the_gradient_is_bounded_where_something_is_flat(loss: Loss, constant: float, where: tuple, flat: str) -> None:
    prediction, bold, ceiling = block()
    for name, values in (("prediction", prediction), ("bold", bold)):
        if flat in (name, "both"):
            values[where] = constant
    assert bool(loss(prediction, bold, ceiling).isfinite())
    slopes = gradient(loss, prediction, bold, ceiling)
    # |d r / d prediction| is at most 1 / |pattern|, and no pattern is taken to vary by less than 1e-6.
    assert float(slopes.abs().max()) < 1e6


def test_a_flat_prediction_is_still_told_where_to_go() -> None:
    """A readout that begins at zero must not stay there."""
    prediction, bold, _ = block()
    slopes = gradient(spatial_correlation_loss, torch.zeros_like(prediction), bold, prediction)
    assert float(spatial_correlation_loss(-slopes, bold)) == pytest.approx(-1.0, abs=1e-5)


# Invariances and optima


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-2, 1e2), offset=st.floats(-10, 10), seed=st.integers(0, 2**31))
def test_correlations_do_not_depend_on_level_and_scale(scale: float, offset: float, seed: int) -> None:
    prediction, bold, ceiling = block(seed=seed)
    for loss in (spatial_correlation_loss, temporal_correlation_loss, ceiling_weighted_loss):
        moved = loss(prediction * scale + offset * scale, bold, ceiling)
        torch.testing.assert_close(moved, loss(prediction, bold, ceiling), rtol=0, atol=1e-5)
    torch.testing.assert_close(nt_xent_loss(prediction * scale, bold), nt_xent_loss(prediction, bold))


def test_level_and_scale_are_free_for_each_tr_or_for_each_voxel() -> None:
    prediction, bold, ceiling = block()
    by_tr, by_voxel = torch.arange(1.0, 7.0)[:, None], torch.arange(1.0, 10.0)
    for loss, free, fixed in (
        (spatial_correlation_loss, by_tr, by_voxel),
        (ceiling_weighted_loss, by_tr, by_voxel),
        (temporal_correlation_loss, by_voxel, by_tr),
    ):
        value = loss(prediction, bold, ceiling)
        torch.testing.assert_close(loss(prediction * free + free, bold, ceiling), value, rtol=0, atol=1e-6)
        assert abs(float(loss(prediction * fixed + fixed, bold, ceiling) - value)) > 0.01


@ALL
def test_the_order_of_trs_and_voxels_does_not_matter(loss: Loss) -> None:
    prediction, bold, ceiling = block()
    trs, voxels = np.random.default_rng(1).permutation(6), np.random.default_rng(2).permutation(9)
    shuffled = loss(prediction[trs][:, voxels], bold[trs][:, voxels], ceiling[voxels])
    torch.testing.assert_close(shuffled, loss(prediction, bold, ceiling), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "least", "reversed_sign"),
    [
        ("spatial_correlation", -1.0, 1.0),
        ("temporal_correlation", -1.0, 1.0),
        ("ceiling_weighted", -1.0, 1.0),
        ("mse", 0.0, None),
        ("spatial_correlation_mse", 0.0, None),
        ("cosine_huber", 0.0, None),
    ],
)
def test_a_perfect_prediction_is_the_optimum(name: str, least: float, reversed_sign: float | None) -> None:
    _, bold, ceiling = block(seed=3)
    loss = LOSSES[name]
    assert float(loss(bold, bold, ceiling)) == pytest.approx(least, abs=1e-6)
    assert float(gradient(loss, bold, bold, ceiling).abs().max()) < 1e-6
    for seed in range(5):
        near = bold + 0.01 * block(seed=seed)[0]
        assert float(loss(near, bold, ceiling)) > least
    if reversed_sign is not None:
        assert float(loss(-bold, bold, ceiling)) == pytest.approx(reversed_sign, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_contrast_is_best_where_patterns_are_farthest_apart(temperature: float) -> None:
    """The corners of a regular simplex: all cosines of different TRs are -1 / (n_trs - 1)."""
    n_trs = 5
    corners = torch.eye(n_trs, dtype=torch.float64) - 1 / n_trs
    best = math.log(1 + (n_trs - 1) * math.exp(-n_trs / (n_trs - 1) / temperature))
    value = nt_xent_loss(corners, corners, temperature=temperature)
    assert float(value) == pytest.approx(best, rel=1e-5, abs=1e-7)
    leaf = corners.clone().requires_grad_()
    nt_xent_loss(leaf, corners, temperature=temperature).backward()
    assert float(leaf.grad.abs().max()) < 1e-6
    # Another TR's pattern is worse than chance, the same pattern for all TRs is chance.
    assert float(nt_xent_loss(corners.roll(1, 0), corners, temperature=temperature)) > math.log(n_trs)
    same = torch.arange(5.0).repeat(n_trs, 1)
    assert float(nt_xent_loss(same, same, temperature=temperature)) == pytest.approx(math.log(n_trs), rel=1e-6)


def test_two_opposite_patterns_reach_the_lower_bound_of_contrast() -> None:
    patterns = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert float(nt_xent_loss(patterns, patterns)) == pytest.approx(math.log(1 + math.exp(-2 / 0.5)), rel=1e-5)
    assert float(nt_xent_loss(-patterns, patterns)) == pytest.approx(math.log(1 + math.exp(2 / 0.5)), rel=1e-5)


def test_contrast_asks_which_prediction_belongs_to_a_measured_pattern_in_one_direction() -> None:
    prediction, bold, _ = block()
    assert abs(float(nt_xent_loss(prediction, bold) - nt_xent_loss(bold, prediction))) > 1e-3


def test_huber_is_quadratic_below_delta_and_linear_above() -> None:
    bold = torch.full((2, 3), 2.0)
    for error, expected in ((0.5, 0.125), (-0.5, 0.125), (1.6, 0.6 * 1.3)):
        assert float(cosine_huber_loss(bold + error, bold)) == pytest.approx(expected, rel=1e-5)
    half_mse = float(mean_squared_error_loss(bold + 1.6, bold)) / 2
    assert float(cosine_huber_loss(bold + 1.6, bold, delta=2.0)) == pytest.approx(half_mse, rel=1e-5)


def test_sums_are_the_sums_of_their_parts() -> None:
    prediction, bold, _ = block()
    parts = 1 + spatial_correlation_loss(prediction, bold) + mean_squared_error_loss(prediction, bold)
    torch.testing.assert_close(spatial_correlation_mse_loss(prediction, bold), parts)


# The noise ceiling


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ceiling_weighted"])
def test_losses_that_have_no_use_for_the_ceiling_ignore_it(name: str) -> None:
    prediction, bold, ceiling = block()
    alone = LOSSES[name](prediction, bold)
    for given_ceiling in (ceiling, torch.full((9,), NAN), torch.zeros(0)):
        assert torch.equal(LOSSES[name](prediction, bold, noise_ceiling=given_ceiling), alone)


@pytest.mark.parametrize("level", [1e-3, 0.4, 1.0])
def test_equal_ceilings_make_it_the_spatial_correlation(level: float) -> None:
    prediction, bold, _ = block()
    value = ceiling_weighted_loss(prediction, bold, torch.full((9,), level))
    torch.testing.assert_close(value, spatial_correlation_loss(prediction, bold), rtol=0, atol=1e-6)


@pytest.mark.parametrize("unknown", [0.0, -0.3, NAN, float("inf"), float("-inf")])
def test_voxels_without_a_positive_ceiling_weigh_nothing(unknown: float) -> None:
    prediction, bold, ceiling = block()
    ceiling[[1, 7]] = unknown
    kept = [v for v in range(9) if v not in (1, 7)]
    value = ceiling_weighted_loss(prediction, bold, ceiling)
    torch.testing.assert_close(
        value, ceiling_weighted_loss(prediction[:, kept], bold[:, kept], ceiling[kept]), rtol=0, atol=1e-6
    )
    slopes = gradient(ceiling_weighted_loss, prediction, bold, ceiling)
    assert torch.equal(slopes[:, [1, 7]], torch.zeros(6, 2, dtype=slopes.dtype))
    assert bool((slopes[:, kept] != 0).all())


def test_the_unit_of_the_weights_is_free_and_a_double_weight_is_a_voxel_twice() -> None:
    prediction, bold, ceiling = block()
    value = ceiling_weighted_loss(prediction, bold, ceiling)
    torch.testing.assert_close(ceiling_weighted_loss(prediction, bold, 100 * ceiling), value, rtol=0, atol=1e-6)
    twice = [*range(9), 4]
    doubled = torch.ones(9, dtype=torch.float64)
    doubled[4] = 2.0
    torch.testing.assert_close(
        ceiling_weighted_loss(prediction, bold, doubled),
        spatial_correlation_loss(prediction[:, twice], bold[:, twice]),
        rtol=0,
        atol=1e-6,
    )


# Errors

"""Resampling to TRs against a dense matrix, closed forms and the errors a wrong clock deserves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_tuning.errors import TimingError
from brain_tuning.timing.lanczos import lanczos_matrix, mean_matrix, to_torch


def dense_lanczos(frames: np.ndarray, trs: np.ndarray, lobes: int, cutoff: float) -> np.ndarray:
    u = (trs[:, None] - frames[None, :]) * cutoff
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = lobes * np.sin(np.pi * u) * np.sin(np.pi * u / lobes) / (np.pi * u) ** 2
    weights[u == 0] = 1.0
    weights[np.abs(u) > lobes] = 0.0
    return weights


@settings(max_examples=40, deadline=None)
@given(
    n_frames=st.integers(20, 300),
    n_trs=st.integers(2, 20),
    lobes=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_sparse_equals_dense(n_frames: int, n_trs: int, lobes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = np.sort(rng.uniform(0, 2.0 * n_trs, n_frames))
    trs = 1.0 + 2.0 * np.arange(n_trs) + rng.uniform(-0.2, 0.2, n_trs)
    matrix = lanczos_matrix(frames, trs, lobes=lobes, allow_empty=True)
    expected = dense_lanczos(frames, trs, lobes, 1.0 / np.mean(np.diff(trs)))
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=0, atol=1e-12)


def test_a_frame_at_the_tr_weighs_one_and_the_filter_is_symmetric() -> None:
    matrix = lanczos_matrix([1.5, 2.0, 2.5], [2.0], cutoff_hz=0.5).toarray()
    assert matrix[0, 1] == 1.0
    assert matrix[0, 0] == pytest.approx(matrix[0, 2], abs=1e-15)


def test_a_slow_sine_survives_and_a_fast_one_does_not() -> None:
    frames = np.arange(0, 200, 0.02)
    trs = np.arange(20, 180, 2.0)
    matrix = lanczos_matrix(frames, trs, normalise=True)
    slow, fast = np.sin(2 * np.pi * 0.02 * frames), np.sin(2 * np.pi * 1.1 * frames)
    np.testing.assert_allclose(matrix @ slow, np.sin(2 * np.pi * 0.02 * trs), atol=0.01)
    assert np.abs(matrix @ fast).max() < 0.01


def test_rows_sum_to_about_the_frames_in_a_tr_and_to_one_when_normalised() -> None:
    frames, trs = np.arange(0, 100, 0.02), np.arange(20, 80, 2.0045)
    np.testing.assert_allclose(lanczos_matrix(frames, trs).sum(1), 2.0045 * 50, rtol=0.01)
    np.testing.assert_allclose(lanczos_matrix(frames, trs, normalise=True).sum(1), 1.0, rtol=1e-12)


def test_it_holds_only_frames_in_reach() -> None:
    matrix = lanczos_matrix(np.arange(0, 1200, 0.02), np.arange(1, 1200, 2.0))
    assert matrix.nnz < matrix.shape[0] * (2 * 3 * 100 + 2)


def test_mean_matrix_takes_each_frame_once() -> None:
    frames, trs = np.arange(0, 20.045, 0.02), 2.0045 * (np.arange(10) + 0.5)
    matrix = mean_matrix(frames, trs)
    np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-12)
    assert (matrix.getnnz(0) == 1).all()
    values = np.random.default_rng(0).normal(size=frames.size)
    inside = (frames >= 2.0045) & (frames < 2 * 2.0045)
    assert (matrix @ values)[1] == pytest.approx(values[inside].mean(), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(first=st.floats(-1e4, 1e4), tr_s=st.floats(0.3, 3.0), n_trs=st.integers(2, 30))
def test_no_frame_on_a_border_is_lost_or_doubled(first: float, tr_s: float, n_trs: int) -> None:
    trs = first + tr_s * np.arange(n_trs)
    borders = np.sort(np.concatenate([trs[:-1] + tr_s / 2, trs[1:] - tr_s / 2, trs]))
    assert (mean_matrix(borders, trs).getnnz(0) == 1).all()


def test_torch_matrix_multiplies_alike_and_passes_gradients() -> None:
    rng = np.random.default_rng(0)
    matrix = lanczos_matrix(np.arange(0, 20, 0.1), np.arange(1, 20, 2.0))
    frames = torch.from_numpy(rng.normal(size=(200, 3)).astype(np.float32)).requires_grad_()
    out = to_torch(matrix) @ frames
    np.testing.assert_allclose(out.detach(), matrix @ frames.detach().numpy(), rtol=1e-5, atol=1e-5)
    towards = torch.from_numpy(rng.normal(size=(10, 3)).astype(np.float32))
    (out * towards).sum().backward()
    np.testing.assert_allclose(frames.grad, matrix.T @ towards.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "trs", "message"),
    [
        ([0.0, 2.0, 1.0], [0.0, 1.0], r"frame_times_s is not ascending \[index 1: 2 s, then 1 s\]"),
        ([0.0, np.nan], [0.0, 1.0], r"frame_times_s holds 1 values that are not finite \[first at index 1\]"),
        ([0.0, 1.0], [0.0, 0.0], "tr_times_s is not ascending"),
        ([0.0, 1.0], [0.0], "distance of TRs is unknown"),
        ([], [0.0, 1.0], "frame_times_s has shape"),
        (
            [0.0, 0.5, 1.0],
            [0.0, 1.0, 100.0, 101.0],
            r"2 of 4 TRs have no frame in reach \[first TR index 2 at 100.000 s; frames span 0.000 s to",
        ),
    ],
)
@pytest.mark.parametrize("build", [lanczos_matrix, mean_matrix])
def test_wrong_times_are_named(build, frames, trs, message) -> None:
    """Onsets off by seconds show as TRs without frames (user-pains 10)."""
    short = {"cutoff_hz": 1.0} if build is lanczos_matrix else {"tr_s": 1.0}
    with pytest.raises(TimingError, match=message):
        build(frames, trs, **(short if len(trs) == 4 else {}))


def test_empty_rows_on_request() -> None:
    matrix = lanczos_matrix([0.0, 0.5, 1.0], [0.0, 1.0, 100.0], cutoff_hz=1.0, allow_empty=True, normalise=True)
    np.testing.assert_allclose(matrix.sum(1).ravel(), [[1.0, 1.0, 0.0]], atol=1e-12)


def test_other_errors_say_what_to_do() -> None:
    with pytest.raises(TimingError, match="at least one lobe"):
        lanczos_matrix([0.0, 1.0], [0.0, 1.0], lobes=0)
    with pytest.raises(TimingError, match=r"cut-off frequency is not positive \[cutoff_hz=-1\]"):
        lanczos_matrix([0.0, 1.0], [0.0, 1.0], cutoff_hz=-1)
    with pytest.raises(TimingError, match="length of a TR is not positive"):
        mean_matrix([0.0, 1.0], [0.0, 1.0], tr_s=0.0)
    # Two frames in the main lobe and nine in the negative one: no scale is left to keep.
    with pytest.raises(TimingError, match=r"weights of 1 TRs nearly cancel .*index 0.*normalise=False"):
        lanczos_matrix([0.5] * 2 + [1.5] * 9, [0.0], cutoff_hz=1.0, normalise=True)


def test_dtype_is_kept() -> None:
    assert lanczos_matrix([0.0, 1.0], [0.0, 1.0], dtype=np.float32).dtype == np.float32

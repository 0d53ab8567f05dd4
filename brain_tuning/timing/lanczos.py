"""From frames to TRs: sparse matrices built from time stamps in seconds.

A matrix of this module is multiplied with frame features, ``matrix @ frames``, and gives one row a TR.
It holds non-zeros only for frames near a TR, so its cost grows with the story, not with its square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from brain_tuning.errors import TimingError

if TYPE_CHECKING:
    import torch

#: A row whose weights cancel to less than this share of their magnitudes has no meaningful scale.
_MIN_ROW_SUM = 0.05


def lanczos_matrix(
    frame_times_s: npt.ArrayLike,
    tr_times_s: npt.ArrayLike,
    *,
    lobes: int = 3,
    cutoff_hz: float | None = None,
    normalise: bool = False,
    allow_empty: bool = False,
    dtype: npt.DTypeLike = np.float64,
) -> sparse.csr_matrix:
    """Lanczos low-pass and resampling from frames to TRs.

    ``W[i, j] = sinc(u) sinc(u / lobes)`` with ``u = cutoff_hz (tr_times_s[i] - frame_times_s[j])`` and
    ``sinc(u) = sin(pi u) / (pi u)``; zero where ``|u| > lobes``. Frames after the TR count as well as
    frames before it (the filter is not causal).

    Args:
        frame_times_s: time stamp of each frame in seconds, ascending, equal stamps allowed, (n_frames,).
        tr_times_s: time of each TR (its middle) in seconds, strictly ascending, (n_trs,).
        lobes: half width of the filter in periods of the cutoff.
        cutoff_hz: cut-off frequency; the default is one over the mean distance of TRs.
        normalise: divide each row by its sum, which keeps the features' scale. The default is the field's
            custom: weights as they are, whose sum is about the number of frames in a TR.
        allow_empty: leave a TR without a frame in reach as a row of zeros; the default is an error.
        dtype: type of the weights; they are computed in float64.

    Returns:
        Matrix of shape (n_trs, n_frames).

    Raises:
        TimingError: times are not finite or not ascending, the cutoff is unknown or not positive, a TR has no
            frame in reach, or a row to be normalised sums to nearly zero.

    Source: Lanczos resampling as in Huth et al. (2016) and LeBel et al. (2023), deep-fMRI-dataset.
    """
    frames = _ascending(frame_times_s, "frame_times_s")
    trs = _ascending(tr_times_s, "tr_times_s", strict=True)
    if lobes < 1:
        raise TimingError("the Lanczos filter needs at least one lobe", where=f"lobes={lobes}", expected="1 or more")
    cutoff = _one_over_mean_distance(trs) if cutoff_hz is None else float(cutoff_hz)
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise TimingError("the cut-off frequency is not positive", where=f"cutoff_hz={cutoff_hz}")
    reach_s = lobes / cutoff
    # One rounding error more than the reach: the exact border is drawn by |u| > lobes below.
    margin_s = reach_s * (1 + 1e-9)
    first = np.searchsorted(frames, trs - margin_s, side="left")
    last = np.searchsorted(frames, trs + margin_s, side="right")
    rows, columns = _ragged(first, last)
    u = (trs[rows] - frames[columns]) * cutoff
    weights = np.sinc(u) * np.sinc(u / lobes)
    weights[np.abs(u) > lobes] = 0.0
    if not allow_empty:
        _refuse_empty(last - first, trs, frames, f"{reach_s:.3f} s")
    if normalise:
        weights = weights / _row_sums(rows, weights, trs.size)[rows]
    return _csr(weights, columns, last - first, frames.size, dtype)


def mean_matrix(
    frame_times_s: npt.ArrayLike,
    tr_times_s: npt.ArrayLike,
    *,
    tr_s: float | None = None,
    allow_empty: bool = False,
    dtype: npt.DTypeLike = np.float64,
) -> sparse.csr_matrix:
    """Mean of the frames that fall inside each TR.

    ``W[i, j] = 1 / n_i`` for the ``n_i`` frames with
    ``tr_times_s[i] - tr_s / 2 <= frame_times_s[j] < tr_times_s[i] + tr_s / 2``, else 0.

    Args:
        frame_times_s: time stamp of each frame in seconds, ascending, equal stamps allowed, (n_frames,).
        tr_times_s: middle of each TR in seconds, strictly ascending, (n_trs,).
        tr_s: length of a TR in seconds; the default is the mean distance of TRs.
        allow_empty: leave a TR without frames as a row of zeros; the default is an error.
        dtype: type of the weights.

    Returns:
        Matrix of shape (n_trs, n_frames).

    Raises:
        TimingError: times are not finite or not ascending, the TR is unknown or not positive, or a TR holds
            no frame.
    """
    frames = _ascending(frame_times_s, "frame_times_s")
    trs = _ascending(tr_times_s, "tr_times_s", strict=True)
    length_s = 1.0 / _one_over_mean_distance(trs) if tr_s is None else float(tr_s)
    if not (np.isfinite(length_s) and length_s > 0):
        raise TimingError("the length of a TR is not positive", where=f"tr_s={tr_s}")
    begin, end = trs - length_s / 2, trs + length_s / 2
    # TRs that touch share one border, so rounding puts no frame into two TRs or into none.
    touching = np.abs(end[:-1] - begin[1:]) <= 1e-6 * length_s
    end[:-1][touching] = begin[1:][touching]
    first = np.searchsorted(frames, begin, side="left")
    last = np.searchsorted(frames, end, side="left")
    counts = last - first
    if not allow_empty:
        _refuse_empty(counts, trs, frames, f"half a TR ({length_s / 2:.3f} s)")
    rows, columns = _ragged(first, last)
    return _csr(1.0 / counts[rows], columns, counts, frames.size, dtype)


def to_torch(matrix: sparse.spmatrix, *, device: str | torch.device = "cpu") -> torch.Tensor:
    """The same matrix as a sparse float32 tensor, to be used in a graph as ``matrix @ frames``.

    Gradients flow to the frames; the weights themselves are constants.

    Args:
        matrix: sparse matrix (n_trs, n_frames).
        device: where the tensor lives.

    Returns:
        Coalesced COO tensor (n_trs, n_frames), float32.
    """
    import torch

    coo = sparse.csr_matrix(matrix).tocoo()
    indices = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    tensor = torch.sparse_coo_tensor(indices, values, coo.shape, check_invariants=True)
    return tensor.coalesce().to(device)


def _ascending(times_s: npt.ArrayLike, name: str, *, strict: bool = False) -> npt.NDArray[np.float64]:
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or times.size == 0:
        raise TimingError(f"{name} has shape {times.shape}", expected="one time a row, at least one")
    bad = np.flatnonzero(~np.isfinite(times))
    if bad.size:
        raise TimingError(f"{name} holds {bad.size} values that are not finite", where=f"first at index {bad[0]}")
    steps = np.diff(times)
    bad = np.flatnonzero(steps <= 0 if strict else steps < 0)
    if bad.size:
        i = int(bad[0])
        raise TimingError(
            f"{name} is not ascending",
            where=f"index {i}: {times[i]:.6g} s, then {times[i + 1]:.6g} s",
            expected="strictly ascending seconds" if strict else "ascending seconds",
            remedy="sort the frames, or handle each story by itself",
        )
    return times


def _one_over_mean_distance(trs: npt.NDArray[np.float64]) -> float:
    if trs.size < 2:
        raise TimingError(
            "the distance of TRs is unknown",
            where=f"{trs.size} TR",
            expected="at least 2 TRs",
            remedy="give cutoff_hz (lanczos_matrix) or tr_s (mean_matrix)",
        )
    return float(1.0 / np.mean(np.diff(trs)))


def _ragged(
    first: npt.NDArray[np.intp], last: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row and column of every pair in the half-open column ranges ``first[i]:last[i]``."""
    counts = last - first
    rows = np.repeat(np.arange(first.size), counts)
    starts = np.cumsum(counts) - counts
    return rows, np.arange(rows.size) - starts[rows] + first[rows]


def _csr(
    weights: npt.NDArray[np.float64],
    columns: npt.NDArray[np.intp],
    counts: npt.NDArray[np.intp],
    n_frames: int,
    dtype: npt.DTypeLike,
) -> sparse.csr_matrix:
    pointers = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_matrix((weights.astype(dtype), columns, pointers), shape=(counts.size, n_frames))


def _row_sums(rows: npt.NDArray[np.intp], weights: npt.NDArray[np.float64], n_trs: int) -> npt.NDArray[np.float64]:
    sums = np.zeros(n_trs)
    sizes = np.zeros(n_trs)
    np.add.at(sums, rows, weights)
    np.add.at(sizes, rows, np.abs(weights))
    bad = np.flatnonzero(np.bincount(rows, minlength=n_trs) > 0)
    bad = bad[np.abs(sums[bad]) <= _MIN_ROW_SUM * sizes[bad]]
    if bad.size:
        raise TimingError(
            f"the weights of {bad.size} TRs nearly cancel and cannot be normalised",
            where=f"first TR index {bad[0]}",
            remedy="drop TRs outside the audio, or use normalise=False",
        )
    return sums


def _refuse_empty(
    counts: npt.NDArray[np.intp],
    trs: npt.NDArray[np.float64],
    frames: npt.NDArray[np.float64],
    reach: str,
) -> None:
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        raise TimingError(
            f"{empty.size} of {trs.size} TRs have no frame in reach",
            where=f"first TR index {empty[0]} at {trs[empty[0]]:.3f} s; frames span "
            f"{frames[0]:.3f} s to {frames[-1]:.3f} s",
            expected=f"a frame within {reach} of every TR",
            remedy="check the audio onset and the trim of TRs, or pass allow_empty=True",
        )

"""Voxelwise ridge regression with the best penalty for each voxel.

A penalty is the number added to the diagonal of the Gram matrix: ``argmin_w |y - Xw|^2 + penalty |w|^2``.
Code of the HuthLab calls its root ``alpha``; :func:`huth_penalties` gives its usual values, squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from brain_tuning.encoding.folds import Fold, check_folds
from brain_tuning.encoding.scores import MIN_STD
from brain_tuning.encoding.spectrum import Form, KernelForm, PrimalForm, Rows, Spectrum, as_rows
from brain_tuning.errors import EncodingError

Criterion = Literal["pearson", "r2"]
FormName = Literal["auto", "primal", "kernel"]

#: A response that varies in one part of the data by less than this share of its whole is constant there.
_MIN_SHARE = 1e-6


class VoxelBlocks(Protocol):
    """Responses (n_trs, n_voxels) that can be read a block of columns at a time: an array, a memmap, HDF5."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_trs, n_voxels)``."""
        ...

    def __getitem__(self, key: tuple[slice, slice], /) -> npt.ArrayLike:
        """The rows and columns asked for."""
        ...


@dataclass(frozen=True)
class RidgeFit:
    """A fitted voxelwise ridge model; voxels that cannot be estimated are NaN in all float fields.

    Attributes:
        weights: (n_features, n_voxels).
        intercept: (n_voxels,).
        penalty: the chosen penalty of each voxel (n_voxels,).
        cv_score: mean over usable folds of the score at that penalty (n_voxels,).
        n_folds_used: folds in which the voxel could be scored (n_voxels,); 0 for NaN voxels.
    """

    weights: npt.NDArray[np.floating[Any]]
    intercept: npt.NDArray[np.floating[Any]]
    penalty: npt.NDArray[np.float64]
    cv_score: npt.NDArray[np.float64]
    n_folds_used: npt.NDArray[np.int64]

    @property
    def n_nan(self) -> int:
        """Number of voxels that could not be estimated."""
        return int(np.isnan(self.cv_score).sum())

    def predict(self, features: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """Predicted responses ``X @ weights + intercept``.

        Args:
            features: (n_trs, n_features).

        Returns:
            (n_trs, n_voxels) in the dtype of the weights; NaN columns for voxels without an estimate.

        Raises:
            EncodingError: the features have another width or hold NaN.
        """
        x = np.asarray(features, dtype=self.weights.dtype)
        _check_features(x)
        if x.shape[1] != self.weights.shape[0]:
            raise EncodingError(
                f"{x.shape[1]} features", expected=f"{self.weights.shape[0]}, as in the fit", where="predict"
            )
        prediction = x @ self.weights
        prediction += self.intercept
        return prediction


def huth_penalties(n_penalties: int = 15) -> npt.NDArray[np.float64]:
    """The penalties of the HuthLab's encoding models: ``alpha ** 2`` for alphas from 10 to 10,000.

    Args:
        n_penalties: how many, spaced evenly on a logarithmic scale.

    Returns:
        Penalties (n_penalties,), ascending from 1e2 to 1e8.

    Source: Antonello et al. (2023); alphas ``logspace(1, 4, 15)``, there added as singular values squared.
    """
    return np.logspace(1, 4, n_penalties) ** 2


def ridge_weights(features: npt.ArrayLike, bold: npt.ArrayLike, penalties: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ridge weights at given penalties, without centring and without intercept, in float64.

    ``w_v = (X'X + penalty_v I)^-1 X'y_v``.

    Args:
        features: X (n_trs, n_features), usually z-scored.
        bold: Y (n_trs, n_voxels), usually z-scored.
        penalties: one for all voxels, or one a voxel (n_voxels,); above 0.

    Returns:
        Weights (n_features, n_voxels); NaN for voxels that hold a NaN.

    Raises:
        EncodingError: shapes do not fit, features hold NaN, or a penalty is not positive.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(bold, dtype=np.float64)
    _check_features(x)
    _check_rows(x, y)
    penalty = _check_penalties(np.atleast_1d(penalties))
    if penalty.size not in (1, y.shape[1]):
        raise EncodingError(f"{penalty.size} penalties for {y.shape[1]} voxels", expected="one for all, or one a voxel")
    finite = np.isfinite(y).all(0)
    known = np.where(finite, y, 0.0)
    if x.shape[0] < x.shape[1]:
        eigenvalues, basis = np.linalg.eigh(x @ x.T)
        solution = (basis.T @ known) / (eigenvalues.clip(0)[:, None] + penalty)
        weights = x.T @ (basis @ solution)
    else:
        eigenvalues, basis = np.linalg.eigh(x.T @ x)
        solution = (basis.T @ (x.T @ known)) / (eigenvalues.clip(0)[:, None] + penalty)
        weights = basis @ solution
    return np.where(finite, weights, np.nan)


def ridge_cv(
    features: npt.ArrayLike,
    bold: VoxelBlocks,
    folds: Sequence[Fold],
    penalties: npt.ArrayLike | None = None,
    *,
    criterion: Criterion = "pearson",
    form: FormName = "auto",
    dtype: npt.DTypeLike | None = None,
    voxels_per_block: int = 1024,
    device: str | torch.device = "cpu",
) -> RidgeFit:
    """Choose the penalty of each voxel by cross-validation, then fit all rows with it.

    For every fold, X and Y are centred by their means over the training rows, the model is fitted on the
    training rows at every penalty and scored on the held-out rows; a voxel's penalty is the one with the best
    mean score, the smaller one in a tie. One eigendecomposition a fold serves all voxels and penalties.

    Args:
        features: X (n_trs, n_features), delays included.
        bold: Y, anything with a shape (n_trs, n_voxels) that can be sliced in blocks of columns. Voxels that
            hold a NaN or are constant get NaN; a fold in which a voxel is constant is left out for it.
        folds: see :mod:`brain_tuning.encoding.folds`.
        penalties: numbers added to the diagonal of X'X, above 0; the default is :func:`huth_penalties`.
        criterion: score to choose by: ``pearson`` or ``r2`` (the coefficient of determination).
        form: ``primal`` or ``kernel``; ``auto`` takes the smaller problem.
        dtype: of the products with voxels; the default is float64 for float64 features, else float32. Gram
            matrices and eigendecompositions are always float64.
        voxels_per_block: voxels held in memory at once.
        device: torch device to compute on.

    Returns:
        The fit, on the CPU.

    Raises:
        EncodingError: features hold NaN, shapes or folds do not fit, or a penalty is not positive.

    Source: Huth et al. (2016), voxelwise ridge; la Tour et al. (2022), correlation as criterion, himalaya.
    """
    given = np.asarray(features)
    kind = np.dtype(dtype or (np.float64 if given.dtype == np.float64 else np.float32))
    _check_features(given)
    _check_rows(given, bold)
    check_folds(folds, given.shape[0])
    grid = torch.from_numpy(np.sort(_check_penalties(huth_penalties() if penalties is None else penalties)))
    _check_choice("criterion", criterion, ("pearson", "r2"))
    _check_choice("form", form, ("auto", "primal", "kernel"))
    x_mean = given.mean(0, dtype=np.float64)
    # Centred over all rows here, in float64, so that nothing is lost when rows are subtracted later.
    x = torch.from_numpy((given - x_mean).astype(kind)).to(device)
    wide = x.shape[0] < x.shape[1] if form == "auto" else form == "kernel"
    problem: Form = KernelForm(x) if wide else PrimalForm(x)
    rows = np.arange(x.shape[0])
    whole = problem.diagonalise(rows, rows[:1])  # nothing is held out; the one row is not looked at
    parts = [problem.diagonalise(fold.train, fold.held_out) for fold in folds]
    held_out = [as_rows(fold.held_out) for fold in folds]
    n_voxels = bold.shape[1]
    fit = RidgeFit(
        weights=np.empty((x.shape[1], n_voxels), kind),
        intercept=np.empty(n_voxels, kind),
        penalty=np.empty(n_voxels),
        cv_score=np.empty(n_voxels),
        n_folds_used=np.empty(n_voxels, np.int64),
    )
    for begin in range(0, n_voxels, voxels_per_block):
        voxels = slice(begin, min(begin + voxels_per_block, n_voxels))
        y, y_mean, varying = _read(bold, voxels, x)
        shared = problem.cross(y)
        score, n_used = _cross_validate(problem, parts, held_out, y, shared, varying, grid.to(x.device), criterion)
        best, chosen = score.max(0)  # the first, that is the smallest penalty, of equal scores
        usable = n_used > 0
        penalty = torch.where(usable, grid.to(x.device)[chosen], torch.nan)
        solution = problem.coordinates(whole, y, y.mean(0), shared)
        solution /= (whole.eigenvalues[:, None] + penalty).to(x.dtype)
        weights = problem.weights(whole, solution).cpu().numpy()
        fit.weights[:, voxels] = weights
        fit.intercept[voxels] = y_mean.cpu().numpy() - x_mean @ weights
        fit.penalty[voxels] = penalty.cpu().numpy()
        fit.cv_score[voxels] = torch.where(usable, best, torch.nan).cpu().numpy()
        fit.n_folds_used[voxels] = n_used.cpu().numpy()
    return fit


def _read(bold: VoxelBlocks, voxels: slice, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A block of responses, centred over all rows; columns with NaN are 0 and marked as not varying."""
    block = np.asarray(bold[:, voxels])
    wide = np.float32 if block.dtype in (np.float16, np.float32) else np.float64
    y = torch.from_numpy(np.array(block, dtype=wide, order="C")).to(like.device)
    mean = y.mean(0, dtype=torch.float64)
    finite = torch.isfinite(mean)
    y -= mean.to(y.dtype)
    y[:, ~finite] = 0.0
    y = y.to(like.dtype)
    std = (y * y).mean(0, dtype=torch.float64).sqrt()
    return y, mean, finite & (std > MIN_STD)


def _cross_validate(
    problem: Form,
    parts: Sequence[Spectrum],
    held_out: Sequence[Rows],
    y: torch.Tensor,
    shared: torch.Tensor,
    varying: torch.Tensor,
    penalties: torch.Tensor,
    criterion: Criterion,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean score over usable folds (n_penalties, n_voxels) and the number of those folds (n_voxels,)."""
    # In float64: that a voxel is constant in a part is found by subtracting numbers that are almost equal.
    squares = y.to(torch.float64, copy=True).square_()
    sums, sums_of_squares = _column_sums(y), _column_sums(squares)
    least = (sums_of_squares / y.shape[0]).sqrt().mul(_MIN_SHARE).clamp_min(MIN_STD).square()
    total = torch.zeros((penalties.numel(), y.shape[1]), dtype=torch.float64, device=y.device)
    n_used = torch.zeros(y.shape[1], dtype=torch.int64, device=y.device)
    for part, rows in zip(parts, held_out, strict=True):
        train_mean = (sums - _column_sums(y[part.left_out])) / part.n_train
        train_power = (sums_of_squares - _column_sums(squares[part.left_out])) / part.n_train
        scored = y[rows]
        mean = scored.mean(0, dtype=torch.float64)
        centred = scored - mean.to(y.dtype)
        coordinates = problem.coordinates(part, y, train_mean.to(y.dtype), shared)
        score = _score(part, coordinates, centred, train_mean - mean, penalties, criterion)
        usable = varying & (train_power - train_mean**2 > least)
        usable &= (_column_sums(centred * centred) / centred.shape[0] > least) & torch.isfinite(score).all(0)
        total += torch.where(usable, score, 0.0)
        n_used += usable
    return total / n_used.clamp_min(1), n_used


def _score(
    part: Spectrum,
    coordinates: torch.Tensor,
    centred: torch.Tensor,
    train_mean: torch.Tensor,
    penalties: torch.Tensor,
    criterion: Criterion,
) -> torch.Tensor:
    """Score of each penalty on the held-out rows (n_penalties, n_voxels); not finite where undefined.

    ``centred`` are the held-out responses without their mean; ``train_mean`` is relative to that mean.
    """
    power = _column_sums(centred * centred)
    score = torch.empty((penalties.numel(), power.numel()), dtype=torch.float64, device=power.device)
    solution, product = torch.empty_like(coordinates), torch.empty_like(centred)
    predicted = torch.empty_like(centred)
    largest = part.eigenvalues[-1] if part.eigenvalues.numel() else torch.zeros_like(penalties[0])
    for i, penalty in enumerate(penalties):
        # The prediction is carried times (largest + penalty): strong penalties would shrink it to nothing.
        scale = largest + penalty
        shrinkage = (scale / (part.eigenvalues + penalty)).to(coordinates.dtype)
        torch.mul(coordinates, shrinkage[:, None], out=solution)
        torch.mm(part.features, solution, out=predicted)
        # Held-out rows are few thousand: these two sums keep their precision in the dtype of the products.
        cross = torch.mul(predicted, centred, out=product).sum(0).double()
        own = torch.mul(predicted, predicted, out=product).sum(0).double()  # a norm over rows is many times slower
        if criterion == "pearson":
            score[i] = cross / (own * power).sqrt()
        else:
            off = (part.offset @ solution).double() / scale + train_mean
            residual = power - 2 * cross / scale + own / scale**2 + centred.shape[0] * off**2
            score[i] = 1.0 - residual / power
    return score


def _column_sums(values: torch.Tensor) -> torch.Tensor:
    return values.sum(0, dtype=torch.float64)


def _check_features(x: npt.NDArray[Any]) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise EncodingError(f"features have shape {x.shape}", expected="(n_trs, n_features), neither 0")
    columns = np.flatnonzero(~np.isfinite(x).all(0))
    if columns.size:
        row = int(np.flatnonzero(~np.isfinite(x[:, columns[0]]))[0])
        raise EncodingError(
            f"{columns.size} of {x.shape[1]} features hold NaN or infinite values",
            where=f"first: feature {columns[0]}, TR {row}",
            expected="finite features",
            remedy="drop constant features before z-scoring, and TRs outside the audio",
        )


def _check_rows(x: npt.NDArray[Any], bold: VoxelBlocks | npt.NDArray[Any]) -> None:
    shape = tuple(bold.shape)
    if len(shape) != 2 or shape[0] != x.shape[0] or shape[1] == 0:
        raise EncodingError(
            f"features have shape {x.shape}, responses {shape}",
            expected=f"responses ({x.shape[0]}, n_voxels)",
            remedy="trim features and responses of each run to the same TRs",
        )


def _check_penalties(penalties: npt.ArrayLike) -> npt.NDArray[np.float64]:
    grid = np.asarray(penalties, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or not (np.isfinite(grid).all() and (grid > 0).all()):
        raise EncodingError(
            "penalties are not positive numbers",
            where=f"shape {grid.shape}",
            expected="a list of finite values above 0 (alpha squared, in the HuthLab's terms)",
        )
    return grid


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise EncodingError(f"unknown {name} {value!r}", expected=" or ".join(known))

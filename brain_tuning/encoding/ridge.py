"""Voxelwise ridge regression with the best penalty for each voxel.

A penalty is the number added to the diagonal of the Gram matrix: ``argmin_w |y - Xw|^2 + penalty |w|^2``.
Code of the HuthLab calls its root ``alpha``; :func:`huth_penalties` gives its usual values, squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from brain_tuning.encoding.blocks import VoxelBlocks, check_rows, column_blocks, read_block
from brain_tuning.encoding.budget import RidgeCost, ridge_cost, voxels_for_budget
from brain_tuning.encoding.crossval import (
    Criterion,
    FoldedProblem,
    FormName,
    check_options,
    final_weights,
    problem_of,
)
from brain_tuning.encoding.folds import Fold, check_folds
from brain_tuning.encoding.scores import REAL_KINDS
from brain_tuning.errors import EncodingError

_ROWS_PER_BLOCK = 4096
_DTYPES = (np.float32, np.float64, "float32", "float64", np.dtype(np.float32), np.dtype(np.float64))


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

    def predict(self, features: npt.ArrayLike, voxels: slice = slice(None)) -> npt.NDArray[np.floating[Any]]:
        """Predicted responses ``X @ weights + intercept``.

        Args:
            features: (n_trs, n_features).
            voxels: those to predict, where all at once would take too much memory.

        Returns:
            (n_trs, n_voxels) in the dtype of the weights; NaN columns for voxels without an estimate.

        Raises:
            EncodingError: the features have another width or hold NaN.
        """
        given = np.asarray(features)
        check_features(given)
        x = given.astype(self.weights.dtype, copy=False)
        if x.shape[1] != self.weights.shape[0]:
            raise EncodingError(
                f"{x.shape[1]} features", expected=f"{self.weights.shape[0]}, as in the fit", where="predict"
            )
        prediction = x @ self.weights[:, voxels]
        prediction += self.intercept[voxels]
        return prediction


def huth_penalties(n_penalties: int = 15) -> npt.NDArray[np.float64]:
    """The penalties of the HuthLab's encoding models: ``alpha ** 2`` for alphas from 10 to 10,000.

    Args:
        n_penalties: how many, spaced evenly on a logarithmic scale.

    Returns:
        Penalties (n_penalties,), ascending from 1e2 to 1e8.

    Raises:
        EncodingError: fewer than one.

    Source: Antonello et al. (2023); alphas ``logspace(1, 4, 15)``, there added as singular values squared.
    """
    if n_penalties < 1:
        raise EncodingError(f"{n_penalties} penalties", expected="at least 1")
    return np.logspace(1, 4, n_penalties) ** 2


def ridge_weights(features: npt.ArrayLike, bold: npt.ArrayLike, penalties: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ridge weights at given penalties, without centring and without intercept, in float64.

    ``w_v = (X'X + penalty_v I)^-1 X'y_v``. Directions in which the features do not vary but for rounding get no weight.

    Args:
        features: X (n_trs, n_features), usually z-scored.
        bold: Y (n_trs, n_voxels), usually z-scored.
        penalties: one for all voxels, or one a voxel (n_voxels,); above 0.

    Returns:
        Weights (n_features, n_voxels); NaN for voxels that hold a NaN.

    Raises:
        EncodingError: shapes do not fit, features hold NaN, or a penalty is not positive.
    """
    given, measured = np.asarray(features), np.asarray(bold)
    check_features(given)
    check_rows(given, measured)
    x, y = given.astype(np.float64, copy=False), measured.astype(np.float64, copy=False)
    penalty = check_penalties(np.atleast_1d(penalties))
    if penalty.size not in (1, y.shape[1]):
        raise EncodingError(f"{penalty.size} penalties for {y.shape[1]} voxels", expected="one for all, or one a voxel")
    finite = np.isfinite(y).all(0)
    known = np.where(finite, y, 0.0)
    wide = x.shape[0] < x.shape[1]
    eigenvalues, basis = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = eigenvalues > max(0.0, eigenvalues[-1]) * eigenvalues.size * np.finfo(np.float64).eps
    basis = basis[:, kept]
    solution = (basis.T @ (known if wide else x.T @ known)) / (eigenvalues[kept, None] + penalty)
    weights = basis @ solution
    if wide:
        weights = x.T @ weights
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
    memory_mb: float | None = None,
    out: npt.NDArray[np.floating[Any]] | None = None,
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
        dtype: of the products with voxels, float32 or float64; the default is float64 for float64 features, else
            float32, which keeps r to 1e-4 for features whose scales differ by up to 1e6. Gram matrices and
            eigendecompositions are always float64.
        voxels_per_block: most voxels held in memory at once.
        memory_mb: budget in MiB of all that this call allocates, weights included, features and responses not:
            blocks get as many voxels as fit, at most ``voxels_per_block``. None sets no limit: with blocks of 1024,
            9,133 TRs x 3,072 features x 95,556 voxels take less than 2 GiB. See :mod:`brain_tuning.encoding.budget`.
        out: where the weights are written, (n_features, n_voxels) in the dtype of the products, such as a memory
            map on disk; None for a new array.
        device: torch device to compute on.

    Returns:
        The fit, on the CPU.

    Raises:
        EncodingError: features hold NaN, shapes or folds do not fit, a penalty is not positive, there is no such
            device, or the budget is too small (the error names the smallest that works).

    Source: Huth et al. (2016), voxelwise ridge; la Tour et al. (2022), correlation as criterion, himalaya.
    """
    given = np.asarray(features)
    check_features(given)
    kind = features_dtype(given, dtype)
    check_rows(given, bold)
    check_folds(folds, given.shape[0])
    check_options(criterion, form, voxels_per_block, device)
    grid = torch.from_numpy(np.sort(check_penalties(huth_penalties() if penalties is None else penalties))).to(device)
    if memory_mb is not None:
        on_disk = isinstance(out, np.memmap)
        cost = cost_of_fit(given, bold, folds, grid.numel(), kind, form, voxels_per_block, weights_on_disk=on_disk)
        voxels_per_block = voxels_for_budget(memory_mb, cost)
    x, x_mean = centred(given, kind, device)
    problem = problem_of(x, form)
    whole, folded = problem.whole(), FoldedProblem.of(problem, folds, x.shape[0])
    fit = empty_fit(x.shape[1], bold.shape[1], kind, out)
    for voxels in column_blocks(bold.shape[1], voxels_per_block):
        block = read_block(bold, voxels, x)
        score, n_used = folded.score(block, folded.cross(block.y), grid, criterion)
        best, chosen = score.max(0)  # the first, that is the smallest penalty, of equal scores
        usable = n_used > 0
        penalty = torch.where(usable, grid[chosen], torch.nan)
        weights = final_weights(whole, block, penalty).cpu().numpy()
        fit.weights[:, voxels] = weights
        fit.intercept[voxels] = block.mean.cpu().numpy() - x_mean @ weights
        fit.penalty[voxels] = penalty.cpu().numpy()
        fit.cv_score[voxels] = torch.where(usable, best, torch.nan).cpu().numpy()
        fit.n_folds_used[voxels] = n_used.cpu().numpy()
    return fit


def cost_of_fit(
    features: npt.NDArray[Any],
    bold: VoxelBlocks,
    folds: Sequence[Fold],
    n_penalties: int,
    dtype: np.dtype[Any],
    form: FormName,
    voxels_per_block: int,
    *,
    weights_on_disk: bool,
) -> RidgeCost:
    """:func:`brain_tuning.encoding.budget.ridge_cost` of features, responses and folds that are there."""
    n_trs, n_features = features.shape
    return ridge_cost(
        n_trs,
        n_features,
        bold.shape[1],
        n_penalties,
        len(folds),
        dtype=dtype,
        voxels_per_block=voxels_per_block,
        form=form,
        held_out_trs=max(n_trs - fold.train.size for fold in folds),
        weights_on_disk=weights_on_disk,
    )


def features_dtype(features: npt.NDArray[Any], dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Dtype of the products: the one wanted, else float64 for float64 features of either byte order, else float32.

    Raises:
        EncodingError: another one is wanted; half precision does not hold the products of a few hundred TRs.
    """
    if dtype is None:
        double = features.dtype.kind == "f" and features.dtype.itemsize >= 8
        return np.dtype(np.float64 if double else np.float32)
    if dtype not in _DTYPES:
        raise EncodingError(f"dtype={dtype!r}", expected="float32 or float64", remedy="leave dtype away")
    return np.dtype(dtype)


def centred(
    features: npt.NDArray[Any], dtype: np.dtype[Any], device: str | torch.device
) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    """Features without their mean over all rows, and that mean.

    The mean is taken away in float64, a block of rows at a time, so that nothing is lost when rows are subtracted
    from Gram matrices later, and no float64 copy of all rows is made.

    Args:
        features: (n_trs, n_features).
        dtype: of the result.
        device: where the result goes.

    Returns:
        Tensor (n_trs, n_features) and float64 mean (n_features,).
    """
    mean = features.mean(0, dtype=np.float64)
    x = np.empty(features.shape, dtype)
    for begin in range(0, len(features), _ROWS_PER_BLOCK):
        rows = slice(begin, begin + _ROWS_PER_BLOCK)
        x[rows] = features[rows] - mean
    return torch.from_numpy(x).to(device), mean


def empty_fit(
    n_features: int, n_voxels: int, dtype: np.dtype[Any], out: npt.NDArray[np.floating[Any]] | None = None
) -> RidgeFit:
    """A fit whose fields are yet to be written; its weights are ``out`` if that is given.

    Raises:
        EncodingError: ``out`` has another shape or dtype, or is read-only.
    """
    if out is not None and not out.flags.writeable:
        raise EncodingError("the array for the weights is read-only", remedy="open the memory map with mode r+ or w+")
    if out is not None and (out.shape != (n_features, n_voxels) or out.dtype != dtype):
        raise EncodingError(
            f"the array for the weights is {out.dtype} {out.shape}", expected=f"{dtype} ({n_features}, {n_voxels})"
        )
    return RidgeFit(
        weights=np.empty((n_features, n_voxels), dtype) if out is None else out,
        intercept=np.empty(n_voxels, dtype),
        penalty=np.empty(n_voxels),
        cv_score=np.empty(n_voxels),
        n_folds_used=np.empty(n_voxels, np.int64),
    )


def check_features(x: npt.NDArray[Any], space: str = "") -> None:
    """Raise :class:`EncodingError` unless the features are a matrix of finite numbers; it names the first other one.

    Args:
        x: features (n_trs, n_features).
        space: name of the feature space, for the error.
    """
    of_space = f" of space {space!r}" if space else ""
    if x.ndim != 2 or 0 in x.shape:
        raise EncodingError(f"features{of_space} have shape {x.shape}", expected="(n_trs, n_features), neither 0")
    if x.dtype.kind not in REAL_KINDS:
        raise EncodingError(f"features{of_space} are {x.dtype}", expected="real numbers")
    columns = np.flatnonzero(~np.isfinite(x).all(0))
    if columns.size:
        row = int(np.flatnonzero(~np.isfinite(x[:, columns[0]]))[0])
        raise EncodingError(
            f"{columns.size} of {x.shape[1]} features{of_space} hold NaN or infinite values",
            where=f"first: feature {columns[0]}, TR {row}",
            expected="finite features",
            remedy="drop constant features before z-scoring, and TRs outside the audio",
        )


def check_penalties(penalties: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The penalties (n_penalties,) as float64, or :class:`EncodingError` unless all are above 0."""
    grid = np.asarray(penalties, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or not (np.isfinite(grid).all() and (grid > 0).all()):
        raise EncodingError(
            "penalties are not positive numbers",
            where=f"{grid.tolist()}" if grid.size <= 20 else f"shape {grid.shape}",
            expected="a list of finite values above 0 (alpha squared, in the HuthLab's terms)",
        )
    return grid

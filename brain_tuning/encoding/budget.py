"""What a voxelwise ridge will cost, from the sizes alone, and how many voxels fit into a memory budget.

Work and memory grow linearly with voxels; what does not is the eigendecomposition of one matrix for each fold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from brain_tuning.errors import EncodingError

MIB = 2**20
_DOUBLE = 8
#: Householder tridiagonalisation, the tridiagonal problem and its vectors (Golub & Van Loan 2013, section 8.3)
_EIGEN_FLOPS = 9
#: one matrix is held while it is decomposed, with its vectors and LAPACK's work space of twice its size
_EIGEN_COPIES = 4
#: what the linear algebra libraries take for themselves
_LIBRARY_BYTES = 8 * MIB
#: rows (of X, or of X' in the kernel form) that a Gram matrix adds in float64 at a time
_GRAM_ROWS = 4096
#: with more folds, products of features and responses are computed for one fold at a time
MOST_FOLDS_AT_ONCE = 8


@dataclass(frozen=True)
class RidgeCost:
    """Work and memory of one :func:`brain_tuning.encoding.ridge.ridge_cv`.

    Attributes:
        form: ``primal`` or ``kernel``.
        product_flops: floating-point operations of matrix products.
        eigen_flops: floating-point operations of eigendecompositions, about.
        fixed_bytes: held whatever the block: features, spectra of the folds, weights.
        bytes_per_voxel: further bytes for each voxel of a block.
        decomposition_bytes: peak before the first voxel is read.
        voxels_per_block: voxels of a block.
    """

    form: str
    product_flops: float
    eigen_flops: float
    fixed_bytes: int
    bytes_per_voxel: int
    decomposition_bytes: int
    voxels_per_block: int

    @property
    def flops(self) -> float:
        """All floating-point operations."""
        return self.product_flops + self.eigen_flops

    @property
    def peak_bytes(self) -> int:
        """Most bytes held at once, beyond the features and responses given."""
        return max(self.decomposition_bytes, self.fixed_bytes + self.voxels_per_block * self.bytes_per_voxel)


def ridge_cost(
    n_trs: int,
    n_features: int,
    n_voxels: int,
    n_penalties: int = 15,
    n_folds: int = 5,
    *,
    dtype: npt.DTypeLike = np.float32,
    voxels_per_block: int = 1024,
    form: str = "auto",
    held_out_trs: int | None = None,
    weights_on_disk: bool = False,
) -> RidgeCost:
    """Work and memory of a cross-validated ridge.

    Args:
        n_trs: rows.
        n_features: columns of the features, delays included.
        n_voxels: responses.
        n_penalties: penalties tried.
        n_folds: folds.
        dtype: of the products with voxels.
        voxels_per_block: voxels in memory at once.
        form: ``auto``, ``primal`` or ``kernel``.
        held_out_trs: rows not trained on in the largest fold; None for folds that divide the rows evenly.
        weights_on_disk: the weights go to a memory map, and count as no memory.

    Returns:
        The cost.

    Raises:
        EncodingError: a size is below 1.
    """
    sizes = {
        "n_trs": n_trs,
        "n_features": n_features,
        "n_voxels": n_voxels,
        "n_penalties": n_penalties,
        "n_folds": n_folds,
        "voxels_per_block": voxels_per_block,
    }
    for name, size in sizes.items():
        if size < 1:
            raise EncodingError(f"{name}={size}", expected="at least 1")
    held_out = math.ceil(n_trs / n_folds) if held_out_trs is None else held_out_trs
    kernel = n_trs < n_features if form == "auto" else form == "kernel"
    cost = _kernel_cost if kernel else _primal_cost
    item = np.dtype(dtype).itemsize
    products, eigen, fixed, per_voxel, decomposition = cost(
        n_trs, n_features, n_voxels, n_penalties, n_folds, held_out, item
    )
    fixed += _LIBRARY_BYTES + (item + 3 * _DOUBLE) * n_voxels  # intercept, penalty, score, folds used
    if not weights_on_disk:
        fixed += item * n_features * n_voxels
    return RidgeCost(
        form="kernel" if kernel else "primal",
        product_flops=products,
        eigen_flops=eigen,
        fixed_bytes=fixed,
        bytes_per_voxel=per_voxel,
        decomposition_bytes=_LIBRARY_BYTES + decomposition,
        voxels_per_block=min(voxels_per_block, n_voxels),
    )


def voxels_for_budget(memory_mb: float, cost: RidgeCost, *, further_bytes: int = 0) -> int:
    """The most voxels a block may hold for the whole fit to stay within a budget, at most those of the cost.

    Args:
        memory_mb: budget in MiB of what is allocated beyond the features and responses given; infinite for none.
        cost: of the fit, with the block that is wanted.
        further_bytes: held throughout beside the fit.

    Returns:
        Voxels per block.

    Raises:
        EncodingError: not one voxel fits; the error names the smallest budget that works.
    """
    fixed, decomposition = cost.fixed_bytes + further_bytes, cost.decomposition_bytes + further_bytes
    least = max(decomposition, fixed + cost.bytes_per_voxel)
    if not memory_mb * MIB >= least:  # NaN too
        raise EncodingError(
            f"a budget of {memory_mb:g} MiB is too small for this ridge",
            where=f"{fixed / MIB:.0f} MiB of features, spectra and weights, "
            f"{decomposition / MIB:.0f} MiB while a fold is decomposed",
            expected=f"at least {math.ceil(least / MIB)} MiB",
            remedy="write the weights to a memory map (out=), use fewer folds or features, or raise memory_mb",
        )
    return int(min(cost.voxels_per_block, (memory_mb * MIB - fixed) / cost.bytes_per_voxel))


def _primal_cost(
    t: int, f: int, v: int, p: int, folds: int, held_out: int, item: int
) -> tuple[float, float, int, int, int]:
    """Product and eigen flops; fixed bytes, bytes a voxel, bytes at the decomposition; without the weights."""
    out_rows = folds * held_out
    # Gram matrices of all rows and of rows left out, held-out rows into the basis; then for voxels X'Y of both,
    # into each basis, a prediction for each penalty, the weights.
    once = 2.0 * f**2 * (2 * t + 2 * out_rows)
    products_trs = out_rows if folds <= MOST_FOLDS_AT_ONCE else t + out_rows
    voxels = 2.0 * v * f * (products_trs + folds * f + p * out_rows + t + f)
    eigen = float(_EIGEN_FLOPS * (folds + 1) * f**3)
    x, gram = item * t * f, _DOUBLE * f**2
    spectra = item * ((folds + 1) * f**2 + (out_rows + t) * f)
    adding = _DOUBLE * min(_GRAM_ROWS, t) * f
    of_all_rows = gram + 2 * adding + item * (t * f + f**2)  # before the folds: basis, rows into it, a block of both
    decomposition = x + gram + max(spectra + max(_EIGEN_COPIES * gram, gram + adding), of_all_rows)
    products = f * (folds if folds <= MOST_FOLDS_AT_ONCE else 1)
    score = item * (t + 3 * f + products + 3 * held_out) + 3 * _DOUBLE * p
    solve = item * (t + 3 * f) + _DOUBLE * (f + p)
    return once + voxels, eigen, x + gram + spectra, max(score, solve), decomposition


def _kernel_cost(
    t: int, f: int, v: int, p: int, folds: int, held_out: int, item: int
) -> tuple[float, float, int, int, int]:
    """As :func:`_primal_cost`, for the kernel form."""
    n = t - held_out
    out_rows = folds * held_out
    # The kernel, held-out rows into each basis; then voxels into each basis, a prediction for each penalty, weights.
    once = 2.0 * (2 * f * t**2 + out_rows * n**2)
    voxels = 2.0 * v * (folds * n**2 + p * out_rows * n + t**2 + t * f)
    eigen = float(_EIGEN_FLOPS * (folds * n**3 + t**3))
    x, kernel = item * t * f, _DOUBLE * t**2
    spectra = item * (t**2 + t * f + folds * n**2 + out_rows * n)
    adding = _DOUBLE * min(_GRAM_ROWS, f) * t
    of_all_rows = kernel + 2 * adding + item * (t * f + t**2)
    decomposition = x + kernel + max(spectra + max(_EIGEN_COPIES * kernel, adding), of_all_rows)
    score = item * (2 * t + 3 * n + 3 * held_out) + 3 * _DOUBLE * p
    solve = max(item * (3 * t + 2 * f), item * (t + f) + _DOUBLE * f) + _DOUBLE * p
    return once + voxels, eigen, x + kernel + spectra, max(score, solve), decomposition

"""Responses read a block of voxels at a time, from an array, a memory map or the corpus's store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from brain_tuning.encoding.scores import MIN_STD, REAL_KINDS
from brain_tuning.errors import EncodingError

_ROWS_PER_SUM = 512


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
class Block:
    """Responses of some voxels, ready for products.

    Attributes:
        y: centred over all rows (n_trs, n_voxels); 0 for voxels that hold a NaN or an infinite value.
        mean: what was taken away, float64 (n_voxels,); not finite for those voxels.
        varying: whether the voxel is finite and not constant (n_voxels,).
    """

    y: torch.Tensor
    mean: torch.Tensor
    varying: torch.Tensor


def check_rows(features: npt.NDArray[Any], bold: VoxelBlocks | npt.NDArray[Any]) -> None:
    """Raise :class:`EncodingError` unless there is a response of at least one voxel for each row of the features.

    Args:
        features: (n_trs, n_features).
        bold: responses; what says its dtype must hold real numbers.
    """
    if not hasattr(bold, "shape") or hasattr(bold, "iloc"):
        raise EncodingError(
            f"the responses are a {type(bold).__name__}",
            expected="an array (n_trs, n_voxels), or what can be sliced as one in blocks of columns",
            remedy="pass numpy.asarray(responses)",
        )
    if getattr(getattr(bold, "dtype", None), "kind", "f") not in REAL_KINDS:
        raise EncodingError(f"the responses are {bold.dtype}", expected="real numbers")  # type: ignore[union-attr]
    shape = tuple(bold.shape)
    if len(shape) != 2 or shape[0] != features.shape[0] or shape[1] == 0:
        raise EncodingError(
            f"features have shape {features.shape}, responses {shape}",
            expected=f"responses ({features.shape[0]}, n_voxels)",
            remedy="trim features and responses of each run to the same TRs",
        )


def column_blocks(n_voxels: int, voxels_per_block: int) -> Iterator[slice]:
    """Slices of at most ``voxels_per_block`` voxels, in order, that cover all."""
    for begin in range(0, n_voxels, voxels_per_block):
        yield slice(begin, min(begin + voxels_per_block, n_voxels))


def read_block(
    bold: VoxelBlocks, voxels: slice, like: torch.Tensor, members: npt.NDArray[np.intp] | None = None
) -> Block:
    """Read some voxels and centre them.

    Args:
        bold: responses (n_trs, n_voxels).
        voxels: the columns to read.
        like: tensor whose dtype and device the block gets.
        members: columns to keep, relative to the slice; None for all.

    Returns:
        The block; centring is done in float32 for float16 and float32 responses, else in float64.

    Raises:
        EncodingError: what is read has another shape than was asked for, or is no real numbers.
    """
    read = np.asarray(bold[:, voxels])
    if read.shape != (like.shape[0], voxels.stop - voxels.start) or read.dtype.kind not in REAL_KINDS:
        raise EncodingError(
            f"the responses of voxels {voxels.start} to {voxels.stop - 1} are {read.dtype} {read.shape}",
            expected=f"real numbers ({like.shape[0]}, {voxels.stop - voxels.start})",
        )
    kept = read if members is None else read[:, members]
    y = torch.from_numpy(np.array(kept, dtype=product_dtype(read.dtype), order="C")).to(like.device)
    mean = column_sums(y) / y.shape[0]
    finite = torch.isfinite(mean)
    y -= mean.to(y.dtype)
    y[:, ~finite] = 0.0
    y = y.to(like.dtype)
    std = (column_sums(y, squared=True) / y.shape[0]).sqrt()
    return Block(y, mean, finite & (std > MIN_STD))


def column_sums(values: torch.Tensor, *, squared: bool = False) -> torch.Tensor:
    """Sums over the rows (n_columns,), or sums of squares, in float64 throughout.

    That a voxel is constant in a part of the data is found by subtracting almost equal numbers. A few hundred rows at
    a time: torch converts all that it sums.
    """
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    for rows in values.split(_ROWS_PER_SUM):
        double = rows.double()
        total += (double.square() if squared else double).sum(0)
    return total


def product_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Native dtype for arithmetic with values of this one, of either byte order: float32 for up to float32."""
    single = dtype.kind == "f" and dtype.itemsize <= 4
    return np.dtype(np.float32 if single else np.float64)

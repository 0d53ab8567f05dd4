"""Scores of predicted responses by voxel: a voxel that cannot be scored is NaN and counted, never 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.errors import EncodingError, RegionError

#: A response whose standard deviation is smaller is the rounding noise of a voxel without signal.
MIN_STD = 1e-8
#: A column that varies by less than this share of its mean is constant but for rounding.
MIN_RELATIVE_STD = 1e-10
#: Voxels with a lower noise ceiling are not normalised by it (Antonello et al. 2023 show maps above it).
MIN_CEILING = 0.35
#: Kinds of dtype that are real numbers: floating point, whole numbers with and without sign, truth values.
REAL_KINDS = "fiub"

_VOXELS_PER_BLOCK = 2048
FloatArray = npt.NDArray[np.floating[Any]]


class PearsonSums:
    """Running sums from which Pearson's r of each voxel follows, for responses that arrive in batches.

    The sums are kept in float64 of data shifted by the first batch's mean: a large mean costs no precision.
    Memory is seven numbers a voxel, however many TRs were added.
    """

    def __init__(self) -> None:
        self.n_trs = 0
        self._sums = np.empty((7, 0))  # shift x, shift y, then sums of x, y, xx, yy, xy

    def add(self, prediction: npt.ArrayLike, bold: npt.ArrayLike) -> None:
        """Add a batch of TRs.

        Args:
            prediction: predicted responses (n_trs, n_voxels).
            bold: measured responses (n_trs, n_voxels).

        Raises:
            EncodingError: shapes differ from each other or from earlier batches, or there is no TR.
        """
        x, y = same_shape(prediction, bold)
        first = self.n_trs == 0
        if first:
            self._sums = np.zeros((7, x.shape[1]))
        elif self._sums.shape[1] != x.shape[1]:
            raise EncodingError(
                "the batch has another number of voxels than the batches before it",
                where=f"{x.shape[1]} voxels",
                expected=f"{self._sums.shape[1]} voxels",
            )
        # Infinite values give NaN here, which is the score they shall have.
        with np.errstate(invalid="ignore", over="ignore"):
            for columns in _blocks(x.shape[1]):
                sums = self._sums[:, columns]
                xb, yb = x[:, columns].astype(np.float64), y[:, columns].astype(np.float64)
                if first:
                    sums[0], sums[1] = xb.mean(0), yb.mean(0)
                xb -= sums[0]
                yb -= sums[1]
                sums[2] += xb.sum(0)
                sums[3] += yb.sum(0)
                sums[4] += np.einsum("tv,tv->v", xb, xb)
                sums[5] += np.einsum("tv,tv->v", yb, yb)
                sums[6] += np.einsum("tv,tv->v", xb, yb)
        self.n_trs += x.shape[0]

    def r(self) -> npt.NDArray[np.float64]:
        """Pearson's r of all TRs added so far, (n_voxels,); NaN where prediction or response is constant.

        Raises:
            EncodingError: nothing was added.
        """
        if self.n_trs == 0:
            raise EncodingError("no TRs were added", remedy="call add(prediction, bold) first")
        n = self.n_trs
        shift_x, shift_y, sx, sy, sxx, syy, sxy = self._sums
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            var_x, var_y = sxx / n - (sx / n) ** 2, syy / n - (sy / n) ** 2
            r = (sxy / n - sx / n * (sy / n)) / np.sqrt(var_x * var_y)
            usable = varies(var_x, shift_x + sx / n) & varies(var_y, shift_y + sy / n, min_std=MIN_STD)
        return np.where(usable, np.clip(r, -1.0, 1.0), np.nan)


def pearson_r(prediction: npt.ArrayLike, bold: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Pearson correlation over time of each voxel.

    ``r_v = cov(x_v, y_v) / sqrt(var(x_v) var(y_v))``, in float64 on centred data.

    Args:
        prediction: predicted responses (n_trs, n_voxels).
        bold: measured responses (n_trs, n_voxels).

    Returns:
        r (n_voxels,); NaN where the prediction or the response is constant or holds a NaN. A response counts
        as constant below a standard deviation of ``MIN_STD``.

    Raises:
        EncodingError: the shapes differ or there is no TR.
    """
    sums = PearsonSums()
    sums.add(prediction, bold)
    return sums.r()


def pearson_r_by_run(
    prediction: npt.ArrayLike, bold: npt.ArrayLike, run_lengths_trs: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Pearson correlation over time of each voxel in each run (story) by itself.

    Args:
        prediction: predicted responses (n_trs, n_voxels), runs one after another.
        bold: measured responses (n_trs, n_voxels).
        run_lengths_trs: TRs of each run.

    Returns:
        r (n_runs, n_voxels); NaN where :func:`pearson_r` of the run is NaN.

    Raises:
        EncodingError: shapes differ, or the run lengths do not add up to n_trs.
    """
    x, y = same_shape(prediction, bold)
    borders = np.cumsum([0, *_run_lengths(run_lengths_trs, x.shape[0])])
    return np.stack([pearson_r(x[begin:end], y[begin:end]) for begin, end in pairwise(borders)])


def r2(prediction: npt.ArrayLike, bold: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Coefficient of determination of each voxel, ``1 - sum (y - x)^2 / sum (y - mean y)^2``.

    Args:
        prediction: predicted responses x (n_trs, n_voxels).
        bold: measured responses y (n_trs, n_voxels).

    Returns:
        R2 (n_voxels,); NaN where the response is constant or either holds a NaN.

    Raises:
        EncodingError: the shapes differ or there is no TR.
    """
    return _by_block(prediction, bold, _r2)


def signed_sqrt_r2(prediction: npt.ArrayLike, bold: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The field's R for z-scored responses: root of a moderated R2, with its sign.

    ``sign(s) sqrt(abs(s))`` with ``s = 1 - var(y - x) / ((1 + var(y)) / 2)``.

    Args:
        prediction: predicted responses x (n_trs, n_voxels).
        bold: measured, z-scored responses y (n_trs, n_voxels).

    Returns:
        Score (n_voxels,); NaN where the response is constant or either holds a NaN.

    Raises:
        EncodingError: the shapes differ or there is no TR.

    Source: ridge of deep-fMRI-dataset (Antonello et al. 2023), there called Rcorr.
    """
    return _by_block(prediction, bold, _signed_sqrt_r2)


def zscore(
    values: npt.ArrayLike, run_lengths_trs: Sequence[int] | None = None, *, min_std: float = MIN_STD
) -> FloatArray:
    """Standardise each column over time, each run by itself.

    ``z = (x - mean) / std`` with the mean and the (population) standard deviation of the run.

    Args:
        values: responses or features (n_trs, n_columns), runs one after another.
        run_lengths_trs: TRs of each run; None for one run.
        min_std: columns that vary less in a run are NaN in that run, never 0.

    Returns:
        Array of the same shape; float32 for float16 and float32 input, else float64.

    Raises:
        EncodingError: the run lengths do not add up to n_trs, or values are not real numbers of two dimensions.
    """
    x = np.asarray(values)
    if x.ndim != 2:
        raise EncodingError(f"values have shape {x.shape}", expected="(n_trs, n_columns)")
    if x.dtype.kind not in REAL_KINDS:
        raise EncodingError(f"values are {x.dtype}", expected="real numbers")
    lengths = _run_lengths([x.shape[0]] if run_lengths_trs is None else run_lengths_trs, x.shape[0])
    z = np.empty(x.shape, np.float32 if x.dtype in (np.float16, np.float32) else np.float64)
    begin = 0
    for length in lengths:
        for columns in _blocks(x.shape[1]):
            run = x[begin : begin + length, columns].astype(np.float64)
            mean, std = mean_and_std(run, min_std=min_std)
            with np.errstate(invalid="ignore", over="ignore"):
                z[begin : begin + length, columns] = (run - mean) / std
        begin += length
    return z


def mean_and_std(
    values: npt.NDArray[np.float64], *, min_std: float = MIN_STD
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What :func:`zscore` takes away from a run's columns and divides them by.

    Args:
        values: one run (n_trs, n_columns).
        min_std: the standard deviation of columns that vary less is NaN.

    Returns:
        Mean and population standard deviation (n_columns,).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(0)
        variance = np.mean(np.square(values - mean), 0)
        std = np.where(varies(variance, mean, min_std=min_std), np.sqrt(variance), np.nan)
    return mean, std


def summarise_by_region(
    scores: npt.ArrayLike,
    regions: Mapping[str, npt.ArrayLike],
    ceiling: npt.ArrayLike | None = None,
    floor: float = MIN_CEILING,
) -> list[dict[str, Any]]:
    """Mean score of each region, raw and divided by the noise ceiling, with the voxels that are left out.

    Args:
        scores: Pearson r of each voxel (n_voxels,), NaN where there is none.
        regions: name -> indices or boolean mask (n_voxels,) of its voxels.
        ceiling: greatest reachable r of each voxel (n_voxels,), NaN where unknown.
        floor: voxels with a lower ceiling are not normalised, else their ratio would explode.

    Returns:
        One row a region: ``region``, ``n_voxels``, ``n_nan`` (voxels without a score), ``mean_r``,
        ``median_r`` (over voxels with a score) and, given a ceiling, ``mean_ceiling`` and
        ``mean_r_normalised`` (mean of r / ceiling), both over the same ``n_normalised`` voxels, and
        ``n_below_floor`` (voxels with a score that were not normalised). A mean over no voxel is NaN.

    Raises:
        RegionError: a region is empty or names voxels that do not exist.
        EncodingError: scores or ceiling are not of shape (n_voxels,), or the floor is not positive.
    """
    r = np.asarray(scores, dtype=np.float64)
    limit = None if ceiling is None else np.asarray(ceiling, dtype=np.float64)
    if r.ndim != 1 or (limit is not None and limit.shape != r.shape):
        raise EncodingError(
            f"scores have shape {r.shape}, the ceiling {None if limit is None else limit.shape}",
            expected="both (n_voxels,)",
        )
    if not floor > 0:
        raise EncodingError("the floor of the ceiling is not positive", where=f"floor={floor}")
    rows = []
    for name, members in regions.items():
        voxels = region_members(name, members, r.size)
        scored = r[voxels][np.isfinite(r[voxels])]
        row = {
            "region": name,
            "n_voxels": int(voxels.size),
            "n_nan": int(voxels.size - scored.size),
            "mean_r": _mean(scored),
            "median_r": float(np.median(scored)) if scored.size else float("nan"),
        }
        if limit is not None:
            kept = voxels[np.isfinite(r[voxels]) & np.isfinite(limit[voxels]) & (limit[voxels] >= floor)]
            row["mean_ceiling"] = _mean(limit[kept])
            row["mean_r_normalised"] = _mean(r[kept] / limit[kept])
            row["n_normalised"] = int(kept.size)
            row["n_below_floor"] = int(scored.size - kept.size)
        rows.append(row)
    return rows


def varies(
    variance: npt.NDArray[np.float64], mean: npt.NDArray[np.float64], *, min_std: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Whether columns of this variance and mean vary by more than rounding; False for NaN and beyond float64.

    Args:
        variance: population variance (n_columns,).
        mean: mean (n_columns,).
        min_std: smallest standard deviation that counts, in the data's unit.

    Returns:
        Boolean array (n_columns,).
    """
    rounding = np.maximum(min_std, MIN_RELATIVE_STD * np.abs(mean)) ** 2
    return np.asarray((variance > rounding) & np.isfinite(variance))


def _blocks(n_columns: int) -> Iterator[slice]:
    for begin in range(0, n_columns, _VOXELS_PER_BLOCK):
        yield slice(begin, min(begin + _VOXELS_PER_BLOCK, n_columns))


def same_shape(prediction: npt.ArrayLike, bold: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both as arrays; EncodingError unless they are real numbers of the same shape (n_trs, n_voxels) with a TR."""
    x, y = np.asarray(prediction), np.asarray(bold)
    if x.shape != y.shape or x.ndim != 2 or x.shape[0] == 0:
        raise EncodingError(
            f"the prediction has shape {x.shape}, the response {y.shape}",
            expected="the same (n_trs, n_voxels), at least one TR",
        )
    for name, values in (("prediction is", x), ("response is", y)):
        if values.dtype.kind not in REAL_KINDS:
            raise EncodingError(f"the {name} {values.dtype}", expected="real numbers")
    return x, y


def _run_lengths(run_lengths_trs: Sequence[int], n_trs: int) -> list[int]:
    lengths = [int(n) for n in run_lengths_trs]
    if sum(lengths) != n_trs or min(lengths, default=0) < 1:
        raise EncodingError(
            "the run lengths do not fit the values",
            where=f"{len(lengths)} runs, {sum(lengths)} TRs in all",
            expected=f"positive lengths that add up to {n_trs}",
        )
    return lengths


def _by_block(prediction: npt.ArrayLike, bold: npt.ArrayLike, score: Any) -> npt.NDArray[np.float64]:
    x, y = same_shape(prediction, bold)
    out = np.empty(x.shape[1])
    for columns in _blocks(x.shape[1]):
        xb, yb = x[:, columns].astype(np.float64), y[:, columns].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            usable = varies(yb.var(0), yb.mean(0), min_std=MIN_STD)
            out[columns] = np.where(usable, score(xb, yb), np.nan)
    return out


def _r2(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1.0 - np.mean((y - x) ** 2, 0) / y.var(0))


def _signed_sqrt_r2(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    moderated = 1.0 - (y - x).var(0) / ((1.0 + y.var(0)) / 2)
    return np.asarray(np.sign(moderated) * np.sqrt(np.abs(moderated)))


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def region_members(name: str, members: npt.ArrayLike, n_voxels: int) -> npt.NDArray[np.intp]:
    """Indices of a region's voxels from indices or a boolean mask (n_voxels,).

    Args:
        name: of the region, for the error.
        members: indices, or boolean mask (n_voxels,).
        n_voxels: number of voxels there are.

    Returns:
        Indices, in the order given.

    Raises:
        RegionError: the region is empty, or names voxels that do not exist.
    """
    given = np.asarray(members)
    if given.dtype == np.bool_:
        if given.shape != (n_voxels,):
            raise RegionError(
                "the mask of a region does not fit the scores",
                where=f"region {name!r}, mask {given.shape}",
                expected=f"({n_voxels},)",
            )
        given = np.flatnonzero(given)
    if given.ndim != 1 or given.size == 0:
        raise RegionError("a region has no voxel", where=f"region {name!r}", remedy="leave it out of the summary")
    if not np.issubdtype(given.dtype, np.integer) or given.min() < 0 or given.max() >= n_voxels:
        raise RegionError(
            "a region names voxels that do not exist",
            where=f"region {name!r}, voxels {given.min()} to {given.max()}",
            expected=f"whole numbers from 0 to {n_voxels - 1}",
        )
    return given.astype(np.intp)

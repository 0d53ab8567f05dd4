"""How long responses remember, and how long a block must be to be exchanged with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from brain_tuning.encoding.scores import same_shape, zscore
from brain_tuning.errors import EncodingError

#: Default length of a block: 40 s at a TR of 2 s, twice the haemodynamic response. The usual 10 TRs find 5.8 % at
#: p = 0.05 where predictions from delayed features meet AR(1) responses (docs/statistics.md).
BLOCK_TRS = 20
_VOXELS_PER_BLOCK = 1024


@dataclass(frozen=True)
class BlockLength:
    """What the data's autocorrelation asks of a block permutation.

    Attributes:
        block_trs: least length at which no more than the tolerated share of r's variance is lost.
        variance_inflation: how many times greater the variance of r is than for independent TRs; the effective
            number of TRs is n_trs divided by it.
        lost_share: share of r's variance that blocks of ``block_trs`` lose.
        n_voxels: voxels it was estimated from, those that vary.
    """

    block_trs: int
    variance_inflation: float
    lost_share: float
    n_voxels: int


def autocorrelation(values: npt.ArrayLike, run_lengths_trs: Sequence[int], max_lag_trs: int) -> npt.NDArray[np.float64]:
    """Autocorrelation of each column, averaged over runs; no product crosses a run's border.

    ``rho_k = sum over runs, t of z_t z_(t+k) / n_trs`` of the data z-scored within each run (the biased estimate,
    which shrinks long lags).

    Args:
        values: responses (n_trs, n_voxels), runs one after another.
        run_lengths_trs: TRs of each run.
        max_lag_trs: greatest lag; runs that are shorter have none beyond their length.

    Returns:
        rho (max_lag_trs + 1, n_voxels), NaN for a voxel that does not vary in some run.

    Raises:
        EncodingError: values are not two-dimensional, the lengths do not add up, or the lag is negative.
    """
    if max_lag_trs < 0:
        raise EncodingError("the greatest lag is negative", where=f"max_lag_trs={max_lag_trs}")
    x = np.asarray(values)
    if x.ndim != 2:
        raise EncodingError(f"values have shape {x.shape}", expected="(n_trs, n_voxels)")
    rho = np.zeros((max_lag_trs + 1, x.shape[1]))
    for first in range(0, x.shape[1], _VOXELS_PER_BLOCK):
        columns = slice(first, first + _VOXELS_PER_BLOCK)
        z = zscore(x[:, columns], run_lengths_trs, min_std=0.0).astype(np.float64)
        begin = 0
        for length in run_lengths_trs:
            padded = scipy.fft.next_fast_len(length + max_lag_trs, real=True)
            lags = min(max_lag_trs + 1, length)
            spectrum = scipy.fft.rfft(z[begin : begin + length], n=padded, axis=0)
            rho[:lags, columns] += scipy.fft.irfft(np.abs(spectrum) ** 2, n=padded, axis=0)[:lags]
            begin += length
    return rho / x.shape[0]


def block_length(
    prediction: npt.ArrayLike,
    bold: npt.ArrayLike,
    run_lengths_trs: Sequence[int],
    *,
    max_lag_trs: int = 30,
    tolerance: float = 0.05,
) -> BlockLength:
    """Least block length at which a block permutation keeps nearly all of r's variance.

    For unrelated series the variance of r is ``(1 + 2 sum_k rho_x(k) rho_y(k)) / n``: the lags at which BOTH are
    autocorrelated count. Shuffled blocks of b TRs keep of lag k the share ``1 - k / b``, hence lose
    ``2 sum_k min(k / b, 1) rho_x(k) rho_y(k)``. Products are averaged over voxels, as single ones are mostly noise, and
    count up to the first lag at which they are not positive, as those beyond are mostly noise too.

    Args:
        prediction: predicted responses (n_trs, n_voxels).
        bold: measured responses (n_trs, n_voxels).
        run_lengths_trs: TRs of each run.
        max_lag_trs: greatest lag that counts; also the longest block considered.
        tolerance: share of r's variance that may be lost. 0.05 makes the null distribution 2.5 % too narrow.

    Returns:
        The length and what it rests on.

    Raises:
        EncodingError: no voxel varies, or no block up to ``max_lag_trs`` keeps enough.

    Source: variance of r, Bartlett (1946); Afyouni et al. (2019). The share lost follows from it. Lags up to the first
    that is not positive: Geyer (1992), initial positive sequence.
    """
    x, y = same_shape(prediction, bold)
    lags = min(max_lag_trs, max(run_lengths_trs, default=1) - 1)
    products = autocorrelation(x, run_lengths_trs, lags) * autocorrelation(y, run_lengths_trs, lags)
    known = np.isfinite(products).all(0)
    if not known.any():
        raise EncodingError("no voxel varies in prediction and response", where=f"{products.shape[1]} voxels")
    product = products[1:, known].mean(1)
    product[np.maximum.accumulate(product <= 0)] = 0.0
    k = np.arange(1, lags + 1)
    inflation = float(1 + 2 * product.sum())
    for block_trs in range(1, lags + 1):
        lost = float(2 * (np.minimum(k / block_trs, 1) * product).sum() / inflation)
        if lost <= tolerance:
            return BlockLength(block_trs, inflation, lost, int(known.sum()))
    raise EncodingError(
        f"no block of up to {lags} TRs keeps r's variance",
        where=f"variance {inflation:.2f} times that of independent TRs",
        expected=f"at most {tolerance:.0%} lost",
        remedy="use circular_shift_p, which cuts each story once, or remove slow drifts from the responses",
    )

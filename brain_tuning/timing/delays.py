"""Finite impulse response delays: the haemodynamic response as shifted copies of the features."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from brain_tuning.errors import TimingError

if TYPE_CHECKING:
    import torch


@overload
def fir_delays(features: npt.NDArray[Any], delays_trs: Sequence[int]) -> npt.NDArray[Any]: ...
@overload
def fir_delays(features: torch.Tensor, delays_trs: Sequence[int]) -> torch.Tensor: ...
def fir_delays(features: npt.NDArray[Any] | torch.Tensor, delays_trs: Sequence[int]) -> npt.NDArray[Any] | torch.Tensor:
    """Concatenate copies of one run's features, each shifted by a delay.

    ``out[t, k * width:(k + 1) * width] = features[t - delays_trs[k]]``, zero where ``t - delays_trs[k]`` lies
    outside the run. Call it once for each run, never on concatenated runs: otherwise the end of one story
    would predict the start of the next.

    Args:
        features: array or tensor (..., n_trs, width) of ONE run; axes before the last two are a batch.
        delays_trs: delays in TRs, in the order wanted; a negative delay looks into the future.

    Returns:
        Array or tensor (..., n_trs, width * len(delays_trs)), of the same type as ``features``;
        differentiable for tensors.

    Raises:
        TimingError: no delays, a delay that is no integer or occurs twice, or features without a time axis.

    Source: Nishimoto et al. (2011); Huth et al. (2016).
    """
    delays = check_delays(delays_trs)
    if features.ndim < 2:
        raise TimingError(
            f"features have shape {tuple(features.shape)}",
            expected="(n_trs, width)",
            remedy="add a width axis",
        )
    n_trs, width = features.shape[-2:]
    shape = (*features.shape[:-1], width * len(delays))
    out: Any = np.zeros(shape, features.dtype) if isinstance(features, np.ndarray) else features.new_zeros(shape)
    for k, delay in enumerate(delays):
        if abs(delay) < n_trs:
            begin, end = max(delay, 0), n_trs + min(delay, 0)
            out[..., begin:end, k * width : (k + 1) * width] = features[..., begin - delay : end - delay, :]
    return out


def check_delays(delays_trs: Sequence[int]) -> tuple[int, ...]:
    """The delays as integers, or a :class:`TimingError` that says what is wrong with them.

    Args:
        delays_trs: delays in TRs.

    Returns:
        The same delays as a tuple of int.

    Raises:
        TimingError: no delays, or a delay that is no integer or occurs twice.
    """
    given = list(delays_trs)
    if not given:
        raise TimingError("there are no delays", expected="at least one, e.g. [1, 2, 3, 4]")
    if not all(_is_integer(delay) for delay in given):
        raise TimingError(f"delays are not integers: {given}", expected="whole TRs, e.g. [1, 2, 3, 4]")
    delays = tuple(operator.index(delay) for delay in given)
    if len(set(delays)) < len(delays):
        raise TimingError(f"a delay occurs twice: {given}", expected="every delay once")
    return delays


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

"""Feature spaces side by side in one matrix, and the plain ridge problems that mixes of them are.

With the columns of space s times ``sqrt(gamma_s)``, a plain ridge with penalty ``mu`` is a ridge in which space s has
the penalty ``mu / gamma_s``; a space whose ``gamma`` is 0 is left out of the model. A mix ``gamma`` is not negative;
those that are drawn here have the sum 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from brain_tuning.encoding.crossval import FormName, choose_form
from brain_tuning.encoding.ridge import check_features
from brain_tuning.encoding.spectrum import Form, KernelForm, PrimalForm, gram_matrix
from brain_tuning.errors import EncodingError

#: Dirichlet concentrations in turn: sparse mixes, and mixes spread evenly over the simplex (la Tour et al. 2022)
CONCENTRATIONS = (0.1, 1.0)


def mixes_of_spaces(
    n_spaces: int, n_candidates: int, *, seed: int = 0, concentrations: Sequence[float] = CONCENTRATIONS
) -> npt.NDArray[np.float64]:
    """Candidates for a random search: the equal mix, each space alone, then draws from Dirichlet distributions.

    Args:
        n_spaces: feature spaces.
        n_candidates: how many in all; the equal mix and the single spaces are always among them.
        seed: of the draws.
        concentrations: of the Dirichlet distributions, taken in turn.

    Returns:
        Rows of sum 1 (n_candidates, n_spaces); the one row ``[1]`` for one space.

    Raises:
        EncodingError: no space, or fewer candidates than the equal mix and single spaces are.

    Source: la Tour et al. (2022), random search on the simplex.
    """
    if n_spaces < 1:
        raise EncodingError("there is no feature space")
    if n_spaces == 1:
        return np.ones((1, 1))
    n_drawn = n_candidates - 1 - n_spaces
    if n_drawn < 0:
        raise EncodingError(
            f"{n_candidates} candidates for {n_spaces} feature spaces",
            expected=f"at least {1 + n_spaces}: the equal mix and each space alone",
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.dirichlet([concentrations[k % len(concentrations)]] * n_spaces) for k in range(n_drawn)]
    return np.array([np.full(n_spaces, 1 / n_spaces), *np.eye(n_spaces), *drawn])


def side_by_side(features: Mapping[str, npt.ArrayLike]) -> tuple[dict[str, slice], npt.NDArray[Any]]:
    """Feature spaces as one matrix, and the columns of each.

    Args:
        features: name -> (n_trs, n_features of the space).

    Returns:
        Name -> columns, and the matrix (n_trs, n_features).

    Raises:
        EncodingError: there is no space, one holds NaN, or they differ in their TRs; the error names the space.
    """
    if not isinstance(features, Mapping) or not features:
        raise EncodingError("there is no feature space", expected="name -> features (n_trs, n_features)")
    arrays = {name: np.asarray(values) for name, values in features.items()}
    first, *_ = arrays
    columns, begin = {}, 0
    for name, values in arrays.items():
        check_features(values, space=name)
        if len(values) != len(arrays[first]):
            raise EncodingError(
                f"feature space {name!r} has {len(values)} TRs",
                expected=f"{len(arrays[first])}, as space {first!r} has",
                remedy="compute all feature spaces for the same TRs of the same runs",
            )
        columns[name] = slice(begin, begin + values.shape[1])
        begin += values.shape[1]
    return columns, np.concatenate(list(arrays.values()), axis=1)


def describe_spaces(columns: Mapping[str, slice]) -> str:
    """Names and widths, for an error."""
    return ", ".join(f"{name} ({part.stop - part.start})" for name, part in columns.items())


def check_mixes(mixes: npt.ArrayLike, n_spaces: int) -> npt.NDArray[np.float64]:
    """The mixes (n_candidates, n_spaces) as float64, or :class:`EncodingError` that names the first that is none."""
    gamma = np.asarray(mixes, dtype=np.float64)
    if gamma.ndim != 2 or gamma.shape[1] != n_spaces or gamma.shape[0] == 0:
        raise EncodingError(f"candidates have shape {gamma.shape}", expected=f"(n_candidates, {n_spaces})")
    wrong = np.flatnonzero(~(np.isfinite(gamma).all(1) & (gamma >= 0).all(1) & (gamma > 0).any(1)))
    if wrong.size:
        raise EncodingError(
            f"{wrong.size} candidates are no mix of feature spaces",
            where=f"first: candidate {wrong[0]}, {gamma[wrong[0]].tolist()}",
            expected="finite numbers, none below 0, at least one above 0",
        )
    return gamma


@dataclass(frozen=True)
class Mixed:
    """The plain ridge problem of one mix.

    Attributes:
        problem: of the columns that are in the mix, scaled.
        kept: which columns these are (n_kept,).
        scale: what they were multiplied by, ``sqrt(gamma)`` (n_kept,).
    """

    problem: Form
    kept: npt.NDArray[np.intp]
    scale: torch.Tensor


@dataclass(frozen=True)
class MixableSpaces:
    """Centred features, and what all mixes of them share.

    Attributes:
        x: (n_trs, n_features).
        widths: columns of each space (n_spaces,).
        form: wanted for each mix.
        kernels: of each space, for features wider than TRs; a mix has their weighted sum. The Gram matrices of others
            are summed for each mix anew: rows left out are subtracted from them, which takes equal rounding.
    """

    x: torch.Tensor
    widths: npt.NDArray[np.intp]
    form: FormName
    kernels: list[torch.Tensor] | None

    @classmethod
    def of(cls, x: torch.Tensor, columns: Mapping[str, slice], form: FormName) -> MixableSpaces:
        """Centred features (n_trs, n_features), the columns of each space, and the form wanted."""
        widths = np.array([part.stop - part.start for part in columns.values()])
        if choose_form(x.shape[0], x.shape[1], form) == "kernel":
            return cls(x, widths, form, [gram_matrix(x[:, part].T) for part in columns.values()])
        return cls(x, widths, form, None)

    @staticmethod
    def bytes_beside_a_ridge(shape: tuple[int, ...], n_spaces: int, dtype: np.dtype[Any], form: FormName) -> int:
        """What is held beside the largest ridge problem of a mix: unscaled features and kernels."""
        n_trs, n_features = shape
        kernel = choose_form(n_trs, n_features, form) == "kernel"
        return dtype.itemsize * n_trs * n_features + (8 * n_spaces * n_trs**2 if kernel else 0)

    def mixed(self, gamma: npt.NDArray[np.float64]) -> Mixed:
        """The problem of a mix (n_spaces,); columns of spaces that are not in it are left out."""
        of_column = np.repeat(gamma, self.widths)
        kept = np.flatnonzero(of_column > 0)
        every = kept.size == of_column.size
        columns = torch.from_numpy(kept).to(self.x.device)
        root = torch.from_numpy(np.sqrt(of_column[kept])).to(self.x)
        scaled = (self.x if every else self.x[:, columns]) * root
        if choose_form(scaled.shape[0], scaled.shape[1], self.form) == "primal":
            return Mixed(PrimalForm(scaled), kept, root)
        if self.kernels is None:
            return Mixed(KernelForm(scaled), kept, root)
        kernel = torch.zeros_like(self.kernels[0])
        for weight, of_space in zip(gamma.tolist(), self.kernels, strict=True):
            kernel.add_(of_space, alpha=weight)
        return Mixed(KernelForm(scaled, kernel), kept, root)

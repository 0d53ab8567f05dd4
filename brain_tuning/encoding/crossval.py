"""Scores of every penalty on held-out rows, for one block of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from brain_tuning.encoding.blocks import Block, column_sums
from brain_tuning.encoding.budget import MOST_FOLDS_AT_ONCE
from brain_tuning.encoding.folds import Fold
from brain_tuning.encoding.scores import MIN_STD
from brain_tuning.encoding.spectrum import Form, KernelForm, PrimalForm, Rows, Spectrum, Whole, as_rows
from brain_tuning.errors import EncodingError

Criterion = Literal["pearson", "r2"]
FormName = Literal["auto", "primal", "kernel"]

#: A response that varies in one part of the data by less than this share of its whole is constant there.
_MIN_SHARE = 1e-6


def choose_form(n_trs: int, n_features: int, form: FormName) -> Literal["primal", "kernel"]:
    """The form to use; ``auto`` takes the one with the smaller matrix."""
    if form == "auto":
        return "kernel" if n_trs < n_features else "primal"
    return form


def problem_of(x: torch.Tensor, form: FormName) -> Form:
    """The ridge problem of centred features (n_trs, n_features)."""
    return KernelForm(x) if choose_form(x.shape[0], x.shape[1], form) == "kernel" else PrimalForm(x)


def check_options(criterion: str, form: str, voxels_per_block: int, device: str | torch.device) -> None:
    """Raise :class:`EncodingError` for an unknown criterion or form, a block without voxels, or a missing device."""
    for name, value, known in (
        ("criterion", criterion, ("pearson", "r2")),
        ("form", form, ("auto", "primal", "kernel")),
    ):
        if value not in known:
            raise EncodingError(f"unknown {name} {value!r}", expected=" or ".join(known))
    if not isinstance(voxels_per_block, int | np.integer) or voxels_per_block < 1:
        raise EncodingError(f"voxels_per_block={voxels_per_block!r}", expected="at least 1, a whole number")
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise EncodingError(
            f"nothing can be computed on device {str(device)!r}",
            where=str(error).partition("\n")[0].partition(". ")[0],
            expected="cpu, or a device of this machine that has float64, such as cuda",
        ) from error


@dataclass(frozen=True)
class Cross:
    """Products of features and responses of a block.

    Attributes:
        shared: of all rows, as :meth:`~brain_tuning.encoding.spectrum.Form.cross` gives them.
        left_out: of the rows that each fold does not train on; None where they are yet to be computed.
    """

    shared: torch.Tensor
    left_out: Sequence[torch.Tensor | None]


@dataclass(frozen=True)
class FoldedProblem:
    """A ridge problem with one diagonalised training part for each fold.

    Attributes:
        problem: primal or kernel form of the features.
        parts: training part of each fold.
        held_out: rows that each fold scores.
        divided: whether the rows that the folds do not train on divide all rows, so that ``X'Y`` of all rows is the
            sum of theirs; not for so many folds that these would fill the memory.
    """

    problem: Form
    parts: Sequence[Spectrum]
    held_out: Sequence[Rows]
    divided: bool

    @classmethod
    def of(cls, problem: Form, folds: Sequence[Fold], n_trs: int) -> FoldedProblem:
        """Diagonalise the training part of each fold over ``n_trs`` rows."""
        parts = [problem.diagonalise(fold.train, fold.held_out) for fold in folds]
        # How often each row is left out of training: once, if the folds divide the rows among them.
        n_left_out = len(folds) - np.bincount(np.concatenate([fold.train for fold in folds]), minlength=n_trs)
        divided = len(folds) <= MOST_FOLDS_AT_ONCE and bool((n_left_out == 1).all())
        return cls(problem, parts, [as_rows(fold.held_out) for fold in folds], divided)

    def cross(self, y: torch.Tensor) -> Cross:
        """What the folds need of a block of responses (n_trs, n_voxels); good for one :meth:`score`."""
        if self.divided:
            return Cross(*self.problem.cross_of_folds(y, self.parts))
        return Cross(self.problem.cross(y), [None] * len(self.parts))

    def score(
        self, block: Block, cross: Cross, penalties: torch.Tensor, criterion: Criterion
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean score of each penalty over the folds in which a voxel can be scored.

        Args:
            block: responses of some voxels.
            cross: :meth:`cross` of its responses; used up.
            penalties: float64, on the device of the block (n_penalties,).
            criterion: ``pearson`` or ``r2``.

        Returns:
            Scores (n_penalties, n_voxels), 0 where no fold was usable, and the number of usable folds (n_voxels,).
        """
        y = block.y
        sums, sums_of_squares = column_sums(y), column_sums(y, squared=True)
        least = (sums_of_squares / y.shape[0]).sqrt().mul(_MIN_SHARE).clamp_min(MIN_STD).square()
        total = torch.zeros((penalties.numel(), y.shape[1]), dtype=torch.float64, device=y.device)
        n_used = torch.zeros(y.shape[1], dtype=torch.int64, device=y.device)
        for part, rows, of_fold in zip(self.parts, self.held_out, cross.left_out, strict=True):
            left_out = y[part.left_out]
            train_mean = (sums - column_sums(left_out)) / part.n_train
            train_power = (sums_of_squares - column_sums(left_out, squared=True)) / part.n_train
            scored = y[rows]
            mean = column_sums(scored) / scored.shape[0]
            centred = scored - mean.to(y.dtype)
            coordinates = self.problem.coordinates(part, y, train_mean.to(y.dtype), cross.shared, of_fold)
            score = _score(part, coordinates, centred, train_mean - mean, penalties, criterion)
            usable = block.varying & (train_power - train_mean**2 > least)
            usable &= (column_sums(centred, squared=True) / centred.shape[0] > least) & torch.isfinite(score).all(0)
            total += torch.where(usable, score, 0.0)
            n_used += usable
        return total / n_used.clamp_min(1), n_used


def final_weights(whole: Whole, block: Block, penalty: torch.Tensor) -> torch.Tensor:
    """Weights (n_features, n_voxels) fitted to all rows at one penalty a voxel (n_voxels,); NaN where the penalty is.

    Args:
        whole: all rows, diagonalised.
        block: responses of these voxels.
        penalty: float64, on their device.
    """
    solution = whole.into.T @ block.y
    solution /= (whole.eigenvalues[:, None] + penalty).to(block.y.dtype)
    weights = whole.back @ solution
    weights[:, penalty.isnan()] = torch.nan  # features without any variance have no coordinate that would be NaN
    return weights


def _score(
    part: Spectrum,
    coordinates: torch.Tensor,
    centred: torch.Tensor,
    train_mean: torch.Tensor,
    penalties: torch.Tensor,
    criterion: Criterion,
) -> torch.Tensor:
    """Score of each penalty on the held-out rows (n_penalties, n_voxels); not finite where undefined.

    ``centred`` are the held-out responses without their mean; ``train_mean`` is relative to that mean. ``coordinates``
    are overwritten.
    """
    power = column_sums(centred, squared=True)
    score = torch.empty((penalties.numel(), power.numel()), dtype=torch.float64, device=power.device)
    solution, product = torch.empty_like(coordinates), torch.empty_like(centred)
    predicted = torch.empty_like(centred)
    largest = part.eigenvalues[-1] if part.eigenvalues.numel() else torch.ones_like(penalties[0])
    # The prediction is carried times (largest + penalty) / largest, about as large as the response whatever the unit of
    # the features and the penalty: its squares would leave the range of float32.
    coordinates /= largest.to(coordinates.dtype)
    for i, penalty in enumerate(penalties):
        scale = (largest + penalty) / largest
        # Exactly 1 in a single direction: penalties tie there.
        shrinkage = ((largest + penalty) / (part.eigenvalues + penalty)).to(coordinates.dtype)
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

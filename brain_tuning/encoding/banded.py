"""Banded ridge: each feature space has its own penalty, chosen for each voxel by random search.

A candidate is a mix of the spaces (:mod:`brain_tuning.encoding.feature_spaces`): one plain ridge problem, which serves
all voxels and all penalties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from brain_tuning.encoding.blocks import VoxelBlocks, check_rows, column_blocks, read_block
from brain_tuning.encoding.budget import voxels_for_budget
from brain_tuning.encoding.crossval import (
    Criterion,
    FoldedProblem,
    FormName,
    check_options,
    final_weights,
)
from brain_tuning.encoding.feature_spaces import (
    MixableSpaces,
    check_mixes,
    describe_spaces,
    mixes_of_spaces,
    side_by_side,
)
from brain_tuning.encoding.folds import Fold, check_folds
from brain_tuning.encoding.ridge import (
    centred,
    check_penalties,
    cost_of_fit,
    empty_fit,
    features_dtype,
    huth_penalties,
)
from brain_tuning.errors import EncodingError


@dataclass(frozen=True)
class BandedFit:
    """A fitted banded ridge; voxels that cannot be estimated are NaN in all float fields.

    Attributes:
        columns: name of each feature space -> its columns, side by side in the order given.
        weights: of the features as they were given (n_features, n_voxels); 0 for spaces left out.
        intercept: (n_voxels,).
        penalty: of each space and voxel (n_spaces, n_voxels); infinite for spaces left out.
        cv_score: best mean score over usable folds (n_voxels,).
        n_folds_used: folds in which the voxel could be scored (n_voxels,); 0 for NaN voxels.
        candidates: the mixes tried (n_candidates, n_spaces).
        chosen: row of ``candidates`` of each voxel (n_voxels,); -1 for NaN voxels.
    """

    columns: Mapping[str, slice]
    weights: npt.NDArray[np.floating[Any]]
    intercept: npt.NDArray[np.floating[Any]]
    penalty: npt.NDArray[np.float64]
    cv_score: npt.NDArray[np.float64]
    n_folds_used: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.int64]

    @property
    def n_nan(self) -> int:
        """Number of voxels that could not be estimated."""
        return int(np.isnan(self.cv_score).sum())

    def predict(
        self, features: Mapping[str, npt.ArrayLike], voxels: slice = slice(None)
    ) -> npt.NDArray[np.floating[Any]]:
        """Predicted responses ``X @ weights + intercept``.

        Args:
            features: name -> features (n_trs, n_features of the space), for the spaces of the fit.
            voxels: those to predict, where all at once would take too much memory.

        Returns:
            (n_trs, n_voxels) in the dtype of the weights; NaN columns for voxels without an estimate.

        Raises:
            EncodingError: the spaces or their widths are not those of the fit, or features hold NaN.
        """
        parts = self.predict_by_space(features, voxels)
        prediction: npt.NDArray[np.floating[Any]] = sum(parts.values(), start=self.intercept[voxels])
        return prediction

    def predict_by_space(
        self, features: Mapping[str, npt.ArrayLike], voxels: slice = slice(None)
    ) -> dict[str, npt.NDArray[np.floating[Any]]]:
        """What each space adds to the prediction, ``X_s @ weights_s``; all of them and the intercept make it up.

        Args:
            features: as for :meth:`predict`.
            voxels: as for :meth:`predict`.

        Returns:
            Name of the space -> (n_trs, n_voxels).

        Raises:
            EncodingError: as :meth:`predict`.
        """
        columns, x = side_by_side(features)
        if dict(columns) != dict(self.columns):
            raise EncodingError(
                f"feature spaces {describe_spaces(columns)}", expected=f"{describe_spaces(self.columns)}, as in the fit"
            )
        x = x.astype(self.weights.dtype, copy=False)
        return {name: x[:, part] @ self.weights[part, voxels] for name, part in columns.items()}


def banded_ridge_cv(
    features: Mapping[str, npt.ArrayLike],
    bold: VoxelBlocks,
    folds: Sequence[Fold],
    penalties: npt.ArrayLike | None = None,
    *,
    candidates: int | npt.ArrayLike = 32,
    seed: int = 0,
    criterion: Criterion = "pearson",
    form: FormName = "auto",
    dtype: npt.DTypeLike | None = None,
    voxels_per_block: int = 1024,
    memory_mb: float | None = None,
    out: npt.NDArray[np.floating[Any]] | None = None,
    device: str | torch.device = "cpu",
) -> BandedFit:
    """Choose a mix of the feature spaces and a penalty for each voxel by cross-validation, then fit all rows.

    ``argmin_w |y - sum_s X_s w_s|^2 + sum_s (mu / gamma_s) |w_s|^2`` for each candidate ``gamma`` and penalty
    ``mu``. A voxel takes the pair with the best mean score among those scored in most folds; in a tie the earlier
    candidate, then the smaller penalty. Candidates are tried one after another, and weights are computed for the
    winners only, so memory is that of one plain ridge and one copy of the features. The responses are read once for
    each candidate and once more for each that won somewhere.

    Args:
        features: name -> X_s (n_trs, n_features of the space), delays included.
        bold: Y, as for :func:`brain_tuning.encoding.ridge.ridge_cv`.
        folds: see :mod:`brain_tuning.encoding.folds`.
        penalties: values of ``mu``, above 0; the default is :func:`~brain_tuning.encoding.ridge.huth_penalties`.
        candidates: how many mixes to try (see :func:`mixes_of_spaces`), or the mixes (n_candidates, n_spaces).
        seed: of the mixes drawn.
        criterion: ``pearson`` or ``r2``.
        form: ``primal`` or ``kernel``; ``auto`` takes the smaller problem, for each candidate.
        dtype: of the products with voxels, as for ``ridge_cv``.
        voxels_per_block: most voxels held in memory at once.
        memory_mb: budget in MiB, as for ``ridge_cv``.
        out: where the weights are written, as for ``ridge_cv``.
        device: torch device to compute on.

    Returns:
        The fit, on the CPU.

    Raises:
        EncodingError: features hold NaN or differ in their TRs, folds or penalties do not fit, a mix is negative or
            all zero, or the budget is too small.

    Source: Nunez-Elizalde et al. (2019), banded ridge; la Tour et al. (2022), random search.
    """
    columns, given = side_by_side(features)
    kind = features_dtype(given, dtype)
    check_rows(given, bold)
    check_folds(folds, given.shape[0])
    check_options(criterion, form, voxels_per_block, device)
    mixes: npt.ArrayLike = candidates
    if isinstance(candidates, int | np.integer):
        mixes = mixes_of_spaces(len(columns), int(candidates), seed=seed)
    mixes = check_mixes(mixes, len(columns))
    grid = torch.from_numpy(np.sort(check_penalties(huth_penalties() if penalties is None else penalties))).to(device)
    n_voxels = bold.shape[1]
    if memory_mb is not None:
        on_disk = isinstance(out, np.memmap)
        cost = cost_of_fit(given, bold, folds, grid.numel(), kind, form, voxels_per_block, weights_on_disk=on_disk)
        further = MixableSpaces.bytes_beside_a_ridge(given.shape, len(columns), kind, form) + given.nbytes
        voxels_per_block = voxels_for_budget(memory_mb, cost, further_bytes=further)
    x, x_mean = centred(given, kind, device)
    del given
    spaces = MixableSpaces.of(x, columns, form)
    blocks = list(column_blocks(n_voxels, voxels_per_block))
    plain = empty_fit(x.shape[1], n_voxels, kind, out)
    best = _Best(
        score=np.full(n_voxels, -np.inf),
        n_used=np.zeros(n_voxels, np.int64),
        mix=np.full(n_voxels, -1),
        penalty=np.full(n_voxels, np.nan),
    )
    for index, gamma in enumerate(mixes):
        folded = FoldedProblem.of(spaces.mixed(gamma).problem, folds, len(x))
        for voxels in blocks:
            best.update(voxels, index, *_best_penalty(folded, x, bold, voxels, grid, criterion))
        del folded  # before the next candidate's are made
    lost = best.mix < 0
    for index in np.unique(best.mix[~lost]):
        mixed = spaces.mixed(mixes[index])
        whole = mixed.problem.whole()
        for voxels, members in _members(best.mix == index, blocks):
            block = read_block(bold, voxels, x, members - voxels.start)
            penalty = torch.from_numpy(best.penalty[members]).to(x.device)
            scaled = final_weights(whole, block, penalty)
            weights = (mixed.scale[:, None] * scaled).cpu().numpy()
            plain.weights[:, members] = 0.0
            plain.weights[np.ix_(mixed.kept, members)] = weights
            plain.intercept[members] = block.mean.cpu().numpy() - x_mean[mixed.kept] @ weights
        del mixed, whole
    plain.weights[:, lost] = np.nan
    plain.intercept[lost] = np.nan
    with np.errstate(divide="ignore"):
        penalty_by_space = np.where(lost, np.nan, best.penalty / mixes[best.mix].T)
    return BandedFit(
        columns=columns,
        weights=plain.weights,
        intercept=plain.intercept,
        penalty=penalty_by_space,
        cv_score=np.where(lost, np.nan, best.score),
        n_folds_used=best.n_used,
        candidates=mixes,
        chosen=best.mix,
    )


@dataclass(frozen=True)
class _Best:
    """The best pair of mix and penalty found so far for each voxel (n_voxels,)."""

    score: npt.NDArray[np.float64]
    n_used: npt.NDArray[np.int64]
    mix: npt.NDArray[np.int64]
    penalty: npt.NDArray[np.float64]

    def update(
        self,
        voxels: slice,
        mix: int,
        score: npt.NDArray[np.float64],
        penalty: npt.NDArray[np.float64],
        n_used: npt.NDArray[np.int64],
    ) -> None:
        """Take the new pair where it was scored in more folds, or in as many and better.

        A mix that cannot be scored in some fold must not win by having missed a hard one.
        """
        before = self.n_used[voxels]
        better = (n_used > before) | ((n_used == before) & (n_used > 0) & (score > self.score[voxels]))
        for field, value in ((self.score, score), (self.penalty, penalty), (self.n_used, n_used), (self.mix, mix)):
            field[voxels] = np.where(better, value, field[voxels])


def _best_penalty(
    folded: FoldedProblem,
    x: torch.Tensor,
    bold: VoxelBlocks,
    voxels: slice,
    grid: torch.Tensor,
    criterion: Criterion,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Best score of each voxel of a block, its penalty, and the folds in which it was scored, all (n_voxels,)."""
    block = read_block(bold, voxels, x)
    score, n_used = folded.score(block, folded.cross(block.y), grid, criterion)
    highest, chosen = score.max(0)
    return highest.cpu().numpy(), grid[chosen].cpu().numpy(), n_used.cpu().numpy()


def _members(wanted: npt.NDArray[np.bool_], blocks: Sequence[slice]) -> Iterator[tuple[slice, npt.NDArray[np.intp]]]:
    """Each block that holds a wanted voxel, and which voxels those are."""
    for voxels in blocks:
        members = np.flatnonzero(wanted[voxels]) + voxels.start
        if members.size:
            yield voxels, members

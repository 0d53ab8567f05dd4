"""Which feature space explains what: unique and shared parts of the variance that spaces explain on test rows.

Two answers to two questions. :func:`partition_variance` fits every union of the spaces and compares their scores:
what would be lost without a space. :func:`split_r2` divides the score of one fit of all spaces among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from brain_tuning.encoding.banded import BandedFit, banded_ridge_cv
from brain_tuning.encoding.blocks import VoxelBlocks, check_rows, column_blocks
from brain_tuning.encoding.crossval import Criterion
from brain_tuning.encoding.feature_spaces import describe_spaces, side_by_side
from brain_tuning.encoding.folds import Fold
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.encoding.scores import pearson_r, r2, varies
from brain_tuning.errors import EncodingError

#: names of feature spaces, in the order in which they were given
Spaces = tuple[str, ...]
Method = Literal["banded", "ridge"]


@dataclass(frozen=True)
class VariancePartition:
    """Scores of every union of feature spaces, and the parts that follow; NaN for voxels without an estimate.

    Attributes:
        r2: spaces of a union -> coefficient of determination on the test rows (n_voxels,).
        r: spaces of a union -> Pearson r on the test rows (n_voxels,).
        parts: spaces -> R2 that exactly these spaces explain, each of them, and no other space (n_voxels,): one
            space for what is unique to it, several for what they share. All parts add up to the R2 of all spaces.
            A part may be negative: a larger model may generalise worse, and spaces may suppress each other.
    """

    r2: dict[Spaces, npt.NDArray[np.float64]]
    r: dict[Spaces, npt.NDArray[np.float64]]
    parts: dict[Spaces, npt.NDArray[np.float64]]

    @property
    def n_negative(self) -> dict[Spaces, int]:
        """Voxels in which a part is below 0, by part."""
        return {spaces: int((part < 0).sum()) for spaces, part in self.parts.items()}

    @property
    def n_nan(self) -> int:
        """Voxels without an estimate in some union."""
        return int(np.isnan(np.stack(list(self.r2.values()))).any(0).sum())


@dataclass(frozen=True)
class R2Split:
    """The R2 of one fit on test rows, divided among its feature spaces.

    Attributes:
        parts: name of the space -> its share of R2 (n_voxels,).
        offset: what the difference of the mean prediction and the mean response costs (n_voxels,), never above 0.
        r2: R2 of the whole prediction (n_voxels,): the sum of all shares and the offset.
    """

    parts: dict[str, npt.NDArray[np.float64]]
    offset: npt.NDArray[np.float64]
    r2: npt.NDArray[np.float64]


def partition_variance(
    train: Mapping[str, npt.ArrayLike],
    bold_train: VoxelBlocks,
    folds: Sequence[Fold],
    test: Mapping[str, npt.ArrayLike],
    bold_test: VoxelBlocks,
    penalties: npt.ArrayLike | None = None,
    *,
    method: Method = "banded",
    candidates: int = 32,
    seed: int = 0,
    criterion: Criterion = "r2",
    voxels_per_block: int = 1024,
    memory_mb: float | None = None,
    device: str | torch.device = "cpu",
) -> VariancePartition:
    """Fit every non-empty union of feature spaces and divide the variance explained on test rows among them.

    With R2 of a union U written R(U), all spaces N and R of nothing 0, the part explained by exactly the spaces in S
    is ``sum over subsets K of S of (-1)^(|K| + 1) R((N - S) + K)``: for two spaces ``R(AB) - R(B)`` is unique to A
    and ``R(A) + R(B) - R(AB)`` is shared. There are ``2^n_spaces - 1`` fits.

    Args:
        train: name -> features (n_train_trs, n_features of the space), delays included.
        bold_train: responses (n_train_trs, n_voxels).
        folds: over the training rows; see :mod:`brain_tuning.encoding.folds`.
        test: name -> features (n_test_trs, n_features of the space), of stories that are not in ``train``.
        bold_test: responses (n_test_trs, n_voxels).
        penalties: as for :func:`~brain_tuning.encoding.ridge.ridge_cv`.
        method: ``banded`` gives each space of a union its own penalty; ``ridge`` one penalty to all of them.
        candidates: mixes to try for each union of several spaces; ``banded`` only.
        seed: of the mixes.
        criterion: ``r2`` or ``pearson``, to choose penalties by. Correlation does not care how far a prediction is
            shrunk; penalties chosen by it differ between unions, and the difference passes for a part of R2.
        voxels_per_block: most voxels held in memory at once.
        memory_mb: budget in MiB of each fit, as for ``ridge_cv``; None for no limit.
        device: torch device to compute on.

    Returns:
        Scores of all unions and the parts.

    Raises:
        EncodingError: train and test have other spaces or voxels, features and responses other TRs, or as for the
            fits.

    Source: de Heer et al. (2017) and Lescroart & Gallant (2019), variance partitioning; la Tour et al. (2022),
        one penalty a space.
    """
    if method not in ("banded", "ridge"):
        raise EncodingError(f"unknown method {method!r}", expected="banded or ridge")
    names = tuple(train)
    if not names or set(names) != set(test):
        raise EncodingError(
            f"feature spaces to train on: {', '.join(names) or 'none'}; to test on: {', '.join(test) or 'none'}",
            expected="the same, at least one",
        )
    columns, x = side_by_side(train)
    check_rows(x, bold_train)
    columns_test, x = side_by_side({name: test[name] for name in names})
    check_rows(x, bold_test)
    del x
    if columns != columns_test:
        raise EncodingError(
            f"feature spaces to test on: {describe_spaces(columns_test)}",
            expected=f"{describe_spaces(columns)}, as to train on",
        )
    if bold_train.shape[1] != bold_test.shape[1]:
        raise EncodingError(f"{bold_train.shape[1]} voxels to train on, {bold_test.shape[1]} to test on")
    scores_r2: dict[Spaces, npt.NDArray[np.float64]] = {}
    scores_r: dict[Spaces, npt.NDArray[np.float64]] = {}
    for union in _subsets(names):
        seen, unseen = {name: train[name] for name in union}, {name: test[name] for name in union}
        options: dict[str, Any] = {
            "criterion": criterion,
            "voxels_per_block": voxels_per_block,
            "memory_mb": memory_mb,
            "device": device,
        }
        if method == "banded":
            banded = banded_ridge_cv(seen, bold_train, folds, penalties, candidates=candidates, seed=seed, **options)
            scores = _score(banded, unseen, bold_test, voxels_per_block)
        else:
            plain = ridge_cv(side_by_side(seen)[1], bold_train, folds, penalties, **options)
            scores = _score(plain, side_by_side(unseen)[1], bold_test, voxels_per_block)
        scores_r2[union], scores_r[union] = scores
    return VariancePartition(r2=scores_r2, r=scores_r, parts=parts_of_unions(scores_r2))


def parts_of_unions(scores: Mapping[Spaces, npt.NDArray[np.float64]]) -> dict[Spaces, npt.NDArray[np.float64]]:
    """What exactly each set of spaces explains, from what their unions explain.

    Args:
        scores: spaces -> score of their union (n_voxels,), for every non-empty set of spaces.

    Returns:
        Spaces -> part (n_voxels,), with the same keys; they add up to the score of all spaces.
    """
    everything = max(scores, key=len)
    parts = {}
    for inside in scores:
        outside = [name for name in everything if name not in inside]
        part = np.zeros_like(scores[everything])
        for chosen in ((), *_subsets(inside)):
            union = tuple(name for name in everything if name in outside or name in chosen)
            if union:
                part += (-1.0) ** (len(chosen) + 1) * scores[union]
        parts[inside] = part
    return parts


def split_r2(
    fit: BandedFit, features: Mapping[str, npt.ArrayLike], bold: VoxelBlocks, *, voxels_per_block: int = 1024
) -> R2Split:
    """Divide the R2 of a banded fit on test rows among its feature spaces by the product measure.

    With c_s what space s adds to the prediction, and y, both without their mean over the test rows, space s gets
    ``sum_t c_s (2 y - sum_k c_k) / sum_t y^2``.

    Args:
        fit: of all spaces.
        features: name -> features of the test rows (n_trs, n_features of the space).
        bold: responses of the test rows (n_trs, n_voxels).
        voxels_per_block: most voxels held in memory at once.

    Returns:
        The split; NaN for voxels without an estimate and for constant responses.

    Raises:
        EncodingError: spaces, rows or voxels do not fit.

    Source: la Tour et al. (2022), product measure.
    """
    _, x = side_by_side(features)
    check_rows(x, bold)
    n_voxels = _same_voxels(fit, bold)
    parts = {name: np.empty(n_voxels) for name in fit.columns}
    offset, total = np.empty(n_voxels), np.empty(n_voxels)
    for voxels in column_blocks(n_voxels, voxels_per_block):
        y = np.asarray(bold[:, voxels], dtype=np.float64)
        added = {name: part.astype(np.float64) for name, part in fit.predict_by_space(features, voxels).items()}
        prediction = sum(added.values(), start=fit.intercept[voxels].astype(np.float64))
        mean = y.mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            power = np.where(varies(y.var(0), mean), np.square(y - mean).sum(0), np.nan)
            off = prediction.mean(0) - mean
            unexplained = 2 * (y - mean) - (prediction - prediction.mean(0))
            for name, part in added.items():
                parts[name][voxels] = ((part - part.mean(0)) * unexplained).sum(0) / power
            offset[voxels] = -len(y) * off**2 / power
            total[voxels] = 1.0 - np.square(y - prediction).sum(0) / power
    return R2Split(parts, offset, total)


def _subsets(names: Sequence[str]) -> list[Spaces]:
    """All non-empty subsets, small ones first, each in the order of the names."""
    return [subset for size in range(1, len(names) + 1) for subset in combinations(names, size)]


def _score(
    fit: Any, features: Any, bold: VoxelBlocks, voxels_per_block: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """R2 and r of a fit on test rows (n_voxels,), a block of voxels at a time."""
    n_voxels = _same_voxels(fit, bold)
    of_r2, of_r = np.empty(n_voxels), np.empty(n_voxels)
    for voxels in column_blocks(n_voxels, voxels_per_block):
        prediction, measured = fit.predict(features, voxels), np.asarray(bold[:, voxels])
        of_r2[voxels], of_r[voxels] = r2(prediction, measured), pearson_r(prediction, measured)
    return of_r2, of_r


def _same_voxels(fit: Any, bold: VoxelBlocks) -> int:
    n_voxels = int(fit.weights.shape[1])
    if bold.shape[1] != n_voxels:
        raise EncodingError(f"responses of {bold.shape[1]} voxels", expected=f"{n_voxels}, as in the fit")
    return n_voxels

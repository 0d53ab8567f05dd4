"""Voxelwise ridge, plain and banded, as scikit-learn estimators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from brain_tuning.encoding.banded import BandedFit, banded_ridge_cv
from brain_tuning.encoding.blocks import VoxelBlocks, column_blocks
from brain_tuning.encoding.crossval import Criterion, FormName
from brain_tuning.encoding.folds import Fold, contiguous_folds
from brain_tuning.encoding.ridge import RidgeFit, ridge_cv
from brain_tuning.encoding.scores import REAL_KINDS, pearson_r
from brain_tuning.errors import EncodingError

Matrix = npt.NDArray[Any]


class Splitter(Protocol):
    """A cross-validator of scikit-learn."""

    def split(self, X: Any) -> Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]:
        """Row indices to train on and to score, for each fold."""
        ...


#: folds, their number, a splitter, or (train, test) row indices of each
FoldsLike = Sequence[Fold] | int | Splitter | Iterable[tuple[npt.ArrayLike, npt.ArrayLike]] | None


def as_folds(folds: FoldsLike, n_trs: int, gap_trs: int) -> list[Fold]:
    """Folds over ``n_trs`` rows from what scikit-learn's users write.

    Args:
        folds: folds; a splitter; pairs of row indices; or the number of blocks of consecutive rows, None for 5.
        n_trs: number of rows.
        gap_trs: rows dropped on either side of a held-out block, where there is only a number.

    Returns:
        The folds, each part ascending.

    Raises:
        EncodingError: too few rows for the number of blocks, or something that is no fold.
    """
    if folds is None or isinstance(folds, int | np.integer):
        return contiguous_folds(n_trs, 5 if folds is None else int(folds), gap_trs=gap_trs)
    if isinstance(folds, str) or not (hasattr(folds, "split") or isinstance(folds, Iterable)):
        raise EncodingError(f"folds={folds!r}", expected="folds, their number, a splitter, or pairs of row indices")
    pairs = folds.split(np.empty((n_trs, 1))) if hasattr(folds, "split") else folds
    made = []
    for k, pair in enumerate(pairs):
        if isinstance(pair, Fold):
            made.append(pair)
            continue
        try:
            parts = [np.asarray(part) for part in pair]
        except (TypeError, ValueError):
            parts = []
        if len(parts) != 2 or any(part.ndim != 1 or part.dtype.kind not in "iu" for part in parts):
            raise EncodingError(
                f"fold {k} is {type(pair).__name__}",
                where=" and ".join(str(part.dtype) for part in parts) if len(parts) == 2 else "",
                expected="a Fold, or row indices (train, test)",
                remedy="of a mask take numpy.flatnonzero(mask)",
            )
        train, held_out = (np.sort(part.astype(np.intp)) for part in parts)
        made.append(Fold(f"split {k}", train, held_out))
    return made


def _as_blocks(y: Any) -> tuple[VoxelBlocks, bool]:
    """Responses (n_trs, n_voxels), and whether they came without the axis of voxels, as those of one may."""
    # A table of pandas has a shape, but is not sliced by position.
    blocks = y if hasattr(y, "shape") and hasattr(y, "__getitem__") and not hasattr(y, "iloc") else np.asarray(y)
    if len(blocks.shape) not in (1, 2):
        raise EncodingError("there are no responses", where=type(y).__name__, expected="y of (n_trs, n_voxels)")
    one = len(blocks.shape) == 1
    matrix = np.asarray(blocks)[:, None] if one else blocks
    if np.asarray(matrix[:1, :1]).dtype.kind not in REAL_KINDS:
        raise EncodingError("the responses are no real numbers", expected="one for each row and voxel")
    return matrix, one


class _VoxelwiseEstimator(RegressorMixin, BaseEstimator, ABC):
    """What plain and banded ridge share: their input, one-dimensional responses, and the score."""

    fit_: RidgeFit | BandedFit
    one_voxel_: bool
    voxels_per_block: int

    def _responses(self, y: VoxelBlocks) -> VoxelBlocks:
        """Responses (n_trs, n_voxels); those of one voxel may come without that axis, and predictions do so too."""
        matrix, self.one_voxel_ = _as_blocks(y)
        return matrix

    def _features(self, X: npt.ArrayLike, *, reset: bool) -> Matrix:
        """Features (n_trs, n_features) as they are; what is not finite is named by the fit."""
        if not reset:
            check_is_fitted(self)
        checked: Matrix = validate_data(self, X, reset=reset, ensure_all_finite=False)
        return checked

    @abstractmethod
    def _predicted(self, x: Matrix, voxels: slice = slice(None)) -> Matrix:
        """Predicted responses (n_trs, n_voxels) of some voxels."""

    def predict(self, X: npt.ArrayLike) -> Matrix:
        """Predicted responses (n_trs, n_voxels) of features (n_trs, n_features); (n_trs,) if fitted on such."""
        prediction = self._predicted(self._features(X, reset=False))
        return prediction[:, 0] if self.one_voxel_ else prediction

    def score(self, X: npt.ArrayLike, y: VoxelBlocks) -> Any:
        """Pearson r of each voxel (n_voxels,) on these rows, NaN where it is not defined; one number for one voxel.

        Regressors of scikit-learn return a single R2 here. The field's score is r, and a mean over voxels hides
        where a model predicts. (For many voxels give searches of scikit-learn ``scoring="r2"``: they want one number.)
        ``voxels_per_block`` voxels are predicted at once.

        Args:
            X: features (n_trs, n_features).
            y: responses (n_trs, n_voxels), or anything that can be sliced in blocks of columns; (n_trs,) for one.

        Raises:
            EncodingError: the rows or voxels do not fit.
        """
        x, (measured, one) = self._features(X, reset=False), _as_blocks(y)
        n_voxels = self.fit_.weights.shape[1]
        if tuple(measured.shape) != (len(x), n_voxels):
            raise EncodingError(f"responses of {tuple(measured.shape)}", expected=f"({len(x)}, {n_voxels})")
        r = np.empty(n_voxels)
        for voxels in column_blocks(n_voxels, self.voxels_per_block):
            r[voxels] = pearson_r(self._predicted(x, voxels), np.asarray(measured[:, voxels]))
        return float(r[0]) if one else r

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags


class VoxelwiseRidge(_VoxelwiseEstimator):
    """Ridge regression with the best penalty for each voxel, by folds that do not shuffle TRs.

    A thin wrapper of :func:`brain_tuning.encoding.ridge.ridge_cv`, which says what each setting does.

    Args:
        folds: folds over the rows that ``fit`` will get; or a number of blocks of consecutive rows, None for 5, which
            is right for ONE story; or a splitter of scikit-learn, or pairs of row indices (train, test).
        penalties: numbers added to the diagonal of X'X; None for :func:`huth_penalties`. Alphas of HuthLab
            code are roots of penalties: pass ``alphas ** 2``.
        gap_trs: rows not trained on at either side of a held-out block, where ``folds`` is a number or None.
        criterion: ``pearson`` or ``r2``.
        form: ``auto``, ``primal`` or ``kernel``.
        voxels_per_block: most voxels held in memory at once.
        memory_mb: budget in MiB; None for no limit.
        device: torch device to compute on.

    Attributes:
        fit_: the :class:`RidgeFit`, after ``fit``.

    Example:
        >>> folds = story_folds(["alternateithicatom", "avatar"], [343, 367])
        >>> r = VoxelwiseRidge(folds).fit(X, Y).score(X_test, Y_test)  # (n_voxels,)
    """

    fit_: RidgeFit

    def __init__(
        self,
        folds: FoldsLike = None,
        penalties: npt.ArrayLike | None = None,
        *,
        gap_trs: int = 0,
        criterion: Criterion = "pearson",
        form: FormName = "auto",
        voxels_per_block: int = 1024,
        memory_mb: float | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.folds = folds
        self.penalties = penalties
        self.gap_trs = gap_trs
        self.criterion = criterion
        self.form = form
        self.voxels_per_block = voxels_per_block
        self.memory_mb = memory_mb
        self.device = device

    def fit(self, X: npt.ArrayLike, y: VoxelBlocks) -> VoxelwiseRidge:
        """Choose each voxel's penalty and fit all rows.

        Args:
            X: features (n_trs, n_features), delays included.
            y: responses (n_trs, n_voxels), or anything that can be sliced in blocks of columns; (n_trs,) for one.

        Returns:
            The estimator itself.

        Raises:
            EncodingError: as :func:`brain_tuning.encoding.ridge.ridge_cv`.
        """
        x, bold = self._features(X, reset=True), self._responses(y)
        self.fit_ = ridge_cv(
            x,
            bold,
            as_folds(self.folds, len(x), self.gap_trs),
            self.penalties,
            criterion=self.criterion,
            form=self.form,
            voxels_per_block=self.voxels_per_block,
            memory_mb=self.memory_mb,
            device=self.device,
        )
        return self

    def _predicted(self, x: Matrix, voxels: slice = slice(None)) -> Matrix:
        return self.fit_.predict(x, voxels)


class BandedVoxelwiseRidge(_VoxelwiseEstimator):
    """Banded ridge: each feature space has its own penalty, the best ones for each voxel.

    A thin wrapper of :func:`brain_tuning.encoding.banded.banded_ridge_cv`, which says what each setting does.

    Args:
        spaces: name -> number of columns of each feature space, side by side in X; None for one space.
        folds: as for :class:`VoxelwiseRidge`.
        penalties: as for :class:`VoxelwiseRidge`.
        gap_trs: as for :class:`VoxelwiseRidge`.
        candidates: how many mixes of the spaces to try, or the mixes (n_candidates, n_spaces).
        random_state: seed of the mixes.
        criterion: ``pearson`` or ``r2``.
        form: ``auto``, ``primal`` or ``kernel``.
        voxels_per_block: most voxels held in memory at once.
        memory_mb: budget in MiB; None for no limit.
        device: torch device to compute on.

    Attributes:
        fit_: the :class:`BandedFit`, after ``fit``.

    Example:
        >>> model = BandedVoxelwiseRidge({"wavlm": 3072, "word_rate": 4}, folds).fit(X, Y)
    """

    fit_: BandedFit

    def __init__(
        self,
        spaces: Mapping[str, int] | None = None,
        folds: FoldsLike = None,
        penalties: npt.ArrayLike | None = None,
        *,
        gap_trs: int = 0,
        candidates: int | npt.ArrayLike = 32,
        random_state: int = 0,
        criterion: Criterion = "pearson",
        form: FormName = "auto",
        voxels_per_block: int = 1024,
        memory_mb: float | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.spaces = spaces
        self.folds = folds
        self.penalties = penalties
        self.gap_trs = gap_trs
        self.candidates = candidates
        self.random_state = random_state
        self.criterion = criterion
        self.form = form
        self.voxels_per_block = voxels_per_block
        self.memory_mb = memory_mb
        self.device = device

    def fit(self, X: npt.ArrayLike, y: VoxelBlocks) -> BandedVoxelwiseRidge:
        """Choose each voxel's mix of spaces and penalty, and fit all rows.

        Args:
            X: features (n_trs, n_features), the spaces side by side.
            y: as for :meth:`VoxelwiseRidge.fit`.

        Returns:
            The estimator itself.

        Raises:
            EncodingError: the spaces do not make up the features, or as
                :func:`brain_tuning.encoding.banded.banded_ridge_cv`.
        """
        x, bold = self._features(X, reset=True), self._responses(y)
        self.fit_ = banded_ridge_cv(
            self._split(x),
            bold,
            as_folds(self.folds, len(x), self.gap_trs),
            self.penalties,
            candidates=self.candidates,
            seed=self.random_state,
            criterion=self.criterion,
            form=self.form,
            voxels_per_block=self.voxels_per_block,
            memory_mb=self.memory_mb,
            device=self.device,
        )
        return self

    def _predicted(self, x: Matrix, voxels: slice = slice(None)) -> Matrix:
        return self.fit_.predict(self._split(x), voxels)

    def _split(self, x: Matrix) -> dict[str, Matrix]:
        """The features of each space."""
        if not (self.spaces is None or isinstance(self.spaces, Mapping)):
            raise EncodingError(f"spaces={self.spaces!r}", expected="name -> number of columns")
        widths = {"features": x.shape[1]} if self.spaces is None else dict(self.spaces)
        if not all(isinstance(width, int | np.integer) for width in widths.values()):
            raise EncodingError(f"spaces={widths}", expected="whole numbers of columns")
        if sum(widths.values()) != x.shape[1] or min(widths.values(), default=0) < 1:
            raise EncodingError(
                f"spaces of {sum(widths.values())} columns for {x.shape[1]} features",
                where=", ".join(f"{name} ({width})" for name, width in widths.items()),
                expected="at least one column each, that add up",
            )
        parts = np.split(x, np.cumsum(list(widths.values()))[:-1], axis=1)
        return dict(zip(widths, parts, strict=True))

"""Voxelwise ridge as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, RegressorMixin

from brain_tuning.encoding.folds import Fold
from brain_tuning.encoding.ridge import Criterion, FormName, RidgeFit, VoxelBlocks, ridge_cv
from brain_tuning.encoding.scores import pearson_r


class VoxelwiseRidge(RegressorMixin, BaseEstimator):
    """Ridge regression with the best penalty for each voxel, by story-level folds.

    A thin wrapper of :func:`brain_tuning.encoding.ridge.ridge_cv`, which says what each setting does.

    Args:
        folds: folds over the rows that ``fit`` will get.
        penalties: numbers added to the diagonal of X'X; None for :func:`huth_penalties`. Alphas of HuthLab
            code are roots of penalties: pass ``alphas ** 2``.
        criterion: ``pearson`` or ``r2``.
        form: ``auto``, ``primal`` or ``kernel``.
        voxels_per_block: voxels held in memory at once.
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
        folds: Sequence[Fold],
        penalties: npt.ArrayLike | None = None,
        *,
        criterion: Criterion = "pearson",
        form: FormName = "auto",
        voxels_per_block: int = 1024,
        device: str | torch.device = "cpu",
    ) -> None:
        self.folds = folds
        self.penalties = penalties
        self.criterion = criterion
        self.form = form
        self.voxels_per_block = voxels_per_block
        self.device = device

    def fit(self, X: npt.ArrayLike, y: VoxelBlocks) -> VoxelwiseRidge:
        """Choose each voxel's penalty and fit all rows.

        Args:
            X: features (n_trs, n_features), delays included.
            y: responses (n_trs, n_voxels), or anything that can be sliced in blocks of columns.

        Returns:
            The estimator itself.

        Raises:
            EncodingError: as :func:`brain_tuning.encoding.ridge.ridge_cv`.
        """
        self.fit_ = ridge_cv(
            X,
            y,
            self.folds,
            self.penalties,
            criterion=self.criterion,
            form=self.form,
            voxels_per_block=self.voxels_per_block,
            device=self.device,
        )
        self.n_features_in_ = self.fit_.weights.shape[0]
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Predicted responses (n_trs, n_voxels) of features (n_trs, n_features)."""
        return self.fit_.predict(X)

    def score(self, X: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Pearson r of each voxel (n_voxels,) on these rows, NaN where it is not defined."""
        return pearson_r(self.predict(X), y)

"""The voxel ledger: which voxels can be used, which cannot, and why.

Values are stored as they came. A voxel with a NaN or without variance is named here, is left out of
tuning, and scores NaN; it never stops a run and never scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from brain_tuning.errors import CorpusError

STATUSES = ("ok", "nan", "constant", "excluded")

#: A voxel is constant in a run if its variance there is at most this part of its scale.
CONSTANT_THRESHOLD = 1e-12

_BLOCK_VOXELS = 4096


@dataclass(frozen=True, eq=False)
class VoxelLedger:
    """Status of every voxel of one subject.

    Args:
        status: one of ``STATUSES`` per voxel, string array of shape (n_voxels,).
        reason: where and how a voxel failed, string array of shape (n_voxels,); empty for ``"ok"``.
    """

    status: np.ndarray
    reason: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Indices of the voxels with status ``"ok"``, int64, ascending."""
        return np.flatnonzero(self.status == "ok")

    def counts(self) -> dict[str, int]:
        """Number of voxels by status; every status is present."""
        return {name: int((self.status == name).sum()) for name in STATUSES}


def examine(runs: Iterable[tuple[str, np.ndarray]], excluded: Mapping[int, str] | None = None) -> VoxelLedger:
    """Judge every voxel from a subject's runs, taken one at a time.

    A voxel is ``"nan"`` if any of its values is not finite. It is ``"constant"`` if, in some run, its
    variance over time is at most ``CONSTANT_THRESHOLD`` times its scale; the scale is the greater of the
    voxel's own greatest mean square in a run and the median variance over all voxels and runs that vary.
    The median is what catches the 1e-19 variances that rounding leaves after standardising a constant.

    Args:
        runs: (label, responses of shape (n_trs, n_voxels)) pairs; the label, e.g. ``"story avatar run 1"``,
            appears in the reasons.
        excluded: reason by index of voxels ruled out beforehand; this status goes before the others.

    Returns:
        The ledger.

    Raises:
        CorpusError: no run at all, runs of different width, or an excluded index out of range.
    """
    labels: list[str] = []
    variances: list[np.ndarray] = []
    bad_counts: list[np.ndarray] = []
    mean_square: np.ndarray | None = None
    for label, bold in runs:
        variance, square, n_bad = _moments(bold)
        if mean_square is not None and len(square) != len(mean_square):
            raise CorpusError(
                f"a run has {len(square)} voxels",
                where=label,
                expected=f"{len(mean_square)} as in {labels[0]}",
            )
        mean_square = square if mean_square is None else np.fmax(mean_square, square)
        labels.append(label)
        variances.append(variance)
        bad_counts.append(n_bad)
    if mean_square is None:
        raise CorpusError("a subject without runs", expected="at least one run")

    variance_of = np.stack(variances)
    n_bad_of = np.stack(bad_counts)
    varying = variance_of[variance_of > 0]
    typical = float(np.median(varying)) if varying.size else 0.0
    flat_of = variance_of <= CONSTANT_THRESHOLD * np.fmax(mean_square, typical)

    status = np.full(len(mean_square), "ok", dtype="<U8")
    reason = np.full(len(mean_square), "", dtype=object)
    voxel: int
    for voxel in np.flatnonzero(flat_of.any(axis=0)).tolist():
        run = int(np.argmax(flat_of[:, voxel]))
        status[voxel] = "constant"
        reason[voxel] = f"variance {variance_of[run, voxel]:.3g} in {labels[run]}{_others(flat_of[:, voxel])}"
    for voxel in np.flatnonzero(n_bad_of.any(axis=0)).tolist():
        run = int(np.argmax(n_bad_of[:, voxel] > 0))
        status[voxel] = "nan"
        reason[voxel] = f"{n_bad_of[run, voxel]} value(s) not finite in {labels[run]}{_others(n_bad_of[:, voxel] > 0)}"
    for voxel, why in (excluded or {}).items():
        if not 0 <= voxel < len(status):
            raise CorpusError("an excluded voxel does not exist", where=voxel, expected=f"0 to {len(status) - 1}")
        status[voxel], reason[voxel] = "excluded", why
    return VoxelLedger(status, reason.astype(str))


def _others(concerned: np.ndarray) -> str:
    n_others = int(concerned.sum()) - 1
    return f" and in {n_others} other run(s)" if n_others else ""


def _moments(bold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variance (NaN where a value is not finite), mean square and number of non-finite values, by voxel."""
    n_voxels = bold.shape[1]
    variance, square = np.empty(n_voxels), np.empty(n_voxels)
    n_bad = np.empty(n_voxels, np.int64)
    for first in range(0, n_voxels, _BLOCK_VOXELS):
        block = slice(first, first + _BLOCK_VOXELS)
        values = np.asarray(bold[:, block], dtype=np.float64)
        finite = np.isfinite(values)
        n_bad[block] = (~finite).sum(axis=0)
        values = np.where(finite, values, np.nan)
        variance[block] = values.var(axis=0)
        square[block] = np.mean(values**2, axis=0)
    return variance, square, n_bad

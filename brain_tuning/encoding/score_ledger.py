"""Scores of every voxel, raw and normalised side by side, and why a voxel has none.

Example:
    >>> scores = score_voxels(prediction, repeats.mean(0), repeats=repeats)
    >>> scores.r, scores.r_normalised, scores.ledger.counts(), scores.ledger.why(17)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.corpus.ceiling import ceiling_of, check_repeats, signal_power
from brain_tuning.encoding.scores import MIN_CEILING, MIN_STD, pearson_r, r2, same_shape, varies
from brain_tuning.errors import EncodingError

#: Why a voxel has no r; the first that applies: a response that cannot be fitted has no prediction either.
UNSCORED = ("response not finite", "constant response", "prediction not finite", "constant prediction")
#: Why a voxel with r has no normalised r; the first that applies.
UNNORMALISED = (
    "ceiling unknown",
    "repeats constant or not finite",
    "signal power not positive",
    "ceiling below floor",
)
SCORED = "scored"
_CODES = (SCORED, *UNSCORED, *UNNORMALISED)
_CODE = {reason: code for code, reason in enumerate(_CODES)}
_VOXELS_PER_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class ScoreLedger:
    """Why each voxel is, or is not, scored and normalised.

    Attributes:
        codes: of each voxel an index into ``reasons`` (n_voxels,), int8.
        floor: voxels with a lower noise ceiling are not normalised.
    """

    codes: npt.NDArray[np.int8]
    floor: float
    reasons = _CODES

    def why(self, voxel: int) -> str:
        """Reason of one voxel, ``"scored"`` if it has both scores."""
        return self.reasons[self.codes[voxel]]

    @property
    def has_r(self) -> npt.NDArray[np.bool_]:
        """Voxels with a raw score (n_voxels,)."""
        return np.asarray((self.codes == 0) | (self.codes > len(UNSCORED)))

    @property
    def has_r_normalised(self) -> npt.NDArray[np.bool_]:
        """Voxels with a raw and a normalised score (n_voxels,)."""
        return np.asarray(self.codes == 0)

    def counts(self) -> dict[str, int]:
        """Number of voxels by reason, all reasons present; they add up to the number of voxels."""
        found = np.bincount(self.codes, minlength=len(self.reasons))
        return dict(zip(self.reasons, found.tolist(), strict=True))

    def summary(self) -> dict[str, Any]:
        """``n_voxels``, ``n_r``, ``n_r_normalised``, ``floor`` and the counts of reasons that occur."""
        return {
            "n_voxels": int(self.codes.size),
            "n_r": int(self.has_r.sum()),
            "n_r_normalised": int(self.has_r_normalised.sum()),
            "floor": self.floor,
            "reasons": {reason: n for reason, n in self.counts().items() if n and reason != SCORED},
        }


@dataclass(frozen=True, eq=False)
class VoxelScores:
    """Scores of every voxel, all of shape (n_voxels,); NaN where the ledger says why.

    Attributes:
        r: Pearson correlation.
        r2: coefficient of determination; NaN where r is NaN, so that both are means over the same voxels.
        r_normalised: r / ceiling.
        ceiling: greatest r that can be reached, NaN where unknown.
        ledger: why there is a NaN.
    """

    r: npt.NDArray[np.float64]
    r2: npt.NDArray[np.float64]
    r_normalised: npt.NDArray[np.float64]
    ceiling: npt.NDArray[np.float64]
    ledger: ScoreLedger


def score_voxels(
    prediction: npt.ArrayLike,
    bold: npt.ArrayLike,
    *,
    ceiling: npt.ArrayLike | None = None,
    repeats: npt.NDArray[np.floating] | None = None,
    floor: float = MIN_CEILING,
) -> VoxelScores:
    """Score every voxel, normalise those whose ceiling allows it, and record the rest.

    Args:
        prediction: predicted responses (n_trs, n_voxels).
        bold: measured responses (n_trs, n_voxels); of a repeated story the mean of its z-scored repeats.
        ceiling: noise ceiling of ``bold`` (n_voxels,), NaN (or infinite) where unknown.
        repeats: instead of a ceiling, the responses it is estimated from (n_repeats, n_trs, n_voxels); the ledger
            then tells voxels without signal from those that could not be examined.
        floor: least ceiling to divide by, as a low one makes the ratio explode.

    Returns:
        Raw and normalised scores and the ledger.

    Raises:
        EncodingError: shapes do not fit, both a ceiling and repeats are given, the floor is not positive, or there
            are fewer than two repeats.
    """
    x, y = same_shape(prediction, bold)
    if not floor > 0 or (ceiling is not None and repeats is not None):
        raise EncodingError(
            "the ceiling is not defined",
            where=f"floor={floor}, ceiling {'given' if ceiling is not None else 'missing'}, "
            f"repeats {'given' if repeats is not None else 'missing'}",
            expected="a positive floor, and either a ceiling or repeats",
        )
    limit, codes = _ceiling(x.shape, ceiling, repeats)
    codes[(codes == 0) & (limit < floor)] = _CODE["ceiling below floor"]
    unscored = _unscored(x, y)
    codes = np.where(unscored > 0, unscored, codes).astype(np.int8)
    ledger = ScoreLedger(codes, floor)
    r, explained = pearson_r(x, y), np.where(ledger.has_r, r2(x, y), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = np.where(ledger.has_r_normalised, r / limit, np.nan)
    return VoxelScores(r, explained, normalised, limit, ledger)


def _ceiling(
    shape: tuple[int, ...], ceiling: npt.ArrayLike | None, repeats: npt.NDArray[np.floating] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Ceiling of each voxel, and the code of why it is NaN."""
    if repeats is not None:
        repeats = check_repeats(repeats)
        if repeats.shape[1:] != shape:
            raise EncodingError(f"each repeat has shape {repeats.shape[1:]}", expected=f"{shape}, as the response")
        power = signal_power(repeats)
        limit = ceiling_of(power, len(repeats))
        unknown = np.where(np.isnan(power), _CODE[UNNORMALISED[1]], _CODE[UNNORMALISED[2]])
    else:
        limit = np.full(shape[1], np.nan) if ceiling is None else np.asarray(ceiling, dtype=np.float64)
        limit = np.where(np.isfinite(limit), limit, np.nan)
        unknown = np.full(limit.shape, _CODE[UNNORMALISED[0]])
    if limit.shape != shape[1:]:
        raise EncodingError(f"the ceiling is of {limit.shape} voxels", expected=f"{shape[1:]}, as the responses")
    return limit, np.where(np.isnan(limit), unknown, 0).astype(np.int8)


def _unscored(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Code of why a voxel has no r, by the same rules as :func:`brain_tuning.encoding.scores.pearson_r`; else 0."""
    codes = np.zeros(x.shape[1], np.int8)
    for begin in range(0, x.shape[1], _VOXELS_PER_BLOCK):
        block = slice(begin, begin + _VOXELS_PER_BLOCK)
        found = codes[block]
        # From the last reason to the first, so that the first wins.
        for values, which, min_std in ((x[:, block], "prediction", 0.0), (y[:, block], "response", MIN_STD)):
            data = values.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                found[~varies(data.var(0), data.mean(0), min_std=min_std)] = _CODE[f"constant {which}"]
            found[~np.isfinite(data).all(0)] = _CODE[f"{which} not finite"]
    return codes

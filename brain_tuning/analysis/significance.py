"""Is a set of features better than chance, and is the tuned model better than the untuned one?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brain_tuning.corpus import Run
from brain_tuning.encoding.autocorrelation import BLOCK_TRS, block_length
from brain_tuning.encoding.fdr import fdr_bh
from brain_tuning.encoding.paired_blocks import paired_block_p
from brain_tuning.encoding.paired_stories import paired_by_region
from brain_tuning.encoding.permutation import block_permutation_p, circular_shift_p
from brain_tuning.encoding.scores import pearson_r_by_run, zscore
from brain_tuning.errors import EncodingError

from .story_intervals import story_lengths

#: rate of false discoveries that voxels are counted at
Q = 0.05
#: 7 blocks have 5,040 orders
_LEAST_BLOCKS = 7
#: Two minutes at a TR of 2 s: longer blocks would leave too few of them.
_LONGEST_TRS = 60
#: are enough to average autocorrelations over
_MOST_VOXELS = 2000


def against_chance(
    prediction: np.ndarray,
    measured: np.ndarray,
    pieces: Sequence[Run],
    regions: Mapping[str, np.ndarray],
    n_permutations: int,
) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """Test r of each voxel, and the mean r of each region, against rearranged responses.

    Responses are rotated within their stories, which keeps all autocorrelation. One story of T TRs has T rotations
    only, so that no p is below 1 / T: where that is too coarse, blocks of TRs change places instead, if the story holds
    enough blocks of the length that the data's autocorrelation asks for.

    Args:
        prediction, measured: (n_trs, n_voxels).
        pieces: the runs that the rows belong to.
        regions: name -> voxel indices.
        n_permutations: rearrangements.

    Returns:
        p of each voxel (n_voxels,), float32, NaN where there is none; and region -> ``p``, ``n_significant`` (voxels
        whose false discovery rate, over all voxels of the subject, is at most :data:`Q`), ``p_by`` (what was
        rearranged).
    """
    lengths = [run.n_trs for run in pieces]
    block_trs = None
    if len(lengths) == 1 and lengths[0] <= n_permutations:
        some = _some_voxels(measured)
        block_trs = _long_enough(prediction[:, some], measured[:, some], lengths)
    options: dict[str, Any] = {"n_permutations": n_permutations, "regions": regions}
    if block_trs is None or lengths[0] // block_trs < _LEAST_BLOCKS:
        test, how = circular_shift_p(prediction, measured, lengths, **options), "rotated stories"
    else:
        test = block_permutation_p(prediction, measured, lengths, block_trs=block_trs, **options)
        how = f"shuffled blocks of {block_trs} TRs"
    found = fdr_bh(test.p, q=Q).rejected
    by_region = {
        name: {"p": _finite(test.region_p[name]), "n_significant": int(found[voxels].sum()), "p_by": how}
        for name, voxels in regions.items()
    }
    return test.p.astype(np.float32), by_region


def against_untuned(
    tuned: np.ndarray,
    untuned: np.ndarray,
    measured: np.ndarray,
    pieces: Sequence[Run],
    regions: Mapping[str, np.ndarray],
    n_permutations: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Test r(tuned) - r(untuned) by voxel and by region.

    ``p`` swaps the two predictions within blocks of TRs: is there a difference on these stories? Blocks are as long as
    the data's autocorrelation asks for, between 20 and 60 TRs. With several stories ``p_stories`` takes them as
    clusters, however many pieces they were heard in: would there be a difference on other stories?

    Args:
        tuned, untuned, measured: (n_trs, n_voxels).
        pieces: the runs that the rows belong to.
        regions: name -> voxel indices.
        n_permutations: swaps.

    Returns:
        p of each voxel (n_voxels,), float32; and one row a region.
    """
    lengths, stories = [run.n_trs for run in pieces], story_lengths(pieces)
    # Swaps change the sign of the difference: its autocorrelation, beside that of the responses, is what counts.
    some = _some_voxels(measured)
    difference = zscore(tuned[:, some], min_std=0.0) - zscore(untuned[:, some], min_std=0.0)
    block_trs = _long_enough(difference, measured[:, some], lengths) or _LONGEST_TRS
    test = paired_block_p(
        tuned, untuned, measured, lengths, block_trs=block_trs, n_permutations=n_permutations, regions=regions
    )
    found = fdr_bh(test.p, q=Q).rejected
    rows: list[dict[str, Any]] = [
        {
            "region": name,
            "difference": _finite(test.region_observed[name]),
            "p": _finite(test.region_p[name]),
            "smallest_p": test.smallest_p,
            "block_trs": block_trs,
            "n_better": int((found[voxels] & (test.observed[voxels] > 0)).sum()),
            "n_worse": int((found[voxels] & (test.observed[voxels] < 0)).sum()),
        }
        for name, voxels in regions.items()
    ]
    if len(stories) > 1:
        tuned_r, untuned_r = (pearson_r_by_run(prediction, measured, stories) for prediction in (tuned, untuned))
        for row, by_story in zip(rows, paired_by_region(tuned_r, untuned_r, regions), strict=True):
            row |= {"p_stories": _finite(by_story["p"]), "n_stories": by_story["n_stories"]}
            row["smallest_p_stories"] = by_story["smallest_p"]
    return test.p.astype(np.float32), rows


def _some_voxels(measured: np.ndarray) -> slice:
    return slice(None, None, max(1, measured.shape[1] // _MOST_VOXELS))


def _long_enough(x: np.ndarray, y: np.ndarray, lengths_trs: Sequence[int]) -> int | None:
    """Blocks that outlast what the data remember, in TRs; None if the longest considered do not."""
    try:
        found = block_length(x, y, lengths_trs, max_lag_trs=_LONGEST_TRS)
    except EncodingError:
        return None
    return max(BLOCK_TRS, found.block_trs)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

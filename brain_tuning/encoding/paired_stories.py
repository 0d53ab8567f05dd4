"""Does tuning help on stories (or in subjects) in general? Signs of paired differences flipped by cluster.

A story is one observation, however many TRs and voxels it has: those within it are not independent.

Example:
    >>> tuned_r = pearson_r_by_run(tuned_prediction, bold, run_lengths_trs)
    >>> untuned_r = pearson_r_by_run(untuned_prediction, bold, run_lengths_trs)
    >>> for row in paired_by_region(tuned_r, untuned_r, {"auditory cortex": ac}):
    ...     print(row["region"], row["mean_difference"], row["p"], row["smallest_p"])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_tuning.encoding.null_distribution import Tail, compare_with_null
from brain_tuning.encoding.rearrangements import sign_patterns
from brain_tuning.encoding.scores import region_members
from brain_tuning.errors import EncodingError

#: Up to 12 clusters all 4096 patterns of signs are used, beyond that random ones.
N_PATTERNS = 4095


@dataclass(frozen=True, eq=False)
class SignFlipTest:
    """Result of a sign-flip test of mean differences.

    Attributes:
        mean: mean difference over clusters (n_columns,), NaN where a cluster has none.
        p: p-value (n_columns,), NaN where there is no mean.
        n_clusters: number of clusters.
        exact: all patterns of signs were used.
        smallest_p: the least p-value that so many clusters can give.
    """

    mean: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]
    n_clusters: int
    exact: bool
    smallest_p: float


def sign_flip_p(
    differences: npt.ArrayLike, *, n_permutations: int = N_PATTERNS, seed: int = 0, tail: Tail = "two-sided"
) -> SignFlipTest:
    """Test whether the mean over clusters of paired differences is 0.

    The null hypothesis: each cluster's difference is as likely as its negative (symmetric about 0). All
    ``2^n_clusters`` patterns of signs are counted if n_permutations allows, so p is exact.

    Args:
        differences: tuned minus untuned of each cluster, e.g. story or subject (n_clusters, n_columns); one
            difference a cluster, or clusters would count by their number of TRs.
        n_permutations: most patterns, without that of the data.
        seed: of random patterns.
        tail: ``"two-sided"``, ``"greater"`` (tuned is better) or ``"less"``.

    Returns:
        The test. ``smallest_p`` is ``2^-n_clusters``, twice that for two sides: with fewer than 6 clusters
        (5 for one side) nothing can be below 0.05.

    Raises:
        EncodingError: differences are not two-dimensional, or there is no cluster.

    Source: Fisher (1935), section 21; equal to ``scipy.stats.permutation_test(permutation_type="samples")``.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise EncodingError(f"the differences have shape {values.shape}", expected="(n_clusters, n_columns)")
    n_clusters = values.shape[0]
    signs, exact = sign_patterns(n_clusters, n_permutations, seed)
    # Columns in one unit, so that what counts as a tie does not depend on it.
    unit = np.abs(values).max(0)
    unit[unit == 0] = 1.0

    def statistics(columns: slice) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        with np.errstate(invalid="ignore"):  # an infinite difference gives NaN, as one that is missing does
            scaled = values[:, columns] / unit[columns]
            return scaled.mean(0), signs @ scaled / n_clusters

    test = compare_with_null(
        statistics,
        values.shape[1],
        len(signs),
        exact=exact,
        tail=tail,
        regions=None,
        bytes_per_voxel=8 * (n_clusters + 3 * len(signs)),
    )
    of_patterns = (2.0 if tail == "two-sided" else 1.0) / 2.0**n_clusters
    return SignFlipTest(
        mean=test.observed * unit,
        p=test.p,
        n_clusters=n_clusters,
        exact=exact,
        smallest_p=max(test.smallest_p, min(1.0, of_patterns)),
    )


def paired_by_region(
    tuned_r: npt.ArrayLike,
    untuned_r: npt.ArrayLike,
    regions: Mapping[str, npt.ArrayLike],
    *,
    n_permutations: int = N_PATTERNS,
    seed: int = 0,
    tail: Tail = "two-sided",
) -> list[dict[str, Any]]:
    """Test the mean difference of each region with stories as clusters.

    Args:
        tuned_r: r of each story and voxel (n_stories, n_voxels).
        untuned_r: r of the model it is compared with (n_stories, n_voxels).
        regions: name -> indices or boolean mask (n_voxels,).
        n_permutations: most patterns of signs, without that of the data.
        seed: of random patterns.
        tail: ``"two-sided"``, ``"greater"`` (tuned is better) or ``"less"``.

    Returns:
        One row a region: ``region``, ``n_stories``, ``n_voxels``, ``n_nan`` (voxels left out because a story has
        no score of one of the models), ``mean_tuned_r``, ``mean_untuned_r``, ``mean_difference`` (over the same
        voxels, mean of the stories' means), ``p``, ``smallest_p`` (no result can be below it) and ``exact``.
        Means and p of a region without a voxel left are NaN.

    Raises:
        EncodingError: the scores' shapes differ or are not (n_stories, n_voxels).
        RegionError: a region is empty or names voxels that do not exist.
    """
    tuned, untuned = np.asarray(tuned_r, dtype=np.float64), np.asarray(untuned_r, dtype=np.float64)
    if tuned.shape != untuned.shape or tuned.ndim != 2 or not regions:
        raise EncodingError(
            f"scores of shape {tuned.shape} and {untuned.shape}, {len(regions)} regions",
            expected="the same (n_stories, n_voxels), and a region",
        )
    scored = np.asarray(np.isfinite(tuned + untuned).all(axis=0))
    means = np.full((2, tuned.shape[0], len(regions)), np.nan)
    rows: list[dict[str, Any]] = []
    for k, (name, members) in enumerate(regions.items()):
        voxels = region_members(name, members, tuned.shape[1])
        kept = voxels[scored[voxels]]
        if kept.size:
            means[:, :, k] = tuned[:, kept].mean(1), untuned[:, kept].mean(1)
        rows.append(
            {
                "region": name,
                "n_stories": tuned.shape[0],
                "n_voxels": int(voxels.size),
                "n_nan": int(voxels.size - kept.size),
            }
        )
    test = sign_flip_p(means[0] - means[1], n_permutations=n_permutations, seed=seed, tail=tail)
    for k, row in enumerate(rows):
        row["mean_tuned_r"], row["mean_untuned_r"] = (float(mean) for mean in means[:, :, k].mean(1))
        row["mean_difference"], row["p"] = float(test.mean[k]), float(test.p[k])
        row["smallest_p"], row["exact"] = test.smallest_p, test.exact
    return rows

"""Bootstrap intervals over stories, over subjects, and over both: how far a mean would move with others.

What is drawn again is what is independent, whole stories or whole subjects, never TRs or voxels.

Example:
    >>> bootstrap_interval(difference_by_story)
    >>> nested_bootstrap_interval([differences_of_a_subject_by_story, ...])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from brain_tuning.errors import EncodingError

#: With fewer clusters a bootstrap draws nearly the same samples over and over, and its interval is far too short.
MIN_CLUSTERS = 8


@dataclass(frozen=True)
class Interval:
    """A mean and how well it is known.

    Attributes:
        estimate: the mean.
        low: lower end, NaN where it cannot be estimated.
        high: upper end, NaN where it cannot be estimated.
        level: share of such intervals that contain the true mean, nominally.
        method: how it was computed.
        n_clusters: number of what was drawn again (of the outer level, if nested).
        reason: why there is no interval; empty if there is one.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: str
    n_clusters: int
    reason: str = ""

    def summary(self) -> dict[str, Any]:
        """All attributes as plain values."""
        return asdict(self)


def bootstrap_interval(
    values: npt.ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 5000,
    seed: int = 0,
    min_clusters: int = MIN_CLUSTERS,
) -> Interval:
    """BCa bootstrap interval of the mean over clusters.

    Args:
        values: one value a cluster, e.g. the mean difference of a story (n_clusters,).
        level: coverage wished for.
        n_resamples: bootstrap samples.
        seed: of the random generator.
        min_clusters: with fewer the interval is NaN. Below about 15 it is somewhat short all the same (measured
            coverages are in ``docs/statistics.md``); of a few values that are about normal
            :func:`brain_tuning.encoding.mixed.subject_means_summary` gives a t interval.

    Returns:
        The interval; NaN with the reason for too few clusters, a NaN among them, clusters that are all equal, or values
        on which BCa is degenerate (of which scipy warns as well).

    Raises:
        EncodingError: values are not one-dimensional, there is none, or nothing is drawn.

    Source: Efron (1987), by ``scipy.stats.bootstrap``.
    """
    _check_resamples(n_resamples)
    x = _checked(values, level, "the values")
    estimate = float(x.mean())
    reason = _why_not(x, min_clusters, "clusters")
    if reason:
        return Interval(estimate, np.nan, np.nan, level, "BCa bootstrap", x.size, reason)
    found = stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=level,
        n_resamples=n_resamples,
        method="BCa",
        vectorized=True,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    if not np.isfinite([found.low, found.high]).all():
        return Interval(estimate, np.nan, np.nan, level, "BCa bootstrap", x.size, "BCa is degenerate on these values")
    return Interval(estimate, float(found.low), float(found.high), level, "BCa bootstrap", x.size)


def nested_bootstrap_interval(
    values: Sequence[npt.ArrayLike],
    *,
    stories: str = "shared",
    level: float = 0.95,
    n_resamples: int = 5000,
    seed: int = 0,
    min_clusters: int = MIN_CLUSTERS,
) -> Interval:
    """Percentile interval of the mean over subjects of the mean over their stories, both drawn again.

    Subjects are drawn with replacement, then stories of each drawn subject.

    Args:
        values: of each subject the value of each story (n_stories,).
        stories: ``"shared"``: all subjects heard the same stories in the same order, and one draw of stories
            serves all subjects of a sample, so that what a story does to all of them counts; ``"own"``: each
            subject's stories are drawn by themselves.
        level: coverage wished for.
        n_resamples: bootstrap samples.
        seed: of the random generator.
        min_clusters: with fewer subjects, or shared stories, the interval is NaN.

    Returns:
        The interval; NaN with the reason for too few clusters or a NaN among the values.

    Raises:
        EncodingError: no subject, a subject without a story, shared stories of unequal number, or nothing is drawn.

    Source: Davison and Hinkley (1997), section 3.8; drawing crossed factors each by itself, Owen (2007).
    """
    _check_resamples(n_resamples)
    subjects = [_checked(own, level, f"the stories of subject {k}") for k, own in enumerate(values)]
    lengths = np.array([own.size for own in subjects])
    if not subjects or stories not in ("shared", "own") or (stories == "shared" and len(set(lengths)) > 1):
        raise EncodingError(
            "the values do not fit the design",
            where=f"{len(subjects)} subjects with {', '.join(map(str, lengths)) or 'no'} stories, stories={stories!r}",
            expected="subjects with equally many stories if shared, else stories='own'",
        )
    means = np.array([own.mean() for own in subjects])
    method = f"percentile bootstrap of subjects and {stories} stories"
    reason = _why_not(means, min_clusters, "subjects")
    if not reason and stories == "shared" and lengths[0] < min_clusters:
        reason = f"{lengths[0]} stories; an interval needs {min_clusters}"
    if reason:
        return Interval(float(means.mean()), np.nan, np.nan, level, method, means.size, reason)
    rng = np.random.default_rng(seed)
    table = np.zeros((means.size, lengths.max()))
    for k, own in enumerate(subjects):
        table[k, : own.size] = own
    drawn = [
        _drawn_mean(table, lengths, rng.integers(0, means.size, means.size), rng, shared=stories == "shared")
        for _ in range(n_resamples)
    ]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(means.mean()), float(low), float(high), level, method, means.size)


def _drawn_mean(
    table: npt.NDArray[np.float64],
    lengths: npt.NDArray[Any],
    subjects: npt.NDArray[Any],
    rng: np.random.Generator,
    *,
    shared: bool,
) -> float:
    """Mean of one bootstrap sample: stories drawn for the drawn subjects, once for all if shared."""
    if shared:
        return float(table[np.ix_(subjects, rng.integers(0, lengths[0], lengths[0]))].mean())
    counts = lengths[subjects][:, None]
    chosen = (rng.random((subjects.size, table.shape[1])) * counts).astype(np.intp)
    heard = np.arange(table.shape[1]) < counts
    return float((np.where(heard, table[subjects[:, None], chosen], 0.0).sum(1) / counts[:, 0]).mean())


def _checked(values: npt.ArrayLike, level: float, what: str) -> npt.NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not 0 < level < 1:
        raise EncodingError(
            f"{what} have shape {x.shape}, the level is {level}",
            expected="(n_clusters,), at least one, and a level between 0 and 1",
        )
    return x


def _check_resamples(n_resamples: int) -> None:
    if n_resamples < 1:
        raise EncodingError(f"{n_resamples} bootstrap samples", expected="at least 1, better thousands")


def _why_not(values: npt.NDArray[np.float64], min_clusters: int, what: str) -> str:
    n_nan = int((~np.isfinite(values)).sum())
    if n_nan:
        return f"{n_nan} of {values.size} {what} have no value"
    if values.size < min_clusters:
        return f"{values.size} {what}; an interval needs {min_clusters}"
    if np.ptp(values) == 0:
        return f"all {what} are equal"
    return ""

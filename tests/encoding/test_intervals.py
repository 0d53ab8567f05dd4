"""Bootstrap intervals against scipy and closed forms, and their absence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from brain_tuning.encoding.intervals import MIN_CLUSTERS, bootstrap_interval, nested_bootstrap_interval
from brain_tuning.errors import EncodingError


def test_it_is_scipys_bca() -> None:
    values = np.random.default_rng(0).exponential(size=25)
    ours = bootstrap_interval(values, n_resamples=2000, seed=3, level=0.9)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=2000, method="BCa", random_state=np.random.default_rng(3)
    ).confidence_interval
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.estimate == values.mean()
    assert (ours.n_clusters, ours.reason) == (25, "")
    assert ours.summary()["method"] == "BCa bootstrap"
    # Skewed values: BCa reaches further on the long side, which a symmetric interval does not.
    assert ours.high - ours.estimate > ours.estimate - ours.low


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.1, 0.2, 0.3], f"3 clusters; an interval needs {MIN_CLUSTERS}"),
        ([0.1] * 9 + [np.nan], "1 of 10 clusters have no value"),
        ([0.25] * 10, "all clusters are equal"),
    ],
)
def test_no_interval_says_why(values, reason) -> None:
    interval = bootstrap_interval(values)
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.reason == reason
    np.testing.assert_equal(interval.estimate, np.mean(values))


def test_nested_widths_have_closed_forms() -> None:
    """Variance of the bootstrapped mean: of subjects and of stories, each by its own factor."""
    rng = np.random.default_rng(0)
    subjects, stories = rng.normal(size=(30, 1)), rng.normal(size=(1, 25))
    width = 2 * stats.norm.ppf(0.975)
    only_stories = np.tile(stories, (30, 1))
    shared = nested_bootstrap_interval(list(only_stories), n_resamples=4000)
    # All subjects alike: shared stories are 25 observations; own stories wrongly make 750 of them.
    assert np.isnan(shared.low)
    assert shared.reason == "all subjects are equal"
    table = subjects + stories
    shared = nested_bootstrap_interval(list(table), n_resamples=4000)
    expected = width * np.sqrt(subjects.var() / 30 + stories.var() / 25)
    assert shared.high - shared.low == pytest.approx(expected, rel=0.06)
    own = nested_bootstrap_interval(list(table), stories="own", n_resamples=4000)
    expected = width * np.sqrt(subjects.var() / 30 + stories.var() / 25 / 30)
    assert own.high - own.low == pytest.approx(expected, rel=0.06)
    assert shared.estimate == own.estimate == pytest.approx(table.mean())


def test_subjects_count_alike_however_many_stories_they_heard() -> None:
    rng = np.random.default_rng(0)
    subjects = [np.full(n, value) for n, value in zip(rng.integers(1, 40, 12), rng.normal(size=12), strict=True)]
    means = np.array([own[0] for own in subjects])
    interval = nested_bootstrap_interval(subjects, stories="own", n_resamples=4000)
    assert interval.estimate == pytest.approx(means.mean())
    expected = 2 * stats.norm.ppf(0.975) * means.std() / np.sqrt(12)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_nested_intervals_say_why_there_is_none() -> None:
    rng = np.random.default_rng(0)
    assert nested_bootstrap_interval(rng.normal(size=(3, 20))).reason == f"3 subjects; an interval needs {MIN_CLUSTERS}"
    assert nested_bootstrap_interval(rng.normal(size=(20, 3))).reason == f"3 stories; an interval needs {MIN_CLUSTERS}"
    values = rng.normal(size=(10, 10))
    values[2, 3] = np.nan
    assert nested_bootstrap_interval(values).reason == "1 of 10 subjects have no value"


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(EncodingError, match=r"the values have shape \(2, 2\)"):
        bootstrap_interval(np.zeros((2, 2)))
    with pytest.raises(EncodingError, match="0 bootstrap samples"):
        bootstrap_interval(np.arange(20.0), n_resamples=0)
    with pytest.raises(EncodingError, match="0 bootstrap samples"):
        nested_bootstrap_interval(np.eye(9), n_resamples=0)
    with pytest.raises(EncodingError, match="level is 95"):
        bootstrap_interval(np.zeros(20), level=95)
    with pytest.raises(EncodingError, match=r"2 subjects with 3, 4 stories, stories='shared'.*stories='own'"):
        nested_bootstrap_interval([np.zeros(3), np.zeros(4)])
    with pytest.raises(EncodingError, match=r"the stories of subject 1 have shape \(0,\)"):
        nested_bootstrap_interval([np.zeros(3), np.zeros(0)])


def test_values_on_which_bca_is_degenerate_get_the_reason_and_scipys_warning() -> None:
    """Equal but for the last bit: no resample's mean lies below the estimate."""
    values = np.r_[np.ones(9), 1 + np.finfo(float).eps]
    with pytest.warns(stats.DegenerateDataWarning):
        found = bootstrap_interval(values)
    assert np.isnan([found.low, found.high]).all()
    assert (found.estimate, found.reason) == (1.0, "BCa is degenerate on these values")

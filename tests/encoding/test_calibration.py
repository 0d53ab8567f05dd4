"""On data without any effect p-values are uniform, few seeds discover anything, and intervals cover.

Responses are AR(1), predictions AR(1) averaged over four TRs, as FIR delays make them. `python
tests/encoding/test_calibration.py` prints the figures of docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from autocorrelated_noise import RUN_LENGTHS_TRS, ar1
from scipy import stats

from brain_tuning.encoding.fdr import fdr_bh
from brain_tuning.encoding.intervals import bootstrap_interval, nested_bootstrap_interval
from brain_tuning.encoding.mixed import subject_means_summary
from brain_tuning.encoding.null_distribution import PermutationTest
from brain_tuning.encoding.paired_blocks import paired_block_p
from brain_tuning.encoding.paired_stories import sign_flip_p
from brain_tuning.encoding.permutation import block_permutation_p, circular_shift_p

N_VOXELS = 40
#: 1 / 2000 is below 0.05 / 40: a single voxel can be discovered.
N_PERMUTATIONS = 1999

UNEQUAL_TRS = (61, 140, 95, 230, 77)
HALVES = {"first": np.arange(100), "second": np.arange(100, 200)}

Test = Callable[..., PermutationTest]


def noise_only(test: Test, seed: int, **options: object) -> PermutationTest:
    """Test of predictions against responses that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    bold, prediction = ar1(rng, N_VOXELS), ar1(rng, N_VOXELS, n_averaged=4)
    return test(prediction, bold, RUN_LENGTHS_TRS, n_permutations=N_PERMUTATIONS, seed=seed, **options)


def equal_models(seed: int, **options: object) -> PermutationTest:
    """Test of two predictions that are equally good."""
    rng = np.random.default_rng(seed)
    bold, shared = ar1(rng, N_VOXELS), ar1(rng, N_VOXELS, n_averaged=4)
    one, other = (shared + 0.5 * bold + ar1(rng, N_VOXELS, n_averaged=4) for _ in range(2))
    return paired_block_p(one, other, bold, RUN_LENGTHS_TRS, n_permutations=N_PERMUTATIONS, seed=seed, **options)


def correlated_voxels(test: Test, seed: int, coefficient: float, **options: object) -> PermutationTest:
    """Test of pure noise in 200 voxels as alike as neighbours are, in five stories of unequal length."""
    rng = np.random.default_rng(seed)
    smooth = {"runs": UNEQUAL_TRS, "coefficient": coefficient, "smoothed_voxels": 6.0}
    bold = ar1(rng, 200, **smooth)
    shared, one, other = (ar1(rng, 200, n_averaged=4, **smooth) for _ in range(3))
    options |= {"n_permutations": N_PERMUTATIONS, "seed": seed, "regions": HALVES}
    if test is paired_block_p:
        return test(shared + one + bold / 2, shared + other + bold / 2, bold, UNEQUAL_TRS, **options)
    return test(one, bold, UNEQUAL_TRS, **options)


def most_by_chance(n_seeds: int, rate: float = 0.05) -> int:
    """Seeds that may discover something where each does with probability 0.05: more in 1 of 100 cases."""
    return int(stats.binom.ppf(0.99, n_seeds, rate))


def uniformity(tests: list[PermutationTest]) -> float:
    return float(stats.kstest(np.concatenate([test.p for test in tests]), "uniform").pvalue)


def n_discovering(tests: list[PermutationTest]) -> int:
    return sum(bool(fdr_bh(test.p, 0.05).rejected.any()) for test in tests)


def n_familywise(tests: list[PermutationTest]) -> int:
    return sum(bool((test.p_max <= 0.05).any()) for test in tests)


@pytest.mark.parametrize("test", [circular_shift_p, block_permutation_p])
@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_p_values_of_pure_noise_are_uniform(test, tail) -> None:
    assert uniformity([noise_only(test, seed, tail=tail) for seed in range(20)]) > 0.01


@pytest.mark.parametrize("test", [circular_shift_p, block_permutation_p])
def test_few_seeds_of_pure_noise_discover_anything(test) -> None:
    """Where nothing is true every discovery is false: the share of seeds with one is the false discovery rate."""
    tests = [noise_only(test, seed) for seed in range(100)]
    assert n_discovering(tests) <= most_by_chance(100)
    assert n_familywise(tests) <= most_by_chance(100)


@pytest.mark.parametrize("coefficient", [0.3, 0.9])
def test_neighbouring_voxels_and_unequal_stories_are_calibrated(coefficient) -> None:
    """Voxels far apart are independent: their p are uniform; and regions, whose voxels go together, are too."""
    tests = [correlated_voxels(circular_shift_p, seed, coefficient) for seed in range(20)]
    assert stats.kstest(np.concatenate([test.p[::40] for test in tests]), "uniform").pvalue > 0.01
    assert stats.kstest([p for test in tests for p in test.region_p.values()], "uniform").pvalue > 0.01
    assert n_discovering(tests) <= most_by_chance(20)
    assert n_familywise(tests) <= most_by_chance(20)


def test_shuffling_single_trs_is_not_calibrated() -> None:
    """What the tests above guard against: it takes autocorrelation for signal."""
    tests = [noise_only(block_permutation_p, seed, block_trs=1, tail="two-sided") for seed in range(20)]
    assert uniformity(tests) < 1e-10
    assert n_discovering(tests) > 10


def test_leaving_out_small_lags_is_not_calibrated() -> None:
    """Why min_shift_trs is 0: without lags that resemble the data the null lies on the other side of 0."""
    rng = np.random.default_rng(0)
    runs = (40,) * 8
    bold, prediction = ar1(rng, 500, runs=runs), ar1(rng, 500, runs=runs, n_averaged=4)
    share = [(circular_shift_p(prediction, bold, runs, min_shift_trs=least).p <= 0.05).mean() for least in (0, 10)]
    assert share[0] < 0.07
    assert share[1] > 0.10


def test_true_effects_are_found_at_the_promised_rate() -> None:
    """A tenth of the voxels follow the prediction: of those found at most 5 % are others, and most are found."""
    false, found = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bold, prediction = ar1(rng, 200), ar1(rng, 200, n_averaged=4)
        bold[:, :20] += 2 * prediction[:, :20]
        rejected = fdr_bh(circular_shift_p(prediction, bold, RUN_LENGTHS_TRS, n_permutations=1999).p).rejected
        false, found = false + rejected[20:].sum(), found + rejected.sum()
    assert false / found < 0.08  # 0.05 and two standard errors of about 400 discoveries
    assert found - false > 0.8 * 400


def test_equally_good_models_differ_at_the_promised_rate() -> None:
    tests = [equal_models(seed) for seed in range(100)]
    assert uniformity(tests[:20]) > 0.01
    assert n_discovering(tests) <= most_by_chance(100)
    naive = [equal_models(seed, block_trs=1) for seed in range(20)]
    assert uniformity(naive) < 1e-6


def test_stories_without_a_gain_differ_at_the_promised_rate() -> None:
    rng = np.random.default_rng(0)
    p = sign_flip_p(rng.standard_t(4, size=(10, 2000))).p
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert stats.kstest(p, "uniform").statistic < 0.04


def coverage(n_clusters: int, n_draws: int) -> tuple[float, float]:
    """How often the BCa and the t interval of normal values contain their mean."""
    hits = np.zeros(2)
    for seed in range(n_draws):
        values = np.random.default_rng(seed).normal(size=n_clusters)
        bca = bootstrap_interval(values, n_resamples=999, seed=seed, min_clusters=2)
        t = subject_means_summary(values, range(n_clusters))
        hits += [bca.low <= 0 <= bca.high, t.low <= 0 <= t.high]
    bca_share, t_share = hits / n_draws
    return float(bca_share), float(t_share)


def nested_coverage(n_draws: int, *, shared: bool) -> float:
    """How often the nested interval of 15 subjects and 15 stories contains the mean."""
    hits = 0
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        stories = rng.normal(size=(1 if shared else 15, 15))
        values = rng.normal(size=(15, 1)) + stories + rng.normal(size=(15, 15))
        design = "shared" if shared else "own"
        interval = nested_bootstrap_interval(values, stories=design, n_resamples=400, seed=seed)
        hits += interval.low <= 0 <= interval.high
    return hits / n_draws


def test_intervals_cover_as_often_as_documented() -> None:
    bca, t = coverage(20, 200)
    assert bca > 0.89
    assert t == pytest.approx(0.95, abs=0.04)
    # Of five clusters no bootstrap covers: that is why fewer than MIN_CLUSTERS get no interval.
    bca, t = coverage(5, 200)
    assert bca < 0.9
    assert t == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("shared", [True, False])
def test_nested_intervals_cover(shared) -> None:
    assert nested_coverage(100, shared=shared) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("test", [circular_shift_p, block_permutation_p])
def test_calibration_over_many_seeds(test) -> None:
    """500 seeds of 40 voxels: the share of p <= 0.05 to within a hundredth."""
    tests = [noise_only(test, seed) for seed in range(500)]
    assert np.mean([(test.p <= 0.05).mean() for test in tests]) == pytest.approx(0.05, abs=0.006)
    assert n_discovering(tests) <= most_by_chance(500)
    assert n_familywise(tests) <= most_by_chance(500)


def figures(n_seeds: int = 500) -> None:
    """Print the tables of docs/statistics.md."""
    shift, blocks = partial(noise_only, circular_shift_p), partial(noise_only, block_permutation_p)
    rows: list[tuple[str, Callable[..., PermutationTest]]] = [
        ("circular_shift_p", shift),
        ("circular_shift_p, min_shift_trs=10", partial(shift, min_shift_trs=10)),
        ("block_permutation_p, 20 TRs", blocks),
        ("block_permutation_p, 10 TRs", partial(blocks, block_trs=10)),
        ("block_permutation_p, 1 TR", partial(blocks, block_trs=1)),
        ("paired_block_p, 20 TRs", equal_models),
        ("paired_block_p, 10 TRs", partial(equal_models, block_trs=10)),
        ("paired_block_p, 1 TR", partial(equal_models, block_trs=1)),
    ]
    for name, run in rows:
        for tail in ("greater", "two-sided"):
            tests = [run(seed, tail=tail) for seed in range(n_seeds)]
            p = np.concatenate([test.p for test in tests])
            print(
                f"| {name} | {tail} | {uniformity(tests[:20]):.2g} | {(p <= 0.05).mean():.3f} "
                f"| {(p <= 0.01).mean():.4f} | {n_discovering(tests) / n_seeds:.3f} "
                f"| {n_familywise(tests) / n_seeds:.3f} |",
                flush=True,
            )
    for coefficient in (0.3, 0.6, 0.9):
        for name, test, options in (
            ("circular_shift_p", circular_shift_p, {}),
            ("block_permutation_p, 20 TRs", block_permutation_p, {}),
            ("block_permutation_p, 40 TRs", block_permutation_p, {"block_trs": 40}),
            ("paired_block_p, 20 TRs", paired_block_p, {}),
            ("paired_block_p, 40 TRs", paired_block_p, {"block_trs": 40}),
        ):
            tests = [correlated_voxels(test, seed, coefficient, **options) for seed in range(40)]
            p, by_region = np.concatenate([t.p for t in tests]), [p for t in tests for p in t.region_p.values()]
            uniform = stats.kstest(np.concatenate([t.p[::40] for t in tests[:20]]), "uniform").pvalue
            print(
                f"| {coefficient} | {name} | {uniform:.2g} | {(p <= 0.05).mean():.3f} | {(p <= 0.01).mean():.4f} "
                f"| {n_discovering(tests) / 40:.2f} | {np.mean(np.array(by_region) <= 0.05):.2f} |",
                flush=True,
            )
    for n_clusters in (5, 8, 10, 15, 20, 40):
        print(f"| {n_clusters} | {' | '.join(f'{share:.3f}' for share in coverage(n_clusters, 1000))} |", flush=True)
    for shared in (True, False):
        print(f"nested, {'shared' if shared else 'own'} stories: {nested_coverage(500, shared=shared):.3f}", flush=True)


if __name__ == "__main__":
    figures()

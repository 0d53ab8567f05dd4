"""Simulated subjects: planted regions are there, and the best possible correlation is the one that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from brain_tuning.corpus.ceiling import schoppe_ceiling
from brain_tuning.corpus.simulator import cortex
from brain_tuning.corpus.simulator.cortex import COMMON_SHARE, LAYOUT, SIGNAL_SHARE, make_subject
from brain_tuning.corpus.simulator.simulate import World
from brain_tuning.encoding.scores import pearson_r, zscore

LISTENING = [region for region, (group, _) in LAYOUT.items() if group]


@pytest.fixture(scope="module")
def measured(world: World) -> dict[str, np.ndarray]:
    """z-scored BOLD of the first subject: training rows, mean of the repeats, and the repeats."""
    runs = list(world.listenings(world.subjects[0]))
    repeats = np.stack([run.bold for run in runs if run.split == "test"])
    return {
        "train": np.concatenate([zscore(run.bold) for run in runs if run.split != "test"]),
        "test": np.mean([zscore(repeat) for repeat in repeats], axis=0),
        "repeats": repeats,
    }


def rows(world: World, *groups: str) -> tuple[np.ndarray, np.ndarray]:
    """True drivers of the training and of the test story, z-scored within the story."""
    scored = [zscore(np.concatenate([story[g] for g in groups], axis=1)) for story in world.drivers]
    # A driver that does not change within one story carries no information there, as in a design matrix.
    stories = [np.where(np.isnan(values), 0.0, values) for values in scored]
    return np.concatenate(stories[:-1]), stories[-1]


def recovered(world: World, measured: dict[str, np.ndarray], *groups: str) -> np.ndarray:
    """Held-out correlation of a ridge on true drivers, NaN for defective voxels."""
    train, test = rows(world, *groups)
    sound = np.isfinite(measured["train"]).all(0)
    r = np.full(len(sound), np.nan)
    prediction = Ridge(alpha=10.0).fit(train, measured["train"][:, sound]).predict(test)
    r[sound] = pearson_r(prediction, measured["test"][:, sound])
    return r


def test_the_noise_free_signal_reaches_the_stated_ceiling(world: World, measured: dict[str, np.ndarray]) -> None:
    subject = world.subjects[0]
    r = pearson_r(world.signals(subject)[-1], measured["test"])
    for region in LISTENING:
        inside = subject.region_of == region
        assert r[inside].mean() == pytest.approx(subject.ceiling(8)[inside].mean(), abs=0.03), region


def test_a_ridge_on_the_true_drivers_comes_close(world: World, measured: dict[str, np.ndarray]) -> None:
    """What is lost is estimation error: a few hundred TRs for up to ten drivers."""
    subject = world.subjects[0]
    for region in LISTENING:
        inside = subject.region_of == region
        r = recovered(world, measured, LAYOUT[region][0])
        assert 0.85 < r[inside].mean() / subject.ceiling(8)[inside].mean() <= 1.02, region
    r = recovered(world, measured, *world.drivers[0])
    noise = r[(subject.region_of == "noise") & np.isfinite(r)]
    assert len(noise) == 2 * LAYOUT["noise"][1] - cortex.N_NAN - cortex.N_CONSTANT
    assert abs(noise.mean()) < 0.03


def test_each_region_listens_to_its_own_drivers(world: World, measured: dict[str, np.ndarray]) -> None:
    r = {group: recovered(world, measured, group) for group in world.drivers[0]}
    for region in LISTENING:
        inside = world.subjects[0].region_of == region
        means = {group: values[inside].mean() for group, values in r.items()}
        assert max(means, key=lambda group: means[group]) == LAYOUT[region][0], (region, means)


def test_the_estimated_ceiling_is_the_true_one(world: World, measured: dict[str, np.ndarray]) -> None:
    subject = world.subjects[0]
    estimated, true = schoppe_ceiling(measured["repeats"]), subject.ceiling(8)
    for region in LISTENING:
        inside = subject.region_of == region
        assert estimated[inside].mean() == pytest.approx(true[inside].mean(), abs=0.03), region
    noise = estimated[subject.region_of == "noise"]
    # Without signal about half of the estimates are undefined, the others small.
    assert 0.35 < np.isnan(noise).mean() < 0.65
    assert np.nanmean(noise) < 0.4


def test_the_ceiling_is_the_formula() -> None:
    subject = make_subject("s1", seed=0, index=0, widths={"acoustic": 8})
    share = subject.signal_share
    np.testing.assert_allclose(subject.ceiling(1), np.sqrt(share))
    np.testing.assert_allclose(subject.ceiling(10), np.sqrt(share / (share + (1 - share) / 10)))
    listening = subject.region_of != "noise"
    assert (subject.ceiling(10)[~listening] == 0).all()
    assert SIGNAL_SHARE[0] <= share[listening].min() <= share[listening].max() <= SIGNAL_SHARE[1]


def test_subjects_share_the_stated_part_of_their_mixing(world: World) -> None:
    first, second = world.subjects
    for group in ("acoustic", "phonetic", "semantic"):
        listens = first.weights[group].any(0)
        np.testing.assert_array_equal(listens, second.weights[group].any(0))
        pair = first.weights[group][:, listens].ravel(), second.weights[group][:, listens].ravel()
        assert np.corrcoef(*pair)[0, 1] == pytest.approx(COMMON_SHARE, abs=0.1)
    assert not np.array_equal(first.signal_share, second.signal_share)


def test_noise_is_first_order_autoregressive_and_of_the_stated_size() -> None:
    subject = make_subject("s1", seed=0, index=0, widths={"acoustic": 8})
    bold = cortex.listen(subject, np.zeros((3000, subject.n_voxels)), np.random.default_rng(0))
    noise = bold[:, np.setdiff1d(np.flatnonzero(subject.region_of == "noise"), subject.nan_voxels)]
    noise = noise[:, noise.std(0) > 0]
    assert noise.std(0).mean() == pytest.approx(cortex.SCALE, rel=0.02)
    lagged = [np.corrcoef(column[1:], column[:-1])[0, 1] for column in noise.T[:50]]
    assert np.mean(lagged) == pytest.approx(cortex.AR1, abs=0.02)


def test_regions_cover_what_they_say() -> None:
    subject = make_subject("s1", seed=0, index=0, widths={"acoustic": 8})
    regions, kinds = subject.regions(), subject.region_kinds()
    assert set(regions) == set(kinds)
    np.testing.assert_array_equal(regions["AC"], np.union1d(regions["auditory-left"], regions["auditory-right"]))
    np.testing.assert_array_equal(np.union1d(regions["left"], regions["right"]), np.arange(subject.n_voxels))
    assert not np.intersect1d(regions["left"], regions["right"]).size
    planted = [region for region, kind in kinds.items() if kind == "functional"]
    assert sum(len(regions[region]) for region in planted) == subject.n_voxels
    assert {region for region, kind in kinds.items() if kind == "selection"} == {"AC", "left", "right"}
    defective = np.r_[subject.nan_voxels, subject.constant_voxels]
    assert len(set(defective)) == cortex.N_NAN + cortex.N_CONSTANT
    assert (subject.region_of[defective] == "noise").all()

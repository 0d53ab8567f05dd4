"""Frozen features: what the model gives, each story once, and no trace left in the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus
from brain_tuning.features.story import model_features


@pytest.fixture(scope="module")
def model(tuned_run: Path) -> BrainWavLMForFMRIEncoding:
    return BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")


def test_features_are_those_of_the_model(model: BrainWavLMForFMRIEncoding, corpus: Corpus) -> None:
    run = corpus.runs("s1", "validation")[0]
    values, seen = model_features(model, corpus)(run.story, run.tr_times_s)
    expected, heard = model.story_features(corpus.audio(run.story), run.tr_times_s)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(seen, heard)
    assert values.shape == (run.n_trs, model.config.hidden_size)
    assert seen.all()


def test_each_story_and_grid_is_computed_once(model: BrainWavLMForFMRIEncoding, corpus: Corpus) -> None:
    computed: list[str] = []
    features = model_features(model, corpus, progress=computed.append)
    run = corpus.runs("s1", "validation")[0]
    first, _ = features(run.story, run.tr_times_s)
    again, _ = features(run.story, run.tr_times_s.copy())
    assert again is first
    other, _ = features(run.story, run.tr_times_s + 0.5)
    assert computed == [run.story, run.story]
    assert not np.allclose(other, first)


def test_a_model_in_training_mode_gives_the_same_and_stays_in_it(
    model: BrainWavLMForFMRIEncoding, corpus: Corpus
) -> None:
    run = corpus.runs("s1", "validation")[0]
    expected, _ = model_features(model.eval(), corpus)(run.story, run.tr_times_s)
    model.train()
    values, _ = model_features(model, corpus)(run.story, run.tr_times_s)
    np.testing.assert_array_equal(values, expected)
    assert model.training
    model.eval()

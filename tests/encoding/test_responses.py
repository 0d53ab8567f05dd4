"""Responses read from the store in blocks are those of the whole, z-scored run by run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brain_tuning.corpus import Corpus, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.encoding.folds import story_folds
from brain_tuning.encoding.responses import StoredResponses, StoredRun
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.encoding.scores import zscore
from brain_tuning.errors import EncodingError

N_VOXELS = 7


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    rng = np.random.default_rng(0)
    stories = [StoryInput(name, (rng.standard_normal(16_000 * 90) / 10).astype(np.float32)) for name in ("a", "b", "c")]
    runs = []
    for k, story in enumerate(stories):
        bold = rng.normal(3.0, 2.0, (40 - k, N_VOXELS)).astype(np.float32)
        bold[:, 2] = 5.0  # constant
        bold[4, 3] = np.nan
        runs.append(RunInput(story.name, 0, 0, "train", 2.0, 0.0, bold))
    subject = SubjectInput("s1", N_VOXELS, runs)
    place = tmp_path_factory.mktemp("responses") / "corpus"
    return open_corpus(
        write_corpus(Path(place), name="x", source="x", licence="x", stories=stories, subjects=[subject])
    )


def test_a_block_is_that_part_of_the_whole(corpus: Corpus) -> None:
    runs = corpus.runs("s1")
    blocks = StoredResponses(corpus, runs)
    whole = np.concatenate([zscore(corpus.bold(run)) for run in runs])
    assert blocks.shape == whole.shape == (40 + 39 + 38, N_VOXELS)
    np.testing.assert_array_equal(blocks[:, :], whole)
    np.testing.assert_array_equal(blocks[10:60, 1:5], whole[10:60, 1:5])
    np.testing.assert_array_equal(blocks[:, 6:99], whole[:, 6:])
    assert blocks[:, :].dtype == np.float32
    some = StoredResponses(corpus, runs, np.array([6, 0, 4]))
    assert some.shape == (117, 3)
    np.testing.assert_array_equal(some[:, 1:3], whole[:, [0, 4]])
    assert np.isnan(whole[:, 2:4]).any(0).all()


def test_runs_of_one_subject_are_wanted(corpus: Corpus) -> None:
    """The third column of one brain is not the third of another."""
    runs = corpus.runs("s1")
    with pytest.raises(EncodingError, match=r"responses are those of one subject \[runs of s1, s2\]; expected one"):
        StoredResponses(corpus, [*runs, replace(runs[0], subject="s2")])
    with pytest.raises(EncodingError, match="runs of none"):
        StoredResponses(corpus, [])


def test_a_ridge_on_the_store_is_that_on_the_array(corpus: Corpus) -> None:
    runs = corpus.runs("s1")
    features = np.random.default_rng(1).standard_normal((117, 5)).astype(np.float32)
    folds = story_folds([run.story for run in runs], [run.n_trs for run in runs])
    blocks = StoredResponses(corpus, runs)
    streamed = ridge_cv(features, blocks, folds, [1.0, 10.0, 100.0], voxels_per_block=2)
    whole = ridge_cv(features, blocks[:, :], folds, [1.0, 10.0, 100.0])
    np.testing.assert_array_equal(streamed.penalty, whole.penalty)
    np.testing.assert_allclose(streamed.weights, whole.weights, rtol=1e-5, atol=1e-7)
    assert streamed.n_nan == 2


def test_a_run_of_one_subject_is_read_without_the_others_columns(corpus: Corpus) -> None:
    """A slice of columns is a view of the file, not a copy of the run."""
    run = corpus.runs("s1")[0]
    part = corpus.bold(run, slice(2, 5))
    np.testing.assert_array_equal(part, corpus.bold(run)[:, 2:5])
    assert not part.flags.writeable
    assert part.base is not None


def test_rows_of_a_run_are_those_of_its_zscore(corpus: Corpus) -> None:
    """To the last bit, whichever rows and voxels are read; what is held does not grow with the rows."""
    run, voxels = corpus.runs("s1")[0], np.array([5, 0, 2, 3])
    stored, whole = StoredRun(corpus, run, voxels), zscore(corpus.bold(run, voxels))
    for rows in (slice(0, 40), slice(7, 12), slice(39, 40)):
        np.testing.assert_array_equal(stored[rows], whole[rows])
    assert stored.nbytes == 2 * 8 * 4
    longer = StoredRun(corpus, run, voxels, n_trs=65)
    np.testing.assert_array_equal(longer[:], np.resize(whole, (65, 4)))
    np.testing.assert_array_equal(longer[38:44], np.resize(whole, (65, 4))[38:44])
    assert StoredRun(corpus, run, voxels, n_trs=10)[:].shape == (10, 4)


def test_rows_are_read_alone(corpus: Corpus) -> None:
    run = corpus.runs("s1")[1]
    np.testing.assert_array_equal(corpus.bold(run, rows=slice(3, 9)), corpus.bold(run)[3:9])
    np.testing.assert_array_equal(
        corpus.bold(run, np.array([6, 1]), rows=slice(3, 9)), corpus.bold(run)[3:9][:, [6, 1]]
    )

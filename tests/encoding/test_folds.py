"""Folds cut between stories, and what that is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_tuning.encoding.folds import Fold, check_folds, chunk_bootstrap_folds, contiguous_folds, story_folds
from brain_tuning.errors import EncodingError


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9)), min_size=2, max_size=12),
    n_folds=st.none() | st.integers(2, 6),
)
def test_every_story_is_held_out_once_and_whole(runs: list[tuple[str, int]], n_folds: int | None) -> None:
    stories, lengths = [name for name, _ in runs], [n for _, n in runs]
    n_stories = len(set(stories))
    if n_stories < 2 or (n_folds is not None and n_folds > n_stories):
        return
    folds = story_folds(stories, lengths, n_folds=n_folds)
    assert len(folds) == (n_folds or n_stories)
    check_folds(folds, sum(lengths))
    row_story = np.repeat(np.array(stories), lengths)
    held_out = np.concatenate([fold.held_out for fold in folds])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(sum(lengths)))
    for fold in folds:
        assert not set(row_story[fold.train]) & set(row_story[fold.held_out])
        assert fold.train.size + fold.held_out.size == sum(lengths)
        assert set(fold.name.split("+")) == set(row_story[fold.held_out])


def test_folds_of_stories_are_balanced_and_deterministic() -> None:
    stories, lengths = list("abcdefgh"), [300, 100, 120, 280, 200, 210, 190, 205]
    folds = story_folds(stories, lengths, n_folds=4)
    sizes = [fold.held_out.size for fold in folds]
    assert max(sizes) - min(sizes) < 60
    assert [fold.name for fold in story_folds(stories, lengths, n_folds=4)] == [fold.name for fold in folds]


def test_blocks_within_one_story_leave_a_gap() -> None:
    folds = contiguous_folds(100, 5, gap_trs=6)
    check_folds(folds, 100)
    np.testing.assert_array_equal(np.concatenate([fold.held_out for fold in folds]), np.arange(100))
    middle = folds[2]
    assert (middle.held_out[0], middle.held_out[-1], middle.name) == (40, 59, "TRs 40-59")
    np.testing.assert_array_equal(middle.train, np.r_[0:34, 66:100])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6).filter(lambda lengths: sum(lengths) > 40),
    chunk_trs=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_chunks_of_the_bootstrap_never_cross_a_run(lengths: list[int], chunk_trs: int, seed: int) -> None:
    if sum(length // chunk_trs for length in lengths) * chunk_trs < 0.5 * sum(lengths):
        return
    stories = [f"s{k}" for k in range(len(lengths))]
    folds = chunk_bootstrap_folds(stories, lengths, chunk_trs=chunk_trs, seed=seed)
    check_folds(folds, sum(lengths))
    of_row = np.concatenate([k * 1000 + np.arange(length) // chunk_trs for k, length in enumerate(lengths)])
    for fold in folds:
        assert fold.train.size + fold.held_out.size == sum(lengths)
        chunks, sizes = np.unique(of_row[fold.held_out], return_counts=True)
        assert (sizes == chunk_trs).all()
        assert not set(chunks) & set(of_row[fold.train])
        assert abs(fold.held_out.size - 0.25 * sum(lengths)) <= chunk_trs


def test_the_bootstrap_is_that_of_the_field_and_seeded() -> None:
    """Papers section 3: 3 bootstraps of 20-TR chunks, 25 % held out."""
    folds = chunk_bootstrap_folds(["a", "b"], [205, 210])
    assert [fold.name for fold in folds] == ["bootstrap 0", "bootstrap 1", "bootstrap 2"]
    assert [fold.held_out.size for fold in folds] == [100, 100, 100]
    # The TRs left over at the end of each run are never held out.
    for fold in folds:
        assert not set(fold.held_out) & {*range(200, 205), *range(405, 415)}
    again = chunk_bootstrap_folds(["a", "b"], [205, 210])
    other = chunk_bootstrap_folds(["a", "b"], [205, 210], seed=1)
    assert all((x.held_out == y.held_out).all() for x, y in zip(folds, again, strict=True))
    assert any((x.held_out != y.held_out).any() for x, y in zip(folds, other, strict=True))
    assert any((folds[0].held_out != fold.held_out).any() for fold in folds[1:])


def test_one_story_is_refused_with_the_way_out() -> None:
    """Shuffled or single-story folds overstate r: the error names the option that does not."""
    with pytest.raises(EncodingError, match=r"at least two stories \[stories: a\].*contiguous_folds"):
        story_folds(["a", "a"], [10, 10])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: story_folds(["a", "b"], [10, 10], n_folds=3), "3 folds of 2 stories; expected 2 to 2"),
        (lambda: story_folds(["a", "b"], [10]), "2 story names for 1 runs"),
        (lambda: story_folds(["a", "b"], [10, 0]), r"1 runs have no TR \[first: b\]"),
        (lambda: contiguous_folds(100, 1, gap_trs=0), "1 folds; expected at least 2"),
        (lambda: contiguous_folds(100, 5, gap_trs=-1), "gap_trs=-1"),
        (lambda: contiguous_folds(3, 5, gap_trs=0), "3 TRs cannot be cut into 5 blocks"),
        (lambda: contiguous_folds(10, 2, gap_trs=5), "gaps leave nothing to train on"),
        (lambda: chunk_bootstrap_folds(["a"], [100], n_boots=0), "n_boots=0, chunk_trs=20, held_out_share=0.25"),
        (lambda: chunk_bootstrap_folds(["a"], [100], held_out_share=1.0), "held_out_share=1; expected at least 1"),
        (lambda: chunk_bootstrap_folds(["a", "b"], [19, 19]), "1 chunks of 20 TRs .*38 TRs, 0 whole chunks"),
        (lambda: chunk_bootstrap_folds(["a"], [20]), r"TRs left to train on; remedy: use shorter chunks"),
        (lambda: check_folds([], 4), "there are no folds"),
        (lambda: check_folds(iter([_fold([0], [1])]), 4), "the folds are a list_iterator; expected a list of Fold"),
        (lambda: check_folds([([0], [1])], 4), r"fold 0 is a tuple; expected a Fold; remedy: Fold\(name, train"),
        (lambda: check_folds([Fold("f", [0], np.array([1]))], 4), r"train is a list \[fold 'f'\]; expected an array"),
        (lambda: check_folds([Fold("f", np.array([0]), np.array([0.5]))], 4), "held_out is an array of float64"),
        (lambda: check_folds([_fold([0, 1], [1, 2])], 4), r"1 rows are both .*\[fold 'f', first row 1\]"),
        (lambda: check_folds([_fold([0, 1], [4])], 4), r"held_out names rows 4 to 4 .*rows 0 to 3"),
        (lambda: check_folds([_fold([], [1])], 4), "train of a fold is empty"),
        (lambda: check_folds([_fold([2, 1], [3])], 4), "train is not strictly ascending"),
    ],
)
def test_wrong_folds_are_named(call, message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        call()


def _fold(train: list[int], held_out: list[int]) -> Fold:
    return Fold("f", np.array(train, dtype=np.intp), np.array(held_out, dtype=np.intp))

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_tuning.corpus.schema import Run
from brain_tuning.corpus.splits import assign_splits, check_leaks, stories_by_split
from brain_tuning.errors import CorpusError

#: story -> digest of its waveform
AUDIO = {"a": b"1", "b": b"2", "a again": b"1"}


def _run(story: str, split: str, first_tr: int, n_trs: int, subject: str = "s1") -> Run:
    return Run(subject, story, 0, 0, split, 2.0, 2.0 * first_tr, n_trs, 0)


def test_stories_are_assigned_by_name() -> None:
    found = assign_splits(["a", "b", "c", "d"], test=["c"], validation=["a"])
    assert found == {"a": "validation", "b": "train", "c": "test", "d": "train"}


def test_names_that_cannot_be_assigned() -> None:
    with pytest.raises(CorpusError, match=r"named for test and for validation \[a\]"):
        assign_splits(["a"], test=["a"], validation=["a"])
    with pytest.raises(CorpusError, match=r"does not exist \[x, y\]; expected one of a, b"):
        assign_splits(["a", "b"], test=["x"], validation=["y"])


def test_stories_by_split_keeps_the_order() -> None:
    runs = [
        _run("b", "train", 0, 5),
        _run("a", "train", 0, 5),
        _run("b", "test", 5, 5),
        _run("b", "train", 9, 1),
    ]
    assert stories_by_split(runs) == {"train": ["b", "a"], "validation": [], "test": ["b"]}


def test_touching_pieces_are_allowed() -> None:
    check_leaks([_run("a", "train", 0, 10), _run("a", "test", 10, 10), _run("a", "train", 20, 10)], AUDIO)


def test_another_subjects_test_story_is_a_leak() -> None:
    with pytest.raises(CorpusError, match=r"6.0 to 20.0 s of the story are in .*\[a\]; expected a part of a story"):
        check_leaks([_run("a", "train", 0, 10), _run("a", "test", 3, 20, "s2")], AUDIO)


def test_the_same_audio_under_another_name_is_a_leak() -> None:
    train, test = _run("a", "train", 0, 10), _run("a again", "test", 0, 10, "s2")
    with pytest.raises(CorpusError, match=r"audio of a again \(test\) is that of a \(train\) \[subject s2\]"):
        check_leaks([train, test], AUDIO)
    check_leaks([train, _run("a again", "train", 0, 10)], AUDIO)
    check_leaks([train, _run("b", "test", 0, 10)], AUDIO)


pieces = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["train", "validation", "test"]),
    st.integers(0, 30),
    st.integers(1, 10),
)


@given(st.lists(pieces, max_size=6))
def test_leaks_are_found_as_by_comparing_all_pairs(given_pieces: list[tuple[str, str, int, int]]) -> None:
    runs = [_run(*piece) for piece in given_pieces]
    leak = any(
        a.story == b.story and a.split != b.split and a.onset_s < b.end_s and b.onset_s < a.end_s
        for a, b in itertools.combinations(runs, 2)
    )
    if leak:
        with pytest.raises(CorpusError, match="of the story are in"):
            check_leaks(runs, AUDIO)
    else:
        check_leaks(runs, AUDIO)

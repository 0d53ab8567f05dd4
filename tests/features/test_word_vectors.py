"""Word vectors: three formats, look-up, coverage, and the way to TRs."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from story_corpus import corpus_of, noise

from brain_tuning.corpus import Interval, StoryInput
from brain_tuning.errors import CorpusError
from brain_tuning.features.low_level import baseline_features, baseline_files, describe_baseline
from brain_tuning.features.word_vectors import plain_word, read_word_vectors

VECTORS = {"alice": [1.0, -2.0, 0.5], "rabbit": [0.25, 4.0, -1.0], "the": [0.0, 0.5, 8.0]}
WORD2VEC = Path(__file__).resolve().parents[3] / "shared" / "data" / "words" / "word2vec_googlenews_top1000.npz"


def lines_of(vectors: dict[str, list[float]]) -> str:
    return "".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in vectors.items())


def write(path: Path, vectors: dict[str, list[float]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(vectors))
    elif path.suffix == ".npz":
        np.savez(path, words=np.array(list(vectors)), vectors=np.array(list(vectors.values()), np.float16))
    else:
        header = f"{len(vectors)} 3\n" if path.suffix == ".vec" else ""
        lines = header + lines_of(vectors)
        path.write_text(lines.replace(" ", "\t") + "\n" if path.suffix == ".tsv" else lines)
    return path


@pytest.mark.parametrize("name", ["glove.txt", "word2vec.vec", "tabs.tsv", "words.json", "words.npz"])
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    found = read_word_vectors(write(tmp_path / name, VECTORS), {"alice", "the", "cat"})
    assert found.keys() == {"alice", "the"}
    assert all(found[word].tolist() == VECTORS[word] and found[word].dtype == np.float32 for word in found)


def test_words_are_looked_up_in_lower_case_without_punctuation(tmp_path: Path) -> None:
    assert [plain_word(text) for text in ("SEATBELT,", "'SARAH'.", "DON’T", "TEMPER--", '"HEADS"', "i ", "--")] == [
        "seatbelt", "sarah", "don't", "temper", "heads", "i", ""
    ]  # fmt: skip
    path = tmp_path / "cased.txt"
    path.write_text("Rabbit 1 1\nRABBIT 2 2\nthe 3 3\nThe 4 4\nApril 5 5\napril 6 6\nthe. 7 7\n. . 8 8\n")
    found = {word: vector[0] for word, vector in read_word_vectors(path, {"rabbit", "the", "april"}).items()}
    assert found == {"rabbit": 1, "the": 3, "april": 6}


def test_two_words_give_their_vectors_weighted_by_lanczos(tmp_path: Path) -> None:
    """The value of a word is at its middle; an unknown word adds nothing."""
    words = [Interval("ALICE,", 2.0, 2.5), Interval("jabberwock", 5.0, 6.0), Interval("rabbit", 8.0, 8.2)]
    corpus = corpus_of(tmp_path / "corpus", [StoryInput("a", noise(20), words)])
    path = write(tmp_path / "v.txt", VECTORS)
    times_s = np.arange(1.0, 20, 2.0)
    found, seen = baseline_features(f"word-vectors:{path}", corpus)("a", times_s)

    def weights(at_s: float) -> np.ndarray:
        u = (times_s - at_s) / 2.0
        return np.where(np.abs(u) <= 3, np.sinc(u) * np.sinc(u / 3), 0.0)

    expected = np.outer(weights(2.25), VECTORS["alice"]) + np.outer(weights(8.1), VECTORS["rabbit"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert seen.all()


def test_coverage_is_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["the", "rabbit", "the", "walrus", "Walrus", "oyster", "Alice"]
    words = [Interval(text, float(k), k + 0.5) for k, text in enumerate(texts)]
    corpus = corpus_of(tmp_path / "corpus", [StoryInput("a", noise(10), words)])
    name = f"word-vectors:{write(tmp_path / 'v.json', VECTORS)}"
    with caplog.at_level(logging.INFO):
        (described,) = describe_baseline(name, corpus)
    assert "4 of 7 words (57.1 %) have vectors; most frequent without: walrus, oyster" in caplog.text
    assert described == {
        "kind": name, "columns": ["0", "1", "2"], "n_words": 7, "n_with_vector": 4, "coverage": 0.5714,
        "frequent_without": ["walrus", "oyster"],
    }  # fmt: skip
    assert baseline_files(f"word-rate+{name}") == [tmp_path / "v.json"]


def test_a_story_with_too_few_known_words_is_refused(tmp_path: Path) -> None:
    said = {"a": ["the", "rabbit"], "b": ["the", "walrus", "oyster"], "c": []}
    stories = [
        StoryInput(name, noise(5), [Interval(text, float(k), k + 0.5) for k, text in enumerate(texts)])
        for name, texts in said.items()
    ]
    path = write(tmp_path / "v.txt", VECTORS)
    features = baseline_features(f"word-vectors:{path}", corpus_of(tmp_path / "corpus", stories))
    times_s = np.array([1.0, 3.0])
    assert features("a", times_s)[0].shape == (2, 3)
    with pytest.raises(
        CorpusError, match=r"only 1 of 3 words have vectors \[story b, .*v.txt\]; expected at least 50%"
    ):
        features("b", times_s)
    with pytest.raises(CorpusError, match=r"the story has no words \[c\]"):
        features("c", times_s)


def test_words_with_spaces_are_not_taken_for_their_first(tmp_path: Path) -> None:
    """So in GloVe's 840B file: "at name@domain.com" is no "at"."""
    (tmp_path / "v.txt").write_text("alice 1 2\nat name@domain.com 3 4\nat 5 6\n")
    found = read_word_vectors(tmp_path / "v.txt", {"alice", "at"})
    assert {word: vector.tolist() for word, vector in found.items()} == {"alice": [1, 2], "at": [5, 6]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"alice 1 2\nthe 1 two\n", r"a vector cannot be read: .*two.* \[.*v.txt, line 2\]"),
        ("v.txt", b"alice\n", r"a line without numbers \[.*line 1\]"),
        ("v.txt", b"alice 1 nan\n", r"the vector of 'alice' is no list of finite numbers"),
        ("v.txt", b"1 2\nalice \xff\xfe\x00\x80", r"the file is no text .* save word2vec's binary format as text"),
        ("v.json", b"[1, 2]", r"the file holds no table of words"),
        ("v.json", b"{", r"the file is no JSON"),
        ("v.json", b'{"alice": [1, 2], "the": [1]}', r"vectors are of 2 lengths: \[1, 2\]"),
        ("v.json", b'{"alice": [1, "x"]}', r"the vector of 'alice' cannot be read"),
        ("v.npz", b"no archive", r"the arrays cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_word_vectors(tmp_path / name, {"alice", "the"})


def test_pickled_arrays_and_missing_files_are_refused(tmp_path: Path) -> None:
    words = np.array(["alice", None], dtype=object)
    np.savez(tmp_path / "v.npz", words=words, vectors=np.zeros((2, 3)))
    with pytest.raises(CorpusError, match=r"the arrays cannot be read: .*allow_pickle=False"):
        read_word_vectors(tmp_path / "v.npz", {"alice"})
    with pytest.raises(CorpusError, match=r"no such file of word vectors"):
        read_word_vectors(tmp_path / "none.txt", {"alice"})


@pytest.mark.skipif(not WORD2VEC.is_file(), reason="the word vectors are not in ../shared/data/words")
def test_published_vectors_know_that_a_father_is_more_like_a_mother_than_like_money() -> None:
    found = read_word_vectors(WORD2VEC, {"father", "mother", "money"})
    unit = {word: vector / np.linalg.norm(vector) for word, vector in found.items()}
    assert unit["father"].shape == (300,)
    assert unit["father"] @ unit["mother"] > unit["father"] @ unit["money"] + 0.2

"""Word vectors from a file, for the words of a corpus.

Three formats, none of which can run code: text, one word and its numbers a line, with blanks or tabs between (GloVe's;
word2vec's, which has a first line of two counts); ``.json``, ``{word: [numbers]}``; ``.npz``, arrays ``words`` (n,) and
``vectors`` (n, width).
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from brain_tuning.corpus import Corpus
from brain_tuning.errors import CorpusError

from .courses import Course, Source, at_events, tier

log = logging.getLogger(__name__)

#: a story in which fewer of the words than this have a vector is refused
MIN_COVERAGE = 0.5

_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_FORMATS = "text as GloVe's or word2vec's, .json of {word: [numbers]}, or .npz of words and vectors"


def plain_word(text: str) -> str:
    """A word as it is looked up: lower case, curly apostrophes straight, no punctuation at either end."""
    return _EDGES.sub("", text.lower().replace("’", "'"))


def read_word_vectors(path: str | Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Vectors of the wanted words that a file has.

    A word is looked up by :func:`plain_word` of both sides; of several spellings in the file the one in lower case
    counts, or else the first.

    Args:
        path: in one of the formats above.
        wanted: plain words.

    Returns:
        Word -> float32 of shape (width,).

    Raises:
        CorpusError: there is no such file, it is of another format, or a vector of a wanted word is not finite or
            not as long as the others.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CorpusError("no such file of word vectors", where=path, expected=_FORMATS)
    readers = {".json": _from_json, ".npz": _from_npz}
    found: dict[str, np.ndarray] = {}
    exact: set[str] = set()
    for word, vector in readers.get(path.suffix.lower(), _from_text)(path, frozenset(wanted)):
        plain = plain_word(word)
        if plain in found and (plain in exact or word != plain):
            continue
        if word == plain:
            exact.add(plain)
        found[plain] = _checked(vector, word, path)
    widths = Counter(len(vector) for vector in found.values())
    if len(widths) > 1:
        raise CorpusError(f"vectors are of {len(widths)} lengths: {sorted(widths)}", where=path, expected="one length")
    return found


def word_vectors(corpus: Corpus, path: str) -> Source:
    """The vectors of a story's words, at the middle of each; words without a vector add nothing.

    Raises:
        CorpusError: the file cannot be read; or, when a story is asked for, it has no words, or less than
            :data:`MIN_COVERAGE` of them have vectors.
    """
    counts = Counter(plain_word(word.text) for name in corpus.story_names() for word in corpus.story(name).words)
    vectors = read_word_vectors(path, counts.keys() - {""})
    n_words, n_known = counts.total(), sum(counts[word] for word in vectors)
    missing = [word for word, _ in counts.most_common() if word not in vectors]
    coverage = n_known / n_words if n_words else 0.0
    log.info(
        "%s: %d of %d words (%.1f %%) have vectors; most frequent without: %s",
        path, n_known, n_words, 100 * coverage, ", ".join(missing[:10]) or "none",
    )  # fmt: skip
    width = len(next(iter(vectors.values()))) if vectors else 0

    def course(story: str) -> Course:
        words = tier(corpus, story, "words")
        known = [word for word in words if plain_word(word.text) in vectors]
        if len(known) < MIN_COVERAGE * len(words):
            raise CorpusError(
                f"only {len(known)} of {len(words)} words have vectors",
                where=f"story {story}, {path}",
                expected=f"at least {MIN_COVERAGE:.0%}",
                remedy="use vectors of the story's language, with more words",
            )
        return at_events(known, np.stack([vectors[plain_word(word.text)] for word in known]), corpus, story)

    notes = {
        "n_words": n_words,
        "n_with_vector": n_known,
        "coverage": round(coverage, 4),
        "frequent_without": missing[:10],
    }
    return Source(tuple(str(k) for k in range(width)), course, notes)


def _from_text(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with path.open(encoding="utf-8") as lines:
            first = lines.readline()
            if not _is_header(first):
                lines.seek(0)
            width = None
            for number, line in enumerate(lines, 2 if _is_header(first) else 1):
                width = width or len(line.split()) - 1
                if width < 1:
                    raise CorpusError("a line without numbers", where=f"{path}, line {number}", expected=_FORMATS)
                # Most lines are of words that nobody said: their numbers are not read.
                if not any(plain_word(start) in wanted for start in line.split(maxsplit=1)[:1]):
                    continue
                # Some GloVe files hold words with spaces in them: the numbers are counted from the end.
                word, *numbers = line.rsplit(maxsplit=width)
                try:
                    vector = np.array(numbers, dtype=np.float32)
                except ValueError as error:
                    raise CorpusError(
                        f"a vector cannot be read: {error}", where=f"{path}, line {number}", expected=_FORMATS
                    ) from error
                if plain_word(word) in wanted:
                    yield word, vector
    except UnicodeDecodeError as error:
        raise CorpusError(
            "the file is no text",
            where=path,
            expected=_FORMATS,
            remedy="save word2vec's binary format as text",
        ) from error


def _is_header(line: str) -> bool:
    parts = line.split()
    return len(parts) == 2 and all(part.isdigit() for part in parts)


def _from_json(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"the file is no JSON: {error}", where=path, expected=_FORMATS) from error
    if not isinstance(table, dict):
        raise CorpusError("the file holds no table of words", where=path, expected=_FORMATS)
    for word, numbers in table.items():
        if plain_word(word) in wanted:
            try:
                yield word, np.array(numbers, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise CorpusError(f"the vector of {word!r} cannot be read", where=path, expected=_FORMATS) from error


def _from_npz(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words, vectors = arrays["words"], arrays["vectors"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CorpusError(f"the arrays cannot be read: {error}", where=path, expected=_FORMATS) from error
    if words.ndim != 1 or words.dtype.kind != "U" or vectors.ndim != 2 or len(words) != len(vectors):
        raise CorpusError(
            f"words of shape {words.shape} and type {words.dtype}, vectors of shape {vectors.shape}",
            where=path,
            expected="words (n,) of text, vectors (n, width)",
        )
    for word, vector in zip(words.tolist(), vectors, strict=True):
        if plain_word(word) in wanted:
            yield word, vector.astype(np.float32)


def _checked(vector: np.ndarray, word: str, path: Path) -> np.ndarray:
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise CorpusError(f"the vector of {word!r} is no list of finite numbers", where=path)
    return vector

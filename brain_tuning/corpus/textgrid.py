"""Praat TextGrids: words and phones with their times.

Praat defines the long and the short text format as one: a reader takes the quoted strings, the numbers
that stand free and the flags, in order, and skips everything else. So does this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from brain_tuning.corpus.schema import Interval
from brain_tuning.errors import CorpusError

WORD_TIERS = ("word", "words")
PHONE_TIERS = ("phone", "phones")

#: Labels of what is not speech, in the transcripts of ds003020, the Penn aligner and the Montreal aligner.
SILENCES = frozenset({"", "sp", "sil", "spn", "ns", "br", "lg", "ls", "cg", "sentence_start", "sentence_end"})
_BRACKETED = re.compile(r"\{.*\}|<.*>|\[.*\]")

_OTHERS = (
    r'|(?P<open>")|(?P<comment>![^\n]*)|(?P<flag><exists>|<absent>)'
    r"|(?P<number>(?<!\S)[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\S))"
)
_TOKEN = re.compile(r'(?P<text>"(?:[^"]|"")*")' + _OTHERS)
#: Transcribers write "HEADS" with its quotation marks and forget to double them (so in ds003020). A quoted
#: text that ends its line, as all do in files that Praat writes, can be told from them nevertheless.
_TOKEN_BY_LINE = re.compile(r'(?P<text>"[^\n]*"(?=[ \t]*(?:\n|\Z))|"(?:[^"]|"")*")' + _OTHERS)


def is_silence(text: str) -> bool:
    """Whether a label stands for a pause or noise: empty, ``sp``, ``{SL}``, ``<sil>`` and the like."""
    label = text.strip().lower()
    return label in SILENCES or _BRACKETED.fullmatch(label) is not None


def words_and_phones(
    path: str | Path, *, drop_silence: bool = True
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    """Words and phones of a TextGrid.

    Args:
        path: file with a tier ``word`` or ``words``, and perhaps ``phone`` or ``phones``, in any case.
        drop_silence: leave out the intervals for which :func:`is_silence` holds.

    Returns:
        (words, phones), in time order; phones are empty where there is no such tier.

    Raises:
        CorpusError: the file cannot be parsed, or has no tier of words.
    """
    tiers = read_textgrid(path)
    words = _tier(tiers, WORD_TIERS)
    if words is None:
        raise CorpusError(
            f"no tier of words; the tiers are {', '.join(tiers) or 'none'}",
            where=path,
            expected="a tier named word or words",
        )
    phones = _tier(tiers, PHONE_TIERS) or ()
    if not drop_silence:
        return words, phones
    return _speech(words), _speech(phones)


def read_textgrid(path: str | Path) -> dict[str, tuple[Interval, ...]]:
    """All tiers of a TextGrid, by name.

    Args:
        path: file in Praat's long or short text format; UTF-8, UTF-16 or Latin-1.

    Returns:
        Intervals by tier name, in the order of the file; the points of a point tier have no length.

    Raises:
        CorpusError: the file is missing or is no such TextGrid; the error names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError("no such TextGrid", where=path)
    content = _decoded(path.read_bytes())
    try:
        return _tiers(_Reader(path, content, _TOKEN_BY_LINE))
    except CorpusError:
        # Several texts on one line, which Praat reads too, are not told apart by line.
        with suppress(CorpusError):
            return _tiers(_Reader(path, content, _TOKEN))
        raise


def _tiers(reader: _Reader) -> dict[str, tuple[Interval, ...]]:
    if not reader.text("the file type").startswith("ooTextFile") or reader.text("the class") != "TextGrid":
        raise reader.error("this is not a TextGrid in Praat's text format")
    reader.number("the file's xmin")
    reader.number("the file's xmax")
    if reader.flag() == "<absent>":
        return {}
    n_tiers = reader.count("the number of tiers")
    tiers: dict[str, tuple[Interval, ...]] = {}
    for _ in range(n_tiers):
        kind = reader.text("a tier's class")
        if kind not in ("IntervalTier", "TextTier"):
            raise reader.error(f"unknown class of tier {kind!r}")
        name = reader.text("a tier's name")
        if name in tiers:
            raise reader.error(f"two tiers are named {name!r}")
        reader.number("the tier's xmin")
        reader.number("the tier's xmax")
        tiers[name] = tuple(_intervals(reader, kind, reader.count("the number of intervals")))
    reader.end()
    return tiers


def _intervals(reader: _Reader, kind: str, n_intervals: int) -> Iterator[Interval]:
    previous_s = float("-inf")
    for _ in range(n_intervals):
        start_s = reader.number("an interval's start")
        end_s = reader.number("an interval's end") if kind == "IntervalTier" else start_s
        if end_s < start_s or start_s < previous_s:
            raise reader.error(f"an interval from {start_s} to {end_s} s is out of order")
        yield Interval(reader.text("an interval's text"), start_s, end_s)
        previous_s = start_s


class _Reader:
    """Takes the tokens of a file one by one, and knows the line it is at."""

    def __init__(self, path: Path, content: str, token: re.Pattern[str]) -> None:
        self._path, self._content = path, content
        self._tokens = token.finditer(content)
        self._position = 0

    def text(self, meaning: str) -> str:
        return self._next("text", meaning)[1:-1].replace('""', '"')

    def number(self, meaning: str) -> float:
        return float(self._next("number", meaning))

    def count(self, meaning: str) -> int:
        value = self.number(meaning)
        if value < 0 or value != int(value):
            raise self.error(f"{meaning} is {value}")
        return int(value)

    def flag(self) -> str:
        return self._next("flag", "the flag <exists>")

    def end(self) -> None:
        for match in self._tokens:
            if match.lastgroup != "comment":
                self._position = match.start()
                raise self.error(f"{match.group()[:40]!r} stands after the last tier")

    def error(self, what: str) -> CorpusError:
        line = self._content.count("\n", 0, self._position) + 1
        return CorpusError(
            what,
            where=f"{self._path}, line {line}",
            expected="a Praat TextGrid",
            remedy="open and save it in Praat",
        )

    def _next(self, kind: str, meaning: str) -> str:
        for match in self._tokens:
            if match.lastgroup == "comment":
                continue
            self._position = match.start()
            if match.lastgroup == "open":
                raise self.error("a quoted text does not end")
            if match.lastgroup != kind:
                raise self.error(f"{match.group()[:40]!r} stands where {meaning} should be")
            return match.group()
        self._position = len(self._content)
        raise self.error(f"the file ends before {meaning}")


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16").replace("\r\n", "\n")
    if b"\x00" in data[:4]:
        return data.decode("utf-16-be" if data[:1] == b"\x00" else "utf-16-le").replace("\r\n", "\n")
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        content = data.decode("latin-1")
    return content.replace("\r\n", "\n").replace("\r", "\n")


def _tier(tiers: Mapping[str, tuple[Interval, ...]], names: tuple[str, ...]) -> tuple[Interval, ...] | None:
    for name, intervals in tiers.items():
        # The Montreal aligner writes "speaker - words".
        if name.strip().lower().rsplit(" - ", 1)[-1] in names:
            return intervals
    return None


def _speech(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    return tuple(interval for interval in intervals if not is_silence(interval.text))

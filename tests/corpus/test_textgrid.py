from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from brain_tuning.corpus.schema import Interval
from brain_tuning.corpus.textgrid import is_silence, read_textgrid, words_and_phones
from brain_tuning.errors import CorpusError

DATA = Path(__file__).parents[3] / "shared" / "data"

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "Word"
        xmin = 0
        xmax = 2.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "naïve"
        intervals [3]:
            xmin = 1.25
            xmax = 2
            text = "say ""yes"" 3 times"
        intervals [4]:
            xmin = 2
            xmax = 2.5
            text = "{SL}"
    item [2]:
        class = "TextTier"
        name = "taps"
        xmin = 0
        xmax = 2.5
        points: size = 1
        points [1]:
            number = 1.5
            mark = "tap"
"""
SHORT = """File type = "ooTextFile"
"TextGrid"

0
2.5
<exists>
2
"IntervalTier"
"Word"
0
2.5
4
0
0.5
""
0.5
1.25
"naïve"
1.25
2
"say ""yes"" 3 times"
2
2.5
"{SL}"
"TextTier"
"taps"
0
2.5
1
1.5
"tap"
"""
WORDS = (Interval("naïve", 0.5, 1.25), Interval('say "yes" 3 times', 1.25, 2.0))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("content", [LONG, SHORT, LONG.replace("\n", "\r\n")], ids=["long", "short", "crlf"])
def test_both_formats_in_all_encodings(tmp_path: Path, content: str, encoding: str) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_bytes(content.encode(encoding))
    tiers = read_textgrid(path)
    assert list(tiers) == ["Word", "taps"]
    assert tiers["Word"][1:3] == WORDS
    assert [i.text for i in tiers["Word"]] == ["", "naïve", 'say "yes" 3 times', "{SL}"]
    assert tiers["taps"] == (Interval("tap", 1.5, 1.5),)
    assert words_and_phones(path) == (WORDS, ())
    assert len(words_and_phones(path, drop_silence=False)[0]) == 4


def test_everything_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(SHORT.replace("\n", " ").replace("naïve", "na"))
    assert read_textgrid(path)["Word"][1] == Interval("na", 0.5, 1.25)


def test_quotation_marks_that_were_not_doubled(tmp_path: Path) -> None:
    """As in ds003020's transcripts: text = ""OH" and text = "IT"."."""
    path = tmp_path / "a.TextGrid"
    path.write_text(LONG.replace('"naïve"', '""OH" ').replace('"say ""yes"" 3 times"', '"IT"."'))
    assert [i.text for i in read_textgrid(path)["Word"]] == ["", '"OH', 'IT".', "{SL}"]
    # One that is not doubled at the very end leaves a file that reads well, but wrongly, quote by quote.
    path.write_text(LONG.replace('mark = "tap"', 'mark = ""tap"'))
    assert read_textgrid(path)["taps"][0].text == '"tap'


def test_a_label_of_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(LONG.replace("naïve", "first\nsecond"))
    assert read_textgrid(path)["Word"][1].text == "first\nsecond"


def test_tier_names(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    for name in ("word", "WORDS", "speaker 1 - words"):
        path.write_text(LONG.replace('"Word"', f'"{name}"'))
        assert words_and_phones(path)[0] == WORDS
    path.write_text(LONG.replace('"Word"', '"phones"').replace('"taps"', '"words"'))
    assert words_and_phones(path)[1] == WORDS
    path.write_text(LONG.replace('"Word"', '"sentence"'))
    with pytest.raises(CorpusError, match=r"no tier of words; the tiers are sentence, taps.*named word or words"):
        words_and_phones(path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("xmax = 1.25\n", "xmax = soon\n", "'\"naïve\"' stands where an interval's end should be.*line 22"),
        ("xmax = 1.25\n", "xmax = 0.25\n", "an interval from 0.5 to 0.25 s is out of order.*line 21"),
        ('"naïve"', '"naïve', "line 2"),
        ("<exists>", "", "'2' stands where the flag <exists> should be.*line 7"),
        ("size = 2", "size = 3", "the file ends before a tier's class.*line 40"),
        ("size = 2", "size = 1", "stands after the last tier.*line 32"),
        ("size = 2", "size = 2.5", "the number of tiers is 2.5.*line 7"),
        ('"IntervalTier"', '"Tier"', "unknown class of tier 'Tier'.*line 10"),
        ('"taps"', '"Word"', "two tiers are named 'Word'.*line 33"),
        ('"ooTextFile"', '"ooBinaryFile"', "this is not a TextGrid.*line 1"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = tmp_path / "broken.TextGrid"
    assert old in LONG
    path.write_text(LONG.replace(old, new, 1))
    with pytest.raises(CorpusError, match=text) as caught:
        read_textgrid(path)
    assert "broken.TextGrid, line" in str(caught.value)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no such TextGrid.*none.TextGrid"):
        read_textgrid(tmp_path / "none.TextGrid")
    (tmp_path / "empty.TextGrid").write_text("")
    with pytest.raises(CorpusError, match=r"the file ends before the file type.*line 1"):
        read_textgrid(tmp_path / "empty.TextGrid")


def test_no_tiers(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text('File type = "ooTextFile"\nObject class = "TextGrid"\nxmin = 0\nxmax = 1\ntiers? <absent>\n')
    assert read_textgrid(path) == {}


def test_silences() -> None:
    assert all(map(is_silence, ("", " ", "sp", "SIL", "br ", "{SL}", "<sil>", "[noise]", "sentence_end")))
    assert not any(map(is_silence, ("a", "S", "L", "B", "R", "SO", "species", "spy")))


def test_the_real_transcript_of_alice() -> None:
    path = DATA / "fmri_alice" / "alice_ch1.TextGrid"
    if not path.is_file():
        pytest.skip("the Alice data are not beside the checkout")
    words, phones = words_and_phones(path)
    assert (len(words), phones) == (2127, ())
    assert words[0] == Interval("Alice", 20.05891632653599, 20.621637414967992)
    assert words[-1].text == "cake"


@pytest.mark.parametrize(
    ("story", "n_words", "n_phones", "n_intervals"),
    [
        ("alternateithicatom", 2174, 7022, (7531, 2681)),
        ("avatar", 1463, 4682, (5171, 1952)),
        ("life", 2209, 6720, (7297, 2786)),
        ("wheretheressmoke", 1836, 5596, (6068, 2308)),
    ],
)
def test_the_real_transcripts_of_ds003020(
    story: str, n_words: int, n_phones: int, n_intervals: tuple[int, int]
) -> None:
    path = DATA / "transcripts_moth" / "grid_files" / f"{story}.TextGrid"
    if not path.is_file():
        pytest.skip("the Moth transcripts are not beside the checkout")
    tiers = read_textgrid(path)
    assert (len(tiers["phone"]), len(tiers["word"])) == n_intervals
    # What the files say of themselves, read independently of the parser.
    assert path.read_text().count("intervals [") == sum(n_intervals)
    words, phones = words_and_phones(path)
    assert (len(words), len(phones)) == (n_words, n_phones)
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in itertools.pairwise(words))

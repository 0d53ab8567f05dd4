import dataclasses
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from example_run import context, curve, flat_map, result_rows

from brain_tuning.errors import BrainTuningError, StorageError
from brain_tuning.report import FlatMap, ReportContext, html, region_bars, save_figure, write_report

PACKAGE = str(Path(html.__file__).parents[1])
VOID = {"meta", "link", "br", "img", "input", "hr", "base", "source"}


class Page(HTMLParser):
    """A page's tables, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tables, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def shown(value, sign=""):
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:{sign}.3f}".replace("-", "\N{MINUS SIGN}") if abs(value) >= 0.0005 else "0.000"


@pytest.fixture(scope="module")
def example():
    two = context()
    return dataclasses.replace(two, maps=two.maps[:1])


@pytest.fixture(scope="module")
def written(example, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(path, example) == path
    return path


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def test_the_tables_hold_the_rows(page, example):
    """User pain 8: raw r and r / ceiling stand side by side."""
    models = ["untuned", "tuned-all", "tuned-AC"]
    for subject, table in zip(("s1", "s2"), page.tables[:2], strict=True):
        rows = [row for row in example.rows if row["subject"] == subject]
        by_region = {
            region: {r["model"]: r for r in rows if r["region"] == region} for region in {r["region"] for r in rows}
        }
        assert table[0][1:-1] == ["Pearson r", "Gain over untuned", "r / ceiling", "Noise ceiling"]
        assert table[1] == ["Region", *models, *models[1:], *models, "estimated", "true", "Voxels"]
        assert len(table) == 2 + len(by_region)
        for line in table[2:]:
            of = by_region[line[0]]
            base = of["untuned"]["r"]
            gains = []
            for model in models[1:]:
                gain = of[model]["r"] - base
                percent = f"{100 * gain / base:+.1f} %".replace("-", "\N{MINUS SIGN}") if base >= 0.01 else ""
                gains.append(f"{shown(gain, '+')} {percent}")
            assert line == [
                line[0],
                *(shown(of[m]["r"]) for m in models),
                *gains,
                *(shown(of[m]["r_normalised"]) for m in models),
                shown(of["untuned"]["ceiling"]),
                shown(of["untuned"]["truth"]),
                str(of["untuned"]["n_voxels"]),
            ]


def test_the_headline_counts_and_takes_the_median(page, example):
    r = {(row["subject"], row["region"], row["model"]): row["r"] for row in example.rows}
    gains = [r[s, g, "tuned-AC"] - value for (s, g, m), value in r.items() if m == "untuned"]
    words = f"median change of Pearson r over 16 regions of 2 subjects; {sum(g > 0 for g in gains)} of them rose"
    assert words in page.text
    assert f"tuned-AC, beside untuned\n{shown(float(np.median(gains)), '+')}" in page.text


def test_ledger_and_facts_are_shown(page, example):
    """User pain 5: split, seeds and versions are in every result."""
    ledger, facts = page.tables[2:]
    assert ledger[1] == ["s1", "691", "4", "3", "2", "98.7 %"]
    assert dict(facts) == {name: str(fact) for name, fact in example.facts.items()}


def test_warnings_stand_above_everything(written, example):
    text = written.read_text(encoding="utf-8")
    assert 0 < text.index(example.warnings[0]) < text.index("<nav") < text.index("<main")


def test_nothing_is_loaded_and_nothing_runs(written, page):
    text = written.read_text(encoding="utf-8")
    loads = {"src", "srcset", "href", "xlink:href", "action", "poster", "data"}
    targets = [value for _, name, value in page.attributes if name in loads]
    assert targets
    assert all(value.startswith(("#", "data:image/")) for value in targets)
    assert re.findall(r"https?://|//\w+\.\w+/|@import|<script|<link|<iframe", text) == []
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    policies = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")]
    assert any(value.startswith("default-src 'none'") for value in policies)


def test_the_report_is_small_enough_to_send(written):
    assert written.stat().st_size < 2_000_000 < html.MAX_BYTES


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = [value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")]
    references += re.findall(r"url\(#([^)]*)\)", " ".join(str(value) for *_, value in page.attributes))
    assert set(references) <= set(ids)


def test_every_figure_has_words_in_its_place(page, example):
    words = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(words) == 1 + 2 * len(example.maps) + 1
    assert all(len(text) > 40 for text in words)
    assert [v for tag, name, v in page.attributes if (tag, name) == ("svg", "role")] == ["img"] * len(words)


def test_ink_follows_the_colour_scheme_of_the_page(written):
    text = written.read_text(encoding="utf-8")
    figures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "#1b2027" not in figures
    assert "fill: currentColor" in figures
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_same_values_give_the_same_bytes(example, tmp_path):
    given = dataclasses.replace(example, rows=example.rows[:24], maps=[], curves=example.curves[:1])
    paths = [write_report(tmp_path / name, given) for name in ("one.html", "two.html")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_text_from_outside_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"' onload=x --><b>"
    rows = [{"subject": evil, "region": evil, "model": evil, "r": 0.1, "n_voxels": 3}]
    given = ReportContext(
        title=evil, subtitle=evil, warnings=[evil], rows=rows, facts={evil: evil},
        curves=[dataclasses.replace(curve("a", 0, 20), label=evil)], ledger=[{"subject": evil, "ok": 1}],
    )  # fmt: skip
    text = write_report(tmp_path / "r.html", given).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    assert "<b>" not in text
    assert not [name for _, name, _ in page.attributes if name == "onload"]
    assert page.tables[0][2][0] == evil
    assert page.tables[0][2][1] == "0.100"


def test_a_score_that_is_missing_is_not_zero(tmp_path):
    """User pain 3: NaN scores, never 0."""
    rows = [
        {"subject": "s1", "region": "AC", "model": "untuned", "r": math.nan, "r_normalised": None, "n_voxels": 0},
        {
            "subject": "s1",
            "region": "AC",
            "model": "tuned",
            "r": 0.2,
            "r_normalised": 0.4,
            "ceiling": 0.5,
            "n_voxels": 7,
        },
    ]
    table = Page(write_report(tmp_path / "r.html", ReportContext("t", rows=rows)).read_text(encoding="utf-8")).tables[0]
    assert table[2] == ["AC", "n/a", "0.200", "n/a ", "n/a", "0.400", "0.500", "0 / 7"]


def test_no_percentage_of_next_to_nothing(tmp_path):
    rows = [{"subject": "s1", "region": "AC", "model": m, "r": r} for m, r in (("untuned", 0.009), ("tuned", 0.05))]
    text = write_report(tmp_path / "r.html", ReportContext("t", rows=rows)).read_text(encoding="utf-8")
    assert Page(text).tables[0][2][3] == "+0.041 "
    assert "%" not in Page(text).text.replace("per cent", "")


def test_a_figure_that_fails_becomes_a_sentence(example, tmp_path):
    broken = dataclasses.replace(example.maps[0], hemisphere=["left"])
    given = dataclasses.replace(example, maps=[broken], curves=())
    page = Page(write_report(tmp_path / "r.html", given).read_text(encoding="utf-8"))
    sentence = "This figure could not be drawn: hemisphere has 1 entries [flat map of s1]; expected 700, one a voxel"
    assert page.text.count(sentence) == 2
    assert len([1 for tag, name, _ in page.attributes if (tag, name) == ("svg", "role")]) == 1
    assert len(page.tables) == 4


def test_values_of_a_wrong_type_fail_only_their_figure(tmp_path):
    given = ReportContext("t", curves=[dataclasses.replace(curve("a", 0, 20), loss=["x"] * 20)])
    text = Page(write_report(tmp_path / "r.html", given).read_text(encoding="utf-8")).text
    assert "This figure could not be drawn: ValueError: could not convert string to float" in text


def test_without_matplotlib_the_tables_are_written_and_the_pip_line_is_shown(example, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    page = Page(write_report(tmp_path / "r.html", example).read_text(encoding="utf-8"))
    assert page.text.count("remedy: pip install 'brain-tuning[report]'") == 4
    assert len(page.tables) == 4


def test_a_report_that_would_be_too_large_is_coarser_then_leaves_figures_out(example, tmp_path, monkeypatch):
    one = example.maps[0]
    few = np.arange(0, 700, 10)
    small = FlatMap(
        "s1", one.positions[few], np.take(one.hemisphere, few).tolist(), np.take(one.region, few).tolist(),
        {label: one.values[label][few] for label in ("untuned", "tuned-AC")},
    )  # fmt: skip
    given = ReportContext("t", maps=[small], ledger=example.ledger)
    full = write_report(tmp_path / "full.html", given).stat().st_size
    monkeypatch.setattr(html, "MAX_BYTES", full - 1)
    coarser = write_report(tmp_path / "coarser.html", given)
    assert coarser.stat().st_size < full
    assert "could not be drawn" not in coarser.read_text(encoding="utf-8")
    limit = coarser.stat().st_size // 2
    monkeypatch.setattr(html, "_DPI", html._DPI[-1:])
    monkeypatch.setattr(html, "MAX_BYTES", limit)
    fewer = write_report(tmp_path / "fewer.html", given)
    assert fewer.stat().st_size <= limit
    page = Page(fewer.read_text(encoding="utf-8"))
    assert f"with it, this file would be larger than {limit:,} bytes" in page.text
    assert len(page.tables) == 1


def test_an_empty_report_is_a_page(tmp_path):
    page = Page(write_report(tmp_path / "r.html", ReportContext("Nothing yet")).read_text(encoding="utf-8"))
    assert "Nothing yet" in page.text
    assert page.tables == []


def test_a_row_without_its_model_is_refused_and_the_old_report_stays(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("old")
    with pytest.raises(BrainTuningError, match=r"a row of results lacks model \[row 0\]"):
        write_report(path, ReportContext("t", rows=[{"subject": "s1", "region": "AC"}]))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_report_whole(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")

    def full(self, *args, **kwargs):
        self.write_bytes(b"<!DOC")
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="no room left"):
        write_report(path, ReportContext("t"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_figure_is_saved_as_png_on_white_or_not_at_all(tmp_path):
    from matplotlib.image import imread

    figure = region_bars(result_rows(flat_map("s1", 1)))
    path = save_figure(figure, tmp_path / "figures" / "bars.png", dpi=50)
    pixels = imread(path)
    np.testing.assert_array_equal(pixels[0, 0], [1, 1, 1, 1])
    assert pixels.shape[:2] == tuple(round(50 * inches) for inches in reversed(figure.get_size_inches()))
    with pytest.raises(ValueError, match="dpi"):
        save_figure(figure, tmp_path / "figures" / "other.png", dpi=-1)
    assert list((tmp_path / "figures").iterdir()) == [path]


def test_importing_the_report_imports_no_drawing_library():
    # an empty parent package: the real one registers transformers' classes, which takes seconds
    code = (
        "import sys, types\n"
        "sys.modules['brain_tuning'] = parent = types.ModuleType('brain_tuning')\n"
        f"parent.__path__ = [{PACKAGE!r}]\n"
        "import brain_tuning.report\n"
        "assert not {'matplotlib', 'scipy', 'PIL', 'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

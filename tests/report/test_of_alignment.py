"""Reports of what ``align`` and ``tune`` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from brain_tuning.errors import BrainTuningError
from brain_tuning.report.of_alignment import context_of, curve_of_run, read_results, write_report_of


def document(subject: str = "s1", **changes: Any) -> dict[str, Any]:
    """What ``results.json`` holds, as far as a report reads it."""
    row = {"subject": subject, "region": "AC", "r_normalised": None, "ceiling": None, "n_voxels": 4}
    rows = [
        {**row, "model": "untuned", "layer": 3, "tuned_on": None, "r": 0.125},
        {**row, "model": "tuned-AC", "layer": 3, "tuned_on": subject, "r": 0.25},
        {**row, "model": "spectrum", "layer": None, "tuned_on": None, "r": 0.0625},
    ]
    return {
        "subject": subject,
        "rows": rows,
        "corpus": {
            "name": "heard",
            "source": "a lab",
            "surrogate_audio": False,
            "split": {"train": ["a"], "validation": [], "test": ["b"]},
            "ledger": {"ok": 4, "nan": 1, "constant": 0, "excluded": 0},
        },
        "comparisons": [],
        "settings": {"delays_trs": [1, 2], "cross_validate": 0},
        "models": {"untuned": {"backbone": "lab/base"}, "spectrum": {"baseline": "spectrum"}},
        "notes": [],
        "versions": {"torch": "2.13.0"},
        "date": "2026-01-02",
        **changes,
    }


def written(folder: Path, found: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found))
    return folder


def run_folder(folder: Path, lines: list[dict[str, Any]], loss: str = "mse") -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"subject": "s1", "roi": "AC", "recipe": {"loss": loss}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


STEPS = [{"kind": "step", "step": 1, "loss": 0.5}, {"kind": "step", "step": 2, "loss": 0.25}]


def test_results_of_one_and_of_several_subjects(tmp_path: Path) -> None:
    one = written(tmp_path / "one", document())
    assert [found["subject"] for found in read_results(one)] == ["s1"]
    for subject in ("s2", "s1"):
        written(tmp_path / "several" / subject, document(subject))
    several = read_results(tmp_path / "several")
    assert [found["subject"] for found in several] == ["s1", "s2"]
    context = context_of(several)
    assert context.title == "heard"
    assert [row["subject"] for row in context.rows] == ["s1"] * 3 + ["s2"] * 3
    assert context.ledger[1] == {"subject": "s2", "ok": 4, "nan": 1, "constant": 0, "excluded": 0}
    assert dict(context.facts) == {
        "corpus": "heard",
        "source": "a lab",
        "test stories": "b",
        "delays": "1 2 TRs",
        "backbone": "lab/base",
        "measured on": "2026-01-02",
        "version of torch": "2.13.0",
    }
    assert not context.warnings


def test_what_a_reader_must_know_stands_above() -> None:
    corpus = document()["corpus"]
    found = [
        document(corpus={**corpus, "simulation": {"seed": 0}, "surrogate_audio": True}, notes=["mind this"]),
        document("s2", notes=["mind this"], settings={"delays_trs": [1], "cross_validate": 5}),
    ]
    context = context_of(found, title="mine")
    assert context.title == "mine"
    assert context.subtitle == "Encoding models judged by cross-validation"
    assert [warning.split(":")[0] for warning in context.warnings] == [
        "Simulated data",
        "The audio is not the recording that the subjects heard.",
        "mind this",
    ]


def test_the_page(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", STEPS)
    page = write_report_of([written(tmp_path / "out", document())], tmp_path / "page.html", runs=[run])
    text = page.read_text()
    assert "tuned-AC, beside untuned" in text
    assert "+100.0 %" in text
    assert "spectrum, beside" not in text
    assert "s1 AC" in text


def test_transfer_is_counted_apart(tmp_path: Path) -> None:
    """A model tuned on s1, judged on s1 and on s2: two headlines, not one over both."""
    others = document("s2")
    others["rows"][1] |= {"tuned_on": "s1", "r": 0.0}
    for found in (document(), others):
        written(tmp_path / "out" / found["subject"], found)
    text = " ".join(write_report_of([tmp_path / "out"], tmp_path / "page.html").read_text().split())
    assert '<dt>tuned-AC, beside untuned</dt> <dd class="big">+0.125</dd>' in text
    apart = "tuned-AC, on other subjects than it was tuned on, beside untuned"
    assert f'<dt>{apart}</dt> <dd class="big">\N{MINUS SIGN}0.125</dd>' in text
    assert text.count("median change of Pearson r over 1 regions; ") == 2


def test_tests_are_shown_where_there_were_any(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert (
        "No test of significance was made." in write_report_of([written(tmp_path / "a", document())], page).read_text()
    )
    compared = {"model": "tuned-AC", "region": "AC", "difference": 0.125, "p": 0.004, "n_better": 3, "n_worse": 1}
    tested = document(comparisons=[compared])
    tested["rows"][1] |= {"p": 0.02, "n_significant": 4}
    text = write_report_of([written(tmp_path / "b", tested)], page).read_text()
    cells = ["AC", "tuned-AC", "0.02", "4", "+0.125", "0.004", "3", "1"]
    assert '<tr><th scope="row">s1</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" in text
    assert "No test of significance was made." not in text


@pytest.mark.parametrize(
    ("judged", "quantity", "values"),
    [
        ([], "r", []),
        ([{"kind": "validation", "step": 2, "r": 0.5}], "r", [(2, 0.5)]),
        ([{"kind": "validation", "step": 2, "r": None}], "r", []),
        ([{"kind": "validation", "step": 2, "loss": 0.75}], "loss", [(2, 0.75)]),
    ],
)
def test_the_curve_of_a_run(tmp_path: Path, judged: list[Any], quantity: str, values: list[Any]) -> None:
    curve = curve_of_run(run_folder(tmp_path / "run", [*STEPS, *judged]))
    assert (curve.label, list(curve.steps), list(curve.loss)) == ("s1 AC", [1, 2], [0.5, 0.25])
    assert (curve.validation_quantity, list(curve.validation), curve.loss_name) == (quantity, values, "mse")


def test_what_is_no_alignment_or_no_run_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(BrainTuningError, match=r"there is no finished alignment \[.*nothing\].*--output"):
        write_report_of([tmp_path / "nothing"], page)
    for k, text in enumerate(("[]", "{}", "{")):
        folder = written(tmp_path / f"broken{k}", {})
        (folder / "results.json").write_text(text)
        with pytest.raises(BrainTuningError, match=r"cannot be read .*results\.json.*run what wrote it again"):
            write_report_of([folder], page)
    good = written(tmp_path / "out", document())
    with pytest.raises(BrainTuningError, match=r"there is no run\.json \[.*out\]"):
        write_report_of([good], page, runs=[good])
    run = run_folder(tmp_path / "run", STEPS)
    (run / "metrics.jsonl").write_text('{"kind": "step"}\n')
    with pytest.raises(BrainTuningError, match=r"cannot be read .*metrics\.jsonl"):
        write_report_of([good], page, runs=[run])
    assert not page.exists()

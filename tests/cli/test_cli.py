"""The road that works: simulate, inspect, tune, align, each printing where its result is."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from tiny_runs import BACKBONE, CHECKOUT, arguments, job_for, metrics

from brain_tuning.cli import main
from brain_tuning.corpus import Corpus
from brain_tuning.tuning.recipe import load_recipe


def test_simulate_and_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "corpus"
    options = ["--subjects", "1", "--stories", "2", "--story-s", "40", "--test-story-s", "41", "--repeats", "2"]
    assert main(["corpus", "simulate", *options, "--seed", "4", "--output", str(place)]) == 0
    assert capsys.readouterr().out == f"corpus: {place}\n"
    assert main(["corpus", "inspect", str(place)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["name"] == "simulated-seed4"
    assert summary["splits"] == {"train": ["story00", "story01"], "validation": ["validation"], "test": ["test"]}
    assert list(summary["subjects"]) == ["s1"]
    subject = summary["subjects"]["s1"]
    assert subject["n_runs"] == 5
    assert subject["voxels"] == {"ok": subject["n_voxels"] - 5, "nan": 3, "constant": 2, "excluded": 0}
    assert subject["regions"]["AC"] == 60
    assert main(["corpus", "simulate", *options, "--output", str(place), "--overwrite"]) == 0
    assert Corpus(place).name == "simulated-seed0"


def test_tune_is_the_loop(corpus: Corpus, tuned_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = job_for(corpus, tmp_path / "run")
    assert main(["tune", *arguments(job, tmp_path)]) == 0
    assert capsys.readouterr().out == f"tuned model: {tmp_path / 'run' / 'model'}\n"
    assert metrics(job.output) == metrics(tuned_run)


def test_options_override_the_recipe(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run")
    more = ["--epochs", "1", "--seed", "5", "--block-trs", "16", "--blocks-per-step", "2", "--select", "head"]
    more += ["--control", "shuffled_stories", "--mixed-precision", "bf16", "--backbone", BACKBONE]
    assert main(["tune", *arguments(job, tmp_path), *more]) == 0
    described = json.loads((job.output / "run.json").read_text())
    recipe = described["recipe"]
    assert (recipe["epochs"], recipe["seed"], recipe["block_trs"], recipe["blocks_per_step"]) == (1, 5, 16, 2)
    assert (recipe["select"], recipe["control"]) == ("head", "shuffled_stories")
    assert described["mixed_precision"] == "bf16"
    assert described["finished"]["steps"] == 1


def test_align_prints_the_table(
    corpus: Corpus, tuned_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["align", "--corpus", str(corpus.path), "--subject", "s1", "--model", str(tuned_run)]
    command += ["--baseline", "envelope+word-rate", "--region", "AC", "--region", "noise", "--delays", "1", "2"]
    assert main([*command, "--penalties", "10", "100", "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("subject", "region", "voxels", "untuned", "r", "(r/ceil)", "tuned-AC", "r", "(r/ceil)"),
        *("envelope+word-rate", "r", "(r/ceil)", "ceiling"),
    ]
    assert lines[2].startswith("s1       AC      60 ")
    assert lines[-1] == f"results: {tmp_path / 'out' / 'results.json'}"
    settings = json.loads((tmp_path / "out" / "results.json").read_text())["settings"]
    assert settings["penalties"] == [10, 100]
    assert settings["delays_trs"] == [1, 2]

    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "out"), "--run", str(tuned_run), "--output", str(page)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    text = page.read_text()
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert all(f"{row['r']:.3f}".replace("-", "\N{MINUS SIGN}") in text for row in rows)
    assert "tuned-AC, beside untuned" in text
    assert "envelope+word-rate, beside" not in text
    assert "Simulated data" in text


def test_a_backbone_alone_is_read_as_a_recipe_says(corpus: Corpus, tmp_path: Path) -> None:
    command = ["align", "--corpus", str(corpus.path), "--subject", "s1", "--backbone", BACKBONE, "--recipe", "demo"]
    assert main([*command, "--region", "AC", "--output", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["model"] for row in results["rows"]] == ["untuned"]
    demo = load_recipe("demo")
    plan = {"context_s": demo.context_s, "stride_s": demo.stride_s, "read": demo.read}
    assert results["models"]["untuned"]["window"] == plan


def test_the_entry_points_of_the_checkout_do_the_same(
    corpus: Corpus, tuned_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``training/run.py`` and ``evaluation/run.py`` take the options of ``tune`` and ``align``."""

    def run(script: str, *options: str) -> int:
        monkeypatch.setattr("sys.argv", [script, *options])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(CHECKOUT / script), run_name="__main__")
        return int(caught.value.code or 0)

    assert run("training/run.py", *arguments(job_for(corpus, tmp_path / "run"), tmp_path)) == 0
    assert metrics(tmp_path / "run") == metrics(tuned_run)
    common = [
        "--corpus",
        str(corpus.path),
        "--subject",
        "s1",
        "--baseline",
        "envelope",
        "--output",
        str(tmp_path / "out"),
    ]
    assert run("evaluation/run.py", *common) == 0
    assert capsys.readouterr().out.endswith(f"results: {tmp_path / 'out' / 'results.json'}\n")
    assert run("evaluation/run.py", *common, "--region", "broca") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("brain-tuning: error: there is no region 'broca'")


@pytest.mark.parametrize(
    "command",
    ["corpus", "tune", "plan", "align", "superb", "push", "push-metric", "pull", "list", "compare", "app", "demo"],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"brain-tuning {command}" in capsys.readouterr().out

"""From a real tuning run and its evaluation to a repository on a Hub over HTTP, and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hub_process import HubPython
from local_hub import LocalHub
from small_runs import write_results, write_run
from tiny_runs import corpus, one_thread, tuned_run, work_folder

from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.cli import main
from brain_tuning.corpus import Corpus
from brain_tuning.errors import PublishError
from brain_tuning.hub.layout import check_layout
from brain_tuning.hub.listing import list_published
from brain_tuning.hub.load_back import load_back
from brain_tuning.hub.publish import assemble, repository_name
from brain_tuning.hub.run_scores import read_results

__all__ = ["corpus", "one_thread", "tuned_run", "work_folder"]


@pytest.fixture(scope="module")
def results(corpus: Corpus, tuned_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluated")
    evaluate_models(EvaluationJob(str(corpus.path), "s1", (str(tuned_run),), output))
    return output / "results.json"


def test_a_run_is_assembled_with_its_scores_and_loads_tuned(tuned_run: Path, results: Path, tmp_path: Path) -> None:
    scores = json.loads(results.read_text())
    report = assemble(tuned_run, tmp_path / "repository", repo_id="lab/brainwavlm-s1-ac", results=scores)
    assert report.adapters == ("s1-ac",)
    card = (report.folder / "README.md").read_text()
    assert "SIMULATED DATA" in card
    assert "untuned" in card
    row = next(r for r in scores["rows"] if r["model"] == "tuned-AC" and r["region"] == "auditory-left")
    assert f"{row['r']:.3f}" in card
    published = {
        (s["model"], s["region"]): s["r"] for s in json.loads((report.folder / "metrics.json").read_text())["scores"]
    }
    assert published["tuned", "auditory-left"] == row["r"]
    assert ("untuned", "auditory-left") in published
    (listed, *_) = list_published([str(report.folder)])
    assert (listed.adapter, listed.tuned_r) == ("s1-ac", published["tuned", listed.region])
    assert listed.change == published["tuned", listed.region] - published["untuned", listed.region]
    found = load_back(str(report.folder))
    assert found["from_adapter"] < 1e-5 < found["from_base"]


def test_push_and_pull_over_http_are_one_commit_and_equal_to_the_dry_run(
    tuned_run: Path, results: Path, tmp_path: Path, hub: LocalHub, hub_python: HubPython
) -> None:
    dry = tmp_path / "dry"
    push = ["push", "--run", str(tuned_run), "--results", str(results), "--repo-id", "lab/brainwavlm-s1-ac"]
    assert main([*push, "--dry-run", str(dry)]) == 0
    assert not hub.requests("POST", "")
    code = "from brain_tuning.cli import main\nresult = [main(command) for command in commands]"
    pulled = tmp_path / "pulled"
    commands = [push, push, ["pull", "lab/brainwavlm-s1-ac", "--output", str(pulled)]]
    assert hub_python.result(code, commands=commands) == [0, 0, 0]
    sent = {path.relative_to(dry).as_posix(): path.read_bytes() for path in dry.rglob("*") if path.is_file()}
    back = {path.relative_to(pulled).as_posix(): path.read_bytes() for path in pulled.rglob("*") if path.is_file()}
    assert back == sent
    assert len([title for title in hub.titles("lab/brainwavlm-s1-ac") if title != "initial commit"]) == 1
    assert check_layout(pulled).has_backbone


def test_results_of_another_seed_are_not_pushed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / f"seed{seed}", seed=seed) for seed in (0, 1)]
    path = write_results(tmp_path / "results.json", runs[:1], "s1", {"tuned-AC": 0.3})
    push = ["push", "--results", str(path), "--repo-id", "lab/x", "--dry-run", str(tmp_path / "dry"), "--run"]
    assert main([*push, str(runs[1])]) == 2
    assert "the evaluation is of other weights: tuned-AC [adapter s1-ac, results of s1]" in capsys.readouterr().err
    assert not (tmp_path / "dry").exists()
    assert main([*push, str(runs[0])]) == 0


def test_a_copied_evaluation_gives_the_same_card(tuned_run: Path, results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results.json"
    copy.write_bytes(results.read_bytes())
    os.utime(copy, (1_700_000_000, 1_700_000_000))
    cards = []
    for k, path in enumerate((results, copy)):
        report = assemble(tuned_run, tmp_path / f"r{k}", repo_id="lab/x", results=read_results([path]))
        cards.append((report.folder / "README.md").read_text())
    assert cards[0] == cards[1]
    assert f"evaluated on {json.loads(results.read_text())['date']}" in cards[0]


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        ({"seconds": 7200.0, "seconds_of_this_session": 61.0}, "Tuned for 2 h 0 min on"),
        ({"seconds_of_this_session": 600.0}, "Tuned for 10 min on"),
    ],
)
def test_the_card_says_the_time_of_all_sessions(finished: dict[str, float], said: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    described = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**described, "finished": finished}))
    report = assemble(run, tmp_path / "repository", repo_id="lab/x")
    assert said in (report.folder / "README.md").read_text()


def test_an_unfinished_run_is_refused(tuned_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    described = json.loads((tuned_run / "run.json").read_text())
    del described["finished"]
    (run / "run.json").write_text(json.dumps(described))
    with pytest.raises(PublishError, match=r"not finished.*--resume"):
        assemble(run, tmp_path / "out", repo_id="lab/x")
    assert not (tmp_path / "out").exists()


def test_names_follow_one_rule() -> None:
    assert repository_name("AC", "S1") == "brainwavlm-s1-ac"
    assert repository_name("AC") == "brainwavlm-ac"
    assert repository_name("left & AC", "S1", "wav2vec2-conformer") == "brainwav2vec2-conformer-s1-left-and-ac"

"""The commands that a card tells are ours, and lead to the same result."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_contexts import GOLDEN, MANY, results_of, run_of
from tiny_runs import corpus, one_thread, tuned_run, work_folder

from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.cli import _parser, main
from brain_tuning.corpus import Corpus
from brain_tuning.hub.card_commands import RECIPE_OPTIONS, rerun
from brain_tuning.hub.cards import render_model_card
from brain_tuning.tuning.recipe import load_recipe, parse_recipe

__all__ = ["corpus", "one_thread", "tuned_run", "work_folder"]


def commands(card: str) -> list[list[str]]:
    """Words of every command of ours in the shell blocks of a card."""
    blocks = re.findall(r"(?ms)^```bash\n(.*?)^```$", card)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    assert all(line.startswith(("brain-tuning ", "pip install ", "accelerate launch ")) for line in lines)
    return [shlex.split(line)[1:] for line in lines if line.startswith("brain-tuning ")]


@pytest.mark.parametrize("name", GOLDEN)
def test_every_command_of_a_card_is_known_to_our_parser(name: str) -> None:
    found = commands(render_model_card(GOLDEN[name]))
    for words in found:
        _parser().parse_args(words)
    if GOLDEN[name].rerun:
        assert {words[0] for words in found} == {"tune", "align", "push"} | ({"corpus"} & {w[0] for w in found})


def test_only_what_differs_from_a_shipped_recipe_is_named() -> None:
    made = MANY.rerun
    assert made is not None
    assert "--recipe brainwavlm --corpus" in made.tune[0]
    assert "--recipe brainwavlm --seed 7 --corpus" in made.tune[1]
    assert made.tune[2].startswith(
        "accelerate launch --multi_gpu --num_processes 2 training/run.py --recipe recipe.yaml"
    )
    assert list(made.recipe_files) == ["recipe.yaml"]
    recipe = parse_recipe(yaml.safe_load(made.recipe_files["recipe.yaml"]), "")
    assert recipe == load_recipe("brainwavlm").changed(context_s=7.75)
    assert made.corpus.startswith("brain-tuning corpus lebel2023 ds003020/ --convert-audio --subject s1 --subject s2")
    second = " ".join(made.align[1].replace("\\\n", "").split())
    assert "--region AC --region 'left & AC' --layer 7 --layer 9 --delays" in second


def test_further_recipes_that_are_not_shipped_have_files_of_their_own() -> None:
    runs = [
        run_of("s1-ac", "s1", "AC", context_s=1.0),
        run_of("s2-ac", "s2", "AC", context_s=1.0, seed=5),
        run_of("s3-ac", "s3", "AC", context_s=2.0),
    ]
    made = rerun(runs, repo_id="lab/x")
    assert list(made.recipe_files) == ["recipe.yaml", "recipe-2.yaml"]
    assert [re.findall(r"--recipe \S+(?: --seed 5)?", line) for line in made.tune] == [
        ["--recipe recipe.yaml"], ["--recipe recipe.yaml --seed 5"], ["--recipe recipe-2.yaml"],
    ]  # fmt: skip


def test_options_that_replace_a_recipes_value_are_options_of_tune() -> None:
    known = {action.dest for action in _subparser("tune")._actions}
    assert set(RECIPE_OPTIONS) <= known
    assert all(option.removeprefix("--").replace("-", "_") == key for key, option in RECIPE_OPTIONS.items())


def _subparser(name: str) -> Any:
    choices = next(action.choices for action in _parser()._actions if action.choices)
    return dict(choices)[name]


def test_settings_that_are_not_the_usual_are_told() -> None:
    document = results_of("s1", ("s1-ac",), plan={"context_s": 16.0, "stride_s": 0.1, "read": "last"}, layers="all")
    document["settings"] |= {"penalties": [1.0, 10.0], "folds": "bootstrap", "n_permutations": 0}
    run = {**run_of("s1+s2-ac", "s1+s2", "left & AC"), "mixed_precision": "no"}
    made = rerun([run], [document], repo_id="lab/x", licence="mit", consent="yes;\n rm -rf x", adapters_only=True)
    line = " ".join(made.align[0].replace("\\\n", "").split())
    assert "--layer all --context-s 16.0 --stride-s 0.1 --read last --delays 1 2 3 4" in line
    assert "--penalties 1.0 10.0 --folds bootstrap --output" in line
    tune = " ".join(made.tune[0].replace("\\\n", "").split())
    assert "--subject s1 --subject s2 --roi 'left & AC' --output 'runs/s1+s2-ac' --mixed-precision no" in tune.replace(
        "runs/s1+s2-ac --", "'runs/s1+s2-ac' --"
    )
    push = shlex.split(made.push.replace("\\\n", ""))
    assert push[push.index("--consent") + 1] == "yes; rm -rf x"
    assert "--adapters-only" in push
    assert "--half-heads" not in push
    unknown = {**run, "corpus": {**run["corpus"], "source": "my lab"}}
    assert rerun([unknown], repo_id="lab/x").corpus == ""
    assert rerun([run], repo_id="lab/x", corpus_id="lab/data").corpus == ""


def test_a_reader_gets_the_same_corpus_weights_and_scores(
    corpus: Corpus, tuned_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands as a card tells them, from an empty folder, for a simulated corpus; all numbers are the same."""
    monkeypatch.chdir(tmp_path)
    job = EvaluationJob(str(corpus.path), "s1", (str(tuned_run),), tmp_path / "published", baselines=("word-rate",))
    published = evaluate_models(job)
    run = json.loads((tuned_run / "run.json").read_text())
    made = rerun([run], [published], repo_id="lab/x")
    for name, content in made.recipe_files.items():
        Path(name).write_text(content)
    for command in (made.corpus, *made.tune, *made.align):
        assert main(shlex.split(command.replace("\\\n", ""))[1:]) == 0
    again = json.loads(Path("runs/align-s1/results.json").read_text())
    assert again["corpus"]["fingerprint"] == published["corpus"]["fingerprint"]
    assert len(again["rows"]) == len(published["rows"])
    for one, other in zip(again["rows"], published["rows"], strict=True):
        assert one == pytest.approx(other, abs=1e-6, nan_ok=True)
    assert json.loads(Path("runs/s1-ac/run.json").read_text())["recipe"] == run["recipe"]

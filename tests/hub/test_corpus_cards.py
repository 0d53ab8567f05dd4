"""Cards of corpora and of metrics: whole, valid, and true of the tables that they describe."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from card_contexts import FINGERPRINT, HOSTILE, ONE, headings, python_blocks, structure
from hub_process import HubPython
from huggingface_hub import DatasetCard, SpaceCard
from small_layout import BASE_MODEL
from tiny_runs import corpus, one_thread, work_folder

import brain_tuning.hub.cards as cards
from brain_tuning.cli import main
from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint
from brain_tuning.errors import PublishError
from brain_tuning.hub.card_citations import CORPORA
from brain_tuning.hub.card_context import (
    DatasetCardContext,
    MetricCardContext,
    SubjectRow,
)
from brain_tuning.hub.card_corpus import corpus_card_context
from brain_tuning.hub.front_matter import check_dataset_card, check_model_card

sys.path.append(str(Path(__file__).parents[1] / "models"))


__all__ = ["corpus", "one_thread", "work_folder"]

FOLDER = Path(__file__).parent / "golden"
LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}


CORPUS = DatasetCardContext(
    repo_id="lab/lebel2023",
    name="LeBel 2023",
    licence="cc0-1.0",
    description="Stories of The Moth.",
    source_url="https://openneuro.org/datasets/ds003020",
    consent="Written consent.",
    subjects=(SubjectRow(subject="s1", n_stories=27, n_trs=9000, n_voxels=81126, tr_s=2.0045, audio_hours=5.0),),
    regions=("ac", "pfc"),
    citation_bibtex=CORPORA["ds003020"],
    tables=("stories", "runs-s1", "bold-s1", "voxels-s1", "regions-s1"),
    test_stories=("wheretheressmoke",),
    validation_stories=("fromboyhoodtofatherhood",),
    bold_dtype="float16",
    ledgers={"s1": {"ok": 81000, "nan": 100, "constant": 26, "excluded": 0}},
    fingerprints={"s1": FINGERPRINT},
    made_with={"python": "3.11.7", "brain-tuning": "0.1.0"},
    command="brain-tuning corpus lebel2023 ds003020/ --subject s1 --output corpora/lebel2023",
    has_words=True,
    notes=("TR is 2.0045 s by the trigger logs | the sidecar says 2",),
)
METRIC = MetricCardContext(
    repo_id="lab/voxelwise_r",
    name="Voxelwise r",
    description="Pearson r of each voxel.",
    formula="r = cov(x, y) / (sd x sd y)",
    inputs={"predictions": "(n_trs, n_voxels)"},
    outputs={"r": "(n_voxels,) in [-1, 1], NaN if a voxel is constant"},
    example='import evaluate\n\nmetric = evaluate.load("lab/voxelwise_r")',
    citation_bibtex="@misc{x}",
    sdk_version="6.31.0",
    limits=("Constant voxels are NaN.",),
    result="{'mean_r': 0.2}",
)


def test_golden_cards_of_a_corpus_and_a_metric() -> None:
    assert cards.render_dataset_card(CORPUS) == (FOLDER / "dataset_card.golden").read_text(encoding="utf-8")
    assert cards.render_metric_card(METRIC) == (FOLDER / "metric_card.golden").read_text(encoding="utf-8")


def test_what_the_hub_would_refuse_of_a_card_is_found_offline() -> None:
    corpus_card = cards.render_dataset_card(CORPUS)
    check_dataset_card(corpus_card)
    twice = corpus_card.replace("config_name: runs-s1", "config_name: bold-s1")
    with pytest.raises(PublishError, match=r"'configs' names a table twice or not at all \[README.md\]"):
        check_dataset_card(twice)
    with pytest.raises(PublishError, match=r"unknown key 'prety_name'.*did you mean 'pretty_name'"):
        check_dataset_card(corpus_card.replace("pretty_name", "prety_name"))
    card = cards.render_model_card(ONE)
    for value in ("much", ".nan", "true"):
        with pytest.raises(PublishError, match=r"the result is .* \[co2_eq_emissions\]; expected a finite number"):
            check_model_card(
                card.replace("emissions: 210.267", f"emissions: {value}"), base_model=BASE_MODEL,
                files=["figures/regions.png"],
            )  # fmt: skip


def test_the_hub_finds_nothing_to_complain_of_in_corpora_and_metrics(hub_python: HubPython) -> None:
    code = (
        "import warnings\nfrom huggingface_hub import DatasetCard, SpaceCard\nwith warnings.catch_warnings():\n"
        "    warnings.simplefilter('error')\n"
        "    result = [DatasetCard(corpus).validate(), SpaceCard(metric).validate()]"
    )
    rendered = {"corpus": cards.render_dataset_card(CORPUS), "metric": cards.render_metric_card(METRIC)}
    assert hub_python.result(code, **rendered) == [None, None]


def test_dataset_card() -> None:
    card = DatasetCard(cards.render_dataset_card(CORPUS))
    assert card.data.license == "cc0-1.0"
    assert card.data.pretty_name == "LeBel 2023"
    assert card.data.to_dict()["configs"][2] == {"config_name": "bold-s1", "data_files": "bold-s1/*.arrow"}
    assert "| s1 | 27 | 9000 | 81126 | 2.0045 | 5.0 |" in card.text
    assert "| s1 | 81000 | 100 | 26 | 0 |" in card.text
    assert "SIMULATED" not in card.text
    loud = cards.render_dataset_card(dataclasses.replace(CORPUS, simulated=True, surrogate_audio=True))
    assert "SIMULATED DATA" in loud
    assert "SURROGATE AUDIO" in loud
    odd = dataclasses.replace(CORPUS, name=HOSTILE, description=HOSTILE, consent=HOSTILE, source_url=HOSTILE)
    text = cards.render_dataset_card(dataclasses.replace(odd, notes=(HOSTILE,), regions=(HOSTILE,)))
    assert DatasetCard(text).data.license == "cc0-1.0"
    body = text.split("\n---\n", 1)[1]
    kinds = [kind for pair in structure(body) for kind in pair]
    assert not {"html_block", "html_inline", "image"} & set(kinds)
    assert headings(body)[1:] == headings(card.text)[1:]


def test_the_card_of_a_real_corpus_is_of_its_tables_and_its_code_runs(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The columns that the card names are those of the tables, and both ways to load it work on the folder."""
    import datasets

    context = corpus_card_context(corpus, repo_id="lab/simulated", licence="cc0-1.0", consent="Nobody was scanned.")
    text = cards.render_dataset_card(context)
    assert "SIMULATED DATA" in text
    assert context.ledgers["s1"] == corpus.ledger("s1").counts()
    assert context.fingerprints["s2"] == corpus_fingerprint(corpus, "s2")
    for table in context.tables:
        columns = set(datasets.load_dataset(str(corpus.path), table, cache_dir=str(tmp_path), split="train").features)
        kind = table.replace("-s1", "-<subject>").replace("-s2", "-<subject>")
        (line,) = [one for one in text.splitlines() if one.startswith(f"| `{kind}` |")]
        assert columns <= set(re.findall(r"`(\w+)`", line.split("|")[3]))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    names: dict[str, Any] = {}
    here = dataclasses.replace(context, repo_id=str(corpus.path))
    for block in python_blocks(cards.render_dataset_card(here)):
        exec(compile(block, "<card>", "exec"), names)
    assert names["bold"].shape == (names["run"].n_trs, corpus.n_voxels("s1"))
    assert names["stories"].num_rows == len(corpus.story_names())


@pytest.fixture
def copied_corpus(corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.path, tmp_path / "corpus"))


def test_the_card_of_a_corpus_is_written_over_its_readme(copied_corpus: Path, capsys: pytest.CaptureFixture) -> None:
    described = (copied_corpus / "corpus.json").read_text()
    (copied_corpus / "corpus.json").write_text(described.replace('"licence": "CC0-1.0"', '"licence": "CC0 1.0"'))
    assert open_corpus(copied_corpus).meta["licence"] == "CC0 1.0"
    others = {path: path.read_bytes() for path in copied_corpus.rglob("*") if path.is_file()}
    first = others.pop(copied_corpus / "README.md")
    command = ["corpus", "card", str(copied_corpus), "--repo-id", "lab/simulated"]
    assert main([*command, "--consent", "We asked the simulator."]) == 0
    assert capsys.readouterr().out == f"card: {copied_corpus / 'README.md'}\n"
    text = (copied_corpus / "README.md").read_text()
    assert text.encode() != first
    check_dataset_card(text)
    assert DatasetCard(text).data.license == "cc0-1.0", "what the corpus says"
    assert "We asked the simulator." in text
    assert 'open_corpus("lab/simulated")' in text
    assert corpus_fingerprint(open_corpus(copied_corpus), "s1") in text
    assert "Cite the source above." in text
    assert {path: path.read_bytes() for path in others} == others
    assert not list(copied_corpus.glob("*.partial*"))
    assert main([*command, "--licence", "cc-by-4.0", "--description", "Tones and words."]) == 0
    text = (copied_corpus / "README.md").read_text()
    assert DatasetCard(text).data.license == "cc-by-4.0"
    assert "Simulated responses: nobody was scanned." in text
    assert "Tones and words." in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--licence", "cc0"], "'license' is 'cc0', which the Hub does not know [README.md]; expected 'cc0-1.0'"),
        (["--licence", "other"], "'license: other' does not say which [README.md]"),
        (["--consent", "It lies in /home/ana/consent.pdf"], "names a path of the publishing machine: /home/ana"),
        (["--repo-id", "simulated"], "simulated"),
    ],
)
def test_a_corpus_card_that_the_hub_would_refuse_is_not_written(
    copied_corpus: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    before = (copied_corpus / "README.md").read_bytes()
    assert main(["corpus", "card", str(copied_corpus), "--repo-id", "lab/simulated", *options]) == 2
    assert message in capsys.readouterr().err
    assert (copied_corpus / "README.md").read_bytes() == before
    assert not list(copied_corpus.glob("*.partial*"))


def test_a_card_is_for_a_folder_that_is_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for place in (tmp_path, tmp_path / "none", Path("lab/on-the-hub")):
        assert main(["corpus", "card", str(place), "--repo-id", "lab/x"]) == 2
        assert "corpus" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_metric_card() -> None:
    card = SpaceCard(cards.render_metric_card(METRIC))
    assert card.data.title == "Voxelwise r"
    assert r"| `r` | (n_voxels,) in \[-1, 1\], NaN if a voxel is constant |" in card.text
    assert "- Constant voxels are NaN." in card.text
    assert 'pip install "evaluate" "brain-tuning"' in card.text

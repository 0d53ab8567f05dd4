"""Cards say what was measured, in the Hub's own forms, and nothing that was not."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, SpaceCard, parse_eval_result_entries
from small_layout import BASE_MODEL, BASE_REVISION, write_layout

import brain_tuning.hub.cards as cards
from brain_tuning.hub.card_context import (
    DatasetCardContext,
    Figure,
    MetricCardContext,
    ModelCardContext,
    ResultRow,
    SubjectRow,
)
from brain_tuning.hub.layout import check_layout

GOLDEN = Path(__file__).parent / "golden" / "model_card.golden"


def row(model: str, r: float | None, normalised: float | None, subject: str = "s1", **more: object) -> ResultRow:
    place = {"subject": subject, "region": "ac", "ceiling": 0.62, "n_voxels": 481, "n_unscored": 3}
    return ResultRow(**{**place, **more}, model=model, r=r, r_normalised=normalised)  # type: ignore[arg-type]


CONTEXT = ModelCardContext(
    repo_id="lab/brainwavlm-ac",
    licence="cc-by-4.0",
    base_model=BASE_MODEL,
    base_revision=BASE_REVISION,
    adapters=("s1-ac", "s2-ac"),
    default_adapter="s1-ac",
    subjects=("s1", "s2"),
    region="ac",
    n_voxels=484,
    corpus_name="LeBel et al. 2023 (ds003020)",
    corpus_id="lab/lebel2023",
    corpus_licence="CC0",
    consent="All participants gave written informed consent to the sharing of anonymised data.",
    audio_hours=5.25,
    test_stories=("wheretheressmoke", "fromboyhoodtofatherhood"),
    recipe_name="vattikonda2025",
    recipe={"layer": 9, "lora.r": 8, "loss": "correlation | mse"},
    deviations=("LoRA reaches q, k and v; in the released code it does not.",),
    results=(
        row("untuned", 0.17, 0.2741),
        row("tuned", np.float32(0.21), 0.3387),
        row("untuned", 0.15, 0.25, "s2"),
        row("tuned", None, None, "s2", n_voxels=0, n_unscored=484),
    ),
    evaluated_on="2026-03-01",
    training_s=4980.0,
    hardware="1 x NVIDIA A100",
    versions={"transformers": "5.23.0", "brain-tuning": "0.1.0"},
    seed=3,
    figures=(Figure("figures/layers.png", "Layers 0-12 | untuned and tuned"), Figure(None, "Flat map")),
    citation_bibtex="@article{vattikonda2025,\n  title = {BrainWavLM}\n}\n",
)


def test_golden_card() -> None:
    """The whole card as readers see it; rewrite the file on purpose, with the card's text in view."""
    assert cards.render_model_card(CONTEXT) == GOLDEN.read_text(encoding="utf-8")


def test_metadata_is_what_the_hub_reads() -> None:
    data = ModelCard(cards.render_model_card(CONTEXT)).data.to_dict()
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "feature-extraction"
    assert data["base_model"] == BASE_MODEL
    assert data["base_model_relation"] == "finetune"
    assert data["tags"] == ["brain-tuning", "fmri", "speech", "s1", "s2", "ac"]
    alone = dataclasses.replace(CONTEXT, adapters_only=True, simulated=True, surrogate_audio=True)
    data = ModelCard(cards.render_model_card(alone)).data.to_dict()
    assert data["base_model_relation"] == "adapter"
    assert data["tags"][-2:] == ["simulated", "surrogate-audio"]


def test_raw_and_normalised_r_of_scored_rows_only() -> None:
    """user-pains 8: raw and normalised r always together. What was not scored is no result, not 0."""
    results = ModelCard(cards.render_model_card(CONTEXT)).data.eval_results
    assert [(one.dataset_config, one.metric_type, one.metric_value) for one in results] == [
        ("s1-ac", "pearsonr", 0.21),
        ("s1-ac", "normalised_pearsonr", 0.3387),
    ]


def test_eval_results_read_back() -> None:
    rendered = cards.render_eval_results(CONTEXT)
    assert list(rendered) == [".eval_results/s1-ac.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(rendered[".eval_results/s1-ac.yaml"]))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("lab/lebel2023", "s1-ac", 0.21)
    assert entry.date == "2026-03-01"
    assert entry.notes == (
        "mean Pearson r over 481 voxels of held-out stories; normalised by the noise ceiling 0.339; untuned 0.170"
    )
    assert cards.render_eval_results(dataclasses.replace(CONTEXT, corpus_id=None)) == {}


def test_simulated_data_are_said_loudly_everywhere() -> None:
    simulated = dataclasses.replace(CONTEXT, simulated=True)
    text = cards.render_model_card(simulated)
    assert text.split("# brainwavlm-ac")[1].strip().startswith("> **SIMULATED DATA.**")
    assert text.lower().count("simulated") >= 5
    assert "SIMULATED" in cards.render_eval_results(simulated)[".eval_results/s1-ac.yaml"]
    assert "simulated" not in cards.render_model_card(CONTEXT).lower()


def test_card_tells_what_is_silently_untuned_and_what_is_not_published() -> None:
    """user-pains 1: peft on a stock WavLM is said to stay untuned. user-pains 32: no anatomy in adapters."""
    text = " ".join(cards.render_model_card(CONTEXT).split())
    assert "`peft.PeftModel.from_pretrained` on a stock WavLM **stays untuned, without a warning" in text
    assert "No anatomy is published." in text
    assert CONTEXT.consent in text
    alone = cards.render_model_card(dataclasses.replace(CONTEXT, adapters_only=True))
    assert 'AutoModel.from_pretrained("lab/brainwavlm-ac")' in text
    assert 'AutoModel.from_pretrained("lab/brainwavlm-ac")' not in alone


def test_table_side_by_side() -> None:
    header, rows = cards.result_table(CONTEXT.results)
    assert header[5:] == ["r untuned", "r / ceiling untuned", "r tuned", "r / ceiling tuned", "change of r"]
    first, second = rows
    assert first == ["s1", "ac", "481", "3", "0.620", "0.170", "0.274", "0.210", "0.339", "+0.040"]
    assert second[7:] == ["n/a", "n/a", "n/a"]
    assert cards.result_table(()) == (["subject", "region", "voxels", "not scored", "ceiling"], [])


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_could_not_be_estimated_is_never_a_number(value: float | None) -> None:
    """user-pains 3: NaN is n/a in the table and no entry in the metadata."""
    nothing = dataclasses.replace(CONTEXT, results=(row("tuned", value, value),))
    card = cards.render_model_card(nothing)
    assert "| s1 | ac | 481 | 3 | 0.620 | n/a | n/a |" in card
    assert "model-index" not in card
    assert cards.render_eval_results(nothing) == {}


def test_card_without_figures_and_results_renders() -> None:
    bare = dataclasses.replace(CONTEXT, figures=(), results=(), deviations=(), versions={}, recipe={})
    text = cards.render_model_card(bare)
    assert "![" not in text
    assert "No voxel could be scored." in text
    assert "No deviation from the published recipe." in text


def test_text_cannot_break_table_or_metadata() -> None:
    odd = dataclasses.replace(
        CONTEXT,
        recipe={"a|b": "x\n| y |"},
        corpus_name="---\nlicense: mit\n---",
        citation_bibtex="@misc{a, title = {{{B}} & {C}}}",
    )
    card = ModelCard(cards.render_model_card(odd))
    assert card.data.license == "cc-by-4.0"
    assert "| a\\|b | x \\| y \\| |" in card.text
    assert "{{{B}} & {C}}" in card.text


def test_rendered_card_passes_the_check_before_upload(tmp_path: Path) -> None:
    """user-pains 26: the metadata that are rendered are the metadata that are accepted."""
    folder = write_layout(tmp_path / "published", adapters=("s1-ac", "s2-ac"))
    for options in ({}, {"simulated": True}, {"adapters_only": True}, {"results": ()}, {"corpus_id": None}):
        context = dataclasses.replace(CONTEXT, **options)  # type: ignore[arg-type]
        (folder / "README.md").write_text(cards.render_model_card(context), encoding="utf-8")
        for path, text in cards.render_eval_results(context).items():
            (folder / path).write_text(text, encoding="utf-8")
        assert check_layout(folder).adapters == ("s1-ac", "s2-ac")


def test_every_known_value_is_used_by_the_template() -> None:
    """A value of the context that no card shows is a value that readers are not told."""
    unseen = {
        "evaluated_on",
        "language",
        "licence",
        "licence_name",
        "licence_link",
        "results",
        "figures",
        "seed",
    }
    template = cards.shared_file("hub_cards/model_card.md.jinja").read_text(encoding="utf-8")
    for field in dataclasses.fields(ModelCardContext):
        assert re.search(rf"\b{field.name}\b", template) or field.name in unseen, field.name


def test_dataset_card() -> None:
    context = DatasetCardContext(
        repo_id="lab/lebel2023",
        name="LeBel 2023",
        licence="cc0-1.0",
        description="Stories of The Moth.",
        source_url="https://openneuro.org/datasets/ds003020",
        consent="Written consent.",
        subjects=(SubjectRow(subject="s1", n_stories=27, n_trs=9000, n_voxels=81126, tr_s=2.0045, audio_hours=5.0),),
        regions=("ac", "pfc"),
        citation_bibtex="@article{lebel2023}",
    )
    card = DatasetCard(cards.render_dataset_card(context))
    assert card.data.license == "cc0-1.0"
    assert card.data.pretty_name == "LeBel 2023"
    assert "| s1 | 27 | 9000 | 81126 | 2.0045 | 5.0 |" in card.text
    assert "SIMULATED" not in card.text
    loud = cards.render_dataset_card(dataclasses.replace(context, simulated=True, surrogate_audio=True))
    assert "SIMULATED DATA" in loud
    assert "SURROGATE AUDIO" in loud


def test_metric_card() -> None:
    context = MetricCardContext(
        repo_id="lab/voxelwise_r",
        name="Voxelwise r",
        description="Pearson r of each voxel.",
        formula="r = cov(x, y) / (sd x sd y)",
        inputs={"predictions": "(n_trs, n_voxels)"},
        outputs={"r": "(n_voxels,) in [-1, 1], NaN if a voxel is constant"},
        example='evaluate.load("lab/voxelwise_r")',
        citation_bibtex="@misc{x}",
        limits=("Constant voxels are NaN.",),
    )
    card = SpaceCard(cards.render_metric_card(context))
    assert card.data.title == "Voxelwise r"
    assert "| `r` | (n_voxels,) in [-1, 1], NaN if a voxel is constant |" in card.text
    assert "- Constant voxels are NaN." in card.text

"""Cards say what was measured, in the Hub's own forms, and nothing that was not; and what they tell to run runs."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from card_contexts import (
    ADAPTERS_ONLY,
    FULL,
    GOLDEN,
    HOSTILE,
    MANY,
    ONE,
    SIMULATED,
    WHISPER,
    headings,
    row,
    structure,
)
from hub_process import HubPython
from huggingface_hub import ModelCard, parse_eval_result_entries
from small_layout import BASE_MODEL, write_layout
from tiny_runs import corpus, one_thread, work_folder

import brain_tuning.hub.cards as cards
from brain_tuning.hub.card_context import (
    AdapterRow,
    Figure,
    GroupRow,
    ModelCardContext,
)
from brain_tuning.hub.card_tables import adapter_table, group_table, impact_table, other_table, result_table
from brain_tuning.hub.card_text import cell, code_cell, duration, fenced, linked, number, picture_text, prose, told
from brain_tuning.hub.front_matter import check_eval_results, check_model_card
from brain_tuning.hub.layout import check_layout

sys.path.append(str(Path(__file__).parents[1] / "models"))


__all__ = ["corpus", "one_thread", "work_folder"]

FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_card(name: str) -> None:
    """The whole card as readers see it; rewrite the file on purpose, with the card's text in view."""
    assert cards.render_model_card(GOLDEN[name]) == (FOLDER / f"{name}.golden").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cards_are_valid_without_a_warning(name: str) -> None:
    """user-pains 26: what is rendered is what is accepted; nothing is lost when it is read back."""
    text = cards.render_model_card(GOLDEN[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        card = ModelCard(text)
    check_model_card(text, base_model=GOLDEN[name].base_model, files=["figures/regions.png"])
    assert str(card) == text.rstrip("\n") or card.data.to_dict() == yaml.safe_load(text.split("---\n")[1])
    for path, results in cards.render_eval_results(GOLDEN[name]).items():
        check_eval_results(results, path)


def test_the_hub_finds_nothing_to_complain_of(hub_python: HubPython) -> None:
    code = (
        "import warnings\nfrom huggingface_hub import ModelCard\nwith warnings.catch_warnings():\n"
        "    warnings.simplefilter('error')\n"
        "    result = [ModelCard(text).validate() for text in texts]"
    )
    texts = [cards.render_model_card(context) for context in GOLDEN.values()]
    assert hub_python.result(code, texts=texts) == [None] * len(texts)
    broken = hub_python.run(code, texts=["# no metadata"])
    assert broken.error == "ValueError"


def test_metadata_is_what_the_hub_reads() -> None:
    data = ModelCard(cards.render_model_card(ONE)).data.to_dict()
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "feature-extraction"
    assert data["base_model"] == BASE_MODEL
    assert data["base_model_relation"] == "finetune"
    assert data["tags"] == ["brain-tuning", "fmri", "speech", "wavlm", "s1", "ac", "brainwavlm"]
    assert data["co2_eq_emissions"]["emissions"] == pytest.approx(400 * 4980 / 3.6e6 * 380, abs=1e-3)
    alone = dataclasses.replace(ADAPTERS_ONLY, simulated=True, surrogate_audio=True)
    data = ModelCard(cards.render_model_card(alone)).data.to_dict()
    assert data["library_name"] == "brain-tuning"
    assert data["base_model_relation"] == "adapter"
    assert data["tags"][-2:] == ["simulated", "surrogate-audio"]
    assert "co2_eq_emissions" not in data


def test_tags_name_every_subject_region_and_recipe() -> None:
    odd = dataclasses.replace(
        MANY,
        adapter_rows=(AdapterRow(name="s1-x", subject="s1", region="left & AC", n_voxels=3), *MANY.adapter_rows),
        recipe_name="brainwavlm, my recipe",
    )
    tags = ModelCard(cards.render_model_card(odd)).data.tags
    assert tags[4:] == ["s1", "s2", "left-and-ac", "ac", "all", "brainwavlm", "my-recipe"]


def test_raw_and_normalised_r_of_scored_rows_only() -> None:
    """user-pains 8: raw and normalised r always together. What was not scored is no result, not 0."""
    results = ModelCard(cards.render_model_card(MANY)).data.eval_results
    assert [(one.dataset_config, one.metric_type, one.metric_value) for one in results] == [
        ("s1-ac", "pearsonr", 0.2),
        ("s1-ac", "normalised_pearsonr", 0.31),
        ("s1-all.s1-ac", "pearsonr", 0.21),
        ("s1-all.s1-ac", "normalised_pearsonr", 0.31),
        ("s1-all", "pearsonr", 0.22),
        ("s1-all", "normalised_pearsonr", 0.31),
    ]


def test_eval_results_read_back() -> None:
    rendered = cards.render_eval_results(dataclasses.replace(MANY, corpus_id="lab/lebel2023"))
    assert list(rendered) == [".eval_results/s1-ac.yaml", ".eval_results/s1-all.yaml"]
    first, second = parse_eval_result_entries(yaml.safe_load(rendered[".eval_results/s1-all.yaml"]))
    assert (first.dataset_id, first.task_id, first.value) == ("lab/lebel2023", "s1-all.s1-ac", 0.21)
    assert (second.task_id, second.date) == ("s1-all", "2026-03-01")
    assert first.notes == (
        "mean Pearson r over 481 voxels of held-out stories; 95 % interval 0.180 to 0.240; "
        "normalised by the noise ceiling 0.310; untuned 0.170"
    )
    assert cards.render_eval_results(dataclasses.replace(ONE, corpus_id=None)) == {}


def test_simulated_data_are_said_loudly_everywhere() -> None:
    text = cards.render_model_card(SIMULATED)
    assert text.split("# brainwavlm-s1-ac")[1].strip().startswith("> **SIMULATED DATA.**")
    assert text.lower().count("simulated") >= 5
    published = dataclasses.replace(SIMULATED, corpus_id="lab/simulated")
    assert "SIMULATED" in cards.render_eval_results(published)[".eval_results/s1-ac.yaml"]
    assert "simulated" not in cards.render_model_card(ONE).lower()


def test_card_tells_what_is_silently_untuned_and_what_is_not_published() -> None:
    """user-pains 1: why peft refuses a stock WavLM is said. user-pains 32: no anatomy in adapters."""
    text = " ".join(cards.render_model_card(ONE).split())
    assert "peft's own loader refuses these adapters: the attention of a stock WavLM does not run their layers" in text
    assert "No anatomy is published." in text
    assert ONE.consent in text
    assert "PeftModel.from_pretrained(" not in text
    for family in ("wav2vec2", "hubert"):
        other = cards.render_model_card(dataclasses.replace(ONE, family=family))
        assert 'PeftModel.from_pretrained(base, "lab/brainwavlm-s1-ac", subfolder="adapters/s1-ac")' in other
    assert "peft's own loader gives" not in cards.render_model_card(WHISPER)
    assert 'AutoModel.from_pretrained("lab/brainwavlm-s1-ac")' in text
    assert "AutoModel.from_pretrained(" not in cards.render_model_card(ADAPTERS_ONLY)
    assert "load_adapter(" not in cards.render_model_card(FULL)


def test_table_of_scores_side_by_side() -> None:
    table = result_table(ONE.results)
    assert table.header == (
        *("subject", "region", "voxels", "r untuned", "r tuned", "change of r", "p", "r / ceiling untuned"),
        *("r / ceiling tuned", "ceiling", "not scored"),
    )
    cells = ("s1", "AC", "481", "0.170 [n/a]", "0.210 [n/a]", "+0.040", "0.001", "0.274", "0.339", "0.620", "3")
    assert table.rows == (cells,)
    assert table.notes == ("`[n/a]`: there is no interval (1 story; an interval needs 8).",)
    many = result_table(MANY.results)
    assert [line[:6] for line in many.rows] == [
        ("`s1-ac`", "s1", "AC", "481", "0.170 [0.150, 0.190]", "0.200 [0.180, 0.240]"),
        ("`s1-all`", "s1", "AC", "481", "0.170 [0.150, 0.190]", "0.210 [0.180, 0.240]"),
        ("`s1-all`", "s1", "all", "481", "0.081 [n/a]", "0.220 [0.180, 0.240]"),
        ("`s2-ac`", "s2", "AC", "0", "0.150 [n/a]", "n/a"),
    ]
    assert many.rows[3][6:9] == ("n/a", "n/a", "n/a")
    assert many.notes[0] == "95 % intervals: BCa bootstrap of 12 stories' means."
    alone = result_table((row("untuned", 0.1, None),))
    assert (alone.header[3], alone.rows[0][3]) == ("r untuned", "0.100 [n/a]")
    assert alone.notes == ("`[n/a]`: no interval was computed.",)
    assert not [name for name in alone.header if "tuned" in name and "untuned" not in name]
    assert result_table(()).rows == ()
    assert other_table(ONE.results).rows == (("s1", "AC", "word-rate", "0.050 [n/a]", "0.080", "0.020"),)


def test_labels_of_an_evaluation_are_known_as_tuned() -> None:
    """`align` calls a tuned model after its region; the row says itself on whom it was tuned."""
    renamed = [dataclasses.replace(one, model="tuned-AC") if one.model == "tuned" else one for one in ONE.results]
    assert result_table(renamed) == result_table(ONE.results)
    same = cards.render_model_card(dataclasses.replace(ONE, results=tuple(renamed)))
    assert same == cards.render_model_card(ONE)


def test_tables_of_adapters_impact_and_subjects() -> None:
    table = adapter_table(MANY.adapter_rows, MANY.results, "s1-ac")
    assert table.rows[0] == ("`s1-ac` (default)", "s1", "AC", "484", "0.170 [0.150, 0.190]", "0.200 [0.180, 0.240]")
    assert adapter_table(MANY.adapter_rows, (), "s1-ac").header == ("adapter", "subject", "region", "voxels")
    impact = impact_table(ONE.low_level)
    assert impact.rows == (("s1", "AC", "spectrum", "0.170", "76 % [n/a]", "0.210", "81 % [n/a]"),)
    exact = dataclasses.replace(ONE.low_level[0], low=60.0, high=90.4, interval="BCa bootstrap of 9 stories")
    unknown = dataclasses.replace(ONE.low_level[1], impact_percent=None, interval="r is below 0.01")
    assert impact_table((exact, unknown)).rows[0][3:] == ("0.170", "76 % [60, 90]", "0.210", "n/a")
    assert impact_table(()).rows == ()
    group = group_table(
        (GroupRow(model="tuned-AC", region="AC", score="difference", mean=0.02, low=0.01, high=0.03, n_subjects=8,
                  tuned_on="self"),)
    )  # fmt: skip
    assert group.rows == (("AC", "tuned-AC", "the same subject", "change of r", "0.020 [0.010, 0.030]", "8"),)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_could_not_be_estimated_is_never_a_number(value: float | None) -> None:
    """user-pains 3: NaN is n/a in the table and no entry in the metadata."""
    nothing = dataclasses.replace(ONE, results=(row("tuned", value, value),), low_level=())
    card = cards.render_model_card(nothing)
    assert "| s1 | AC | 481 | n/a |" in card
    assert "model-index" not in card
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", card.lower())
    assert cards.render_eval_results(nothing) == {}


def test_a_bare_card_renders_and_says_what_is_missing() -> None:
    bare = ModelCardContext(
        **{
            field.name: getattr(ONE, field.name)
            for field in dataclasses.fields(ModelCardContext)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        | {"results": (), "recipe": {}, "versions": {}, "citation_bibtex": ""}
    )
    text = cards.render_model_card(bare)
    for said in (
        "![", "No evaluation was published with this model.", "Not measured.", "Energy was not measured.",
        "The recipe names no publication that it could deviate from.", "`metrics.json` holds the recipe",
    ):  # fmt: skip
        assert (said in text) == (said != "![")
    assert "No voxel could be scored." in cards.render_model_card(dataclasses.replace(bare, evaluated_on="2026-01-01"))


def test_a_figure_that_cannot_be_shown_is_left_out_and_said(tmp_path: Path) -> None:
    figures = (Figure("figures/a.png", "A"), Figure("figures/b) <x>.png", "B"), Figure("../c.png", "C"))
    context = dataclasses.replace(ONE, figures=figures)
    text = cards.render_model_card(context, folder=tmp_path)
    assert "![" not in text
    assert "*Not shown: A (its file is missing).*" in text
    for caption in "BC":
        assert f"*Not shown: {caption} (its file name is not one of letters, digits, dots and hyphens).*" in text
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"")
    assert "![A](figures/a.png)" in cards.render_model_card(context, folder=tmp_path)


def test_carbon_is_said_only_where_it_was_measured_or_follows_from_what_was_stated() -> None:
    def about(**values: Any) -> str:
        text = cards.render_model_card(dataclasses.replace(ONE, power_w=None, carbon_g_per_kwh=None, **values))
        return text.split("## Hardware and carbon")[1].split("##")[0]

    assert "Energy was not measured." in about()
    measured = about(energy_kwh=0.5)
    assert "Energy: 0.5 kWh (measured)." in measured
    assert "CO2" not in measured
    stated = cards.render_model_card(ONE)
    assert "Energy: 0.553 kWh (400 W, as stated, times the time)." in stated
    assert "CO2 equivalent: 210 g, at 380 g/kWh, as stated." in stated


def test_text_of_people_is_text() -> None:
    """Neither a table, nor the metadata, nor the page can be changed by a name, a caption or a consent."""
    fields = ("corpus_name", "corpus_licence", "consent", "hardware", "corpus_source", "recipe_source", "location")
    odd: dict[str, Any] = dict.fromkeys(fields, HOSTILE)
    odd |= {"recipe": {"a|b": HOSTILE}, "deviations": (HOSTILE,), "test_stories": (HOSTILE,), "corpus_id": None}
    odd |= {"citation_bibtex": f"@misc{{a, title = {{{{{{B}}}} & {{C}}}}}}\n````\n{HOSTILE}", "subjects": (HOSTILE,)}
    odd |= {"figures": (Figure("figures/regions.png", HOSTILE),), "recipe_paper": "javascript:alert(1)"}
    odd |= {"results": (dataclasses.replace(ONE.results[1], interval=HOSTILE, region=HOSTILE),), "region": HOSTILE}
    odd |= {"low_level": (dataclasses.replace(ONE.low_level[0], removed=HOSTILE),)}
    text = cards.render_model_card(dataclasses.replace(ONE, **odd))
    card = ModelCard(text)
    assert card.data.license == "cc-by-sa-3.0"
    assert yaml.safe_load(text.split("\n---\n")[0][4:])["license"] == "cc-by-sa-3.0"
    body = text.split("\n---\n", 1)[1]
    found = structure(body)
    assert not [kind for pair in found for kind in pair if kind in ("html_block", "html_inline")]
    assert sum(kind == "image" for _, kind in found) == 1
    plain = cards.render_model_card(dataclasses.replace(ONE, **dict.fromkeys(fields, "x")))
    assert headings(body) == headings(plain.split("\n---\n", 1)[1])
    assert not re.search(r"\]\(javascript", re.sub(r"(?s)```.*?```", "", body).replace("\\]", ""))
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    shown = markdown.render(f"| a |\n| --- |\n| {cell(HOSTILE)} |")
    assert shown.count("<td>") == 1
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [a](javascript:b) ![c](d) `e` ``` &amp;lt; *f*" in shown


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (cell("a_b _c_ d*"), r"a_b \_c\_ d\*"),
        (prose("# a\n\n- b\nc\n\n1. d"), "\\# a\n\n\\- b c\n\n1\\. d"),
        (told("`a|b` is <b>, see\n`c` and *d*"), r"`a\|b` is \<b\>, see `c` and \*d\*"),
        (told("one ` alone"), r"one \` alone"),
        (code_cell(None), "`null`"),
        (code_cell("a`|b"), "``a`\\|b``"),
        (code_cell("`"), "`` ` ``"),
        (code_cell(""), '`""`'),
        (fenced("a\n```\nb", "x"), "````x\na\n```\nb\n````"),
        (linked("a]", "https://x.org/y"), "[a\\]](https://x.org/y)"),
        (linked("a", "https://x.org/)("), "a"),
        (linked("a", "javascript:x"), "a"),
        (picture_text("a [b](c)"), "a b c"),
        (number(None), "n/a"),
        (number(np.float32(0.25)), "0.250"),
        (duration(59.6), "60 s"),
        (duration(95), "2 min"),
        (duration(4980), "1 h 23 min"),
    ],
)
def test_pieces_of_text(made: str, expected: str) -> None:
    assert made == expected


def test_rendered_card_passes_the_check_before_upload(tmp_path: Path) -> None:
    """user-pains 26: the metadata that are rendered are the metadata that are accepted."""
    folder = write_layout(tmp_path / "published", adapters=("s1-ac", "s2-ac"))
    (folder / "figures" / "regions.png").write_bytes((folder / "figures" / "layers.png").read_bytes())
    for context in (*GOLDEN.values(), dataclasses.replace(ONE, results=()), dataclasses.replace(ONE, corpus_id=None)):
        whole = dataclasses.replace(context, base_model=BASE_MODEL)
        (folder / "README.md").write_text(cards.render_model_card(whole), encoding="utf-8")
        for path, text in cards.render_eval_results(whole).items():
            (folder / path).write_text(text, encoding="utf-8")
        assert check_layout(folder).adapters == ("s1-ac", "s2-ac")


def test_every_known_value_is_used() -> None:
    """A value of the context that no card shows is a value that readers are not told."""
    template = cards.shared_file("hub_cards/model_card.md.jinja").read_text(encoding="utf-8")
    renderer = Path(cards.__file__).read_text(encoding="utf-8")
    for field in dataclasses.fields(ModelCardContext):
        used = re.search(rf"\b{field.name}\b", template) or re.search(rf"context\.{field.name}\b", renderer)
        assert used, field.name


def test_citations_are_of_the_recipe_the_corpus_and_this_package() -> None:
    from brain_tuning.hub.card_citations import corpus_bibtex, recipe_bibtex, recipe_paper, software_bibtex
    from brain_tuning.tuning.recipe import load_recipe

    for name, key in (
        ("brainwavlm", "vattikonda2025brainwavlm"), ("brainwavlm-full", "vattikonda2025brainwavlm"),
        ("refined-wav2vec2", "li2024refining"), ("brain-tuning-2025", "moussa2025brain"),
        ("multi-brain-tuning", "moussa2025multi"), ("demo", "vattikonda2025brainwavlm"),
    ):  # fmt: skip
        source = load_recipe(name).source
        assert f"{{{key}," in recipe_bibtex(source) or name == "demo"
        assert recipe_paper(source) is None or recipe_paper(source) in recipe_bibtex(source).replace(
            "arXiv preprint arXiv:", "https://arxiv.org/abs/"
        ).replace("arXiv:", "https://arxiv.org/abs/")
    assert recipe_bibtex("my own") == ""
    assert "{lebel2023natural," in corpus_bibtex("lebel2023", "OpenNeuro ds003020")
    said = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    ours = software_bibtex(said["version"])
    assert f"title = {{{said['title']}}}" in ours
    assert f"author = {{{{{said['authors'][0]['name']}}}}}" in ours
    assert f"version = {{{said['version']}}}" in ours
    assert f"year = {{{said['date-released'].year}}}" in ours

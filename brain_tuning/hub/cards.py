"""Render the cards of models, data sets and metrics from plain values and the templates of ``hub_cards/``."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

import yaml
from huggingface_hub import (
    DatasetCard,
    DatasetCardData,
    EvalResult,
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    SpaceCard,
    SpaceCardData,
    eval_result_entries_to_yaml,
)
from huggingface_hub.repocard_data import CardData
from jinja2 import Environment, StrictUndefined

from brain_tuning.hub.card_context import (
    TUNED,
    UNTUNED,
    DatasetCardContext,
    MetricCardContext,
    ModelCardContext,
    ResultRow,
)
from brain_tuning.shared_files import shared_file


def render_model_card(context: ModelCardContext) -> str:
    """Render a model card with its metadata, results in ``model-index`` form included.

    Args:
        context: what the card says.

    Returns:
        Content of ``README.md``.
    """
    results = _eval_results(context)
    metadata = ModelCardData(
        language=context.language,
        license=context.licence,
        license_name=context.licence_name,
        license_link=context.licence_link,
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=_tags(context),
        datasets=[context.corpus_id] if context.corpus_id else None,
        metrics=["pearsonr"],
        base_model=context.base_model,
        base_model_relation="adapter" if context.adapters_only else "finetune",
        model_name=context.repo_id.split("/")[-1] if results else None,
        eval_results=results or None,
    )
    header, rows = result_table(context.results)
    text = _render("model_card.md.jinja", context, header=header, rows=rows)
    return str(ModelCard(_with_front_matter(metadata, text)))


def render_eval_results(context: ModelCardContext) -> dict[str, str]:
    """Render the tuned model's results in the Hub's ``.eval_results`` form, a file for each adapter.

    Args:
        context: what the model card says. Without ``corpus_id`` there is no data set on the Hub to attach
            a result to, and no file.

    Returns:
        Path in the repository, ``.eval_results/<subject>-<region>.yaml`` -> content.
    """
    if context.corpus_id is None:
        return {}
    untuned = {(row.subject, row.region): row for row in context.results if row.model == UNTUNED}
    rendered = {}
    for row in _tuned(context):
        notes = f"mean Pearson r over {row.n_voxels} voxels of held-out stories"
        if row.r_normalised is not None:
            notes += f"; normalised by the noise ceiling {_number(row.r_normalised)}"
        if (before := untuned.get((row.subject, row.region))) is not None:
            notes += f"; untuned {_number(before.r)}"
        if context.simulated:
            notes += "; SIMULATED brain responses"
        name = _adapter_name(row)
        entry = EvalResultEntry(
            dataset_id=context.corpus_id,
            task_id=name,
            value=_plain(row.r),
            date=context.evaluated_on,
            notes=notes,
        )
        dumped = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
        rendered[f".eval_results/{name}.yaml"] = dumped
    return rendered


def render_dataset_card(context: DatasetCardContext) -> str:
    """Render the card of a corpus.

    Args:
        context: what the card says.

    Returns:
        Content of ``README.md``.
    """
    tags = ["brain-tuning", "fmri", "speech", *(["simulated"] if context.simulated else [])]
    metadata = DatasetCardData(
        language=context.language,
        license=context.licence,
        license_name=context.licence_name,
        license_link=context.licence_link,
        pretty_name=context.name,
        tags=tags,
    )
    return str(DatasetCard(_with_front_matter(metadata, _render("dataset_card.md.jinja", context))))


def render_metric_card(context: MetricCardContext) -> str:
    """Render the card of an ``evaluate`` metric module, which the Hub keeps as a Space.

    Args:
        context: what the card says.

    Returns:
        Content of ``README.md``.
    """
    metadata = SpaceCardData(
        title=context.name, sdk="static", license=context.licence, tags=["evaluate", "metric", "brain-tuning"]
    )
    return str(SpaceCard(_with_front_matter(metadata, _render("metric_card.md.jinja", context))))


def result_table(results: tuple[ResultRow, ...]) -> tuple[list[str], list[list[str]]]:
    """Put models side by side: one row for each subject and region, raw and normalised r of each model.

    Args:
        results: one row for each subject, region and model.

    Returns:
        Names of the columns, and the rows as text; what could not be estimated is ``n/a``.
    """
    models = list(dict.fromkeys(row.model for row in results))
    by_place: dict[tuple[str, str], dict[str, ResultRow]] = {}
    for row in results:
        by_place.setdefault((row.subject, row.region), {})[row.model] = row
    header = ["subject", "region", "voxels", "not scored", "ceiling"]
    header += [f"{score} {model}" for model in models for score in ("r", "r / ceiling")]
    both = UNTUNED in models and TUNED in models
    rows = []
    for (subject, region), of_model in by_place.items():
        one = of_model.get(TUNED) or next(iter(of_model.values()))
        cells = [subject, region, str(one.n_voxels), str(one.n_unscored), _number(one.ceiling)]
        for model in models:
            found = of_model.get(model)
            cells += [_number(found.r if found else None), _number(found.r_normalised if found else None)]
        if both:
            cells.append(_change(of_model))
        rows.append(cells)
    return header + (["change of r"] if both else []), rows


def _change(of_model: dict[str, ResultRow]) -> str:
    before, after = (of_model[name].r if name in of_model else None for name in (UNTUNED, TUNED))
    if before is None or after is None or not math.isfinite(after - before):
        return "n/a"
    return f"{after - before:+.3f}"


def _tuned(context: ModelCardContext) -> list[ResultRow]:
    """Rows of the tuned model that have a score."""
    return [row for row in context.results if row.model == TUNED and row.r is not None and math.isfinite(row.r)]


def _eval_results(context: ModelCardContext) -> list[EvalResult]:
    results = []
    for row in _tuned(context):
        place = f"mean over {row.n_voxels} voxels of {row.subject}, {row.region}"
        scores = [("pearsonr", f"Pearson r, {place}", row.r)]
        if row.r_normalised is not None and math.isfinite(row.r_normalised):
            scores.append(("normalised_pearsonr", f"Pearson r / noise ceiling, {place}", row.r_normalised))
        results += [
            EvalResult(
                task_type="feature-extraction",
                task_name="fMRI encoding",
                dataset_type=context.corpus_id or _slug(context.corpus_name),
                dataset_name=context.corpus_name,
                dataset_config=_adapter_name(row),
                dataset_split="test",
                metric_type=kind,
                metric_name=name,
                metric_value=_plain(value),
            )
            for kind, name, value in scores
        ]
    return results


def _tags(context: ModelCardContext) -> list[str]:
    tags = ["brain-tuning", "fmri", "speech", *map(_slug, context.subjects), _slug(context.region)]
    tags += ["simulated"] if context.simulated else []
    return tags + (["surrogate-audio"] if context.surrogate_audio else [])


def _adapter_name(row: ResultRow) -> str:
    return f"{_slug(row.subject)}-{_slug(row.region)}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-")


def _plain(value: float | None) -> float:
    # numpy scalars are not YAML, and more digits than the data carry are noise
    return round(float(value), 6) if value is not None else math.nan


def _number(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _cell(value: object) -> str:
    """Text that cannot break out of its cell of a Markdown table."""
    return " ".join(str(value).replace("|", "\\|").split())


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _render(template: str, context: object, **more: object) -> str:
    # Markdown, not HTML: escaping would show as &amp;
    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(cell=_cell, duration=_duration)
    values: dict[str, Any] = {field.name: getattr(context, field.name) for field in fields(context)}  # type: ignore[arg-type]
    source = shared_file(f"hub_cards/{template}").read_text(encoding="utf-8")
    return environment.from_string(source).render(**values, **more)


def _with_front_matter(metadata: CardData, text: str) -> str:
    return f"---\n{metadata.to_yaml()}\n---\n\n{text.strip()}\n"

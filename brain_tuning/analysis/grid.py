"""Several subjects, models, layers and regions in one table."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brain_tuning.atomic import whole_file
from brain_tuning.corpus import open_corpus
from brain_tuning.cortex.regions import GROUP
from brain_tuning.errors import CorpusError
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.processes import this_process

from .candidates import UNTUNED
from .evaluation import evaluate_models
from .job import EvaluationJob, check_job

log = logging.getLogger(__name__)

TABLE = "table"
IMPACT = "low_level_impact"
GROUP_MEANS = "group.json"
#: columns of text; others are numbers
_TEXT = ("subject", "region", "model", "tuned_on", "removed", "interval", "p_by")
#: what tells seeds of one model apart: ``tuned#1``, or of a layer ``tuned#1@9``
_REPLICATE = re.compile(r"#[^@]*")
#: of a comparison with the untuned model -> column of the table
_COMPARED = {
    "difference": "difference",
    "p": "p_difference",
    "n_better": "n_better",
    "n_worse": "n_worse",
    "p_stories": "p_stories",
    "n_stories": "n_stories",
}


def evaluate_subjects(
    job: EvaluationJob, subjects: Sequence[str], *, report: Callable[[str], object] = log.info
) -> list[dict[str, Any]]:
    """Evaluate the same models on several subjects, and write ``table.json`` and ``table.parquet``.

    With several subjects each one's files lie in a folder of its own, and ``group.json`` holds means over them. A model
    that was tuned on one of them is thereby judged on the others as well (``tuned_on`` against ``subject``). Subjects
    that are finished are not computed again. Low-level impact, where it is asked for, has a table of its own,
    ``low_level_impact.json`` and ``.parquet``.

    Args:
        job: of any subject.
        subjects: who is predicted.
        report: called with a line of progress now and then.

    Returns:
        The rows of the table.

    Raises:
        BrainTuningError: bad input of any kind.
    """
    if len(set(subjects)) < len(subjects) or not subjects:
        raise CorpusError(
            "subjects are named twice, or none is", where=", ".join(subjects), expected="each subject once"
        )
    corpus = open_corpus(job.corpus)
    for subject in subjects:
        check_job(replace(job, subject=subject), corpus)
    cache = FrozenCache(job.cache_mb * 2**20)
    results = []
    for subject in subjects:
        output = job.output if len(subjects) == 1 else job.output / subject
        results.append(evaluate_models(replace(job, subject=subject, output=output), report=report, cache=cache))
    rows = [row for result in results for row in table_rows(result)]
    if this_process().is_main_process:
        write_table(rows, job.output)
        impacts = [row for result in results for row in result["low_level_impact"]]
        for old in (f"{IMPACT}.json", f"{IMPACT}.parquet", GROUP_MEANS):
            (job.output / old).unlink(missing_ok=True)
        if impacts:
            write_table(impacts, job.output, IMPACT)
        if len(subjects) > 1:
            grouped = [*group_rows(rows), *group_impacts(impacts)]
            with whole_file(job.output / GROUP_MEANS) as path:
                path.write_text(json.dumps(grouped, indent=1, allow_nan=False) + "\n")
    return rows


def group_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean over subjects of each model's r and of its difference to the untuned model, by region, with t intervals.

    Models tuned on the subject who is predicted are one group (``tuned_on`` is ``"self"``), models tuned on another one
    (``"other"``) another, and those with a head for all a third (``"group"``): several of them are replicates within
    the subject. So are training seeds, whose labels differ in what follows a ``#`` alone: ``tuned#0``, ``tuned#1``.

    Args:
        rows: of :func:`table_rows`.

    Returns:
        Rows of ``model`` (without the owner's name), ``region``, ``tuned_on``, ``score`` (``r``, ``r_normalised`` or
        ``difference``), and what :class:`~brain_tuning.encoding.mixed.MixedSummary` says; null where it has no number.
    """
    untuned = {(row["subject"], row["region"], row["layer"]): row["r"] for row in rows if row["model"] in _untuned(row)}
    values: dict[tuple[str, str, str | None, str], list[tuple[str, float]]] = {}
    for row in rows:
        model, owner, relation = _as_group(row)
        scores = {"r": row["r"], "r_normalised": row["r_normalised"]}
        before = untuned.get((row["subject"], row["region"], row["layer"]))
        if owner is not None and None not in (before, row["r"]):
            scores["difference"] = row["r"] - before
        for score, value in scores.items():
            if value is not None:
                values.setdefault((model, row["region"], relation, score), []).append((row["subject"], value))
    return [
        {"model": model, "region": region, "tuned_on": relation, "score": score, **_over_subjects(pairs)}
        for (model, region, relation, score), pairs in values.items()
    ]


def group_impacts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean over subjects of the low-level impact, in per cent; rows as :func:`group_rows` gives, and ``removed``.

    Args:
        rows: ``low_level_impact`` of the subjects' results.
    """
    values: dict[tuple[str, str, str | None, str], list[tuple[str, float]]] = {}
    for row in rows:
        model, _, relation = _as_group(row)
        if row["impact_percent"] is not None:
            place = (model, row["region"], relation, row["removed"])
            values.setdefault(place, []).append((row["subject"], row["impact_percent"]))
    return [
        {
            "model": model, "region": region, "tuned_on": relation, "score": IMPACT, "removed": removed,
            **_over_subjects(pairs),
        }
        for (model, region, relation, removed), pairs in values.items()
    ]  # fmt: skip


def _as_group(row: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    """A row's model without its owner's name and its replicate's, the owner, and what the owner is to the subject."""
    owner = row["tuned_on"]
    relation = owner if owner in (None, GROUP) else "self" if owner == row["subject"] else "other"
    model = row["model"].replace(f"-of-{owner}", "") if owner else row["model"]
    return _REPLICATE.sub("", model), owner, relation


def _over_subjects(pairs: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Mean and interval of (subject, value) pairs, null where there is no number."""
    from brain_tuning.encoding.mixed import mixed_summary

    heard, numbers = zip(*pairs, strict=True)
    summary = mixed_summary(numbers, heard).summary()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in summary.items()}


def _untuned(row: Mapping[str, Any]) -> tuple[str, str]:
    return UNTUNED, f"{UNTUNED}@{row['layer']}"


def table_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one ``results.json`` with the comparison to the untuned model beside each score."""
    compared = {(row["model"], row["region"]): row for row in results["comparisons"]}
    rows = []
    for row in results["rows"]:
        against = compared.get((row["model"], row["region"]), {})
        rows.append({**row, **{name: against[key] for key, name in _COMPARED.items() if key in against}})
    return rows


def write_table(rows: Iterable[Mapping[str, Any]], folder: Path, name: str = TABLE) -> None:
    """Write rows as ``<name>.json`` and ``<name>.parquet``, both or neither; a cell that a row lacks is null.

    A column has the same type in every table, though it be null throughout, so that tables can be joined.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = list(rows)
    columns = list(dict.fromkeys(key for row in listed for key in row))
    table = pa.table({c: pa.array([row.get(c) for row in listed], _type_of(c)) for c in columns})
    with whole_file(folder / f"{name}.parquet") as columnar, whole_file(folder / f"{name}.json") as plain:
        pq.write_table(table, columnar)
        plain.write_text(json.dumps(listed, indent=1, allow_nan=False) + "\n")


def _type_of(column: str) -> Any:
    import pyarrow as pa

    if column in _TEXT:
        return pa.string()
    return pa.int64() if column == "layer" or column.startswith("n_") else pa.float64()

"""The page of alignments, and of the tuning runs behind them, from the files that they wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from brain_tuning.analysis.grid import table_rows
from brain_tuning.errors import BrainTuningError

from .context import Curve, ReportContext
from .html import write_report

#: of a document of results, what a report needs
_NEEDED = ("subject", "rows", "comparisons", "corpus", "settings", "models", "versions")
_RESULTS, _METRICS, _RUN = "results.json", "metrics.jsonl", "run.json"
_SIMULATED = "Simulated data: no number here says anything about a brain."
_SURROGATE = "The audio is not the recording that the subjects heard."


def write_report_of(
    alignments: Sequence[Path], output: Path, *, runs: Sequence[Path] = (), title: str | None = None
) -> Path:
    """Write the report of alignments as one HTML file.

    Args:
        alignments: folders that ``brain-tuning align`` has written.
        output: HTML file to write.
        runs: folders that ``brain-tuning tune`` has written, whose training curves are shown.
        title: of the page; None for the corpora's names.

    Returns:
        The file.

    Raises:
        BrainTuningError: a folder is not of that kind, or its files are damaged; nothing is written.
    """
    results = [found for folder in alignments for found in read_results(folder)]
    try:
        context = context_of(results, title=title)
    except KeyError as error:
        raise BrainTuningError(
            f"the results lack {error}", where=", ".join(map(str, alignments)), remedy="run brain-tuning align again"
        ) from error
    return write_report(output, replace(context, curves=[curve_of_run(folder) for folder in runs]))


def read_results(folder: Path) -> list[dict[str, Any]]:
    """What an alignment found, one document for each subject.

    Args:
        folder: of one subject, or of several with a folder each.

    Raises:
        BrainTuningError: there are no results, or they cannot be read.
    """
    files = [folder / _RESULTS] if (folder / _RESULTS).is_file() else sorted(folder.glob(f"*/{_RESULTS}"))
    if not files:
        raise BrainTuningError(
            "there is no finished alignment",
            where=folder,
            expected=f"{_RESULTS}, or a folder for each subject that holds one",
            remedy="name what was given to brain-tuning align as --output",
        )
    return [_read(file, _NEEDED) for file in files]


def context_of(results: Sequence[Mapping[str, Any]], *, title: str | None = None) -> ReportContext:
    """What a report says of alignments.

    Args:
        results: documents as in :func:`read_results`, of any corpora.
        title: of the page; None for the corpora's names.
    """
    corpora = [result["corpus"] for result in results]
    names = ", ".join(dict.fromkeys(str(corpus["name"]) for corpus in corpora))
    notes = [_SIMULATED] * any(corpus.get("simulation") for corpus in corpora)
    notes += [_SURROGATE] * any(corpus.get("surrogate_audio") for corpus in corpora)
    notes += [note for result in results for note in result.get("notes", ())]
    return ReportContext(
        title=title or names,
        subtitle="Encoding models judged on stories that neither tuning nor ridge has seen"
        if not any(result["settings"]["cross_validate"] for result in results)
        else "Encoding models judged by cross-validation",
        warnings=list(dict.fromkeys(notes)),
        rows=[row for result in results for row in table_rows(result)],
        facts=_facts(results, names),
        ledger=[{"subject": result["subject"], **result["corpus"]["ledger"]} for result in results],
    )


def curve_of_run(folder: Path) -> Curve:
    """The training curve of a tuning run.

    Raises:
        BrainTuningError: it is no folder of a run, or its files are damaged.
    """
    described = _read(folder / _RUN)
    try:
        lines = [json.loads(text) for text in (folder / _METRICS).read_text().splitlines()]
        steps = [line for line in lines if line["kind"] == "step"]
        judged = [line for line in lines if line["kind"] == "validation"]
        quantity: Literal["r", "loss"] = "loss" if judged and "r" not in judged[0] else "r"
        return Curve(
            f"{described['subject']} {described['roi']}",
            [line["step"] for line in steps],
            [line["loss"] for line in steps],
            [(line["step"], line[quantity]) for line in judged if line[quantity] is not None],
            quantity,
            described["recipe"]["loss"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder / _METRICS, error) from error


def _facts(results: Sequence[Mapping[str, Any]], names: str) -> dict[str, str | int | float]:
    first = results[0]
    models = {label: said for result in results for label, said in result["models"].items()}
    backbones = dict.fromkeys(str(said["backbone"]) for said in models.values() if "backbone" in said)
    tested = dict.fromkeys(story for result in results for story in result["corpus"]["split"]["test"])
    facts: dict[str, str | int | float] = {
        "corpus": names,
        "source": ", ".join(dict.fromkeys(str(result["corpus"]["source"]) for result in results)),
        "test stories": ", ".join(tested),
        "delays": " ".join(map(str, first["settings"]["delays_trs"])) + " TRs",
    }
    if backbones:
        facts["backbone"] = ", ".join(backbones)
    facts["measured on"] = ", ".join(dict.fromkeys(str(result["date"]) for result in results if result.get("date")))
    return {
        **{name: fact for name, fact in facts.items() if fact},
        **{f"version of {name}": version for name, version in first["versions"].items()},
    }


def _read(file: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise BrainTuningError(f"there is no {file.name}", where=file.parent, expected="the folder of a run") from error
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    if not isinstance(found, dict) or not set(needed) <= set(found):
        raise _damaged(file, TypeError("it is not what was written"))
    return found


def _damaged(file: Path, error: Exception) -> BrainTuningError:
    return BrainTuningError(f"the file cannot be read ({error})", where=file, remedy="run what wrote it again")

"""Command line of the evaluation, shared by ``brain-tuning align`` and ``evaluation/run.py``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from brain_tuning.errors import BackboneError, RecipeError, TimingError
from brain_tuning.features.low_level import BASELINES
from brain_tuning.processes import this_process
from brain_tuning.timing import WindowPlan
from brain_tuning.timing.windows import READS

#: models that stand side by side in the printed table
_MOST_COLUMNS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of an evaluation."""
    parser.add_argument("--corpus", required=True, help="corpus folder or Hub id")
    parser.add_argument(
        "--subject", required=True, action="append", dest="subjects",
        help="whose responses to predict; repeatable, then each has a folder in --output",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", default=[], dest="models", metavar="[LABEL=]MODEL",
        help="folder of a tuning run, tuned model or Hub id, of this subject or another; repeatable. "
        "Its untuned backbone is added by itself. Training seeds are LABEL#1=..., LABEL#2=...",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", action="append", default=[], dest="baselines",
        help=f"{', '.join(BASELINES)}, or several side by side, joined by +; repeatable",
    )  # fmt: skip
    parser.add_argument("--backbone", help="evaluate this untuned backbone when no --model is given")
    parser.add_argument("--recipe", help="recipe whose layer and window plan --backbone is read with")
    parser.add_argument(
        "--region", action="append", dest="regions",
        help="region to report, or an expression such as 'left & AC'; repeatable (default: all that are stored)",
    )  # fmt: skip
    parser.add_argument(
        "--layer", action="append", default=[], dest="layers", metavar="N",
        help="index into hidden_states, or all; repeatable (default: the layer that each model reads)",
    )  # fmt: skip
    for name, text in (("--context-s", "past heard by every frame"), ("--stride-s", "distance of windows")):
        parser.add_argument(name, type=float, metavar="S", help=f"{text}, instead of the models' own windows")
    parser.add_argument("--read", choices=READS, help="frames kept of a window (default with --context-s: all)")
    parser.add_argument("--delays", type=int, nargs="+", default=[1, 2, 3, 4], help="FIR delays in TRs")
    parser.add_argument(
        "--folds", choices=("stories", "bootstrap"), default="stories",
        help="what penalties are chosen by: whole stories, or the field's random chunks, to replicate its numbers only",
    )  # fmt: skip
    parser.add_argument(
        "--cross-validate", type=int, default=0, metavar="K",
        help="predict each of K contiguous blocks from the others, instead of the test split",
    )  # fmt: skip
    parser.add_argument("--penalties", type=float, nargs="+", help="ridge penalties to choose from")
    parser.add_argument(
        "--permutations", type=int, default=0, metavar="N",
        help="also test each voxel and region against chance, and tuned against untuned (not with --cross-validate)",
    )  # fmt: skip
    parser.add_argument(
        "--low-level-impact", action="append", default=[], metavar="BASELINE",
        help="also align each model without what this baseline predicts of its features (spectrum, phones, ...), "
        "and say how many per cent of r go with it; repeatable",
    )  # fmt: skip
    parser.add_argument("--memory-mb", type=float, metavar="MB", help="what a ridge may allocate beside its data")
    parser.add_argument(
        "--feature-cache", type=Path, metavar="DIR",
        help="keep features for other runs and processes (default: OUTPUT/features with several subjects or --layer)",
    )  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, help="folder for results.json and voxels.safetensors")


def run(args: argparse.Namespace) -> None:
    """Evaluate as the parsed arguments say, and print the table."""
    from .alignment import AlignmentSettings
    from .grid import IMPACT, TABLE, evaluate_subjects
    from .job import EvaluationJob

    several = len(args.subjects) > 1
    job = EvaluationJob(
        corpus=args.corpus,
        subject=args.subjects[0],
        models=tuple(args.models),
        output=args.output,
        baselines=tuple(args.baselines),
        regions=tuple(args.regions) if args.regions else None,
        backbone=args.backbone,
        recipe_config=_plan(args),
        layers=_layers(args.layers),
        plan=_window_plan(args),
        settings=AlignmentSettings(
            delays_trs=tuple(args.delays),
            penalties=tuple(args.penalties) if args.penalties else None,
            folds=args.folds,
            cross_validate=args.cross_validate,
            memory_mb=args.memory_mb,
        ),
        n_permutations=args.permutations,
        low_level_impact=tuple(args.low_level_impact),
        features=args.feature_cache or (args.output / "features" if several or args.layers else None),
    )
    rows = evaluate_subjects(job, args.subjects)
    if not this_process().is_main_process:
        return
    print(format_table(rows))
    if args.permutations:
        print(f"\n{format_tests(rows)}")
    if args.low_level_impact and (args.output / f"{IMPACT}.json").exists():
        print(f"\n{format_impact(json.loads((args.output / f'{IMPACT}.json').read_text()))}")
    print(f"results: {args.output / (f'{TABLE}.json' if several else 'results.json')}")


def _layers(texts: list[str]) -> tuple[int, ...] | Literal["all"] | None:
    if not texts:
        return None
    if texts == ["all"]:
        return "all"
    if not all(text.isdecimal() for text in texts):
        raise BackboneError(f"--layer {' '.join(texts)} is no layer", expected="numbers from 0, or all by itself")
    return tuple(dict.fromkeys(int(text) for text in texts))


def _window_plan(args: argparse.Namespace) -> WindowPlan | None:
    if args.context_s is None and args.stride_s is None and args.read is None:
        return None
    if args.context_s is None or args.stride_s is None:
        raise TimingError("a window plan is incomplete", expected="both --context-s and --stride-s")
    return WindowPlan(args.context_s, args.stride_s, args.read or "all")


def _plan(args: argparse.Namespace) -> dict[str, Any] | None:
    if args.recipe and not args.backbone:
        raise RecipeError(
            "a recipe says how a --backbone is read, and none is given",
            where=args.recipe,
            expected="--backbone; tuned models are read as they were tuned",
        )
    if not args.backbone:
        return None
    from brain_tuning.models.backbones import load_backbone_config
    from brain_tuning.tuning.recipe import load_recipe

    recipe = load_recipe(args.recipe or "brainwavlm")
    n_layers = load_backbone_config(args.backbone).num_hidden_layers
    return {
        "layer": recipe.layer(n_layers),
        "context_s": recipe.context_s,
        "stride_s": recipe.stride_s,
        "read": recipe.read,
        "lanczos_lobes": recipe.lanczos_lobes,
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """Region x model, r and r / ceiling side by side, as text for a terminal; many models one below the other."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    if len(models) > _MOST_COLUMNS:
        head = ["subject", "region", "voxels", "model", "r (r/ceil)", "ceiling"]
        return _in_columns([head, *(_line(row) for row in rows)])
    keys = list(dict.fromkeys((row["subject"], row["region"]) for row in rows))
    found = {(row["subject"], row["region"], row["model"]): row for row in rows}
    has_truth = any(row.get("truth") is not None for row in rows)
    head = ["subject", "region", "voxels", *(f"{m} r (r/ceil)" for m in models), "ceiling"]
    head += ["truth"] if has_truth else []
    table = [head]
    for subject, region in keys:
        cells = [found.get((subject, region, model)) for model in models]
        some = next(cell for cell in cells if cell is not None)
        line = [subject, region, str(some["n_voxels"])]
        line += ["-" if c is None else f"{_number(c['r'])} ({_number(c['r_normalised'])})" for c in cells]
        line += [_number(some["ceiling"]), *([_number(some.get("truth"))] if has_truth else [])]
        table.append(line)
    return _in_columns(table)


def _line(row: Mapping[str, Any]) -> list[str]:
    scores = f"{_number(row['r'])} ({_number(row['r_normalised'])})"
    return [row["subject"], row["region"], str(row["n_voxels"]), row["model"], scores, _number(row["ceiling"])]


def format_tests(rows: list[dict[str, Any]]) -> str:
    """p of each region's mean r and of its gain over the untuned model, and voxels found at a rate of 5 %."""
    head = ["subject", "region", "model", "p", "voxels > 0", "gain", "p of gain", "better", "worse"]
    table = [head]
    for row in rows:
        tests = [_number(row.get("p")), str(row.get("n_significant", "-")), _number(row.get("difference"))]
        tests += [_number(row.get("p_difference")), *(str(row.get(key, "-")) for key in ("n_better", "n_worse"))]
        table.append([row["subject"], row["region"], row["model"], *tests])
    return _in_columns(table)


def format_impact(rows: list[dict[str, Any]]) -> str:
    """Per cent of each region's r that go with low-level features, and their interval over stories."""
    table = [["subject", "region", "voxels", "model", "removed", "r", "r without", "impact"]]
    for row in rows:
        percent = "-" if row["impact_percent"] is None else f"{row['impact_percent']:.0f} %"
        if row["low"] is not None:
            percent += f" [{row['low']:.0f}, {row['high']:.0f}]"
        table.append(
            [row["subject"], row["region"], str(row["n_voxels"]), row["model"], row["removed"], _number(row["r"]),
             _number(row["r_without"]), percent]
        )  # fmt: skip
    return _in_columns(table)


def _in_columns(table: list[list[str]]) -> str:
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"

"""Command line of the evaluation, shared by ``brain-tuning align`` and ``evaluation/run.py``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from brain_tuning.features.low_level import BASELINES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of an evaluation."""
    parser.add_argument("--corpus", required=True, help="corpus folder or Hub id")
    parser.add_argument("--subject", required=True, help="whose responses to predict")
    parser.add_argument(
        "--model", action="append", default=[], dest="models",
        help="folder of a tuning run, tuned model or Hub id; repeatable. Its untuned backbone is added by itself",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", action="append", default=[], dest="baselines",
        help=f"{', '.join(BASELINES)}, or several side by side, joined by +; repeatable",
    )  # fmt: skip
    parser.add_argument("--backbone", help="evaluate this untuned backbone when no --model is given")
    parser.add_argument("--recipe", help="recipe whose layer and window plan --backbone is read with")
    parser.add_argument("--region", action="append", dest="regions", help="region to report; repeatable (default: all)")
    parser.add_argument("--delays", type=int, nargs="+", default=[1, 2, 3, 4], help="FIR delays in TRs")
    parser.add_argument(
        "--cross-validate", type=int, default=0, metavar="K",
        help="predict each of K contiguous blocks from the others, instead of the test split",
    )  # fmt: skip
    parser.add_argument("--penalties", type=float, nargs="+", help="ridge penalties to choose from")
    parser.add_argument("--output", required=True, type=Path, help="folder for results.json and voxels.safetensors")


def run(args: argparse.Namespace) -> None:
    """Evaluate as the parsed arguments say, and print the table."""
    from .alignment import AlignmentSettings
    from .evaluation import EvaluationJob, evaluate_models

    job = EvaluationJob(
        corpus=args.corpus,
        subject=args.subject,
        models=tuple(args.models),
        output=args.output,
        baselines=tuple(args.baselines),
        regions=tuple(args.regions) if args.regions else None,
        backbone=args.backbone,
        recipe_config=_plan(args),
        settings=AlignmentSettings(
            delays_trs=tuple(args.delays),
            penalties=tuple(args.penalties) if args.penalties else None,
            cross_validate=args.cross_validate,
        ),
    )
    results = evaluate_models(job)
    print(format_table(results["rows"]))
    print(f"results: {args.output / 'results.json'}")


def _plan(args: argparse.Namespace) -> dict[str, Any] | None:
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
    """Region x model, r and r / ceiling side by side, as text for a terminal."""
    models = list(dict.fromkeys(row["model"] for row in rows))
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
    widths = [max(len(line[k]) for line in table) for k in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"

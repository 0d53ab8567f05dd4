"""Command line of ``brain-tuning plan``: the options of ``tune``, and a table instead of a run."""

from __future__ import annotations

import argparse
import math
import os
import resource
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from brain_tuning.errors import RecipeError

from . import command
from .checkpoint import KEPT
from .job import TuningJob
from .memory import size_text
from .recipe import Recipe, load_recipe

if TYPE_CHECKING:
    import torch

    from .plan import Plan

_LABEL = 18
#: Measured on WavLM base+: 1.7 and 1.8 times the tensors alive for blocks of 4 and 12 windows of 16 s.
_GLIBC = "freed memory may stay with the process, nearly doubling it; MALLOC_MMAP_THRESHOLD_=1048576 gives it back"
#: rows of the table -> fields of StepMemory
_PARTS = {
    "weights": "weights", "gradients": "gradients", "optimiser": "optimiser", "activations": "activations",
    "prediction, loss": "readout", "peak": "peak",
}  # fmt: skip
#: what a plan can do without
_NOT_NEEDED = ("corpus", "subjects", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of a tuning run, and what stands for a corpus."""
    command.add_arguments(parser)
    for action in parser._actions:
        action.required = action.required and action.dest not in _NOT_NEEDED
    parser.add_argument("--voxels", type=int, metavar="N", help="instead of --corpus: voxels of each subject")
    parser.add_argument("--subjects-n", type=int, metavar="M", default=1, help="with --voxels: subjects (default: 1)")
    parser.add_argument("--tr-s", type=float, metavar="S", default=2.0, help="with --voxels: seconds a TR (default: 2)")
    parser.add_argument("--hours", type=float, metavar="H", default=1.0, help="with --voxels: of stories (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Plan as the parsed arguments say, and print the table."""
    from accelerate import PartialState

    from .plan import outline_of, outline_without_corpus, plan

    if (args.corpus is None) == (args.voxels is None) or (args.corpus is None) != (args.subjects is None):
        raise RecipeError(
            "the plan needs either a corpus and its subjects, or a number of voxels",
            expected="--corpus with --subject, or --voxels without them",
        )
    numbers = {"--voxels": args.voxels, "--subjects-n": args.subjects_n, "--tr-s": args.tr_s, "--hours": args.hours}
    for name, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise RecipeError(f"{name} is {value}", expected="more than 0")
    subjects = tuple(args.subjects or (f"s{k + 1}" for k in range(args.subjects_n)))
    overrides = {f.name: getattr(args, f.name, None) for f in fields(Recipe)}
    overrides["mixed_precision"] = args.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION")
    job = TuningJob(
        load_recipe(args.recipe).changed(**overrides),
        args.corpus or "",
        subjects,
        args.roi,
        args.output or Path(),
        cache_mb=args.cache_mb,
        disk_cache=args.disk_cache,
        disk_cache_gb=args.disk_cache_gb,
        gradient_checkpointing=args.gradient_checkpointing,
    )
    if args.corpus is not None:
        outline = outline_of(job)
    else:
        outline = outline_without_corpus(subjects, args.voxels, tr_s=args.tr_s, hours=args.hours)
    made = plan(job, outline, PartialState().device)
    print(format_plan(made, job, hours=None if args.corpus is not None else args.hours))


def format_plan(plan: Plan, job: TuningJob, *, hours: float | None = None) -> str:
    """A plan as text.

    Args:
        plan: what to say.
        job: what it is of.
        hours: of stories that were assumed; None if the corpus was there.
    """
    recipe = job.recipe
    subjects = ", ".join(f"{subject} {n:,} voxels" for subject, n in plan.n_voxels.items())
    windows = " + ".join(f"{n} x {seconds:g} s" for n, seconds in plan.windows)
    assumed = f" of {hours:g} h of stories" if hours else ""
    future = f"{plan.future_s:g} s" + (
        f" in a frame; the filter to TRs reaches {plan.filter_reach_s:g} s further" if plan.filter_reach_s else ""
    )
    redundancy = f"{plan.plan_redundancy:.1f}x by the window plan, {plan.redundancy:.1f}x with what blocks share"
    caches = [f"{job.cache_mb:,} MiB of memory"] + ([f"{job.disk_cache_gb:g} GB of disk"] if job.disk_cache else [])
    tuned = "adapter" if recipe.lora else "tuned layers"
    lines = [
        ("recipe", f"{recipe.name} on {recipe.backbone}, {job.roi}: {subjects}"),
        ("an epoch", f"{plan.n_blocks:,} blocks{assumed}, {plan.n_steps:,} steps; {recipe.epochs} epochs"),
        ("a block", f"{plan.block_trs} TRs of {plan.tr_s:g} s, at most {windows} of audio"),
        ("redundancy", redundancy),
        ("future", future),
        ("parameters", f"{plan.n_trained:,} trained, {plan.n_frozen:,} frozen"),
        ("", ""),
        *_memory_lines(plan, job),
        ("", ""),
        ("responses", f"{size_text(plan.responses)} of memory; read from the corpus block by block"),
        ("frozen outputs", f"{size_text(plan.frozen)} for an epoch; the cache holds at most {' and '.join(caches)}"),
        ("not tensors", f"Python and its libraries, in this process {size_text(_resident())}"),
        *([("on Linux", _GLIBC)] if plan.device.type == "cpu" and sys.platform == "linux" else []),
        ("checkpoints", f"{KEPT} of {size_text(plan.checkpoint)}, and {size_text(plan.best)} of the best epoch"),
        ("to publish", f"{tuned} {size_text(plan.adapter)}, head {size_text(plan.heads)}"),
        *_ridge_lines(plan),
    ]
    return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in lines)


def _memory_lines(plan: Plan, job: TuningJob) -> list[tuple[str, str]]:
    """The table of a step's memory, the variant that was asked for marked."""
    asked = (job.recipe.mixed_precision == "bf16", job.gradient_checkpointing)
    names = {
        variant: f"{'bf16' if variant[0] else 'fp32'}{' checkpointed' if variant[1] else ''}"
        + (" *" if variant == asked else "")
        for variant in plan.steps
    }
    rows = [(f"a step, {plan.device.type}", list(names.values()))]
    for label, part in _PARTS.items():
        rows.append((label, [size_text(getattr(step, part)) for step in plan.steps.values()]))
    width = max(len(text) for _, row in rows for text in row) + 2
    return [(label, "".join(f"{text:>{width}}" for text in row)) for label, row in rows]


def _ridge_lines(plan: Plan) -> list[tuple[str, str]]:
    """What aligning takes: one ridge for each model or layer that is compared."""
    rate = _products_per_second(plan.device)
    lines = [("", ""), ("to align", "for each model or layer a ridge, whose time grows linearly with voxels:")]
    for subject, ridge in plan.ridges.items():
        sizes = f"{ridge.n_trs:,} TRs x {ridge.n_features:,} features x {ridge.n_voxels:,} voxels"
        work = f"{ridge.cost.flops:.2g} operations, {_duration(ridge.cost.flops / rate)} at {rate / 1e9:,.0f} GFLOP/s"
        lines.append((subject, f"{sizes}: {work}; {size_text(ridge.cost.peak_bytes)} of memory beside the features"))
    return lines


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"


def _products_per_second(device: torch.device, side: int = 1024, n_products: int = 8) -> float:
    """The machine's own rate of float32 matrix products, operations a second."""
    import torch

    square = torch.randn(side, side, device=device)
    square @ square  # the first one also finds memory
    begin = time.perf_counter()
    for _ in range(n_products):
        product = square @ square
    float(product[0, 0])  # waits for a GPU
    return 2.0 * side**3 * n_products / (time.perf_counter() - begin)


def _resident() -> int:
    """Greatest memory of this process so far, bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

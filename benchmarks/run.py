"""Run benchmarks: ``python benchmarks/run.py [NAME ...] [--full] [--repeats N] [--device cpu|cuda]``.

NAME is a benchmark (``ridge_cv``) or one of its cases (``ridge_cv/himalaya``); without a name all run. One table is
printed, and everything behind it is written to ``runs/bench/``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any, cast

# Nothing here needs the network, and a look-up that times out would be timed; nor do progress bars help.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
# Run as a script, only this folder is on the path, and its modules have everyday names.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.harness import Benchmark, DisagreementError, Result, run_case
from benchmarks.table import render
from brain_tuning.atomic import whole_file
from brain_tuning.errors import BrainTuningError
from brain_tuning.terminal import run_command
from brain_tuning.versions import versions

CHECKOUT = Path(__file__).resolve().parents[1]
#: modules of this folder, in the order in which they run
BENCHMARKS = (
    "lanczos",
    "corpus_read",
    "metric",
    "adapter_switch",
    "wavlm_forward",
    "features_story",
    "tuning_step",
    "multi_subject",
    "gpu_wavlm_forward",
    "gpu_features_story",
    "gpu_tuning_step",
    "gpu_multi_subject",
    "epoch_cached",
    "superb_frozen",
    "query_search",
    "ridge_cv",
)
EXIT_DISAGREEMENT = 1


def chosen(names: Sequence[str]) -> Iterator[tuple[Benchmark, str]]:
    """Benchmark and case of all that ``names`` ask for, in the order in which they are defined.

    Raises:
        BrainTuningError: a name is no benchmark and no case.
    """
    modules = [cast(Benchmark, import_module(f"benchmarks.{name}")) for name in BENCHMARKS]
    known = {f"{name}/{case}" for name, module in zip(BENCHMARKS, modules, strict=True) for case in module.CASES}
    for name in names:
        if name not in BENCHMARKS and name not in known:
            raise BrainTuningError(
                "no such benchmark", where=name, expected=f"one of {', '.join(BENCHMARKS)}, {', '.join(sorted(known))}"
            )
    for name, module in zip(BENCHMARKS, modules, strict=True):
        yield from ((module, case) for case in module.CASES if not names or name in names or f"{name}/{case}" in names)


def sizes_of(benchmark: Benchmark, *, full: bool, changed: Mapping[str, int]) -> Any:
    """Sizes of a run.

    Args:
        benchmark: the module.
        full: the sizes that the goals are meant for.
        changed: sizes given by name; names that this benchmark does not have are for others.

    Returns:
        A ``Sizes`` of the benchmark.
    """
    sizes = benchmark.FULL if full else benchmark.Sizes()
    own = {field.name for field in fields(sizes)}
    return replace(sizes, **{key: value for key, value in changed.items() if key in own})


def outcomes(args: argparse.Namespace) -> Iterator[Result | DisagreementError]:
    """Run what was asked for; what each case gave, as soon as it is known."""
    changed = _changed_sizes(args.size, [benchmark for benchmark, _ in chosen(args.names)])
    if args.device == "cuda" and not torch.cuda.is_available():
        raise BrainTuningError(
            "torch sees no GPU", where="--device cuda", expected="a CUDA device",
            remedy="install a CUDA build of torch (see constraints.txt), or leave --device out",
        )  # fmt: skip
    for benchmark, case in chosen(args.names):
        name = f"{benchmark.__name__.rpartition('.')[2]}/{case}"
        device = args.device or benchmark.DEVICES[0]
        if device not in benchmark.DEVICES:
            print(f"{name}: runs on {' and '.join(benchmark.DEVICES)} only", file=sys.stderr)
            continue
        if device == "cuda" and not torch.cuda.is_available():
            print(f"{name}: left out, torch sees no GPU", file=sys.stderr)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        sizes = sizes_of(benchmark, full=args.full, changed=changed)
        options = {"device": device, "repeats": args.repeats, "memory": not args.no_memory}
        with tempfile.TemporaryDirectory(prefix="bench-", dir=args.scratch) as folder:
            try:
                yield run_case(benchmark, case, sizes, Path(folder), **options)
            except DisagreementError as error:
                yield error


def _changed_sizes(texts: Sequence[str], benchmarks: Collection[Benchmark]) -> dict[str, int]:
    known = {field.name for benchmark in benchmarks for field in fields(benchmark.Sizes)}
    changed = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value.isdecimal():
            raise BrainTuningError(
                "no such size", where=f"--size {text}", expected=f"KEY=NUMBER with one of {', '.join(sorted(known))}"
            )
        changed[key] = int(value)
    return changed


def write_json(results: Sequence[Result], refused: Sequence[str], path: Path) -> None:
    """Write everything that was measured so far, in place of what was written before."""
    document = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "n_threads": torch.get_num_threads(),
        "n_cores": os.cpu_count(),
        "versions": versions(),
        "results": [result.as_json() for result in results],
        "refused": list(refused),
    }
    with whole_file(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("names", nargs="*", metavar="NAME", help="benchmarks or cases; default: all")
    made.add_argument("--full", action="store_true", help="the sizes that the goals are meant for: minutes to hours")
    made.add_argument("--repeats", type=_at_least_one, default=5, metavar="N", help="pairs of runs (default: 5)")
    made.add_argument("--device", choices=("cpu", "cuda"), help="default: cpu, and cuda for gpu_*")
    made.add_argument("--size", action="append", default=[], metavar="KEY=NUMBER", help="change one of the sizes")
    made.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    made.add_argument("--scratch", type=Path, metavar="DIR", help="where the workloads' files lie meanwhile")
    made.add_argument("--output", type=Path, default=CHECKOUT / "runs" / "bench", metavar="DIR")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; the exit code is 1 if two programs did not compute the same."""
    args = parser().parse_args(argv)
    results: list[Result] = []
    refused: list[str] = []
    path = args.output / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}.json"

    def command() -> None:
        for outcome in outcomes(args):
            if isinstance(outcome, Result):
                results.append(outcome)
            else:
                refused.append(str(outcome))
            # After each case: the next one may take an hour, or be interrupted.
            write_json(results, refused, path)
        print(render(results))
        for text in refused:
            print(f"NO RATIO: {text}")
        print(f"written to {path}")

    return run_command(command) or (EXIT_DISAGREEMENT if refused else 0)


if __name__ == "__main__":
    sys.exit(main())

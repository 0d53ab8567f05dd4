"""Command line of the speech tasks: ``brain-tuning superb``."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from brain_tuning.errors import TaskError
from brain_tuning.processes import on_cpu

from .tasks import SUPERB, TASKS, Task, tasks_named

RESULTS, TABLE = "results.json", "table.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a run."""
    parser.add_argument(
        "--task", action="append", required=True, dest="tasks", metavar="TASK",
        help=f"{', '.join(TASKS)}; all for SUPERB's ten ({', '.join(SUPERB)}), probes for the others; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", required=True, dest="models", metavar="[LABEL=]MODEL[@ADAPTER]",
        help="folder or Hub id of an encoder or a published model, or folder of a tuning run; repeatable. The others "
        "are compared with the first",
    )  # fmt: skip
    parser.add_argument(
        "--data", action="append", default=[], metavar="TASK=FOLDER|FILE.yaml",
        help="data set of a task in its official layout, or a YAML file that says so of several; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--synthetic", type=Path, metavar="DIR",
        help="synthesise small data sets with exact labels into DIR for tasks that have no --data, or use those there",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="folder for results, and what is finished")
    parser.add_argument("--seed", type=int, action="append", dest="seeds", help="of the heads; repeatable (default: 0)")
    parser.add_argument(
        "--learning-rate", type=float, action="append", dest="rates", metavar="RATE",
        help="of the heads, chosen on dev; repeatable (default: each task's own sweep)",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, help="at most (default: 50)")
    parser.add_argument("--batch-size", type=int, help="utterances (default: each task's own)")
    parser.add_argument(
        "--head", action="append", default=[], metavar="SIZE=N",
        help="size of a head, e.g. lstm_width=128, for those that have it; repeatable (default: SUPERB's)",
    )  # fmt: skip
    parser.add_argument("--fine-tune", action="store_true", help="train the encoder, too")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help="of the encoder")
    parser.add_argument("--features", type=Path, metavar="DIR", help="keep features here (default: OUTPUT/features)")
    parser.add_argument("--features-gb", type=float, default=100.0, metavar="GB", help="bound of that folder")
    parser.add_argument(
        "--features-float32", action="store_true", help="keep frames in float32 instead of float16: twice the space"
    )
    parser.add_argument(
        "--random-labels", action="store_true", help="control: train on permuted labels, which must give chance"
    )
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--save-models", action="store_true", help="write transformers models with the trained heads")
    parser.add_argument("--leaderboard", action="store_true", help="write predictions as the SUPERB leaderboard asks")
    parser.add_argument("--s3prl", action="store_true", help="write an s3prl upstream for each model")


def run(args: argparse.Namespace) -> None:
    """Run the tasks as the parsed arguments say, and print the table."""
    import torch
    from accelerate import Accelerator

    from .controls import with_random_labels
    from .run import SuperbJob, run_tasks
    from .table import format_rows, result_rows

    tasks = [_trained_so(task, args) for task in tasks_named(args.tasks)]
    # Of several processes one makes what is to be synthesised, before the others read it, and one writes results.
    processes = Accelerator(cpu=on_cpu(), mixed_precision=args.mixed_precision)
    with processes.main_process_first():
        data = _data(tasks, args)
    if args.random_labels:
        data = {key: tuple(with_random_labels(one, seed=0) for one in folds) for key, folds in data.items()}
    job = SuperbJob(
        tasks=tuple(tasks),
        data=data,
        models=_models(args.models),
        output=args.output,
        seeds=tuple(args.seeds or (0,)),
        fine_tune=args.fine_tune,
        mixed_precision=args.mixed_precision,
        features=args.features or args.output / "features",
        disk_gb=args.features_gb,
        keep_dtype=torch.float32 if args.features_float32 else torch.float16,
        save_models=args.save_models,
    )
    outcomes = run_tasks(job)
    if not processes.is_main_process:
        return
    done = [task for task in tasks if all((task.key, label) in outcomes for label in job.models)]
    rows = result_rows(done, data, list(job.models), outcomes, n_resamples=args.resamples)
    _write(args.output, rows, job)
    print(format_rows(rows))
    if args.leaderboard:
        _write_leaderboard(job, outcomes)
    if args.s3prl:
        _write_upstreams(job)
    print(f"results: {args.output / RESULTS}")
    if len(done) < len(tasks):
        raise TaskError(
            f"{len(tasks) - len(done)} of {len(tasks)} tasks failed on some model and are not in the table",
            where=", ".join(task.key for task in tasks if task not in done),
            remedy="see the lines above; the same command goes on from what is finished",
        )


def _trained_so(task: Task, args: argparse.Namespace) -> Task:
    changed: dict[str, Any] = {}
    if args.rates:
        changed["learning_rates"] = tuple(args.rates)
    if args.epochs is not None:
        changed |= {"n_epochs": args.epochs, "patience": max(1, min(task.training.patience, args.epochs))}
    if args.batch_size is not None:
        changed["batch_size"] = args.batch_size
    sizes = dict(_size(text) for text in args.head)
    known = {size for one in TASKS.values() for size in one.training.head}
    strange = sorted(set(sizes) - known)
    if strange:
        raise TaskError(f"no head has a size {strange[0]!r}", where="--head", expected=", ".join(sorted(known)))
    own = task.training.head
    return task.with_training(**changed, head={key: value for key, value in sizes.items() if key in own})


def _size(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not value.isdecimal() or int(value) < 1:
        raise TaskError(f"--head {text} is no size", expected="NAME=N, e.g. lstm_width=128")
    return name, int(value)


def _models(texts: list[str]) -> dict[str, str]:
    models: dict[str, str] = {}
    for text in texts:
        label, found, name = text.partition("=")
        if not found:
            name = text
            label = Path(text).name
        if label in models:
            raise TaskError(f"two models are called {label!r}", where="--model", remedy="name them: LABEL=MODEL")
        models[label] = name
    return models


def _data(tasks: list[Task], args: argparse.Namespace) -> dict[str, Any]:
    from .catalogue import read_data, read_data_file
    from .made.everything import make_for

    said: dict[str, Any] = {}
    for text in args.data:
        key, found, folder = text.partition("=")
        if found and key in TASKS:
            said[key] = Path(folder)
        elif text.endswith((".yaml", ".yml")):
            said |= read_data_file(Path(text))
        else:
            raise TaskError(f"--data {text} is not understood", expected="TASK=FOLDER or a YAML file")
    data = {}
    for task in tasks:
        if task.key not in said and args.synthetic is not None:
            said[task.key] = make_for(task.key, args.synthetic)
        if task.key in said:
            data[task.key] = read_data(task, said[task.key])
    return data


def _write(output: Path, rows: list[dict[str, Any]], job: Any) -> None:
    from brain_tuning.atomic import whole_file
    from brain_tuning.versions import versions

    from .table import format_rows

    document = {
        "rows": rows,
        "models": dict(job.models),
        "seeds": list(job.seeds),
        "fine_tune": job.fine_tune,
        "mixed_precision": job.mixed_precision,
        "training": {task.key: _plain_training(task) for task in job.tasks},
        "versions": versions(),
    }
    with whole_file(output / RESULTS) as partial:
        partial.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    with whole_file(output / TABLE) as partial:
        partial.write_text(format_rows(rows, markdown=True) + "\n")


def _plain_training(task: Task) -> dict[str, Any]:
    training = task.training
    return {
        "learning_rates": list(training.learning_rates),
        "n_epochs": training.n_epochs,
        "patience": training.patience,
        "batch_size": training.batch_size,
        "balanced": training.balanced,
        "crop_s": training.crop_s,
        "head": dict(training.head),
    }


def _write_leaderboard(job: Any, outcomes: Any) -> None:
    from .leaderboard import export_leaderboard

    for label in job.models:
        of_model = {key: outcomes[key, label] for key in job.data if (key, label) in outcomes}
        written = export_leaderboard(of_model, job.data, job.output / "leaderboard" / label, overwrite=True)
        print(f"leaderboard: {written}")


def _write_upstreams(job: Any) -> None:
    from .s3prl_upstream import write_s3prl_upstream

    for label, name in job.models.items():
        entry = re.sub(r"\W", "_", label)
        entry = entry if entry.isidentifier() else f"model_{entry}"
        place = job.output / "s3prl" / label
        print(f"s3prl upstream: {write_s3prl_upstream(name, place, entry=entry, overwrite=True)}")

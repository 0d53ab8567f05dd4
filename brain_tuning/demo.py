"""The demo: from a simulated story to a published adapter and back, offline, with the truth beside every number."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tqdm import tqdm

from .analysis.candidates import UNTUNED
from .analysis.command import format_table
from .analysis.evaluation import evaluate_models
from .analysis.job import EvaluationJob
from .atomic import whole_file
from .corpus import Corpus, open_corpus
from .corpus.simulator.simulate import Simulation, simulate
from .cortex.regions import region_slug
from .errors import BrainTuningError, require_package
from .hub.card_context import Figure
from .hub.publish import assemble, repository_name
from .tuning.job import TuningJob
from .tuning.loop import tune
from .tuning.recipe import Recipe, load_recipe
from .versions import versions

log = logging.getLogger(__name__)

ROIS = ("all", "AC")
CONSENT = "No person was scanned: every response is simulated."


def run_demo(
    output: Path,
    *,
    seed: int = 0,
    control: bool = False,
    simulation: Simulation | None = None,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Simulate, tune, align, publish to a local folder, load back, and write summary and report.

    Args:
        output: folder; what an earlier demo left there is kept where it is complete and of the same seed.
        seed: of the simulation and of tuning.
        control: also tune on responses shuffled between stories, which must remove the gain.
        simulation: other than the demo's, e.g. smaller.
        recipe: other than the demo's.

    Returns:
        What ``summary.json`` holds.

    Raises:
        BrainTuningError: something that must hold does not.
    """
    for package in ("espeakng_loader", "matplotlib"):
        require_package(package)
    started = time.monotonic()
    recipe = recipe or load_recipe("demo").changed(seed=42 + seed)
    corpus = _corpus(output / f"corpus-seed{seed}", simulation or Simulation(seed=seed))
    jobs = {
        (subject, roi): TuningJob(
            recipe, str(corpus.path), subject, roi, output / "tune" / f"{subject}-{region_slug(roi)}"
        )
        for subject in corpus.subjects
        for roi in ROIS
    }
    if control:
        for subject in corpus.subjects:
            place = output / "tune" / f"{subject}-control"
            shuffled = recipe.changed(control="shuffled_stories")
            jobs[subject, "control"] = TuningJob(shuffled, str(corpus.path), subject, "all", place)
    n_workers = min(len(jobs), os.cpu_count() or 1)
    spawn = multiprocessing.get_context("spawn")  # a forked child would inherit torch's threads half-way
    with ProcessPoolExecutor(n_workers, mp_context=spawn, initializer=_one_thread) as pool:
        _tune_all(pool, list(jobs.values()))
        results = dict(zip(corpus.subjects, pool.map(evaluate_models, _alignments(output, corpus, ROIS)), strict=True))
        rows = [_with_truth(row, corpus) for result in results.values() for row in result["rows"]]
        if control:
            checked = list(pool.map(evaluate_models, _alignments(output, corpus, ("control",))))
            kept = [row for result in checked for row in result["rows"] if row["model"] != UNTUNED]
            rows += [_with_truth({**row, "model": "tuned-control"}, corpus) for row in kept]
    for subject in corpus.subjects:
        jobs.pop((subject, "control"), None)
    published = _published(output, jobs, results)
    loaded = _loaded_back(published)
    summary = {
        "rows": rows,
        "loaded_back": loaded,
        "seed": seed,
        "recipe": recipe.to_dict(),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    with whole_file(output / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    report = _report(output, corpus, jobs, rows, summary)
    print(format_table(rows))
    print(f"\nLoaded back with AutoModel in a fresh process: {len(loaded)} repositories, all tuned and equal.")
    print(f"summary: {output / 'summary.json'}\nreport:  {report}\nhub:     {output / 'hub'}")
    return summary


def _corpus(place: Path, simulation: Simulation) -> Corpus:
    if not place.exists():
        log.info("simulating stories and listeners (seed %d)", simulation.seed)
        simulate(place, simulation)
    return open_corpus(place)


def _one_thread() -> None:
    """One thread a worker: more would wait for one another, and sums are the same on any number of cores."""
    import torch

    torch.set_num_threads(1)


def _tune_all(pool: ProcessPoolExecutor, jobs: list[TuningJob]) -> None:
    """Tune side by side, with one progress bar that follows what the runs write."""
    running = [pool.submit(_tuned, job) for job in jobs]
    files = [job.output / "metrics.jsonl" for job in jobs]
    with tqdm(desc=f"tuning {len(jobs)} models", unit="step") as bar:
        while not all(future.done() for future in running):
            time.sleep(1)
            bar.update(sum(file.read_bytes().count(b"\n") for file in files if file.exists()) - bar.n)
    for future in running:
        future.result()


def _tuned(job: TuningJob) -> None:
    """Tune, or take what an earlier demo finished."""
    described = job.output / "run.json"
    if (job.output / "model").is_dir() and "finished" in (before := json.loads(described.read_text())):
        if before["recipe"] != job.recipe.to_dict():
            raise BrainTuningError(
                "the demo's folder holds another run",
                where=job.output,
                remedy="remove the folder, or name another --output",
            )
        return
    tune(job, resume=described.exists(), progress_bar=False)


def _alignments(output: Path, corpus: Corpus, kinds: tuple[str, ...]) -> list[EvaluationJob]:
    """One evaluation for each subject, of the tuning runs of these kinds."""
    suffix = "-control" if kinds == ("control",) else ""
    return [
        EvaluationJob(
            corpus=str(corpus.path),
            subject=subject,
            models=tuple(str(output / "tune" / f"{subject}-{kind.lower()}") for kind in kinds),
            output=output / "align" / f"{subject}{suffix}",
        )
        for subject in corpus.subjects
    ]


def _with_truth(row: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    truth = corpus.meta["extra"]["simulation"]["mean_ceiling_by_region"][row["subject"]]
    return {**row, "truth": truth[row["region"]]}


def _published(output: Path, jobs: dict[tuple[str, str], TuningJob], results: dict[str, Any]) -> dict[str, Path]:
    folders = {}
    for (subject, roi), job in jobs.items():
        name = repository_name(roi, subject)
        folders[name] = output / "hub" / name
        assemble(
            job.output,
            folders[name],
            repo_id=f"brain-tuning/{name}",
            results=results[subject],
            figures=_figures(output, subject, results[subject]),
            consent=CONSENT,
            overwrite=True,
        )
    return folders


def _figures(output: Path, subject: str, result: dict[str, Any]) -> list[Figure]:
    from .report import region_bars, save_figure

    place = output / "figures" / f"{subject}-regions.png"
    save_figure(region_bars(result["rows"]), place)
    return [Figure(str(place), f"Correlation by region, subject {subject}, simulated data")]


def _loaded_back(published: dict[str, Path]) -> dict[str, Any]:
    """Load every repository in a fresh process and compare with what the tuning run's model computes."""
    command = [
        sys.executable,
        "-m",
        "brain_tuning.hub.load_back",
        *(str(path) for path in published.values()),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise BrainTuningError(f"a published repository does not load: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {Path(path).name: value for path, value in found.items()}


def _report(
    output: Path,
    corpus: Corpus,
    jobs: dict[tuple[str, str], TuningJob],
    rows: list[dict[str, Any]],
    summary: dict[str, Any],
) -> Path:
    from .report import FlatMap, ReportContext, write_report
    from .report.of_alignment import curve_of_run

    curves = [replace(curve_of_run(job.output), label=f"{subject} {kind}") for (subject, kind), job in jobs.items()]
    flat = corpus.meta["extra"]["simulation"]["flat_maps"]
    maps = []
    for subject in corpus.subjects:
        scores = load_file(output / "align" / subject / "voxels.safetensors")
        values = {key.removeprefix("r/"): np.asarray(v) for key, v in scores.items() if key.startswith("r/")}
        maps.append(
            FlatMap(
                subject, np.array(flat[subject]["positions"]), flat[subject]["hemisphere"], flat[subject]["region"],
                {label: values[label] for label in sorted(values, key=lambda k: k != "untuned")},
            )
        )  # fmt: skip
    context = ReportContext(
        title="Brain-tuning demo",
        subtitle="A tiny WavLM, tuned on simulated listeners, judged on a story that neither tuning nor ridge has seen",
        warnings=["Simulated data: synthesised speech and synthetic BOLD. No number here says anything about a brain."],
        curves=curves,
        rows=rows,
        maps=maps,
        facts={
            "corpus": corpus.name,
            "seed": summary["seed"],
            "recipe": summary["recipe"]["name"],
            "backbone": summary["recipe"]["backbone"],
            "seconds in all": summary["seconds"],
            **{f"version of {name}": version for name, version in summary["versions"].items()},
        },
        ledger=[{"subject": subject, **corpus.ledger(subject).counts()} for subject in corpus.subjects],
    )
    return write_report(output / "report.html", context)

"""Run tasks on models: sweep the learning rate, train with several seeds, count on the test splits, keep all of it."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from brain_tuning.errors import AudioError, TaskDataError, TaskError
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.processes import on_cpu

from .classification import Classification
from .diarisation import Diarisation
from .downstream import Downstream, Hearing
from .examples import TaskData
from .finished import Finished, Outcome, data_identity, head_file, load_weights, save_weights, task_identity
from .probing import probe
from .scores.table import METRICS
from .searching import search_task
from .tasks import Task
from .training import DivergedError, train
from .transcription import Transcription
from .upstream import Upstream, load_upstream, place_and_adapter
from .verification import Verification

log = logging.getLogger(__name__)

#: changes when the same settings come to mean another outcome
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SuperbJob:
    """What is run.

    Args:
        tasks: with the training that is wanted.
        data: task key -> data sets, the folds of a cross-validation or one.
        models: label -> folder or Hub id, ``NAME@ADAPTER`` for one adapter of a published repository. The first is what
            the others are compared with.
        output: folder of results and of what is finished.
        seeds: of the heads; learning rates are swept with the first.
        fine_tune: train the encoders, too.
        mixed_precision: of the encoders: ``no`` or ``bf16``.
        features: folder for features of frozen encoders, kept for other runs; None keeps them in memory.
        memory_mb, disk_gb: bounds of these.
        keep_dtype: of frames that are kept.
        save_models: also write transformers' models with the trained heads into ``output/models``, where there is a
            class for the family and the head.
    """

    tasks: tuple[Task, ...]
    data: Mapping[str, tuple[TaskData, ...]]
    models: Mapping[str, str]
    output: Path
    seeds: tuple[int, ...] = (0,)
    fine_tune: bool = False
    mixed_precision: str = "no"
    features: Path | None = None
    memory_mb: int = 2048
    disk_gb: float = 100.0
    keep_dtype: torch.dtype = torch.float16
    save_models: bool = False

    def __post_init__(self) -> None:
        if not (self.tasks and self.models and self.seeds):
            raise TaskError("there is nothing to run", expected="a task, a model and a seed")
        missing = [task.key for task in self.tasks if not self.data.get(task.key)]
        if missing:
            raise TaskError(
                f"there are no data for the task {missing[0]!r}",
                where=", ".join(missing),
                expected="a folder for each task",
                remedy=f"pass --data {missing[0]}=FOLDER, or --synthetic for synthesised speech",
            )
        unfit = [task.key for task in self.tasks if self.fine_tune and task.method in ("probe", "search")]
        if unfit:
            raise TaskError(f"the task {unfit[0]!r} trains no encoder", remedy="leave it out with --fine-tune")


#: (task, model) -> seed -> outcomes of all folds
Outcomes = dict[tuple[str, str], dict[int, list[Outcome]]]


def run_tasks(job: SuperbJob, *, report: Callable[[str], object] = log.info) -> Outcomes:
    """Run all tasks on all models; what is finished already is read.

    A task that fails on a model is left out of what is returned, and the others go on.

    Args:
        job: see :class:`SuperbJob`.
        report: called with a line now and then.

    Raises:
        BackboneError, AdapterError: a model cannot be loaded; nothing has been trained then.
        TaskError: every task failed; what is finished stays.
    """
    accelerator = Accelerator(cpu=on_cpu(), mixed_precision=job.mixed_precision)
    finished, outcomes = Finished(job.output / "finished"), Outcomes()
    # One for all models, so that its bounds hold for all together: what is kept is known by its content.
    cache = FrozenCache(
        job.memory_mb * 2**20,
        job.features,
        int(job.disk_gb * 1e9),
        holds="features",
        remedy="free some space, or name another --features",
    )
    upstreams = {}
    for label, name in job.models.items():
        place, adapter = place_and_adapter(name)
        upstreams[label] = load_upstream(place, adapter=adapter, cache=cache, keep_dtype=job.keep_dtype)
    failed: list[str] = []
    for label, upstream in upstreams.items():
        solver = Solver(job, label, upstream.to(accelerator.device), accelerator, finished, report)
        for task in job.tasks:
            try:
                by_fold = [solver.solve(task, data) for data in job.data[task.key]]
            except (TaskError, TaskDataError, AudioError) as error:
                log.error("%s %s failed: %s", task.key, label, error)
                failed.append(f"{task.key} {label}: {error}")
                continue
            outcomes[task.key, label] = {seed: [found[seed] for found in by_fold] for seed in by_fold[0]}
        upstream.to(torch.device("cpu"))
    if not outcomes:
        raise TaskError(f"all of {len(failed)} tasks failed", where=failed[0])
    return outcomes


class Solver:
    """Tasks on one model.

    Args:
        job, label, upstream, accelerator, finished, report: as in :func:`run_tasks`.
    """

    def __init__(
        self,
        job: SuperbJob,
        label: str,
        upstream: Upstream,
        accelerator: Accelerator,
        finished: Finished,
        report: Callable[[str], object],
    ) -> None:
        self.job, self.label, self.upstream = job, label, upstream
        self.accelerator, self.finished = accelerator, finished
        self._report = report
        with accelerator.autocast():
            self._seal = upstream.seal().hex()
        #: data sets whose features have been computed: they are not all read again for each head
        self._heard: set[str] = set()

    def report(self, line: str) -> None:
        """Say a line, once for all processes."""
        if self.accelerator.is_main_process:
            self._report(line)

    def solve(self, task: Task, data: TaskData) -> dict[int, Outcome]:
        """One fold of a task: seed -> outcome."""
        if task.training.crop_s is not None:
            data = data.cropped(task.training.crop_s)
        identity = data_identity(data)
        if task.method in ("probe", "search"):
            once = self._known(task, identity, None, 0, lambda: self._without_training(task, data))
            return {0: once}
        first, *others = self.job.seeds
        rates = task.training.learning_rates

        def trained(rate: float, seed: int) -> Outcome:
            keep = head_file(self._path(task, identity, rate, seed)) if self.job.save_models else None
            return self._known(
                task, identity, rate, seed, lambda: self._trained(task, data, identity, rate, seed, keep)
            )

        swept = {}
        for rate in rates:
            try:
                swept[rate] = trained(rate, first)
            except DivergedError as error:  # noqa: PERF203  training takes longer
                log.warning("%s %s: rate %g is left out: %s", task.key, self.label, rate, error)
        better = max if METRICS[task.metric].higher_is_better else min
        scored = {rate: found.score for rate, found in swept.items() if not np.isnan(found.score)}
        if not scored:
            raise TaskError("no head has a score on the development split", where=f"{task.title}: {data.name}")
        rate = better(scored, key=lambda one: scored[one])
        if self.job.save_models:
            self._save_model(task, data, identity, rate)
        return {first: swept[rate], **{seed: trained(rate, seed) for seed in others}}

    def _path(self, task: Task, identity: str, rate: float | None, seed: int) -> Path:
        """File of an outcome."""
        decided_by = {
            **task_identity(task), "version": _VERSION, "data": identity, "encoder": self._seal, "rate": rate,
            "seed": seed, "fine_tune": self.job.fine_tune, "precision": self.job.mixed_precision,
        }  # fmt: skip
        return self.finished.path(task.key, self.label, decided_by)

    def _known(
        self, task: Task, identity: str, rate: float | None, seed: int, compute: Callable[[], Outcome]
    ) -> Outcome:
        path = self._path(task, identity, rate, seed)
        found = self.finished.load(path)
        said = f"{task.key} {self.label}" + (f" rate {rate:g} seed {seed}" if rate is not None else "")
        if found is not None and (rate is None or not self.job.save_models or head_file(path).exists()):
            self.report(f"{said}: finished before")
            return found
        began = time.monotonic()
        found = replace(compute(), seconds=time.monotonic() - began)
        if self.accelerator.is_main_process:
            self.finished.save(path, found)
        self.accelerator.wait_for_everyone()
        self.report(f"{said}: {task.metric} {found.score:.4g} on dev, {found.seconds:.0f} s")
        return found

    def _trained(self, task: Task, data: TaskData, identity: str, rate: float, seed: int, keep: Path | None) -> Outcome:
        downstream = make_downstream(task, data, self.upstream)
        if not self.job.fine_tune and identity not in self._heard:
            self._hear_all(data, pooled=downstream.pooled)
            self._heard.add(identity)
        try:
            found = train(
                downstream,
                self.upstream,
                learning_rate=rate,
                seed=seed,
                accelerator=self.accelerator,
                fine_tune=self.job.fine_tune,
            )
        finally:
            # Else Accelerate holds every head with its optimiser, and with them the encoders that were fine-tuned.
            self.accelerator.free_memory()
        if keep is not None and self.accelerator.is_main_process:
            save_weights(keep, found.head, found.encoder)
        return Outcome(
            score=found.score,
            counts=found.counts,
            predictions=found.predictions,
            layer_weights=found.head.weights().tolist(),
            learning_rate=rate,
            seed=seed,
            epoch=found.epoch,
            seconds=0.0,
            history=found.history,
        )

    def _save_model(self, task: Task, data: TaskData, identity: str, rate: float) -> None:
        """Write transformers' model with the head of the first seed, where there is a class for it."""
        from .transformers_heads import save_transformers_model

        downstream = make_downstream(task, data, self.upstream)
        kept = head_file(self._path(task, identity, rate, self.job.seeds[0]))
        upstream = copy.deepcopy(self.upstream) if self.job.fine_tune else self.upstream
        head = load_weights(kept, downstream, upstream)
        for question in data.questions or ("",):
            parts = [task.key, self.label, data.fold, question if len(data.questions) > 1 else ""]
            place = self.job.output / "models" / "-".join(part.replace(" ", "-") for part in parts if part)
            try:
                if self.accelerator.is_main_process:
                    save_transformers_model(
                        downstream, head, upstream, place, question=question or None, overwrite=True
                    )
                    self.report(f"model: {place}")
            except TaskError as error:
                self.report(f"{task.key} {self.label}: no transformers model is written: {error}")

    def _without_training(self, task: Task, data: TaskData) -> Outcome:
        hear = self._hear_all(data, pooled=task.method == "probe")
        found = probe(task, data, hear) if task.method == "probe" else search_task(data, hear, self.accelerator.device)
        chosen = np.eye(self.upstream.n_layers)[found.layer]
        return Outcome(
            score=found.score,
            counts=found.counts,
            predictions=found.predictions,
            layer_weights=chosen.tolist(),
            learning_rate=None,
            seed=0,
            epoch=0,
            seconds=0.0,
            history=found.by_layer,
        )

    def _hear_all(self, data: TaskData, *, pooled: bool) -> Hearing:
        """Compute the features of a data set that are not known yet, shared out among processes."""
        hear = Hearing(self.upstream, pooled=pooled, autocast=self.accelerator.autocast)
        on_disk = self.job.features is not None
        rank, world = (self.accelerator.process_index, self.accelerator.num_processes) if on_disk else (0, 1)
        utterances = list(data.utterances())
        if not pooled:
            self._warn_of_more_than_is_kept(data)
        with tqdm(
            total=len(utterances[rank::world]),
            desc=f"{self.label} hears {data.name}",
            unit="utterance",
            disable=not self.accelerator.is_local_main_process,
            leave=False,
        ) as bar:
            for n_done in hear.prepare(utterances, rank, world):
                bar.update(n_done)
        self.accelerator.wait_for_everyone()
        return hear

    def _warn_of_more_than_is_kept(self, data: TaskData) -> None:
        """Say so before hours are spent on features that are forgotten before they are heard again."""
        seconds = sum(recording.duration_s() for recording in {utterance.recording for utterance in data.utterances()})
        n_gb = seconds * self.upstream.bytes_per_second / 1e9
        on_disk = self.job.features is not None
        kept_gb = self.job.disk_gb if on_disk else self.job.memory_mb * 2**20 / 1e9
        if n_gb > kept_gb:
            log.warning(
                "%s: frames of %s (%.1f h) take about %.1f GB, of which %.1f GB are kept: the rest is computed anew in "
                "each epoch; raise %s",
                self.label, data.name, seconds / 3600, n_gb, kept_gb, "--features-gb" if on_disk else "memory_mb",
            )  # fmt: skip


def make_downstream(task: Task, data: TaskData, upstream: Upstream) -> Downstream:
    """The task on the data, for a head that is trained.

    Raises:
        TaskDataError: the data lack what the task asks for.
    """
    match task.method:
        case "classify":
            return Classification(task, data)
        case "transcribe":
            return Transcription(task, data)
        case "diarise":
            return Diarisation(task, data, upstream)
        case "verify":
            return Verification(task, data)
    raise TaskError(f"nothing is trained for {task.title}", where=task.method)

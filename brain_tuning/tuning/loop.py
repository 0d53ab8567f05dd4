"""The tuning loop: one for every recipe, on any number of processes, resumable to the last bit."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from tqdm import tqdm

from brain_tuning.atomic import storage_errors, whole_file
from brain_tuning.corpus import Corpus, Run, open_corpus
from brain_tuning.cortex.regions import GROUP, above_ceiling, adapter_name, select_voxels
from brain_tuning.errors import AdapterError, EncodingError
from brain_tuning.models.backbones import load_backbone_config
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.processes import on_cpu

from . import checkpoint
from .data import BlockDataset
from .job import TuningJob
from .recipe import Recipe
from .run_folder import describe, description_of, start_or_resume, write_json
from .selection import check_selection, validation_score

#: what stands for the subject in the name of an adapter while several are tuned together
TOGETHER = "together"

log = logging.getLogger(__name__)


def tune(
    job: TuningJob,
    *,
    resume: bool = False,
    mixed_precision: str | None = None,
    cache: FrozenCache | None = None,
    progress_bar: bool = True,
) -> Path:
    """Tune, and leave ``output/model`` (the tuned model), ``metrics.jsonl``, ``run.json`` and checkpoints.

    Args:
        job: what to tune.
        resume: continue from the newest checkpoint in ``output``, from the start if it was stopped before the
            first; losses are those of an uninterrupted run.
        progress_bar: show one on the terminal.
        cache: of frozen outputs, to share with other runs in this process; None makes one as the job says.
        mixed_precision: ``no`` or ``bf16``; None takes what ``accelerate launch`` was told, else the recipe's.

    Returns:
        The folder of the tuned model.

    Raises:
        BrainTuningError: bad input of any kind; nothing is left half-written.
    """
    recipe = job.recipe
    corpus = open_corpus(job.corpus)
    runs = {s: {split: corpus.runs(s, split) for split in ("train", "validation")} for s in job.subjects}
    voxels = {subject: tuned_voxels(recipe, corpus, subject, job.roi) for subject in job.subjects}
    for subject in job.subjects:
        check_selection(recipe.select, runs[subject]["validation"], corpus)
    set_seed(recipe.seed)
    model = build_model(recipe, job, voxels, tr_s=next((run.tr_s for run in runs[job.subjects[0]]["train"]), 2.0))
    if cache is None and (job.cache_mb or job.disk_cache):
        cache = FrozenCache(job.cache_mb * 2**20, job.disk_cache, int(job.disk_cache_gb * 2**30))
    model.frozen_cache = cache
    ceilings = {subject: corpus.noise_ceiling(subject)[columns] for subject, columns in voxels.items()}
    data = BlockDataset(
        corpus, {subject: own["train"] for subject, own in runs.items()}, voxels, model.config,
        block_trs=recipe.block_trs, seed=recipe.seed, order=recipe.order,
        shuffled_stories=recipe.control == "shuffled_stories",
        noise_ceilings=ceilings if recipe.loss == "ceiling_weighted" else None,
    )  # fmt: skip
    accelerator = _accelerator(recipe, mixed_precision, every_block_trains_all=data.all_hear_all)
    n_audited = _audit(model, corpus, data)
    n_voxels = {subject: len(columns) for subject, columns in voxels.items()}
    description = describe(job, corpus, model, accelerator, n_voxels, n_audited, len(data))
    metrics = start_or_resume(job, description, resume, accelerator)
    return _Loop(job, accelerator, model, data, corpus, runs, voxels, metrics).run(resume, progress_bar)


def tuned_voxels(recipe: Recipe, corpus: Corpus, subject: str, roi: str) -> np.ndarray:
    """Columns of a subject's responses that a recipe tunes on, (n_voxels,).

    Raises:
        RegionError: no such region, or no usable voxel is left in it.
    """
    ceiling = corpus.noise_ceiling(subject)
    usable = corpus.ledger(subject).usable
    voxels = select_voxels(roi, corpus.regions(subject), usable, subject=subject, noise_ceiling=ceiling)
    least = recipe.min_noise_ceiling
    return voxels if least is None else above_ceiling(voxels, ceiling, least, subject=subject)


def _accelerator(recipe: Recipe, mixed_precision: str | None, *, every_block_trains_all: bool) -> Accelerator:
    wanted = mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION") or recipe.mixed_precision
    if is_initialized() and AcceleratorState().mixed_precision != wanted:
        # Accelerate keeps the precision of the first run in a process for all later ones, or refuses them.
        AcceleratorState._reset_state()
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=wanted,
        gradient_accumulation_steps=recipe.blocks_per_step,
        # True would hide adapters that nothing trains; the audit has found those before.
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                find_unused_parameters=not every_block_trains_all or recipe.head_only_epochs > 0
            )
        ],
    )


def build_model(
    recipe: Recipe, job: TuningJob, voxels: Mapping[str, np.ndarray], *, tr_s: float
) -> BrainWavLMForFMRIEncoding:
    """The untuned model of a recipe with one fresh adapter.

    Args:
        recipe: what to tune.
        job: whose responses, in which region.
        voxels: subject -> columns of its responses.
        tr_s: repetition time, seconds.

    Raises:
        AdapterError: the adapters of several subjects would be called alike.
    """
    n_layers = load_backbone_config(recipe.backbone).num_hidden_layers
    model = BrainWavLMForFMRIEncoding.from_backbone(
        recipe.backbone,
        layer=recipe.layer(n_layers),
        first_adapted_layer=recipe.first_adapted_layer(n_layers),
        context_s=recipe.context_s,
        stride_s=recipe.stride_s,
        read=recipe.read,
        history_trs=recipe.history_trs,
        convolution=recipe.convolution,
        lanczos_lobes=recipe.lanczos_lobes,
        delays_trs=list(recipe.delays_trs),
        normalise_features=recipe.normalise_features,
        bottleneck=recipe.bottleneck,
        backbone_dropout=recipe.backbone_dropout,
        tr_s=tr_s,
    )
    # The checkpoint it was copied from is in reference cycles: its file would stay mapped, as large as the model again.
    gc.collect()
    said = {"roi": job.roi, "recipe": recipe.name}
    if len(job.subjects) == 1:
        (subject,) = job.subjects
        model.add_adapter(
            adapter_name(subject, job.roi), len(voxels[subject]), lora=recipe.lora, voxels=voxels[subject],
            subject=subject, **said,
        )  # fmt: skip
    else:
        _check_names(job)
        model.add_group(
            adapter_name(TOGETHER, job.roi), voxels, readout=recipe.readout, lora=recipe.lora,
            tuned_with=list(job.subjects), **said,
        )  # fmt: skip
    if job.gradient_checkpointing:
        model.checkpoint_activations()
    if job.compile:
        model.compile_layers()
    return model


def _check_names(job: TuningJob) -> None:
    # Found out now, not when the group is split at the end of the run.
    names = [adapter_name(name, job.roi) for name in (*job.subjects, TOGETHER)]
    alike = sorted({name for name in names if names.count(name) > 1})
    if alike:
        raise AdapterError(
            f"two adapters would be called {alike[0]!r}",
            where=f"subjects {', '.join(job.subjects)}",
            expected=f"subjects that differ in more than dots and case, none of them called {TOGETHER!r}",
        )


class _Loop:
    """State of a running job; see :func:`tune`."""

    def __init__(
        self,
        job: TuningJob,
        accelerator: Accelerator,
        model: BrainWavLMForFMRIEncoding,
        data: BlockDataset,
        corpus: Corpus,
        runs: dict[str, dict[str, list[Run]]],
        voxels: dict[str, np.ndarray],
        metrics: Path,
    ) -> None:
        self.job, self.recipe, self.accelerator = job, job.recipe, accelerator
        self.data, self.corpus, self.runs, self.voxels, self.metrics = data, corpus, runs, voxels, metrics
        self.plain = model
        optimiser = torch.optim.Adam(parameter_groups(model, self.recipe), weight_decay=self.recipe.l2_penalty)
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.progress = checkpoint.Progress()
        # Each process takes every world-th block; a remainder that not all could have is left to the next epoch.
        self.world, self.rank = accelerator.num_processes, accelerator.process_index
        group = self.world * self.recipe.blocks_per_step
        self.blocks_per_epoch = len(data) // group * self.recipe.blocks_per_step
        if self.blocks_per_epoch == 0:
            raise EncodingError(
                f"{len(data)} blocks cannot make one step", expected=f"at least {group} (processes x blocks_per_step)"
            )
        self.n_steps = self.blocks_per_epoch // self.recipe.blocks_per_step * self.recipe.epochs

    def run(self, resume: bool, progress_bar: bool) -> Path:
        checkpoints = self.job.output / "checkpoints"
        set_seed(self.recipe.seed, device_specific=True)
        place = checkpoint.latest(checkpoints) if resume else None
        if place is not None:
            self.progress = checkpoint.restore(place, self.accelerator, self.plain, self.optimiser)
            log.info("resumed at step %d of %d", self.progress.step, self.n_steps)
        self.seconds_before, self.started_s = self.progress.seconds, time.monotonic()
        bar = tqdm(
            total=self.n_steps,
            initial=self.progress.step,
            unit="step",
            desc=f"tuning {'+'.join(self.job.subjects)} {self.job.roi}",
            disable=not (progress_bar and self.accelerator.is_main_process),
        )
        # storage_errors outside: closing the stream writes what a full disk refused before, and fails again.
        with storage_errors(self.metrics), bar, self.metrics.open("a") as stream:
            self._baseline(stream)
            while self.progress.epoch < self.recipe.epochs:
                self._epoch(bar, stream)
                self._end_of_epoch(stream)
                self._save()
        return self._finish(time.monotonic() - self.started_s)

    def _save(self) -> None:
        self.progress.seconds = self.seconds_before + time.monotonic() - self.started_s
        folder = self.job.output / "checkpoints"
        checkpoint.save(folder, self.accelerator, self.plain, self.optimiser, self.progress)

    def _baseline(self, stream: Any) -> None:
        """What epochs are compared with: the untuned model in the identical pipeline, which is no candidate itself."""
        if self.recipe.select != "ridge" or '"baseline"' in self.metrics.read_text():
            return
        with _kept_random_state():
            score = validation_score("ridge", self.plain, self.corpus, self.runs, self.voxels)
        self._record(stream, kind="baseline", r=score if math.isfinite(score) else None, select="ridge")

    def _epoch(self, bar: tqdm, stream: Any) -> None:
        progress, recipe = self.progress, self.recipe
        self.data.set_epoch(progress.epoch)
        mine = range(self.rank, self.blocks_per_epoch * self.world, self.world)
        # batch_size None hands blocks over as they are; the loader's own generator keeps torch's global one,
        # which draws dropout masks, out of its business.
        loader = DataLoader(
            self.data, batch_size=None, sampler=mine[progress.blocks :], num_workers=self.job.workers,
            generator=torch.Generator().manual_seed(recipe.seed),
        )  # fmt: skip
        self.plain.head_only = progress.epoch < recipe.head_only_epochs
        self.model.train()
        losses = []
        for index, batch in zip(mine[progress.blocks :], loader, strict=True):
            factors = recipe.learning_rate_factors(progress.step, self.n_steps)
            for group, factor in zip(self.optimiser.param_groups, factors, strict=True):
                group["lr"] = group["initial_lr"] * factor
            with self.accelerator.accumulate(self.model):
                loss = self.model(**batch, loss=recipe.loss).loss
                if not bool(torch.isfinite(loss)):
                    raise EncodingError(
                        f"the loss is {loss.item()} at step {progress.step}",
                        where=self.data.describe(index),
                        expected="a finite loss",
                        remedy="lower the learning rates, or set mixed_precision: no",
                    )
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients and recipe.max_grad_norm > 0:
                    self.accelerator.clip_grad_norm_(self.trained, recipe.max_grad_norm)
                self.optimiser.step()
                self.optimiser.zero_grad()
            losses.append(loss.detach().float())
            progress.blocks += 1
            if progress.blocks % recipe.blocks_per_step:
                continue
            progress.step += 1
            value = float(self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
            losses = []
            self._record(stream, kind="step", epoch=progress.epoch, loss=value, learning_rate_factors=factors)
            bar.update()
            bar.set_postfix(epoch=progress.epoch, loss=f"{value:.4f}")
            if progress.step % self.job.save_every == 0:
                self._save()

    def _end_of_epoch(self, stream: Any) -> None:
        progress = self.progress
        finished, progress.epoch, progress.blocks = progress.epoch, progress.epoch + 1, 0
        if self.recipe.select == "last":
            return
        with _kept_random_state():
            score = validation_score(self.recipe.select, self.plain, self.corpus, self.runs, self.voxels)
        if not math.isfinite(score):
            raise EncodingError(
                f"the validation score of epoch {finished} is {score}",
                where=f"subject {'+'.join(self.job.subjects)}, region {self.job.roi}",
                expected="predictions and responses that vary over time",
                remedy="lower the learning rates, or set select: last",
            )
        self._record(stream, kind="validation", epoch=finished, r=score, select=self.recipe.select)
        if progress.best_score is None or score > progress.best_score:
            progress.best_epoch, progress.best_score = finished, score
            if self.accelerator.is_main_process:
                with whole_file(self.job.output / "checkpoints" / "best.safetensors") as path:
                    save_file(checkpoint.tuned_state(self.plain), path)

    def _record(self, stream: Any, **values: Any) -> None:
        if self.accelerator.is_main_process:
            stream.write(json.dumps({"step": self.progress.step, **values}) + "\n")
            stream.flush()

    def _finish(self, seconds: float) -> Path:
        place = self.job.output / "model"
        best = self.job.output / "checkpoints" / "best.safetensors"
        if self.recipe.select != "last":
            checkpoint.restore_best(best, self.plain)
        self.plain.head_only = False
        if len(self.job.subjects) > 1:
            # One readout for all makes one adapter: its subject is the group.
            of_one = self.recipe.readout == "shared"
            members = {self.job.subjects[0]: GROUP} if of_one else {s: s for s in self.job.subjects}
            self.plain.split_group({s: (name, adapter_name(name, self.job.roi)) for s, name in members.items()})
        if self.accelerator.is_main_process:
            partial = self.job.output / "model.partial-writing"
            with storage_errors(place, partial):
                shutil.rmtree(partial, ignore_errors=True)
                self.plain.eval().save_pretrained(partial)
                shutil.rmtree(place, ignore_errors=True)
                os.replace(partial, place)
            described = description_of(self.job.output / "run.json")
            described["finished"] = {
                "steps": self.progress.step,
                "seconds": round(self.seconds_before + seconds, 1),
                "seconds_of_this_session": round(seconds, 1),
                "kept_epoch": self.recipe.epochs - 1 if self.recipe.select == "last" else self.progress.best_epoch,
                "validation_r": self.progress.best_score,
            }
            write_json(self.job.output / "run.json", described)
        self.accelerator.wait_for_everyone()
        return place


class _kept_random_state:
    """Leave torch's random state as it was found, so that validating changes no later dropout mask."""

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self.state)


def parameter_groups(model: BrainWavLMForFMRIEncoding, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters of the backbone and of the head, with their learning rates, as the optimiser takes them."""
    head = [p for key, p in model.named_parameters() if p.requires_grad and key.startswith("heads.")]
    body = [p for key, p in model.named_parameters() if p.requires_grad and not key.startswith("heads.")]
    return [
        {"params": parameters, "lr": rate, "initial_lr": rate}
        for parameters, rate in ((body, recipe.learning_rate_adapter), (head, recipe.learning_rate_head))
    ]


def _audit(model: BrainWavLMForFMRIEncoding, corpus: Corpus, data: BlockDataset) -> int:
    if not model.config.lora:
        return 0
    run, rows = data.hearings[0].first, data.rows[0]
    return model.audit(corpus.audio(run.story), run.tr_times_s[rows.start : rows.start + data.block_trs])

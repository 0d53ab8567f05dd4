"""The tuning loop: one for every recipe, on any number of processes, resumable to the last bit."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import shutil
import time
from dataclasses import dataclass
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
from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.cortex.regions import adapter_name, select_voxels
from brain_tuning.errors import CheckpointError, EncodingError, RecipeError
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.models.stem import StemCache
from brain_tuning.versions import versions

from . import checkpoint
from .data import BlockDataset
from .recipe import Recipe
from .selection import check_selection, validation_score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuningJob:
    """One tuning run.

    Args:
        recipe: what to do.
        corpus: folder or Hub id of the corpus.
        subject: whose responses.
        roi: ``all``, ``AC``, ``left``, ``right`` or any region of the corpus.
        output: folder of the run.
        save_every: optimiser steps between checkpoints; an epoch's end is always one.
        workers: processes that prepare blocks.
        stem_cache_mb: memory for outputs of the frozen convolution stem, which every epoch needs again; 0 for none.
        gradient_checkpointing: half the activations' memory for about 1.4 times the time.
    """

    recipe: Recipe
    corpus: str
    subject: str
    roi: str
    output: Path
    save_every: int = 200
    workers: int = 0
    gradient_checkpointing: bool = False
    stem_cache_mb: int = 1024

    def __post_init__(self) -> None:
        for key, least in (("save_every", 1), ("workers", 0), ("stem_cache_mb", 0)):
            if getattr(self, key) < least:
                raise RecipeError(f"{key}: {getattr(self, key)} is out of range", expected=f"at least {least}")


def tune(
    job: TuningJob,
    *,
    resume: bool = False,
    mixed_precision: str | None = None,
    stem_cache: StemCache | None = None,
    progress_bar: bool = True,
) -> Path:
    """Tune, and leave ``output/model`` (the tuned model), ``metrics.jsonl``, ``run.json`` and checkpoints.

    Args:
        job: what to tune.
        resume: continue from the newest checkpoint in ``output``, from the start if it was stopped before the
            first; losses are those of an uninterrupted run.
        progress_bar: show one on the terminal.
        stem_cache: one to share with other runs in this process; None makes one of ``job.stem_cache_mb``.
        mixed_precision: ``no`` or ``bf16``; None takes what ``accelerate launch`` was told, else the recipe's.

    Returns:
        The folder of the tuned model.

    Raises:
        BrainTuningError: bad input of any kind; nothing is left half-written.
    """
    recipe = job.recipe
    accelerator = _accelerator(recipe, mixed_precision)
    corpus = open_corpus(job.corpus)
    runs = {split: corpus.runs(job.subject, split) for split in ("train", "validation")}
    voxels = select_voxels(job.roi, corpus.regions(job.subject), corpus.ledger(job.subject).usable, subject=job.subject)
    check_selection(recipe.select, runs["validation"], corpus)
    set_seed(recipe.seed)
    model = build_model(recipe, runs["train"], job, voxels)
    if stem_cache is None and job.stem_cache_mb:
        stem_cache = StemCache(job.stem_cache_mb * 2**20)
    model.stem_cache = stem_cache
    data = BlockDataset(
        corpus, runs["train"], voxels, model.config, block_trs=recipe.block_trs, seed=recipe.seed,
        shuffled_stories=recipe.control == "shuffled_stories",
    )  # fmt: skip
    n_audited = _audit(model, corpus, data)
    description = _describe(job, corpus, model, accelerator, n_audited, len(data))
    metrics = _start_or_resume_folder(job, description, resume, accelerator)
    return _Loop(job, accelerator, model, data, corpus, runs, voxels, metrics).run(resume, progress_bar)


def _accelerator(recipe: Recipe, mixed_precision: str | None) -> Accelerator:
    wanted = mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION") or recipe.mixed_precision
    if is_initialized() and AcceleratorState().mixed_precision != wanted:
        # Accelerate keeps the precision of the first run in a process for all later ones, or refuses them.
        AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision=wanted,
        gradient_accumulation_steps=recipe.blocks_per_step,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )


def build_model(recipe: Recipe, train: list, job: TuningJob, voxels: np.ndarray) -> BrainWavLMForFMRIEncoding:
    """The untuned model of a recipe with one fresh adapter."""
    from brain_tuning.models.backbones import load_backbone_config

    n_layers = load_backbone_config(recipe.backbone).num_hidden_layers
    model = BrainWavLMForFMRIEncoding.from_backbone(
        recipe.backbone,
        layer=recipe.layer(n_layers),
        context_s=recipe.context_s,
        stride_s=recipe.stride_s,
        read=recipe.read,
        lanczos_lobes=recipe.lanczos_lobes,
        delays_trs=list(recipe.delays_trs),
        bottleneck=recipe.bottleneck,
        backbone_dropout=recipe.backbone_dropout,
        tr_s=train[0].tr_s if train else 2.0,
    )
    model.add_adapter(
        adapter_name(job.subject, job.roi), len(voxels), lora=recipe.lora, voxels=voxels,
        subject=job.subject, roi=job.roi, recipe=recipe.name,
    )  # fmt: skip
    if job.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


class _Loop:
    """State of a running job; see :func:`tune`."""

    def __init__(
        self,
        job: TuningJob,
        accelerator: Accelerator,
        model: BrainWavLMForFMRIEncoding,
        data: BlockDataset,
        corpus: Corpus,
        runs: dict[str, list],
        voxels: np.ndarray,
        metrics: Path,
    ) -> None:
        self.job, self.recipe, self.accelerator = job, job.recipe, accelerator
        self.data, self.corpus, self.runs, self.voxels, self.metrics = data, corpus, runs, voxels, metrics
        self.plain = model
        optimiser = torch.optim.Adam(_parameter_groups(model, self.recipe))
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
        started = time.monotonic()
        bar = tqdm(
            total=self.n_steps,
            initial=self.progress.step,
            unit="step",
            desc=f"tuning {self.job.subject} {self.job.roi}",
            disable=not (progress_bar and self.accelerator.is_main_process),
        )
        # storage_errors outside: closing the stream writes what a full disk refused before, and fails again.
        with storage_errors(self.metrics), bar, self.metrics.open("a") as stream:
            while self.progress.epoch < self.recipe.epochs:
                self._epoch(bar, stream)
                self._end_of_epoch(stream)
                checkpoint.save(checkpoints, self.accelerator, self.plain, self.optimiser, self.progress)
        return self._finish(time.monotonic() - started)

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
        self.model.train()
        losses = []
        for index, batch in zip(mine[progress.blocks :], loader, strict=True):
            factor = recipe.learning_rate_factor(progress.step, self.n_steps)
            for group in self.optimiser.param_groups:
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
            self._record(stream, kind="step", epoch=progress.epoch, loss=value, learning_rate_factor=factor)
            bar.update()
            bar.set_postfix(epoch=progress.epoch, loss=f"{value:.4f}")
            if progress.step % self.job.save_every == 0:
                checkpoint.save(self.job.output / "checkpoints", self.accelerator, self.plain, self.optimiser, progress)

    def _end_of_epoch(self, stream: Any) -> None:
        progress = self.progress
        finished, progress.epoch, progress.blocks = progress.epoch, progress.epoch + 1, 0
        if self.recipe.select == "last":
            return
        with _kept_random_state():
            score = validation_score(
                self.recipe.select, self.plain, self.corpus, self.runs["train"], self.runs["validation"], self.voxels
            )
        if not math.isfinite(score):
            raise EncodingError(
                f"the validation score of epoch {finished} is {score}",
                where=f"subject {self.job.subject}, region {self.job.roi}",
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
        if self.accelerator.is_main_process:
            partial = self.job.output / "model.partial-writing"
            with storage_errors(place, partial):
                shutil.rmtree(partial, ignore_errors=True)
                self.plain.eval().save_pretrained(partial)
                shutil.rmtree(place, ignore_errors=True)
                os.replace(partial, place)
            described = _description_of(self.job.output / "run.json")
            described["finished"] = {
                "steps": self.progress.step,
                "seconds_of_this_session": round(seconds, 1),
                "kept_epoch": self.recipe.epochs - 1 if self.recipe.select == "last" else self.progress.best_epoch,
                "validation_r": self.progress.best_score,
            }
            _write_json(self.job.output / "run.json", described)
        self.accelerator.wait_for_everyone()
        return place


class _kept_random_state:
    """Leave torch's random state as it was found, so that validating changes no later dropout mask."""

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self.state)


def _parameter_groups(model: BrainWavLMForFMRIEncoding, recipe: Recipe) -> list[dict[str, Any]]:
    head = [p for key, p in model.named_parameters() if p.requires_grad and key.startswith("heads.")]
    body = [p for key, p in model.named_parameters() if p.requires_grad and not key.startswith("heads.")]
    return [
        {"params": parameters, "lr": rate, "initial_lr": rate}
        for parameters, rate in ((body, recipe.learning_rate_adapter), (head, recipe.learning_rate_head))
    ]


def _audit(model: BrainWavLMForFMRIEncoding, corpus: Corpus, data: BlockDataset) -> int:
    if not model.config.lora:
        return 0
    run, rows = data.runs[0], data.rows[0]
    return model.audit(corpus.audio(run.story), run.tr_times_s[rows.start : rows.start + data.block_trs])


def _describe(
    job: TuningJob,
    corpus: Corpus,
    model: BrainWavLMForFMRIEncoding,
    accelerator: Accelerator,
    n_audited: int,
    n_blocks: int,
) -> dict[str, Any]:
    runs = {split: corpus.runs(job.subject, split) for split in ("train", "validation", "test")}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "recipe": job.recipe.to_dict(),
        "corpus": {
            "name": corpus.name,
            "licence": corpus.meta.get("licence"),
            "source": corpus.meta.get("source"),
            "surrogate_audio": corpus.surrogate_audio,
            "simulated": "simulation" in (corpus.meta.get("extra") or {}),
            "splits": {split: sorted({run.story for run in found}) for split, found in runs.items()},
            "hours_of_training": round(sum(run.n_trs * run.tr_s for run in runs["train"]) / 3600, 3),
        },
        "subject": job.subject,
        "roi": job.roi,
        "adapter": model.config.default_adapter,
        "n_voxels": len(model.head.voxels),
        "backbone": {
            "name": model.config.base_model_name_or_path,
            "revision": model.config.base_model_revision,
            "layer": model.config.layer,
        },
        "n_trained_parameters": trained,
        "n_audited_adapter_tensors": n_audited,
        "n_blocks_per_epoch": n_blocks,
        "n_processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
        "device": str(accelerator.device),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
    }


#: what a resumed run may change
_MAY_DIFFER = ("hardware", "versions", "device", "finished")


def _start_or_resume_folder(job: TuningJob, described: dict[str, Any], resume: bool, accelerator: Accelerator) -> Path:
    """Make the run's folder, or check that the one there is of the same run; returns the metrics file."""
    file, metrics = job.output / "run.json", job.output / "metrics.jsonl"
    place = checkpoint.latest(job.output / "checkpoints")
    if not resume:
        if file.exists() or place is not None:
            raise CheckpointError(
                "the output folder holds a run already",
                where=job.output,
                remedy="pass --resume to continue it, or choose another --output",
            )
        # Each process has looked before the first one writes.
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _write_json(file, described)
        accelerator.wait_for_everyone()
        return metrics
    before, now = _description_of(file), json.loads(json.dumps(described))
    for key in now:
        if key not in _MAY_DIFFER and before.get(key) != now[key]:
            raise CheckpointError(
                f"the run was started with another {_difference(key, before.get(key), now[key])}",
                where=job.output,
                expected="the settings it was started with",
                remedy="start anew in another --output",
            )
    reached = checkpoint.Progress() if place is None else checkpoint.read_progress(place)
    if accelerator.is_main_process:
        written = metrics.read_text().splitlines() if metrics.exists() else []
        with whole_file(metrics) as path:
            path.write_text("".join(line + "\n" for line in written if _is_before(line, reached)))
    accelerator.wait_for_everyone()
    return metrics


def _description_of(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(file.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            "there is no run to resume", where=file.parent, expected=file.name, remedy="start without --resume"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file.name} cannot be read ({error})", where=file, remedy="start anew in another --output"
        ) from error
    return dict(described)


def _is_before(line: str, reached: checkpoint.Progress) -> bool:
    """Whether a line of metrics was written before the checkpoint that a run resumes from."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:  # cut short by the kill
        return False
    if entry["kind"] == "validation":
        return bool(entry["epoch"] < reached.epoch)
    return bool(entry["step"] <= reached.step)


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for part in now:
            if before.get(part) != now[part]:
                return _difference(f"{key}.{part}", before.get(part), now[part])
    return f"{key} ({before!r}, now {now!r})"


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")

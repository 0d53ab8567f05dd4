"""The folder of a tuning run: what is written of it, and whether it may be continued."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from brain_tuning.atomic import whole_file
from brain_tuning.corpus import Corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint
from brain_tuning.errors import CheckpointError
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.versions import versions

from . import checkpoint
from .job import TuningJob


def describe(
    job: TuningJob,
    corpus: Corpus,
    model: BrainWavLMForFMRIEncoding,
    accelerator: Accelerator,
    n_voxels: dict[str, int],
    n_audited: int,
    n_blocks: int,
) -> dict[str, Any]:
    """What ``run.json`` says of a run: everything that decides its result, and where it ran."""
    runs = {
        split: [run for subject in job.subjects for run in corpus.runs(subject, split)]
        for split in ("train", "validation", "test")
    }
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
        "subject": "+".join(job.subjects),
        "subjects": list(job.subjects),
        "roi": job.roi,
        "adapter": model.config.default_adapter,
        "n_voxels": sum(n_voxels.values()),
        "n_voxels_by_subject": n_voxels,
        "corpus_fingerprints": {subject: corpus_fingerprint(corpus, subject) for subject in job.subjects},
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


def start_or_resume(job: TuningJob, described: dict[str, Any], resume: bool, accelerator: Accelerator) -> Path:
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
            write_json(file, described)
        accelerator.wait_for_everyone()
        return metrics
    before, now = description_of(file), json.loads(json.dumps(described))
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


def description_of(file: Path) -> dict[str, Any]:
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
    if not isinstance(described, dict) or "recipe" not in described:
        raise CheckpointError(
            f"{file.name} does not describe a run", where=file, remedy="start anew in another --output"
        )
    return described


def _is_before(line: str, reached: checkpoint.Progress) -> bool:
    """Whether a line of metrics was written before the checkpoint that a run resumes from."""
    try:
        entry = json.loads(line)
        if entry["kind"] == "validation":
            return bool(entry["epoch"] < reached.epoch)
        return bool(entry["step"] <= reached.step)
    except json.JSONDecodeError:  # cut short by the kill
        return False
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            "a line of the metrics is not a run's", where=line[:60], remedy="start anew in another --output"
        ) from error


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for part in now:
            if before.get(part) != now[part]:
                return _difference(f"{key}.{part}", before.get(part), now[part])
    return f"{key} ({before!r}, now {now!r})"


def write_json(path: Path, values: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")

"""The same loop under ``accelerate launch``: one process, and two."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import arguments, in_subprocess, job_for, metrics

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus
from brain_tuning.tuning.job import TuningJob

LAUNCH = ["-m", "accelerate.commands.launch"]
QUIET = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def launched(options: list[str], job: TuningJob, folder: Path, *more: str, **environment: str) -> dict:
    """Run training/run.py under accelerate launch; returns what run.json holds."""
    command = [*LAUNCH, *options, *QUIET, "training/run.py", *arguments(job, folder), *more]
    process = in_subprocess(command, **environment)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return dict(json.loads((job.output / "run.json").read_text()))


def test_one_process_is_the_plain_run(corpus: Corpus, tuned_run: Path, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run")
    described = launched(["--cpu", "--num_processes", "1"], job, tmp_path)
    assert described["n_processes"] == 1
    assert metrics(job.output) == metrics(tuned_run)


@pytest.mark.slow
def test_two_processes_tune_and_resume(corpus: Corpus, tmp_path: Path) -> None:
    """hf-notes section 7: ``--cpu --num_processes 2`` silently runs one; this is what runs two."""
    job = job_for(corpus, tmp_path / "run", epochs=2, blocks_per_step=1, select="head")
    two = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    described = launched(two, job, tmp_path, ACCELERATE_USE_CPU="true")
    assert described["n_processes"] == 2
    assert described["finished"]["steps"] == 2 * 2  # four blocks an epoch, two at a time
    found = metrics(job.output)
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert all(math.isfinite(line["loss"]) for line in found)
    assert len(metrics(job.output, "validation")) == 2
    randoms = sorted(path.name for path in (job.output / "checkpoints" / "step-00000004").glob("random-*"))
    assert randoms == ["random-0.safetensors", "random-1.safetensors"]
    run = corpus.runs("s1", "test")[0]
    model = BrainWavLMForFMRIEncoding.from_pretrained(job.output / "model")
    assert np.isfinite(model.predict(corpus.audio("test"), run.tr_times_s)).all()

    # Without its last checkpoint, the run ends as it did.
    for file in sorted((job.output / "checkpoints" / "step-00000004").iterdir()):
        file.unlink()
    (job.output / "checkpoints" / "step-00000004").rmdir()
    launched(two, job, tmp_path, "--resume", ACCELERATE_USE_CPU="true")
    assert metrics(job.output) == found

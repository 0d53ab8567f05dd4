"""A run that is killed and resumed is the run that was never killed, to the last bit."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from subprocess import Popen

import pytest
from tiny_runs import arguments, in_subprocess, job_for, metrics

from brain_tuning.corpus import Corpus
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import tune

EPOCHS = 6
DROPOUT = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.3, "target_modules": ["q_proj", "v_proj"]}


def wait_for_steps(process: Popen[str], output: Path, n_steps: int) -> None:
    """Return once a run has written the losses of so many steps."""
    deadline = time.monotonic() + 120
    file = output / "metrics.jsonl"
    while not (file.exists() and file.read_text().count("\n") >= n_steps):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def job(corpus: Corpus, output: Path, precision: str) -> TuningJob:
    return job_for(
        corpus, output, epochs=EPOCHS, save_every=3, lora=DROPOUT, mixed_precision=precision, select="head",
        blocks_per_step=1, backbone_dropout=True,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_kill_9_and_resume_give_the_same_losses(corpus: Corpus, tmp_path: Path, precision: str) -> None:
    """User-pains 9 and 20: with dropout in adapters and backbone, and with bfloat16."""
    killed = job(corpus, tmp_path / "killed", precision)
    process = in_subprocess(["training/run.py", *arguments(killed, tmp_path)])
    wait_for_steps(process, killed.output, 7)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (killed.output / "model").exists(), "it was too fast to be killed"
    n_done = len(metrics(killed.output))
    assert n_done < 4 * EPOCHS
    reached = sorted((killed.output / "checkpoints").glob("step-????????"))[-1]
    assert json.loads((reached / "progress.json").read_text())["step"] <= n_done

    tune(killed, resume=True)
    whole = job(corpus, tmp_path / "whole", precision)
    tune(whole)
    assert len(metrics(whole.output)) == 4 * EPOCHS
    assert metrics(killed.output) == metrics(whole.output)
    assert metrics(killed.output, "validation") == metrics(whole.output, "validation")
    weights = "model/model.safetensors"
    assert (killed.output / weights).read_bytes() == (whole.output / weights).read_bytes()


def test_ctrl_c_ends_a_run_cleanly(corpus: Corpus, tmp_path: Path) -> None:
    stopped = job(corpus, tmp_path / "stopped", "no")
    process = in_subprocess(["training/run.py", *arguments(stopped, tmp_path)])
    wait_for_steps(process, stopped.output, 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == (
        "brain-tuning: interrupted; nothing half-written was left (a tuning run continues with --resume)"
    )
    assert not list(tmp_path.rglob("*.partial*"))
    assert not (stopped.output / "model").exists()
    for line in (stopped.output / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    tune(stopped, resume=True)
    assert len(metrics(stopped.output)) == 4 * EPOCHS

"""What the tests of tuning, features, analysis and the command line share: one small corpus and one tuned model.

A folder's conftest imports the fixtures it needs; they are made once a process, whichever folder asks first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.simulator.simulate import Simulation, simulate
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import tune
from brain_tuning.tuning.recipe import Recipe

CHECKOUT = Path(__file__).resolve().parents[1]
BACKBONE = "brain-tuning/wavlm-tiny-espeak"
SIMULATION = Simulation(n_subjects=2, n_train_stories=2, story_s=45, test_story_s=60, n_repeats=3, seed=7)


def small_recipe(**values: Any) -> Recipe:
    """A recipe of one computed layer and few frames: a step takes about 0.1 s on one core."""
    plain: dict[str, Any] = {
        "name": "small",
        "backbone": BACKBONE,
        "layer_depth": 0.1,
        "context_s": 1.0,
        "stride_s": 4.0,
        "read": "all",
        "lanczos_lobes": 1,
        "delays_trs": (1, 2),
        "bottleneck": 8,
        "lora": {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj"]},
        "learning_rate_adapter": 3e-3,
        "learning_rate_head": 3e-3,
        "block_trs": 8,
        "epochs": 2,
        "select": "last",
    }
    return Recipe(**{**plain, **values})


def job_for(corpus: Corpus, output: Path, *, roi: str = "AC", save_every: int = 200, **recipe: Any) -> TuningJob:
    """A tuning job of :func:`small_recipe` on subject s1."""
    return TuningJob(small_recipe(**recipe), str(corpus.path), "s1", roi, output, save_every=save_every)


def metrics(output: Path, kind: str = "step") -> list[dict[str, Any]]:
    """Lines of one kind of a run's metrics file."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def arguments(job: TuningJob, folder: Path) -> list[str]:
    """The options of training/run.py that stand for a job; its recipe is written below ``folder``."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(job.recipe.to_dict()))  # JSON is YAML
    subjects = [option for subject in job.subjects for option in ("--subject", subject)]
    return [
        *("--recipe", str(recipe), "--corpus", job.corpus, *subjects, "--roi", job.roi),
        *("--output", str(job.output), "--save-every", str(job.save_every)),
    ]


def in_subprocess(command: list[str], **environment: str) -> subprocess.Popen[str]:
    """Start a Python program of the checkout, on one thread, offline, with its output captured."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are equal to the last bit only if they are taken in the same order; and cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def _corpus(folder: Path) -> Corpus:
    return open_corpus(simulate(folder / "simulated", SIMULATION))


@cache
def _tuned(folder: Path) -> Path:
    tune(job_for(_corpus(folder), folder / "tuned-ac"))
    return folder / "tuned-ac"


@pytest.fixture(scope="session")
def work_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared corpus and run lie."""
    folder = tmp_path_factory.getbasetemp() / "tiny_runs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def corpus(work_folder: Path) -> Corpus:
    """Two subjects, two training stories, one for validation, a test story heard three times. Do not change it."""
    return _corpus(work_folder)


@pytest.fixture(scope="session")
def tuned_run(work_folder: Path) -> Path:
    """Folder of a finished tuning run on auditory cortex of s1. Do not change it."""
    return _tuned(work_folder)

"""The command line of the tuning loop: what it hands to a job."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml
from tiny_runs import arguments, in_subprocess, job_for, metrics, small_recipe

from brain_tuning.corpus import Corpus
from brain_tuning.errors import RecipeError
from brain_tuning.tuning import loop
from brain_tuning.tuning.command import add_arguments, run
from brain_tuning.tuning.job import TuningJob


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[TuningJob]:
    """Jobs that would have been tuned."""
    asked: list[TuningJob] = []
    monkeypatch.setattr(loop, "tune", lambda job, **_: asked.append(job))
    return asked


def command(tmp_path: Path, *options: str) -> argparse.Namespace:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(small_recipe().to_dict()))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    plain = ["--recipe", str(recipe), "--corpus", "corpus", "--output", str(tmp_path / "run")]
    return parser.parse_args([*plain, *options])


def test_one_subject_is_tuned_alone_and_several_together(tmp_path: Path, jobs: list[TuningJob]) -> None:
    run(command(tmp_path, "--subject", "s1"))
    run(command(tmp_path, "--subject", "s1", "--subject", "s2", "--readout", "shared_basis"))
    assert [job.subject for job in jobs] == ["s1", ("s1", "s2")]
    assert [job.recipe.readout for job in jobs] == ["own", "shared_basis"]
    with pytest.raises(RecipeError, match="the subjects are s1, s1; expected at least one, each named once"):
        run(command(tmp_path, "--subject", "s1", "--subject", "s1"))
    assert len(jobs) == 2


def test_what_is_not_said_is_the_recipes_and_the_jobs_default(tmp_path: Path, jobs: list[TuningJob]) -> None:
    run(command(tmp_path, "--subject", "s1"))
    assert jobs == [TuningJob(small_recipe(), "corpus", "s1", "all", tmp_path / "run")]


def test_every_option_reaches_the_job(tmp_path: Path, jobs: list[TuningJob]) -> None:
    options = (
        "--subject s1 --roi AC --backbone b --epochs 3 --seed 4 --block-trs 5 --blocks-per-step 6 --select head "
        "--control shuffled_stories --save-every 7 --workers 8 --cache-mb 9 --disk-cache-gb 1.5 "
        "--gradient-checkpointing --compile"
    )
    run(command(tmp_path, *options.split(), "--disk-cache", str(tmp_path / "disk")))
    recipe = small_recipe(
        backbone="b", epochs=3, seed=4, block_trs=5, blocks_per_step=6, select="head", control="shuffled_stories"
    )
    assert jobs == [
        TuningJob(
            recipe, "corpus", "s1", "AC", tmp_path / "run", save_every=7, workers=8, cache_mb=9,
            disk_cache=tmp_path / "disk", disk_cache_gb=1.5, gradient_checkpointing=True, compile=True,
        )
    ]  # fmt: skip


def test_two_subjects_are_tuned_from_the_command_line_with_a_disk_cache(corpus: Corpus, tmp_path: Path) -> None:
    job = TuningJob(**{**vars(job_for(corpus, tmp_path / "run", epochs=1)), "subject": ("s1", "s2")})
    disk = tmp_path / "disk"
    process = in_subprocess(["training/run.py", *arguments(job, tmp_path), "--disk-cache", str(disk)])
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert f"tuned model: {job.output / 'model'}" in output
    assert len(metrics(job.output)) == 4
    assert list(disk.rglob("*.safetensors"))

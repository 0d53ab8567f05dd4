"""Tasks of which no real speech is at hand: heads on synthesised speech with exact labels, against permuted labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from brain_tuning.superb.catalogue import read_data
from brain_tuning.superb.controls import with_random_labels
from brain_tuning.superb.examples import TaskData
from brain_tuning.superb.made.everything import make_for
from brain_tuning.superb.run import SuperbJob, run_tasks
from brain_tuning.superb.table import result_rows
from brain_tuning.superb.tasks import TASKS

BACKBONE = "brain-tuning/wavlm-tiny-espeak"
SIZES = {"projection": 128, "lstm_width": 64, "lstm_layers": 1}


def score(key: str, data: tuple[TaskData, ...], folder: Path, *, n_epochs: int) -> float:
    """Of the task's main metric on the test split."""
    task = TASKS[key]
    head = {name: size for name, size in SIZES.items() if name in task.training.head}
    task = task.with_training(learning_rates=(1e-2,), n_epochs=n_epochs, patience=n_epochs, head=head)
    job = SuperbJob(tasks=(task,), data={key: data}, models={"untuned": BACKBONE}, output=folder)
    return result_rows([task], job.data, ["untuned"], run_tasks(job), n_resamples=50)[0]["score"]


def test_intents_of_a_few_speakers(made_commands: Path, tmp_path: Path) -> None:
    data = read_data(TASKS["ic"], made_commands)
    found = score("ic", data, tmp_path / "true", n_epochs=40)
    permuted = score("ic", tuple(with_random_labels(one, 0) for one in data), tmp_path / "permuted", n_epochs=40)
    assert found >= 40  # all of action, object and location; one of 31 combinations by guessing
    assert permuted <= 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "n_epochs", "better_than", "chance"),
    [
        ("ic", 40, 60.0, 25.0),
        ("sf", 40, 40.0, 15.0),  # F1: saying nothing is 0
        ("er", 30, 50.0, 35.0),  # one of four by guessing
        ("qbe", 1, 0.5, 0.2),
    ],
)
def test_a_head_beats_chance_and_permuted_labels_do_not(
    key: str, n_epochs: int, better_than: float, chance: float, tmp_path: Path
) -> None:
    found, permuted = true_and_permuted(key, tmp_path, n_epochs)
    assert found >= better_than > chance >= permuted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "n_epochs", "at_most", "margin"),
    [
        ("pr", 30, 30.0, 40.0),
        ("asr", 40, 40.0, 30.0),
        ("sd", 40, 37.0, 5.0),
    ],
)
def test_permuted_sequences_cost_what_hearing_gains(
    key: str, n_epochs: int, at_most: float, margin: float, tmp_path: Path
) -> None:
    """Error rates. Permuted sequences still teach which phones and words are frequent, and that somebody nearly always
    speaks, so that a head which hears nothing is far below 100 %: the margin is what hearing is worth."""
    found, permuted = true_and_permuted(key, tmp_path, n_epochs)
    assert found <= at_most
    assert permuted - found >= margin


def true_and_permuted(key: str, folder: Path, n_epochs: int) -> tuple[float, float]:
    """Test scores of a task's heads, trained on synthesised speech and on the same with permuted labels."""
    data = read_data(TASKS[key], make_for(key, folder / "made"))
    found = score(key, data, folder / "true", n_epochs=n_epochs)
    permuted = score(key, tuple(with_random_labels(one, 0) for one in data), folder / "permuted", n_epochs=n_epochs)
    return found, permuted

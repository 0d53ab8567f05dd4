"""Checkpoints of a tuning run: only what is tuned, written whole or not at all.

A checkpoint folder ``step-00000120`` holds the tuned tensors, the optimiser's, the state of the random
generators of each process, and where in the data the run was. The frozen backbone is not in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from brain_tuning.atomic import storage_errors
from brain_tuning.errors import CheckpointError

KEPT = 2


@dataclass
class Progress:
    """Where a run is: ``step`` optimiser steps done, ``blocks`` blocks of ``epoch`` consumed by each process.

    ``seconds`` is the wall-clock time of the sessions that led here; work that was lost with a killed one is not in it.
    """

    step: int = 0
    epoch: int = 0
    blocks: int = 0
    best_epoch: int | None = None
    best_score: float | None = None
    seconds: float = 0.0


def tuned_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor that tuning changes: trainable parameters and the heads' buffers."""
    state = {key: p.detach() for key, p in model.named_parameters() if p.requires_grad}
    state.update({key: b for key, b in model.named_buffers() if key.startswith("heads.")})
    return {key: value.cpu().contiguous().clone() for key, value in state.items()}


def load_tuned_state(model: torch.nn.Module, state: dict[str, torch.Tensor], where: object) -> None:
    """Put tuned tensors back; every one must be there."""
    expected = set(tuned_state(model))
    if expected != set(state):
        odd = sorted(expected ^ set(state))[0]
        raise CheckpointError("the checkpoint belongs to another model", where=f"{where}: {odd}")
    model.load_state_dict(state, strict=False)


def save(
    folder: Path, accelerator: Accelerator, model: torch.nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write ``folder/step-<n>`` and remove all but the last few.

    Raises:
        StorageError: the disk is full; nothing is left behind.
    """
    place = folder / f"step-{progress.step:08d}"
    partial = place.with_name(place.name + ".partial-writing")
    with storage_errors(place, partial):
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        save_file(_random_state(), partial / f"random-{accelerator.process_index}.safetensors")
        if accelerator.is_main_process:
            save_file(tuned_state(model), partial / "tuned.safetensors")
            save_file(_optimiser_tensors(optimiser), partial / "optimiser.safetensors")
            (partial / "progress.json").write_text(json.dumps(asdict(progress)))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(place, ignore_errors=True)
            os.replace(partial, place)
            for old in sorted(folder.glob("step-????????"))[:-KEPT]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run, or None if it was stopped before the first."""
    return max(folder.glob("step-????????"), default=None)


def restore(
    place: Path, accelerator: Accelerator, model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> Progress:
    """Load a checkpoint into model, optimiser and random generators.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    with _damage_is_an_error(place):
        progress = read_progress(place)
        load_tuned_state(model, load_file(place / "tuned.safetensors"), place)
        _set_optimiser(optimiser, load_file(place / "optimiser.safetensors"))
        _set_random_state(load_file(place / f"random-{accelerator.process_index}.safetensors"))
    return progress


def read_progress(place: Path) -> Progress:
    """Where the run was when a checkpoint was written.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _damage_is_an_error(place):
        found = json.loads((place / "progress.json").read_text())
        missing = {field.name for field in fields(Progress)} - set(found)
        if missing:
            raise ValueError(f"progress.json lacks {min(missing)}")
        return Progress(**found)


def restore_best(path: Path, model: torch.nn.Module) -> None:
    """Load the tuned tensors of the best epoch.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _damage_is_an_error(path, remedy="the best epoch is lost: start anew in another --output"):
        load_tuned_state(model, load_file(path), path)


@contextmanager
def _damage_is_an_error(place: Path, remedy: str = "delete it and resume from the one before") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"a file of the checkpoint cannot be read ({error})",
            where=place,
            remedy=remedy,
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint is damaged ({error})", where=place, remedy=remedy) from error


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).cpu().contiguous().clone()
        for index, values in state.items()
        for name, value in values.items()
    }


def _set_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])

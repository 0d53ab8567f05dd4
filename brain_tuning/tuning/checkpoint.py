"""Checkpoints of a tuning run: only what is tuned, written whole or not at all.

A checkpoint folder ``step-00000120`` holds the tuned tensors, the optimiser's, the state of the random
generators of each process, and where in the data the run was. The frozen backbone is not in it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
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
    """Where a run is: ``step`` optimiser steps done, ``blocks`` blocks of ``epoch`` consumed by each process."""

    step: int = 0
    epoch: int = 0
    blocks: int = 0
    best_epoch: int | None = None
    best_score: float | None = None


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


def latest(folder: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        CheckpointError: there is none.
    """
    found = sorted(folder.glob("step-????????"))
    if not found:
        raise CheckpointError(
            "there is no checkpoint to resume from", where=folder, remedy="start without --resume"
        )
    return found[-1]


def restore(
    place: Path, accelerator: Accelerator, model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> Progress:
    """Load a checkpoint into model, optimiser and random generators.

    Raises:
        CheckpointError: a file is missing or damaged, or the number of processes has changed.
    """
    try:
        progress = Progress(**json.loads((place / "progress.json").read_text()))
        load_tuned_state(model, load_file(place / "tuned.safetensors"), place)
        _set_optimiser(optimiser, load_file(place / "optimiser.safetensors"))
        _set_random_state(load_file(place / f"random-{accelerator.process_index}.safetensors"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{Path(error.filename or '').name} is missing",
            where=place,
            expected=f"a checkpoint of {accelerator.num_processes} process(es)",
            remedy="resume with as many processes as the run was started with",
        ) from error
    except (SafetensorError, json.JSONDecodeError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint is damaged ({error})", where=place, remedy="delete it and resume from the one before"
        ) from error
    return progress


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

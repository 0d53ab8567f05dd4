"""What a task is made of when a head is trained: which features it hears, its loss, and its counts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from brain_tuning.errors import TaskDataError

from .examples import TaskData, Utterance
from .heads import WeightedHead
from .tasks import Task
from .upstream import Upstream

#: utterances that are looked at together when features are computed in advance
_AT_ONCE = 64


class Hearing:
    """Features of utterances: remembered of a frozen encoder, computed anew of one that is fine-tuned.

    Args:
        upstream: the encoder.
        pooled: whether means over frames are enough.
        fine_tuned: whether gradients go to the encoder.
        autocast: context in which a fine-tuned encoder computes; the frozen one's precision is the caller's.
    """

    def __init__(self, upstream: Upstream, *, pooled: bool, fine_tuned: bool = False, autocast: Any = None) -> None:
        self.upstream, self.pooled, self.fine_tuned = upstream, pooled, fine_tuned
        self._autocast = autocast or nullcontext
        with self._autocast():
            self._seal = b"" if fine_tuned else upstream.seal()

    def prepare(self, utterances: Iterable[Utterance], rank: int = 0, world: int = 1) -> Iterator[int]:
        """Compute this process's share of the features, so that the cache holds them: neighbours are of like length.

        Args:
            utterances: all that will be heard.
            rank, world: this process of how many; they share a cache on disk.

        Yields:
            How many utterances have just been done.
        """
        by_length = sorted(utterances, key=lambda utterance: utterance.recording.duration_s())[rank::world]
        for start in range(0, len(by_length), _AT_ONCE):
            part = by_length[start : start + _AT_ONCE]
            self(part)
            yield len(part)

    def __call__(self, utterances: Sequence[Utterance]) -> Any:
        """Means (n_utterances, n_layers, width), or for each utterance its states (n_layers, frames, width)."""
        with self._autocast():
            if self.fine_tuned:
                waves = [torch.from_numpy(utterance.recording.load()) for utterance in utterances]
                states = self.upstream.hidden_states(waves)
                return torch.stack([one.float().mean(1) for one in states]) if self.pooled else states
            remembered = self.upstream.means if self.pooled else self.upstream.frames
            return remembered(utterances, self._seal)


class Downstream(ABC):
    """A task on one data set.

    Args:
        task: of the table.
        data: read for it.

    Raises:
        TaskDataError: the data lack what the task asks for.
    """

    #: whether the head needs no more than means over frames
    pooled = False

    def __init__(self, task: Task, data: TaskData) -> None:
        self.task, self.data = task, data
        for split in ("train", "dev", "test"):
            if split not in data.splits:
                raise TaskDataError(f"there is no split {split}", where=data.name, expected="train, dev and test")
        unlabelled = [u.name for u in data.utterances() if not getattr(u, task.label)]
        if unlabelled:
            raise TaskDataError(
                f"{len(unlabelled)} utterances have no {task.label}, {unlabelled[0]!r} first",
                where=f"{data.name}, for {task.title}",
            )

    @abstractmethod
    def build_head(self, n_layers: int, width: int) -> WeightedHead:
        """An untrained head of the task's sizes."""

    @abstractmethod
    def loss(self, head: Any, heard: Any, utterances: Sequence[Utterance]) -> torch.Tensor:
        """Mean loss of a batch, float32; ``head`` may be wrapped by Accelerate."""

    def weight(self, heard: Any) -> float:
        """Of how many utterances, or frames, :meth:`loss` is the mean: what it counts beside other processes'."""
        return len(heard)

    @abstractmethod
    def predict(self, head: Any, hear: Hearing, split: str) -> list[Any]:
        """What a head says of each item of a split, as plain values."""

    @abstractmethod
    def counts(self, predictions: Sequence[Any], split: str) -> dict[str, np.ndarray]:
        """What the task's metrics count: metric -> (n_items, n_columns)."""

    def judge(self, head: Any, hear: Hearing) -> tuple[list[Any], float]:
        """What a head says of the development split, and a loss that may still fall while the score stands.

        The loss is NaN where the score itself moves from the first epoch on.
        """
        return self.predict(head, hear, "dev"), math.nan

    def settle(self, head: Any, hear: Hearing) -> None:  # noqa: B027  most tasks have nothing to choose
        """Choose on the development split, once a head is trained, how its output is turned into predictions."""

    def batches(self, split: str) -> Iterator[tuple[Utterance, ...]]:
        """A split's utterances in their order."""
        utterances, size = self.data.splits[split], self.task.training.batch_size
        for start in range(0, len(utterances), size):
            yield utterances[start : start + size]

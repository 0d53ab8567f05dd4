"""Train a head on what an encoder hears: the one loop of all tasks, through Accelerate."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from brain_tuning.errors import TaskError

from .downstream import Downstream, Hearing
from .examples import Utterance
from .heads import WeightedHead
from .scores.table import METRICS
from .upstream import Upstream


class DivergedError(TaskError):
    """The loss of a head is not finite, as it becomes when its learning rate is too high."""


@dataclass
class Trained:
    """A head at its best epoch.

    Args:
        head: with its best weights, on the CPU.
        encoder: fine-tuned state of the encoder; None where it was frozen.
        score: of the main metric on the development split.
        epoch: from 1, the best one.
        history: development score of each epoch.
        predictions: ``dev`` and ``test`` -> what was said of each item, at the best epoch.
        counts: split -> metric -> counts of these.
    """

    head: WeightedHead
    encoder: dict[str, torch.Tensor] | None
    score: float
    epoch: int
    history: list[float]
    predictions: dict[str, list[Any]] = field(default_factory=dict)
    counts: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def train(
    downstream: Downstream,
    upstream: Upstream,
    *,
    learning_rate: float,
    seed: int,
    accelerator: Accelerator,
    fine_tune: bool = False,
    progress: Callable[[str], object] | None = None,
) -> Trained:
    """Train one head, keep the epoch with the best development score, and count on its test split.

    Weights, dropout and the order of utterances follow from ``seed``. Every process sees the same batches and takes its
    share of each; gradients are averaged. The head is in float32; Accelerate's mixed precision is the encoder's.

    Args:
        downstream: task and data.
        upstream: the encoder; it is left as it was.
        learning_rate: of the head.
        seed: see above.
        accelerator: device, processes and precision.
        fine_tune: train the encoder, too, but for its convolutions, at ``backbone_rate`` times the rate.
        progress: called with a line after each epoch.

    Raises:
        DivergedError: the loss is not finite.
    """
    training, metric = downstream.task.training, METRICS[downstream.task.metric]
    if fine_tune:
        upstream = copy.deepcopy(upstream)
    upstream.to(accelerator.device)
    hear = Hearing(upstream, pooled=downstream.pooled, fine_tuned=fine_tune, autocast=accelerator.autocast)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bare = downstream.build_head(upstream.n_layers, upstream.width)
        groups = [{"params": list(bare.parameters()), "lr": learning_rate}]
        tuned = _free(upstream) if fine_tune else []
        if tuned:
            groups.append({"params": tuned, "lr": learning_rate * training.backbone_rate})
        optimiser = torch.optim.Adam(groups)
        head, optimiser = accelerator.prepare(bare, optimiser)
        # Else the head would compute in the encoder's precision.
        accelerator.unwrap_model(head, keep_fp32_wrapper=False)
        sign = 1.0 if metric.higher_is_better else -1.0
        best = Trained(bare, None, math.nan, 0, [])
        best_state: dict[str, torch.Tensor] = {}
        lowest_loss, last_gain = math.inf, 0
        for epoch in range(1, training.n_epochs + 1):
            _one_epoch(downstream, hear, head, optimiser, tuned, seed, epoch, accelerator)
            head.eval()
            said, dev_loss = downstream.judge(head, hear)
            score = metric.value(downstream.counts(said, "dev")[downstream.task.metric])
            best.history.append(score)
            if dev_loss < lowest_loss:
                lowest_loss, last_gain = dev_loss, epoch
            if math.isnan(best.score) or sign * (score - best.score) > 0:
                best.score, best.epoch, last_gain = score, epoch, epoch
                best_state = _kept(bare)
                best.encoder = _kept(upstream.encoder) if fine_tune else None
            if progress is not None:
                progress(f"epoch {epoch}: {downstream.task.metric} {score:.4g} on dev, best {best.score:.4g}")
            if epoch - last_gain >= training.patience:
                break
    bare.load_state_dict(best_state)
    if best.encoder is not None:
        upstream.encoder.load_state_dict(best.encoder)
    bare.eval()
    downstream.settle(bare, hear)
    best.predictions = {split: downstream.predict(bare, hear, split) for split in ("dev", "test")}
    best.counts = {split: downstream.counts(said, split) for split, said in best.predictions.items()}
    best.score = metric.value(best.counts["dev"][downstream.task.metric])
    best.head = bare.cpu()
    return best


def _free(upstream: Upstream) -> list[nn.Parameter]:
    """Make all of the encoder but its convolutions trainable; returns those parameters."""
    stem = upstream.family.stem_modules(upstream.encoder)
    frozen = {id(parameter) for module in stem for parameter in module.parameters()}
    freed = [parameter for parameter in upstream.encoder.parameters() if id(parameter) not in frozen]
    for parameter in freed:
        parameter.requires_grad_(True)
    return freed


def _one_epoch(
    downstream: Downstream,
    hear: Hearing,
    head: Any,
    optimiser: Any,
    tuned: list[nn.Parameter],
    seed: int,
    epoch: int,
    accelerator: Accelerator,
) -> None:
    head.train()
    hear.upstream.encoder.train(bool(tuned))
    for utterances in _shares(downstream, seed, epoch, accelerator):
        optimiser.zero_grad()
        heard = hear(utterances)
        loss = downstream.loss(head, heard, utterances)
        share, finite = _agreed(downstream.weight(heard), loss, accelerator)
        if not finite:
            raise DivergedError(
                f"the loss is {loss.item()}",
                where=f"{downstream.task.title}, epoch {epoch}, with {utterances[0].name}",
                remedy="leave out the highest learning rate",
            )
        accelerator.backward(loss * share)
        if tuned and accelerator.num_processes > 1:
            for parameter in tuned:  # the encoder is not wrapped: its gradients are averaged here
                if parameter.grad is not None:
                    parameter.grad = accelerator.reduce(parameter.grad, "mean")
        accelerator.clip_grad_norm_([*head.parameters(), *tuned], 1.0)
        optimiser.step()
    hear.upstream.encoder.eval()


def _agreed(weight: float, loss: torch.Tensor, accelerator: Accelerator) -> tuple[float, bool]:
    """What this process's loss counts in a mean over processes, and whether the losses of all of them are finite.

    One that raised alone would leave the others waiting for its gradients.
    """
    if accelerator.num_processes == 1:
        return 1.0, bool(loss.isfinite())
    said = torch.tensor([weight, float(loss.isfinite())], device=accelerator.device)
    total, n_finite = accelerator.reduce(said, "sum").tolist()
    return weight * accelerator.num_processes / total, n_finite == accelerator.num_processes


def _shares(downstream: Downstream, seed: int, epoch: int, accelerator: Accelerator) -> Iterator[tuple[Utterance, ...]]:
    """This process's part of each batch of a shuffled order; of one that is too small for all, the whole."""
    utterances, size = downstream.data.splits["train"], downstream.task.training.batch_size
    rank, world = accelerator.process_index, accelerator.num_processes
    order = _order(downstream, np.random.default_rng([seed, epoch]))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        mine = batch[rank::world] if len(batch) >= world else batch
        yield tuple(utterances[k] for k in mine)


def _order(downstream: Downstream, rng: np.random.Generator) -> np.ndarray:
    """Indices of an epoch's utterances."""
    utterances = downstream.data.splits["train"]
    if not downstream.task.training.balanced:
        return rng.permutation(len(utterances))
    times = Counter(utterance.classes for utterance in utterances)
    shares = np.array([1.0 / times[utterance.classes] for utterance in utterances])
    return rng.choice(len(utterances), len(utterances), p=shares / shares.sum())


def _kept(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}

"""Phones, characters, and words with their slots: a sequence of symbols, by CTC and greedy decoding."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .downstream import Downstream, Hearing
from .examples import TaskData, Utterance
from .heads import TranscribingHead
from .scores import error_rates, slots
from .tasks import Task

log = logging.getLogger(__name__)

BLANK = 0
WORD_END = "|"


class Transcription(Downstream):
    """See :class:`~brain_tuning.superb.downstream.Downstream`."""

    def __init__(self, task: Task, data: TaskData) -> None:
        super().__init__(task, data)
        trained = {symbol for utterance in data.splits["train"] for symbol in self.symbols(utterance)}
        self.inventory = ("", *sorted(trained))
        self._index = {symbol: k for k, symbol in enumerate(self.inventory)}
        self._warned = False

    def symbols(self, utterance: Utterance) -> tuple[str, ...]:
        """What is to be said of an utterance, symbol by symbol."""
        if self.task.label == "phones":
            return utterance.phones
        if self.task.label == "slots":
            return slots.encode(utterance.slots)
        return tuple(utterance.text.replace(" ", WORD_END))

    def build_head(self, n_layers: int, width: int) -> TranscribingHead:
        return TranscribingHead(n_layers, width, len(self.inventory), **self.task.training.head)

    def loss(self, head: Any, heard: Sequence[torch.Tensor], utterances: Sequence[Utterance]) -> torch.Tensor:
        logits, lengths = head(heard)
        return self._ctc(logits, lengths, utterances)

    def _ctc(self, logits: torch.Tensor, lengths: torch.Tensor, utterances: Sequence[Utterance]) -> torch.Tensor:
        wanted = [torch.tensor([self._index[symbol] for symbol in self.symbols(one)]) for one in utterances]
        n_wanted = torch.tensor([len(one) for one in wanted])
        self._warn_of_short_ones(wanted, lengths, utterances)
        # (frames, batch, symbols); an utterance with fewer frames than CTC needs has an infinite loss and no gradient.
        each = functional.ctc_loss(
            functional.log_softmax(logits.float(), dim=-1).transpose(0, 1),
            torch.cat(wanted).to(logits.device),
            lengths,
            n_wanted,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        return (each / n_wanted.to(each.device)).mean()

    def _warn_of_short_ones(
        self, wanted: Sequence[torch.Tensor], lengths: torch.Tensor, utterances: Sequence[Utterance]
    ) -> None:
        # Between two equal symbols CTC needs a blank.
        needed = [len(one) + int((one[1:] == one[:-1]).sum()) for one in wanted]
        short = [u.name for u, n, frames in zip(utterances, needed, lengths.tolist(), strict=True) if frames < n]
        if short and not self._warned:
            log.warning("%s: %d utterances of a batch are too short for their labels, %s first: they train nothing",
                        self.data.name, len(short), short[0])  # fmt: skip
            self._warned = True

    @torch.no_grad()
    def judge(self, head: Any, hear: Hearing) -> tuple[list[tuple[str, ...]], float]:
        """CTC says nothing at all for its first epochs, in which only the loss falls."""
        said, losses = [], []
        for utterances in self.batches("dev"):
            logits, lengths = head(hear(utterances))
            said += self._said(logits, lengths)
            if all(symbol in self._index for one in utterances for symbol in self.symbols(one)):
                losses.append(float(self._ctc(logits, lengths, utterances)))
        return said, float(np.mean(losses)) if losses else math.nan

    @torch.no_grad()
    def predict(self, head: Any, hear: Hearing, split: str) -> list[tuple[str, ...]]:
        return [said for utterances in self.batches(split) for said in self._said(*head(hear(utterances)))]

    def _said(self, logits: torch.Tensor, lengths: torch.Tensor) -> list[tuple[str, ...]]:
        return [self.decode(one[:n]) for one, n in zip(logits.argmax(-1).tolist(), lengths, strict=True)]

    def counts(self, predictions: Sequence[tuple[str, ...]], split: str) -> dict[str, np.ndarray]:
        true = self.data.splits[split]
        if self.task.label == "phones":
            return {"per": error_rates.phone_errors(predictions, [utterance.phones for utterance in true])}
        if self.task.label == "slots":
            said = [slots.decode(one)[1] for one in predictions]
            wanted = [slots.decode(slots.encode(utterance.slots))[1] for utterance in true]
            return {"slot_f1": slots.type_f1(said, wanted), "slot_cer": slots.value_errors(said, wanted)}
        texts = [" ".join("".join(one).replace(WORD_END, " ").split()) for one in predictions]
        wanted_texts = [utterance.text for utterance in true]
        return {
            "wer": error_rates.word_errors(texts, wanted_texts),
            "cer": error_rates.character_errors(texts, wanted_texts),
        }

    def decode(self, frames: Sequence[int]) -> tuple[str, ...]:
        """Best path: equal neighbours are one symbol, blanks go."""
        return tuple(
            self.inventory[symbol]
            for k, symbol in enumerate(frames)
            if symbol != BLANK and (k == 0 or symbol != frames[k - 1])
        )

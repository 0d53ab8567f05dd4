"""The light heads of SUPERB on a learned weighted sum of an encoder's layers.

Their parameters are named and shaped as those of transformers' own heads (``ForSequenceClassification``, ``ForCTC``,
``ForXVector``, ``ForAudioFrameClassification`` with ``use_weighted_layer_sum``), which :mod:`.transformers_heads` puts
them into.
Sources: Yang et al. 2021 (SUPERB), section 3; s3prl's downstream configurations for sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class WeightedHead(nn.Module):
    """A head that begins with a weighted sum over layers.

    Args:
        n_layers: hidden states of the encoder, what enters the first layer included.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.ones(n_layers) / n_layers)

    def weights(self) -> torch.Tensor:
        """Share of each layer, (n_layers,), all together 1."""
        return functional.softmax(self.layer_weights, dim=-1)

    def mixed(self, states: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Weighted sum over layers of each utterance: (n_layers, frames, width) -> (frames, width), float32."""
        device = self.layer_weights.device
        joined = torch.cat([one.to(device, non_blocking=True) for one in states], dim=1)
        summed = torch.einsum("l,ltw->tw", self.weights(), joined.float())
        return list(summed.split([one.shape[1] for one in states]))

    def padded(self, states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`mixed` as one batch (batch, frames, width), zero at its ends, and the frames of each (batch,)."""
        mixed = self.mixed(states)
        return pad_sequence(mixed, batch_first=True), torch.tensor([len(one) for one in mixed])


def through(lstm: nn.LSTM, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """What an LSTM makes of utterances (batch, frames, width), each as if it were alone."""
    packed = pack_padded_sequence(hidden, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]


class PooledHead(WeightedHead):
    """Mean over frames, a projection, and one linear classifier for each question (KS, IC, SID, ER).

    The projection is linear, so that the mean over frames may be taken before it: what is heard of an utterance is
    ``(n_layers, width)`` numbers, once and for all.

    Args:
        n_layers: see :class:`WeightedHead`.
        width: of the encoder.
        n_answers: number of answers to each question.
        projection: width of the projection.
    """

    def __init__(self, n_layers: int, width: int, n_answers: Sequence[int], projection: int = 256) -> None:
        super().__init__(n_layers)
        self.n_answers = tuple(n_answers)
        self.projector = nn.Linear(width, projection)
        self.classifier = nn.Linear(projection, sum(self.n_answers))

    def forward(self, means: torch.Tensor) -> list[torch.Tensor]:
        """Means over frames (batch, n_layers, width) -> logits (batch, answers) of each question."""
        mixed = torch.einsum("l,blw->bw", self.weights(), means.to(self.layer_weights.device))
        return list(self.classifier(self.projector(mixed)).split(self.n_answers, dim=-1))


class TranscribingHead(WeightedHead):
    """A projection, an optional bidirectional LSTM, and symbols of CTC for each frame (PR, ASR, SF).

    Args:
        n_layers: see :class:`WeightedHead`.
        width: of the encoder.
        n_symbols: with the blank, which is symbol 0.
        projection: width of the projection.
        lstm_width: of each direction; 0 leaves the LSTM out.
        lstm_layers: how many.
        dropout: between the LSTM's layers.
    """

    def __init__(
        self,
        n_layers: int,
        width: int,
        n_symbols: int,
        *,
        projection: int = 1024,
        lstm_width: int = 0,
        lstm_layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(n_layers)
        self.projector = nn.Linear(width, projection)
        self.lstm: nn.LSTM | None = None
        if lstm_width:
            self.lstm = nn.LSTM(
                projection,
                lstm_width,
                lstm_layers,
                batch_first=True,
                bidirectional=True,
                dropout=dropout if lstm_layers > 1 else 0.0,
            )
        self.lm_head = nn.Linear(2 * lstm_width if lstm_width else projection, n_symbols)

    def forward(self, states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """States of utterances -> logits (batch, frames, n_symbols) and how many frames of each are real (batch,)."""
        mixed, lengths = self.padded(states)
        hidden = self.projector(mixed)
        if self.lstm is not None:
            hidden = through(self.lstm, hidden, lengths)
        return self.lm_head(hidden), lengths


class SpeakingHead(WeightedHead):
    """Whether each of two people speaks, frame by frame, by a one-layer LSTM (SD).

    Args:
        n_layers: see :class:`WeightedHead`.
        width: of the encoder.
        n_speakers: at once.
        lstm_width: of the LSTM.
    """

    def __init__(self, n_layers: int, width: int, n_speakers: int = 2, lstm_width: int = 512) -> None:
        super().__init__(n_layers)
        self.lstm = nn.LSTM(width, lstm_width, 1, batch_first=True)
        self.classifier = nn.Linear(lstm_width, n_speakers)

    def forward(self, states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """States of utterances -> logits (batch, frames, n_speakers) and how many frames of each are real (batch,)."""
        mixed, lengths = self.padded(states)
        return self.classifier(through(self.lstm, mixed, lengths)), lengths


class SpeakerHead(WeightedHead):
    """x-vectors, trained to tell speakers apart by an additive margin (ASV); transformers' own TDNN and loss.

    Args:
        n_layers: see :class:`WeightedHead`.
        width: of the encoder.
        n_speakers: in training.
        tdnn_width: of the time-delay layers; the last is three times as wide (Snyder et al. 2018).
        embedding: width of the x-vector.
    """

    def __init__(
        self, n_layers: int, width: int, n_speakers: int, *, tdnn_width: int = 512, embedding: int = 512
    ) -> None:
        from transformers.models.wav2vec2.modeling_wav2vec2 import AMSoftmaxLoss, TDNNLayer

        super().__init__(n_layers)
        self.shape = xvector_shape(tdnn_width, embedding)
        config: Any = SimpleNamespace(**self.shape)
        self.projector = nn.Linear(width, tdnn_width)
        self.tdnn = nn.ModuleList([TDNNLayer(config, index) for index in range(len(config.tdnn_dim))])
        self.feature_extractor = nn.Linear(2 * config.tdnn_dim[-1], embedding)
        self.classifier = nn.Linear(embedding, embedding)
        self.objective = AMSoftmaxLoss(embedding, n_speakers)

    @property
    def shortest_frames(self) -> int:
        """Frames that the time-delay layers need to give two, of which a deviation can be taken."""
        return 2 + sum((k - 1) * d for k, d in zip(self.shape["tdnn_kernel"], self.shape["tdnn_dilation"], strict=True))

    def forward(self, states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """States of utterances -> x-vectors and what the loss is given, both (batch, embedding).

        Utterances too short for the time-delay layers are repeated until they are long enough.
        """
        long_enough = [one.repeat(-(-self.shortest_frames // len(one)), 1) for one in self.mixed(states)]
        lengths = torch.tensor([len(one) for one in long_enough]) - (self.shortest_frames - 2)
        hidden = self.projector(pad_sequence(long_enough, batch_first=True))
        for layer in self.tdnn:
            hidden = layer(hidden)
        # The layers pad nothing, so that the first frames of their output are those of the utterance alone.
        real = (torch.arange(hidden.shape[1]) < lengths[:, None]).to(hidden.device)[..., None]
        n_frames = lengths.to(hidden.device)[:, None]
        mean = (hidden * real).sum(1) / n_frames
        variance = (((hidden - mean[:, None]) * real) ** 2).sum(1) / (n_frames - 1)
        # A unit that is silent throughout has no deviation, and must give no gradient either.
        deviation = variance.clamp_min(1e-12).sqrt()
        embeddings = self.feature_extractor(torch.cat([mean, deviation], dim=-1))
        return embeddings, self.classifier(embeddings)


def xvector_shape(tdnn_width: int = 512, embedding: int = 512) -> dict[str, Any]:
    """transformers' config values of an x-vector head."""
    return {
        "tdnn_dim": (tdnn_width,) * 4 + (3 * tdnn_width,),
        "tdnn_kernel": (5, 3, 3, 1, 1),
        "tdnn_dilation": (1, 2, 3, 1, 1),
        "xvector_output_dim": embedding,
    }


def permutation_free_loss(logits: torch.Tensor, spoken: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of who speaks, under the best assignment of outputs to speakers (Fujita et al. 2019).

    Args:
        logits: (batch, frames, 2).
        spoken: (batch, frames, 2), 0 or 1.
        lengths: real frames of each recording, (batch,).

    Returns:
        Mean over real frames and speakers, a scalar.
    """
    real = (torch.arange(logits.shape[1]) < lengths[:, None]).to(logits.device)
    both = []
    for order in ([0, 1], [1, 0]):
        each = functional.binary_cross_entropy_with_logits(logits.float(), spoken[..., order], reduction="none")
        both.append((each.mean(-1) * real).sum(1))
    return torch.stack(both).amin(0).sum() / real.sum()

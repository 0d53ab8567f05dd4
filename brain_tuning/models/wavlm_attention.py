"""WavLM attention that calls its projections, and that keeps nothing of the size frames x frames.

transformers' ``WavLMAttention`` hands the raw ``.weight`` of q, k, v and out_proj to a fused kernel.
A LoRA layer's ``.weight`` is the frozen base weight: adapters there get no gradient and change nothing,
yet merging them changes the model. The class below computes the same function through the projections.
Parameters and their names are those of the original.

A score is ``q_i . k_j / sqrt(width of a head) + gate_i * bias(j - i)``: the gate is one number for each head and
query, the bias one for each head and distance. So layers hand each other a table of distances instead of
a bias for each pair of frames, and a few query rows at a time see their rows of it as a view of the table.
Backward computes the attention weights again, rows by rows, from what forward was given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

#: Most query rows computed at a time.
ROWS = 256
#: Scores computed at a time, 8 MB: few enough to stay in a CPU's cache, enough for threads not to wait for each other.
SCORES = 2**21


class ProjectedWavLMAttention(WavLMAttention):
    """Drop-in WavLM attention; attention weights are not returned (they are never formed)."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        index: int = 0,
        **kwargs: object,
    ) -> tuple[torch.Tensor, None, torch.Tensor]:
        """Attend.

        Args:
            hidden_states: (batch, frames, width).
            attention_mask: (batch, frames), 1 where a frame is real.
            position_bias: what the first layer returned; None in the first layer.

        Returns:
            Output (batch, frames, width), None, and :meth:`distance_bias` for the next layer.
        """
        batch, n_frames, width = hidden_states.shape
        if position_bias is None:
            position_bias = self.distance_bias(n_frames)
        heads = (batch, n_frames, self.num_heads, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(heads).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = attend(
            query * self.scaling,
            key,
            value,
            self.gate(hidden_states),
            position_bias,
            padding=None if attention_mask is None else attention_mask.ne(1),
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).reshape(batch, n_frames, width)), None, position_bias

    def distance_bias(self, n_frames: int) -> torch.Tensor:
        """Bias by distance, (heads, 2 frames - 1), from keys frames - 1 later to as many earlier than the query."""
        distances = torch.arange(n_frames - 1, -n_frames, -1, device=self.rel_attn_embed.weight.device)
        return self.rel_attn_embed(self._relative_positions_bucket(distances)).t()

    def gate(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """How much of the bias each query takes: (batch, frames, width) -> (batch, heads, frames)."""
        by_head = hidden_states.unflatten(-1, (self.num_heads, self.head_dim))
        # Summing the 4 outputs of each gate is the same as summing the 4 rows of its weight.
        weight = self.gru_rel_pos_linear.weight.view(2, 4, self.head_dim).sum(1)
        bias = self.gru_rel_pos_linear.bias.view(2, 4).sum(1)
        gates = torch.sigmoid(functional.linear(by_head, weight, bias))
        gate_a, gate_b = gates.transpose(1, 2).unbind(-1)
        return gate_a * (gate_b * self.gru_rel_pos_const[..., 0] - 1.0) + 2.0


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    distance_bias: torch.Tensor,
    *,
    padding: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """softmax_j(q_i . k_j + gate_i bias(j - i)) v_j, softmax in float32 or better.

    Args:
        query: scaled, (batch, heads, frames, head width); key and value alike.
        gate: (batch, heads, frames).
        distance_bias: (heads, 2 frames - 1), see :meth:`ProjectedWavLMAttention.distance_bias`.
        padding: (batch, frames), True where a key is none.
        dropout: share of the attention weights to drop.

    Returns:
        (batch, heads, frames, head width).
    """
    precise = torch.promote_types(query.dtype, torch.float32)
    gate, distance_bias = gate.to(precise), distance_bias.to(precise)
    # With the keys in reverse, a query's row of the bias is the table from the query's own number on.
    padding = None if padding is None else padding.flip(1)
    # Compiled, the loop over rows would be unrolled; on an accelerator, one fused kernel is worth its mask.
    if torch.compiler.is_compiling() or query.device.type != "cpu":
        bias = gate[..., None] * _bias_rows(distance_bias, slice(None))
        if padding is not None:
            bias = bias.masked_fill(padding[:, None, None, :], torch.finfo(query.dtype).min)
        return functional.scaled_dot_product_attention(
            query, key.flip(2), value.flip(2), attn_mask=bias.to(query.dtype), dropout_p=dropout, scale=1.0
        )
    batch, heads = query.shape[:2]
    attended = _ByRows.apply(
        query.flatten(0, 1),
        key.flatten(0, 1).flip(1),
        value.flatten(0, 1).flip(1),
        gate.flatten(0, 1),
        distance_bias.repeat(batch, 1),
        None if padding is None else padding.repeat_interleave(heads, 0),
        dropout,
    )
    return attended.unflatten(0, (batch, heads))


class _ByRows(torch.autograd.Function):
    """:func:`attend` of reversed keys and values, some rows of some heads at a time; windows x heads are one axis."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        gate: torch.Tensor,
        distance_bias: torch.Tensor,
        padding: torch.Tensor | None,
        dropout: float,
    ) -> torch.Tensor:
        # Drawn from the global generator, so that a checkpoint that restores it draws the same again.
        ctx.dropout, ctx.seed = dropout, int(torch.randint(2**62, ())) if dropout else 0
        generator = torch.Generator(query.device).manual_seed(ctx.seed)
        output = torch.empty_like(query)
        with torch.autocast(query.device.type, enabled=False):
            for some, rows in _pieces(query):
                weights = _weights(query, key, gate, distance_bias, padding, some, rows)
                if dropout:
                    weights.mul_(_kept(weights, dropout, generator))
                output[some, rows] = torch.bmm(weights.to(value.dtype), value[some])
        ctx.save_for_backward(query, key, value, gate, distance_bias, padding, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, gate, distance_bias, padding, output = ctx.saved_tensors
        with torch.autocast(query.device.type, enabled=False):
            generator = torch.Generator(query.device).manual_seed(ctx.seed)
            query_grad, gate_grad = torch.empty_like(query), torch.empty_like(gate)
            key_grad, value_grad = torch.zeros_like(key), torch.zeros_like(value)
            bias_grad = torch.zeros_like(distance_bias) if ctx.needs_input_grad[4] else None
            # sum_j dL/dw_j w_j, which the derivative of softmax subtracts, is dL/do . o
            mean_grad = (output_grad.to(gate.dtype) * output).sum(-1, keepdim=True)
            for some, rows in _pieces(query):
                weights = _weights(query, key, gate, distance_bias, padding, some, rows)
                grad = output_grad[some, rows]
                score_grad = torch.bmm(grad, value[some].mT).to(weights.dtype)
                used = weights
                if ctx.dropout:
                    kept = _kept(weights, ctx.dropout, generator)
                    score_grad.mul_(kept)
                    used = weights * kept
                value_grad[some].baddbmm_(used.to(grad.dtype).mT, grad)
                score_grad.sub_(mean_grad[some, rows]).mul_(weights)
                if padding is not None:
                    score_grad.masked_fill_(padding[some, None, :], 0.0)
                narrow = score_grad.to(key.dtype)
                query_grad[some, rows] = torch.bmm(narrow, key[some])
                key_grad[some].baddbmm_(narrow.mT, query[some, rows])
                if bias_grad is not None:
                    _add_by_distance(bias_grad[some], score_grad * gate[some, rows, None], rows)
                gate_grad[some, rows] = score_grad.mul_(_bias_rows(distance_bias[some], rows)).sum(-1)
        return query_grad, key_grad, value_grad, gate_grad, bias_grad, None, None


def _pieces(query: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Heads of windows, and rows of them, to compute at once; rows innermost."""
    n_heads, n_frames, _ = query.shape
    n_rows = min(ROWS, n_frames)
    at_once = max(torch.get_num_threads(), SCORES // (n_rows * n_frames))
    # Groups of equal size, as far as heads can be shared out.
    at_once = math.ceil(n_heads / math.ceil(n_heads / at_once))
    for head in range(0, n_heads, at_once):
        for row in range(0, n_frames, n_rows):
            yield slice(head, head + at_once), slice(row, min(row + n_rows, n_frames))


def _weights(
    query: torch.Tensor,
    key: torch.Tensor,
    gate: torch.Tensor,
    distance_bias: torch.Tensor,
    padding: torch.Tensor | None,
    some: slice,
    rows: slice,
) -> torch.Tensor:
    """Attention weights of one piece, (heads, rows, frames)."""
    scores = torch.bmm(query[some, rows], key[some].mT).to(gate.dtype)
    scores.addcmul_(gate[some, rows, None], _bias_rows(distance_bias[some], rows))
    if padding is not None:
        scores.masked_fill_(padding[some, None, :], torch.finfo(scores.dtype).min)
    return scores.softmax(-1)


def _kept(weights: torch.Tensor, dropout: float, generator: torch.Generator) -> torch.Tensor:
    """What dropout multiplies attention weights by."""
    return torch.empty_like(weights).bernoulli_(1.0 - dropout, generator=generator).div_(1.0 - dropout)


def _bias_rows(distance_bias: torch.Tensor, rows: slice) -> torch.Tensor:
    """View (heads, rows, frames) of the table whose element (h, i, j) is the table's (h, rows.start + i + j)."""
    n_frames = (distance_bias.shape[1] + 1) // 2
    return distance_bias.unfold(1, n_frames, 1)[:, rows]


def _add_by_distance(totals: torch.Tensor, values: torch.Tensor, rows: slice) -> None:
    """Add (heads, rows, frames) to the table entries that :func:`_bias_rows` showed them, in place."""
    heads, n_rows, n_frames = values.shape
    width = n_frames + n_rows - 1
    # Rows padded to width + 1 and read as rows of width: each row is one further to the right than the last.
    shifted = functional.pad(values, (0, n_rows)).flatten(1)[:, : n_rows * width].view(heads, n_rows, width)
    totals[:, rows.start : rows.start + width] += shifted.sum(1)


def use_projected_attention(backbone: nn.Module) -> int:
    """Swap the attention class of this one backbone in place; returns how many modules were swapped."""
    found = [module for module in backbone.modules() if type(module) is WavLMAttention]
    for module in found:
        module.__class__ = ProjectedWavLMAttention
    return len(found)

"""WavLM attention that calls its projections, so that LoRA on them trains and counts.

transformers' ``WavLMAttention`` hands the raw ``.weight`` of q, k, v and out_proj to a fused kernel.
A LoRA layer's ``.weight`` is the frozen base weight: adapters there get no gradient and change nothing,
yet merging them changes the model. The class below computes the same function through the projections
and scaled-dot-product attention. Parameters and their names are those of the original.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


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
            position_bias: (1, heads, frames, frames) from the first layer; None in the first layer.

        Returns:
            Output (batch, frames, width), None, and the position bias for the next layer.
        """
        batch, n_frames, width = hidden_states.shape
        if position_bias is None:
            position_bias = self.compute_bias(n_frames, n_frames)[None]
        heads = (batch, n_frames, self.num_heads, self.head_dim)
        # Summing the 4 outputs of each gate is the same as summing the 4 rows of its weight.
        gate_weight = self.gru_rel_pos_linear.weight.view(2, 4, self.head_dim).sum(1)
        gate_bias = self.gru_rel_pos_linear.bias.view(2, 4).sum(1)
        gates = torch.sigmoid(functional.linear(hidden_states.view(heads), gate_weight, gate_bias))
        gate_a, gate_b = gates.transpose(1, 2).unbind(-1)
        gate = gate_a * (gate_b * self.gru_rel_pos_const[..., 0] - 1.0) + 2.0
        bias = gate[..., None] * position_bias
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask.ne(1)[:, None, None, :], torch.finfo(bias.dtype).min)
        query, key, value = (
            projection(hidden_states).view(heads).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(attended.transpose(1, 2).reshape(batch, n_frames, width)), None, position_bias


def use_projected_attention(backbone: nn.Module) -> int:
    """Swap the attention class of this one backbone in place; returns how many modules were swapped."""
    found = [module for module in backbone.modules() if type(module) is WavLMAttention]
    for module in found:
        module.__class__ = ProjectedWavLMAttention
    return len(found)

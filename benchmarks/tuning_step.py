"""One optimiser step of brain-tuning.

Workload: a clip of 16 s through WavLM base+ (LoRA on q, k, v; layer 9 read), FIR delays, a head of rank 100 on 95,556
voxels, spatial correlation, backward, Adam.
Peer: transformers and peft as one writes them: ``get_peft_model`` on ``WavLMModel`` in training mode,
``output_hidden_states``, the same head and loss. Convolutions stay in the graph, all twelve layers are computed, and
dropout, LayerDrop and SpecAugment are as in WavLM's config; only for the comparison of losses they are off. (LoRA on
q, k, v trains nothing there, so it has less to do, not more.) The ``quiet_peer`` has them off while it is timed, too.
Goal: 2.5 times faster in the same precision, with at most a quarter of the memory. ``later_epochs`` have the stem's
output in memory, as every epoch but the first has; ``first_epoch`` computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import WavLMConfig, WavLMModel

from benchmarks.harness import Build, Case, Goal, Side, Work
from benchmarks.speech_models import LORA, one_clip, tuned_model, wavlm_folder
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.head import EncodingHead
from brain_tuning.models.losses import spatial_correlation_loss

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Sizes:
    """Of the workload; ``layer`` of ``n_layers`` is read."""

    seconds: int = 16
    width: int = 768
    n_layers: int = 12
    layer: int = 9
    n_voxels: int = 95_556


FULL = Sizes()
#: what is random in a WavLM that is trained as it comes
_RANDOM = (
    "layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "apply_spec_augment",
)  # fmt: skip


class _Peer(torch.nn.Module):
    def __init__(self, place: Path, sizes: Any, quiet: bool) -> None:
        super().__init__()
        usual = WavLMConfig()
        wavlm = WavLMModel.from_pretrained(place, **({} if quiet else {key: getattr(usual, key) for key in _RANDOM}))
        self.layer = sizes.layer
        self.wavlm = get_peft_model(wavlm, LoraConfig(**LORA))
        self.head = EncodingHead(sizes.width, sizes.n_voxels, (1, 2, 3, 4), 100)

    def forward(self, clip: dict[str, Any]) -> torch.Tensor:
        states = self.wavlm(clip["input_values"][0], output_hidden_states=True).hidden_states
        # As in ours, what follows the backbone is in float32 whatever the precision of the backbone.
        with torch.autocast(states[0].device.type, enabled=False):
            features = clip["frame_to_tr"] @ states[self.layer][0].float()
            return spatial_correlation_loss(self.head(features), clip["labels"])


def _step(
    loss: Callable[[], torch.Tensor], optimiser: torch.optim.Optimizer, device: str, bf16: bool
) -> dict[str, float]:
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        value = loss()
    value.backward()
    optimiser.step()
    optimiser.zero_grad()
    return {"loss": float(value.detach())}


def _moved(clip: dict[str, Any], device: str) -> dict[str, Any]:
    def to(value: Any) -> Any:
        if isinstance(value, list) and isinstance(value[0], torch.Tensor):
            return [part.to(device) for part in value]
        return value.to(device) if isinstance(value, torch.Tensor) else value

    return {key: to(value) for key, value in clip.items()}


def _build(sizes: Any, folder: Path, device: str, *, bf16: bool, cached: bool, quiet: bool = False) -> Case:
    place = wavlm_folder(folder, width=sizes.width, n_layers=sizes.n_layers)
    clip = _moved(one_clip(sizes.seconds, sizes.n_voxels), device)
    ours = tuned_model(place, sizes.layer, sizes.n_voxels).to(device).train()  # type: ignore[arg-type]
    peer = _Peer(place, sizes, quiet).to(device).train()
    peer.head.load_state_dict(ours.head.state_dict())
    if cached:
        ours.frozen_cache = FrozenCache(2**30)
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            ours.hidden_state(clip["input_values"][0])
    optimisers = [torch.optim.Adam([p for p in m.parameters() if p.requires_grad], lr=1e-4) for m in (ours, peer)]

    def our_loss() -> torch.Tensor:
        loss = ours(**clip).loss
        assert loss is not None
        return loss

    def their_loss() -> torch.Tensor:
        return peer(clip)

    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        # The heads stay in training mode, in which they normalise by this clip.
        peer.wavlm.eval()
        difference = abs(float(our_loss()) - float(their_loss()))
        peer.wavlm.train()

    n_frames, n_trs = sizes.seconds * 50, clip["labels"].shape[0]
    per_frame = (
        2 * (4 + 8) * sizes.width**2 + 4 * n_frames * sizes.width
    )  # projections, feed-forward; scores and values
    head = 2 * n_trs * (4 * sizes.width * 100 + 100 * sizes.n_voxels)
    # Backward of frozen layers has the gradient of its input only, and one of attention's scores more.
    return Case(
        ours=Side("brain_tuning", partial(_step, our_loss, optimisers[0], device, bf16)),
        peer=Side("transformers + peft", partial(_step, their_loss, optimisers[1], device, bf16)),
        goal=Goal(ratio=2.5, memory_share=0.25) if cached and not quiet else Goal(ratio=1.0),
        work=Work(flops=2.0 * sizes.layer * n_frames * per_frame + 3.0 * head),
        differences=lambda a, b: {"loss": difference},
        tolerances={"loss": 2e-3 if bf16 else 1e-5},
    )


CASES: dict[str, Build] = {
    "later_epochs": partial(_build, bf16=False, cached=True),
    "first_epoch": partial(_build, bf16=False, cached=False),
    "later_epochs_bf16": partial(_build, bf16=True, cached=True),
    "quiet_peer": partial(_build, bf16=False, cached=True, quiet=True),
}

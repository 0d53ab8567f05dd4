"""One optimiser step of brain-tuning.

Workload: a clip of 16 s (or several) through WavLM base+ (LoRA on q, k, v; layer 9 read), FIR delays, a head of rank
100 on 95,556 voxels, spatial correlation, backward, Adam.
Peer: transformers and peft as one writes them: ``get_peft_model`` on ``WavLMModel`` in training mode,
``output_hidden_states``, the same head and loss. Convolutions stay in the graph, all twelve layers are computed, and
dropout, LayerDrop and SpecAugment are as in WavLM's config; only for the comparison of losses they are off. (LoRA on
q, k, v trains nothing there, so it has less to do, not more.) The ``quiet_peer`` has them off while it is timed, too.
Goal: 2.5 times faster in the same precision, with at most a quarter of the memory. ``later_epochs`` have the stem's
output in memory, as every epoch but the first has; ``first_epoch`` computes it. ``later_epochs_bf16`` has both sides
under autocast to bfloat16.
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
from benchmarks.speech_models import LORA, clips, moved, step_flops, tuned_model, wavlm_folder
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.head import EncodingHead
from brain_tuning.models.losses import spatial_correlation_loss

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Sizes:
    """Of the workload; ``layer`` of ``n_layers`` is read."""

    seconds: int = 16
    n_clips: int = 1
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

    def forward(self, block: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and prediction."""
        states = self.wavlm(block["input_values"][0], output_hidden_states=True).hidden_states
        device = states[0].device.type
        # transformers leaves out the states of layers that LayerDrop skips: four of twelve, and there is no tenth.
        read = states[min(self.layer, len(states) - 1)]
        # As in ours: products with a sparse matrix and the loss are in float32, whatever the precision of the rest.
        with torch.autocast(device, enabled=False):
            features = block["frame_to_tr"] @ read.flatten(0, 1).float()
        prediction = self.head(features)
        with torch.autocast(device, enabled=False):
            return spatial_correlation_loss(prediction, block["labels"]), prediction


def _step(
    loss: Callable[[], torch.Tensor], optimiser: torch.optim.Optimizer, device: str, bf16: bool
) -> dict[str, float]:
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        value = loss()
    value.backward()
    optimiser.step()
    optimiser.zero_grad()
    return {"loss": float(value.detach())}


def build(sizes: Any, folder: Path, device: str, *, bf16: bool, cached: bool, quiet: bool = False) -> Case:
    """The case: in bfloat16 or not, with the stem remembered or not, against a peer without dropout or not."""
    place = wavlm_folder(folder, width=sizes.width, n_layers=sizes.n_layers)
    block = moved(clips(sizes.seconds, sizes.n_voxels, n_clips=sizes.n_clips), device)
    ours = tuned_model(place, sizes.layer, sizes.n_voxels).to(device).train()  # type: ignore[arg-type]
    peer = _Peer(place, sizes, quiet).to(device).train()
    peer.head.load_state_dict(ours.head.state_dict())
    if cached:
        ours.frozen_cache = FrozenCache(2**30)
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            ours.hidden_state(block["input_values"][0])
    optimisers = [torch.optim.Adam([p for p in m.parameters() if p.requires_grad], lr=1e-4) for m in (ours, peer)]

    def our_loss() -> torch.Tensor:
        loss = ours(**block).loss
        assert loss is not None
        return loss

    def their_loss() -> torch.Tensor:
        return peer(block)[0]

    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        # The heads stay in training mode, in which they normalise by this clip.
        peer.wavlm.eval()
        mine, (their_value, theirs) = ours(**block), peer(block)
        apart = float((mine.prediction - theirs).abs().max() / theirs.abs().max())
        differences = {"loss": abs(float(mine.loss) - float(their_value)), "prediction": apart}
        peer.wavlm.train()

    n_trs, windows = len(block["labels"]), block["input_values"]
    flops = step_flops(windows, width=sizes.width, n_layers=sizes.layer, n_trs=n_trs, n_voxels=sizes.n_voxels)
    return Case(
        ours=Side("brain_tuning", partial(_step, our_loss, optimisers[0], device, bf16)),
        peer=Side("transformers + peft", partial(_step, their_loss, optimisers[1], device, bf16)),
        goal=Goal(ratio=2.5, memory_share=0.25) if cached and not quiet else Goal(ratio=1.0),
        work=Work(flops=flops, bf16=bf16, audio_s=sizes.n_clips * sizes.seconds),
        differences=lambda a, b: differences,
        tolerances={"loss": 2e-3, "prediction": 5e-2} if bf16 else {"loss": 1e-5, "prediction": 1e-3},
    )


CASES: dict[str, Build] = {
    "later_epochs": partial(build, bf16=False, cached=True),
    "first_epoch": partial(build, bf16=False, cached=False),
    "later_epochs_bf16": partial(build, bf16=True, cached=True),
    "quiet_peer": partial(build, bf16=False, cached=True, quiet=True),
}

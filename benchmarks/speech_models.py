"""Speech models and heads of the sizes that people use, with random weights, for the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from brain_tuning.models import BrainWavLMForFMRIEncoding
from brain_tuning.timing.lanczos import lanczos_matrix, to_torch

RATE_HZ = 16_000
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj"]}


def wavlm_folder(folder: Path, *, width: int, n_layers: int) -> Path:
    """A WavLM like base+ but for width and depth (768 and 12 are base+'s), without anything random, saved once."""
    place = folder / f"wavlm-{width}-{n_layers}"
    if not (place / "model.safetensors").exists():
        torch.manual_seed(0)
        config = WavLMConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=n_layers,
            num_attention_heads=width // 64,
            conv_dim=[512 if width == 768 else 128] * 7,
            layerdrop=0.0,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            apply_spec_augment=False,
        )
        WavLMModel(config).save_pretrained(place)
        Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(place)
    return place


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness changes as fast as syllables do, (n_samples,), float32."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.1 * (1.1 + np.sin(2 * np.pi * 4 * times_s)) * rng.standard_normal(len(times_s))).astype(np.float32)


def tuned_model(
    place: Path, layer: int, n_voxels: int, *, context_s: float = 14.0, **settings: Any
) -> BrainWavLMForFMRIEncoding:
    """Ours, with LoRA on q, k, v and a head of rank 100 on FIR delays 1 to 4."""
    torch.manual_seed(1)
    model = BrainWavLMForFMRIEncoding.from_backbone(
        str(place), layer=layer, context_s=context_s, stride_s=2.0, read="all", **settings
    )
    model.add_adapter("s1-all", n_voxels, lora=LORA)
    return model


def clips(seconds: float, n_voxels: int, *, n_clips: int = 1, tr_s: float = 2.0) -> dict[str, Any]:
    """Successive clips of a story and the responses to them, as the model takes them."""
    n_trs, n_frames = int(n_clips * seconds / tr_s), (round(seconds * RATE_HZ) - 400) // 320 + 1
    in_clip_s = (np.arange(n_frames) * 320 + 200) / RATE_HZ
    frame_times_s = (np.arange(n_clips)[:, None] * seconds + in_clip_s).ravel()
    matrix = lanczos_matrix(frame_times_s, (np.arange(n_trs) + 0.5) * tr_s)
    bold = torch.randn(n_trs, n_voxels, generator=torch.Generator().manual_seed(2))
    return {
        "input_values": [torch.from_numpy(speechlike(n_clips * seconds).reshape(n_clips, -1))],
        "first_frames": [0],
        "frame_to_tr": to_torch(matrix),
        "labels": bold,
    }


def step_flops(
    windows: Sequence[torch.Tensor], *, width: int, n_layers: int, n_trs: int, n_voxels: int, n_heads: int = 1
) -> float:
    """Multiplications and additions of a step's products from the stem's output on: what it takes at least.

    Args:
        windows: groups of windows, each (n_windows, n_samples).
        width: of the backbone; its feed-forward layers are four times as wide.
        n_layers: that are computed.
        n_trs, n_voxels: that a head of :func:`tuned_model` predicts.
        n_heads: of such heads.
    """
    layers = 0.0
    for group in windows:
        n_frames = group.shape[1] // 320
        # Projections and feed-forward; scores and values.
        layers += n_layers * group.shape[0] * n_frames * (2 * (4 + 8) * width**2 + 4 * n_frames * width)
    head = 2.0 * n_trs * (4 * width * 100 + 100 * n_voxels)
    # Backward of frozen layers has the gradient of their input only, that of the head its weights' as well.
    return 2 * layers + 3 * n_heads * head


def moved(block: dict[str, Any], device: str) -> dict[str, Any]:
    """What the model takes, with its tensors on a device."""

    def to(value: Any) -> Any:
        if isinstance(value, list):
            return [to(part) for part in value]
        if isinstance(value, dict):
            return moved(value, device)
        return value.to(device) if isinstance(value, torch.Tensor) else value

    return {key: to(value) for key, value in block.items()}

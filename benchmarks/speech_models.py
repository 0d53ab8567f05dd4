"""Speech models and heads of the sizes that people use, with random weights, for the benchmarks."""

from __future__ import annotations

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


def one_clip(seconds: float, n_voxels: int, tr_s: float = 2.0) -> dict[str, Any]:
    """A clip and the responses to it, as the model takes them."""
    n_trs, n_frames = int(seconds / tr_s), (round(seconds * RATE_HZ) - 400) // 320 + 1
    frame_times_s = (np.arange(n_frames) * 320 + 200) / RATE_HZ
    matrix = lanczos_matrix(frame_times_s, (np.arange(n_trs) + 0.5) * tr_s)
    bold = torch.randn(n_trs, n_voxels, generator=torch.Generator().manual_seed(2))
    return {
        "input_values": [torch.from_numpy(speechlike(seconds))[None]],
        "first_frames": [0],
        "frame_to_tr": to_torch(matrix),
        "labels": bold,
    }

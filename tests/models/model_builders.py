"""Tiny backbones, tuned models and inputs for the tests of brain_tuning.models."""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import WavLMConfig, WavLMModel

from brain_tuning.models import BrainWavLMForFMRIEncoding

BUNDLED_NAME = "brain-tuning/wavlm-tiny-espeak"
ALL_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ALL_TARGETS}
TR_S = 1.5


def wavlm_config(kind: str) -> WavLMConfig:
    """A small WavLM config: ``"group"`` is shaped like base+, ``"layer"`` like large."""
    like_large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    return WavLMConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_buckets=32,
        max_bucket_distance=80,
        **(like_large if kind == "layer" else {}),
    )


def stock_wavlm(kind: str, seed: int = 0) -> WavLMModel:
    """transformers' own model with weights large enough that no part of it is nearly the identity."""
    torch.manual_seed(seed)
    model = WavLMModel(wavlm_config(kind)).eval()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def waves(*shape: int, seed: int = 0) -> torch.Tensor:
    """Audio of the given shape: noise whose loudness changes."""
    rng = np.random.default_rng(seed)
    swell = 1.0 + np.sin(np.arange(shape[-1]) / 3000.0 + seed)
    return torch.from_numpy((0.1 * swell * rng.normal(size=shape)).astype(np.float32))


def story(seconds: float, seed: int = 0) -> np.ndarray:
    """A story's audio at 16 kHz, (n_samples,), float32."""
    return waves(round(seconds * 16_000), seed=seed).numpy()


def tr_times(n_trs: int, tr_s: float = TR_S) -> np.ndarray:
    """Middle of each TR from the story's start, seconds."""
    return (np.arange(n_trs) + 0.5) * tr_s


def labels(n_trs: int, n_voxels: int) -> torch.Tensor:
    """Responses of random numbers."""
    return torch.randn(n_trs, n_voxels, generator=torch.Generator().manual_seed(0))


def shake(model: torch.nn.Module, seed: int = 1, size: float = 0.1) -> None:
    """Give every LoRA B a value, as tuning would: as initialised an adapter changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".lora_B." in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)


def tuned_model(
    backbone: object, *, adapters: tuple[str, ...] = ("s1-ac",), **settings: object
) -> BrainWavLMForFMRIEncoding:
    """A model whose adapters and heads differ from what they are initialised to, in evaluation mode."""
    key = repr((str(backbone), adapters, settings))
    if key not in _BUILT:
        _BUILT[key] = _tuned_model(str(backbone), adapters, dict(settings))
    return copy.deepcopy(_BUILT[key])


_BUILT: dict[str, BrainWavLMForFMRIEncoding] = {}


def _tuned_model(backbone: str, adapters: tuple[str, ...], settings: dict) -> BrainWavLMForFMRIEncoding:
    torch.manual_seed(3)
    lora = settings.pop("lora", LORA)
    settings = {"layer": 3, "context_s": 1.0, "stride_s": 0.5, "read": "all", "tr_s": TR_S, "bottleneck": 4, **settings}
    model = BrainWavLMForFMRIEncoding.from_backbone(backbone, **settings)
    for k, name in enumerate(adapters):
        subject, _, roi = name.partition("-")
        model.add_adapter(name, 5 + k, lora=lora, voxels=np.arange(5 + k) * 3 + k, subject=subject, roi=roi)
        # One block in training mode sets the running statistics of the head.
        model.train()
        model(**model.plan(story(6.0, seed=k), tr_times(4)))
    if lora is None:
        with torch.no_grad():
            for block in model.backbone.encoder.layers[: model.config.layer]:
                block.feed_forward.output_dense.weight.mul_(1.5)
    shake(model)
    model.set_adapter(adapters[0])
    return model.eval()

"""The frozen part of a backbone: computed without gradients, and remembered.

What lies below the lowest layer that is tuned (always the convolutions, and lower layers where a recipe adapts
only upper ones) gives the same output for a window in every epoch, for every adapter and for the untuned model.
The memory of it is keyed by content: the window's samples, the frozen weights, and what decides their arithmetic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .adapters import tuner_layers
from .families import family_of
from .frozen_cache import FrozenCache

#: beginnings of the keys of a config that decide what the stem computes
_OF_STEM = ("conv_", "feat_extract_", "num_mel", "hidden_act", "layer_norm_eps", "position_embeddings")
#: keys of the config that say where a backbone comes from, not what it computes
_ORIGIN = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "transformers_version")


def deciding(config: PreTrainedConfig, depth: int) -> dict[str, Any]:
    """What of a config decides :func:`frozen_output`, beside the weights.

    Heads and buckets of attention, or the place of norms: other values fit the same tensors.

    Args:
        config: of a backbone of a known family.
        depth: layers that are frozen with the stem.
    """
    said = config.to_dict()
    return {key: said[key] for key in sorted(said) if key not in _ORIGIN and (depth or key.startswith(_OF_STEM))}


def fingerprint(backbone: PreTrainedModel, depth: int) -> bytes:
    """Digest of everything but the window that decides the output of :func:`frozen_output`.

    Args:
        backbone: of a known family, adapters attached or not.
        depth: layers that are frozen with the stem.
    """
    config, device = backbone.config, backbone.device.type
    precision = torch.get_autocast_dtype(device) if depth and torch.is_autocast_enabled(device) else None
    family = family_of(config)
    # Above depth 0 the projection, positions and norms count as well: all of the backbone but the layers above.
    modules: list[nn.Module] = [backbone] if depth else family.stem_modules(backbone)
    above = tuple(f"layers.{index}." for index in range(depth, len(family.layers(backbone)))) if depth else ()
    # Which adapters are heard, and how loudly, is in no tensor.
    heard = [
        (key, name, module.scaling[name])
        for key, module in tuner_layers(backbone).items()
        for name in module.active_adapters
        if depth and not module.disable_adapters and not any(part in key for part in above)
    ]
    described = (config.model_type, deciding(config, depth), backbone.dtype, depth, precision, heard)
    digest = hashlib.blake2b(repr(described).encode(), digest_size=16)
    for module in modules:
        for key, value in sorted(module.state_dict().items()):
            if any(part in key for part in above):
                continue
            digest.update(key.encode())
            # In float32, which holds bfloat16 exactly: numpy has no bfloat16.
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.digest()


@torch.no_grad()
def frozen_output(
    backbone: PreTrainedModel,
    windows: torch.Tensor,
    depth: int,
    device: torch.device,
    cache: FrozenCache | None,
    seal: bytes,
) -> torch.Tensor:
    """What the first tuned layer is given: the stem's output (depth 0) or the hidden state at ``depth``.

    On a CPU the stem takes windows one at a time: their activations then stay in the processor's cache, which is
    several times faster, and the result cannot depend on which windows happen to be computed together.

    Args:
        backbone: of a known family.
        windows: (n_windows, n_samples), float32.
        depth: layers that are frozen with the stem.
        device: where the backbone is.
        cache: to look in and add to, or None.
        seal: :func:`fingerprint` of the backbone; only used with a cache.

    Returns:
        (n_windows, frames, channels or width), on ``device``.
    """
    if cache is None:
        return _compute(backbone, windows.to(device), depth)
    keys = [
        hashlib.blake2b(window.cpu().float().numpy().tobytes(), digest_size=16, key=seal).digest() for window in windows
    ]
    known = {key: value for key in keys if (value := cache.get(key)) is not None}
    fresh = [k for k, key in enumerate(keys) if key not in known]
    if fresh:
        computed = _compute(backbone, windows[fresh].to(device), depth).cpu()
        for k, value in zip(fresh, computed, strict=True):
            known[keys[k]] = value.clone()
            cache.put(keys[k], known[keys[k]])
    return torch.stack([known[key] for key in keys]).to(device)


def _compute(backbone: PreTrainedModel, windows: torch.Tensor, depth: int) -> torch.Tensor:
    family = family_of(backbone.config)
    with torch.autocast(windows.device.type, enabled=False):
        if windows.device.type == "cpu":
            stem = torch.cat([family.stem(backbone, window[None]) for window in windows])
        else:
            stem = family.stem(backbone, windows)
    if depth == 0:
        return stem
    # Without dropout, in adapters too: what is remembered must not hold one of its masks.
    with evaluating(backbone):
        return family.run(backbone, family.enter(backbone, stem), 0, depth)


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode for a while."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)

"""The frozen convolution stem: computed without gradients, window by window, and remembered.

No recipe tunes the stem, so its output for a window is the same in every epoch, for every adapter and for
the untuned model. The cache is keyed by content (window and stem weights), so it can be shared freely.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

from .families import family_of


class StemCache:
    """Stem outputs in memory, least recently used out first.

    Args:
        max_bytes: the cache never holds more.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._known: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def get(self, key: bytes) -> torch.Tensor | None:
        """The remembered output, or None."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, key: bytes, value: torch.Tensor) -> None:
        """Remember an output, forgetting old ones if need be."""
        size = value.numel() * value.element_size()
        if size > self.max_bytes or key in self._known:
            return
        while self.n_bytes + size > self.max_bytes:
            _, old = self._known.popitem(last=False)
            self.n_bytes -= old.numel() * old.element_size()
        self._known[key] = value
        self.n_bytes += size


def fingerprint(backbone: PreTrainedModel) -> bytes:
    """Digest of the stem's weights, their type, and the settings that decide what it computes."""
    config = backbone.config
    shape = (config.conv_kernel, config.conv_stride, config.feat_extract_norm, config.feat_extract_activation)
    digest = hashlib.blake2b(repr((*shape, backbone.dtype)).encode(), digest_size=16)
    for key, value in sorted(backbone.feature_extractor.state_dict().items()):  # type: ignore[union-attr]
        digest.update(key.encode())
        # In float32, which holds bfloat16 exactly: numpy has no bfloat16.
        digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.digest()


@torch.no_grad()
def stem_output(
    backbone: PreTrainedModel,
    windows: torch.Tensor,
    device: torch.device,
    cache: StemCache | None,
    seal: bytes,
) -> torch.Tensor:
    """Stem output of windows.

    On a CPU windows go through one at a time: their activations then stay in the processor's cache, which is
    several times faster, and the result cannot depend on which windows happen to be computed together.

    Args:
        backbone: of a known family.
        windows: (n_windows, n_samples).
        device: where the backbone is.
        cache: to look in and add to, or None.
        seal: :func:`fingerprint` of the backbone; only used with a cache.

    Returns:
        (n_windows, frames, channels), on ``device``, of the backbone's type.
    """
    stem = family_of(backbone.config).stem
    windows = windows.to(backbone.dtype)
    with torch.autocast(device.type, enabled=False):
        if cache is None:
            return _compute(stem, backbone, windows.to(device))
        keys = [
            hashlib.blake2b(window.cpu().float().numpy().tobytes(), digest_size=16, key=seal).digest()
            for window in windows
        ]
        known = {key: value for key in keys if (value := cache.get(key)) is not None}
        fresh = [k for k, key in enumerate(keys) if key not in known]
        if fresh:
            computed = _compute(stem, backbone, windows[fresh].to(device)).cpu()
            for k, value in zip(fresh, computed, strict=True):
                known[keys[k]] = value.clone()
                cache.put(keys[k], known[keys[k]])
        return torch.stack([known[key] for key in keys]).to(device)


def _compute(
    stem: Callable[[nn.Module, torch.Tensor], torch.Tensor], backbone: nn.Module, windows: torch.Tensor
) -> torch.Tensor:
    if windows.device.type != "cpu":
        return stem(backbone, windows)
    return torch.cat([stem(backbone, window[None]) for window in windows])

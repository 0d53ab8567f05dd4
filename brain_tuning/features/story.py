"""Frozen features of stories at TR rate: of any layers, under any window plan, each computed once.

What was computed is remembered by content: the samples of the story, the times of the TRs, the weights up to the layer
(adapters included), the backbone's config and the window plan. A cache on disk therefore serves other runs, subjects
and processes, and a model that is tuned on, or switched to another adapter, is computed anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from brain_tuning.corpus import Corpus
from brain_tuning.models.adapters import tuner_layers
from brain_tuning.models.frozen import deciding, fingerprint
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.timing import WindowPlan

#: (story, TR times in s (n_trs,)) -> features (n_trs, width) and whether audio reaches each TR (n_trs,)
StoryFeatures = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]
#: changes when the same model and plan come to mean other features
_VERSION = 1


def feature_cache(folder: Path, *, memory_mb: int = 256, disk_gb: float = 50.0) -> FrozenCache:
    """A cache of features on disk.

    Args:
        folder: several processes and runs may share it.
        memory_mb: of RAM, beside it.
        disk_gb: of the folder; the least recently used features go first.

    Raises:
        StorageError: the folder cannot be made.
    """
    return FrozenCache(
        memory_mb * 2**20,
        folder,
        int(disk_gb * 1e9),
        holds="features",
        remedy="free some space, or name another --feature-cache",
    )


def model_features(
    model: BrainWavLMForFMRIEncoding,
    corpus: Corpus,
    progress: Callable[[str], object] | None = None,
    *,
    plan: WindowPlan | None = None,
    cache: FrozenCache | None = None,
) -> StoryFeatures:
    """Features of the layer that a model reads; each (story, TR grid) is computed once while the model stays the same.

    Weights changed in place, by an optimiser or under ``torch.no_grad()``, are noticed; through ``.data`` they are not.

    Args:
        model: tuned or not; it is put in evaluation mode while computing.
        corpus: holds the audio.
        progress: called with the story's name before it is computed.
        plan: windows to use instead of the model's own.
        cache: where features are kept; None keeps all of them in memory.

    Returns:
        A function (story, TR times in s (n_trs,)) -> features (n_trs, width), whether audio reaches each TR (n_trs,).
    """
    layer = model.config.layer
    return layer_features(model, corpus, [layer], progress, plan=plan, cache=cache)[layer]


def layer_features(
    model: BrainWavLMForFMRIEncoding,
    corpus: Corpus,
    layers: Sequence[int],
    progress: Callable[[str], object] | None = None,
    *,
    plan: WindowPlan | None = None,
    cache: FrozenCache | None = None,
) -> dict[int, StoryFeatures]:
    """:func:`model_features` of several layers: when one is asked for, all are computed in one pass.

    Args:
        model, corpus, progress, plan, cache: see :func:`model_features`.
        layers: indices into ``hidden_states``.

    Raises:
        BackboneError: when features are asked for: the model has no such layer.
    """
    extractor = _Extractor(model, corpus, tuple(sorted(set(layers))), progress, plan, cache)

    def of(layer: int) -> StoryFeatures:
        return lambda story, tr_times_s: extractor(layer, story, tr_times_s)

    return {layer: of(layer) for layer in extractor.layers}


def extract(
    sources: Iterable[StoryFeatures], wanted: Sequence[tuple[str, np.ndarray]], *, rank: int = 0, world: int = 1
) -> int:
    """Compute one process's share of the features, so that a shared cache holds them for all.

    Args:
        sources: with a cache on disk; those of one model's layers are computed together.
        wanted: (story, TR times in s) of all features that will be asked for.
        rank, world: this process of how many.

    Returns:
        How many stories this process took.
    """
    mine = wanted[rank::world]
    for source in sources:
        for story, tr_times_s in mine:
            source(story, tr_times_s)
    return len(mine)


def features_identity(model: BrainWavLMForFMRIEncoding, layer: int, plan: WindowPlan | None = None) -> bytes:
    """What decides the features of a layer, but for the story and the times: weights, adapters, config and windows.

    Args:
        model: tuned or not.
        layer: index into ``hidden_states``.
        plan: windows to use instead of the model's own.

    Returns:
        A digest.
    """
    digest = hashlib.blake2b(repr((_VERSION, layer, _windows(model, plan))).encode(), digest_size=16)
    # Adapters included. From 1: what enters the first layer also depends on the projection and the positions.
    digest.update(fingerprint(model.backbone, max(layer, 1)))
    return digest.digest()


def _windows(model: BrainWavLMForFMRIEncoding, plan: WindowPlan | None) -> tuple[object, ...]:
    """Windows, the filter that brings their frames to TRs, and how audio is prepared."""
    config = model.config.judging(plan)
    heard = (config.sampling_rate_hz, config.normalise_input)
    return config.context_s, config.stride_s, config.read, config.lanczos_lobes, *heard


class _Extractor:
    """Features of some layers of one model; see :func:`layer_features`."""

    def __init__(
        self,
        model: BrainWavLMForFMRIEncoding,
        corpus: Corpus,
        layers: tuple[int, ...],
        progress: Callable[[str], object] | None,
        plan: WindowPlan | None,
        cache: FrozenCache | None,
    ) -> None:
        self.model, self.corpus, self.layers = model, corpus, layers
        self.progress, self.plan, self.cache = progress, plan, cache
        self._known: dict[tuple[int, str, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self._seals: dict[int, bytes] = {}
        self._heard: dict[str, bytes] = {}
        self._seen: object = None

    def __call__(self, layer: int, story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._forget_if_changed()
        times = np.asarray(tr_times_s, dtype=np.float64)
        if self.cache is None:
            place = (layer, story, times.tobytes())
            if place not in self._known:
                for each, found in self._compute(story, times).items():
                    self._known[each, story, times.tobytes()] = found
            return self._known[place]
        stored = self.cache.get(self._key(layer, story, times))
        if stored is None:
            computed = self._compute(story, times)
            for each, (values, seen) in computed.items():
                joined = np.concatenate([values, seen[:, None]], axis=1, dtype=np.float32)
                self.cache.put(self._key(each, story, times), torch.from_numpy(joined))
            return computed[layer]
        return stored[:, :-1].numpy(), stored[:, -1].numpy() > 0

    def _compute(self, story: str, times: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        if self.progress is not None:
            self.progress(story)
        audio = self.corpus.audio(story)
        if self.layers == (self.model.config.layer,):
            # Lower layers that are frozen may be remembered.
            return {self.layers[0]: self.model.story_features(audio, times, plan=self.plan)}
        values, seen = self.model.layer_features(audio, times, self.layers, plan=self.plan)
        return {layer: (found, seen) for layer, found in values.items()}

    def _key(self, layer: int, story: str, times: np.ndarray) -> bytes:
        if story not in self._heard:
            self._heard[story] = hashlib.blake2b(self.corpus.audio(story).tobytes(), digest_size=16).digest()
        digest = hashlib.blake2b(self._seal(layer), digest_size=16)
        digest.update(self._heard[story])
        digest.update(times.tobytes())
        return digest.digest()

    def _forget_if_changed(self) -> None:
        """Drop what the model has outgrown; told without reading the weights, which takes as long as a cached story."""
        backbone = self.model.backbone
        tensors = [
            # Tensors made for inference alone cannot be changed outside of it, and count no versions.
            (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in (*backbone.parameters(), *backbone.buffers())
        ]
        heard = [(module.active_adapters, dict(module.scaling)) for module in tuner_layers(backbone).values()]
        seen = (tensors, heard, self._settings(), torch.is_autocast_enabled(backbone.device.type))
        if seen != self._seen:
            self._seen = seen
            self._known.clear()
            self._seals.clear()

    def _settings(self) -> tuple[object, ...]:
        """What decides features besides tensors: windows, the backbone's config, whether adapters are switched off."""
        backbone = self.model.backbone
        silent = any(module.disable_adapters for module in tuner_layers(backbone).values())
        return _windows(self.model, self.plan), repr(deciding(backbone.config, max(self.layers[-1], 1))), silent

    def _seal(self, layer: int) -> bytes:
        if layer not in self._seals:
            self._seals[layer] = features_identity(self.model, layer, self.plan)
        return self._seals[layer]

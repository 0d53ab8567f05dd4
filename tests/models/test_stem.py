from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from model_builders import stock_wavlm, story, tr_times, tuned_model, waves
from transformers import WavLMModel

from brain_tuning.models.families import family_of
from brain_tuning.models.stem import StemCache, fingerprint, stem_output

CPU = torch.device("cpu")


def prepared(kind: str = "group", seed: int = 0) -> WavLMModel:
    backbone = stock_wavlm(kind, seed)
    family_of(backbone.config).prepare(backbone)
    return backbone


class Counter:
    """How many windows a backbone's convolutions have seen, and the most at once."""

    def __init__(self, backbone: WavLMModel) -> None:
        self.windows = self.at_once = 0
        backbone.feature_extractor.register_forward_hook(self.count)

    def count(self, module: object, inputs: tuple[torch.Tensor], output: object) -> None:
        self.windows += len(inputs[0])
        self.at_once = max(self.at_once, len(inputs[0]))


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_cached_is_uncached_to_the_last_bit(kind: str) -> None:
    backbone, windows = prepared(kind), waves(5, 6_000)
    plain = stem_output(backbone, windows, CPU, None, b"")
    cache, seal = StemCache(2**24), fingerprint(backbone)
    counter = Counter(backbone)
    for _ in range(2):
        assert torch.equal(stem_output(backbone, windows, CPU, cache, seal), plain)
    assert counter.windows == 5
    # Neither the order nor the company of a window matters.
    mixed = torch.cat([windows[[3, 1]], waves(2, 6_000, seed=9)])
    assert torch.equal(stem_output(backbone, mixed, CPU, cache, seal)[:2], plain[[3, 1]])
    assert counter.windows == 7
    assert counter.at_once == 1
    expected = backbone.feature_extractor(windows).transpose(1, 2)
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-5)


def test_changing_an_output_does_not_change_what_is_remembered() -> None:
    backbone, windows = prepared(), waves(1, 4_000)
    cache, seal = StemCache(2**24), fingerprint(backbone)
    first = stem_output(backbone, windows, CPU, cache, seal)
    expected = first.clone()
    first.zero_()
    assert torch.equal(stem_output(backbone, windows, CPU, cache, seal), expected)


def test_a_stem_of_other_weights_or_settings_does_not_hit() -> None:
    backbone, windows = prepared(), waves(2, 6_000)
    cache = StemCache(2**24)
    expected = stem_output(backbone, windows, CPU, cache, fingerprint(backbone))
    other = prepared(seed=1)
    own = stem_output(other, windows, CPU, None, b"")
    assert torch.equal(stem_output(other, windows, CPU, cache, fingerprint(other)), own)
    assert not torch.equal(own, expected)

    tuned = copy.deepcopy(backbone)
    torch.nn.init.ones_(tuned.encoder.layers[0].attention.q_proj.weight)
    assert fingerprint(tuned) == fingerprint(backbone)
    half = copy.deepcopy(backbone).to(torch.bfloat16)
    wider = copy.deepcopy(backbone)
    wider.config.conv_stride = [4, 2, 2, 2, 2, 2, 2]
    assert len({fingerprint(model) for model in (backbone, half, wider, other)}) == 4


def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    cache = StemCache(3 * 40)
    for key in (b"a", b"b", b"c"):
        cache.put(key, torch.zeros(10))
    assert cache.get(b"a") is not None
    cache.put(b"d", torch.zeros(10))
    assert cache.n_bytes == 120
    assert cache.get(b"b") is None
    assert all(cache.get(key) is not None for key in (b"a", b"c", b"d"))
    cache.put(b"e", torch.zeros(20))
    assert cache.n_bytes == 120
    assert [cache.get(key) is not None for key in (b"a", b"c", b"d", b"e")] == [False, False, True, True]
    cache.put(b"f", torch.zeros(31))
    assert cache.get(b"f") is None
    assert cache.n_bytes == 120
    cache.put(b"e", torch.ones(20))
    assert cache.n_bytes == 120


def test_a_cache_too_small_for_anything_changes_no_value() -> None:
    backbone, windows = prepared(), waves(3, 4_000)
    cache = StemCache(100)
    plain = stem_output(backbone, windows, CPU, None, b"")
    assert torch.equal(stem_output(backbone, windows, CPU, cache, fingerprint(backbone)), plain)
    assert cache.n_bytes == 0


def test_backward_never_reaches_the_stem(tiny_wavlm: Path) -> None:
    """Even of a stem that asks for gradients: nothing of it is in the graph."""
    model = tuned_model(tiny_wavlm).train()
    model.backbone.feature_extractor.requires_grad_(True)
    visited: list[object] = []
    for layer in model.backbone.feature_extractor.conv_layers:
        layer.register_full_backward_hook(lambda module, *_: visited.append(module))
    block = model.plan(story(6.0), tr_times(4))
    labels = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    model(**block, labels=labels).loss.backward()
    assert all(parameter.grad is None for parameter in model.backbone.feature_extractor.parameters())
    assert not visited
    assert model.head.readout.weight.grad.abs().max() > 0
    stem = stem_output(model.backbone, block["input_values"][0], CPU, None, b"")
    assert not stem.requires_grad


def test_a_model_with_a_cache_predicts_and_trains_the_same(tiny_wavlm: Path) -> None:
    plain, cached = tuned_model(tiny_wavlm), tuned_model(tiny_wavlm)
    cached.stem_cache = StemCache(2**24)
    counter = Counter(cached.backbone)
    audio = story(6.0)
    labels = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        for model in (plain, cached):
            model.zero_grad()
            model(**model.plan(audio, tr_times(4)), labels=labels).loss.backward()
        for (key, one), other in zip(plain.named_parameters(), cached.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None), key
            assert one.grad is None or torch.equal(one.grad, other.grad), key
    assert counter.windows == 12

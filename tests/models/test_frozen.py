"""The frozen part of a backbone: the same to the last bit whether remembered or not, at any depth."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from model_builders import LORA, stock_wavlm, story, tr_times, tuned_model, waves
from transformers import WavLMModel

from brain_tuning.models import BrainWavLMForFMRIEncoding, encoders
from brain_tuning.models.adapters import tuner_layers
from brain_tuning.models.convolutions import convolve
from brain_tuning.models.families import family_of
from brain_tuning.models.frozen import fingerprint, frozen_output
from brain_tuning.models.frozen_cache import FrozenCache

CPU = torch.device("cpu")


def prepared(kind: str = "group", seed: int = 0) -> WavLMModel:
    backbone = stock_wavlm(kind, seed)
    family_of(backbone.config).prepare(backbone)
    return backbone


class Counter:
    """How many windows a backbone's convolutions have seen, and the most at once."""

    def __init__(self, backbone: WavLMModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows = self.at_once = 0
        self.extractor = backbone.feature_extractor
        monkeypatch.setattr(encoders, "convolve", self.convolve)

    def convolve(self, extractor: object, windows: torch.Tensor) -> torch.Tensor:
        if extractor is self.extractor:
            self.windows += len(windows)
            self.at_once = max(self.at_once, len(windows))
        return convolve(extractor, windows)


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_cached_is_uncached_to_the_last_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, windows = prepared(kind), waves(5, 6_000)
    plain = frozen_output(backbone, windows, 0, CPU, None, b"")
    cache, seal = FrozenCache(2**24), fingerprint(backbone, 0)
    counter = Counter(backbone, monkeypatch)
    for _ in range(2):
        assert torch.equal(frozen_output(backbone, windows, 0, CPU, cache, seal), plain)
    assert counter.windows == 5
    # Neither the order nor the company of a window matters.
    mixed = torch.cat([windows[[3, 1]], waves(2, 6_000, seed=9)])
    assert torch.equal(frozen_output(backbone, mixed, 0, CPU, cache, seal)[:2], plain[[3, 1]])
    assert counter.windows == 7
    assert counter.at_once == 1
    expected = backbone.feature_extractor(windows).transpose(1, 2)
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-5)


def test_changing_an_output_does_not_change_what_is_remembered() -> None:
    backbone, windows = prepared(), waves(1, 4_000)
    cache, seal = FrozenCache(2**24), fingerprint(backbone, 0)
    first = frozen_output(backbone, windows, 0, CPU, cache, seal)
    expected = first.clone()
    first.zero_()
    assert torch.equal(frozen_output(backbone, windows, 0, CPU, cache, seal), expected)


def test_a_stem_of_other_weights_or_settings_does_not_hit() -> None:
    backbone, windows = prepared(), waves(2, 6_000)
    cache = FrozenCache(2**24)
    expected = frozen_output(backbone, windows, 0, CPU, cache, fingerprint(backbone, 0))
    other = prepared(seed=1)
    own = frozen_output(other, windows, 0, CPU, None, b"")
    assert torch.equal(frozen_output(other, windows, 0, CPU, cache, fingerprint(other, 0)), own)
    assert not torch.equal(own, expected)

    tuned = copy.deepcopy(backbone)
    torch.nn.init.ones_(tuned.encoder.layers[0].attention.q_proj.weight)
    assert fingerprint(tuned, 0) == fingerprint(backbone, 0)
    half = copy.deepcopy(backbone).to(torch.bfloat16)
    wider = copy.deepcopy(backbone)
    wider.config.conv_stride = [4, 2, 2, 2, 2, 2, 2]
    assert len({fingerprint(model, 0) for model in (backbone, half, wider, other)}) == 4


def test_a_cache_too_small_for_anything_changes_no_value() -> None:
    backbone, windows = prepared(), waves(3, 4_000)
    cache = FrozenCache(100)
    plain = frozen_output(backbone, windows, 0, CPU, None, b"")
    assert torch.equal(frozen_output(backbone, windows, 0, CPU, cache, fingerprint(backbone, 0)), plain)
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
    stem = frozen_output(model.backbone, block["input_values"][0], 0, CPU, None, b"")
    assert not stem.requires_grad


def test_a_model_with_a_cache_predicts_and_trains_the_same(tiny_wavlm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, cached = tuned_model(tiny_wavlm), tuned_model(tiny_wavlm)
    cached.frozen_cache = FrozenCache(2**24)
    counter = Counter(cached.backbone, monkeypatch)
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


# Layers that are frozen with the stem


def labels() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def computed_layers(backbone: WavLMModel) -> list[int]:
    """Layers that are entered from now on, one after the other."""
    entered: list[int] = []
    for index, layer in enumerate(backbone.encoder.layers):
        layer.register_forward_hook(lambda *_, index=index: entered.append(index))
    return entered


@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_the_frozen_output_at_a_depth_is_that_hidden_state(depth: int) -> None:
    backbone, windows = prepared(), waves(2, 6_000)
    expected = stock_wavlm("group")(windows, output_hidden_states=True).hidden_states[depth]
    cache, seal = FrozenCache(2**24), fingerprint(backbone, depth)
    entered = computed_layers(backbone)
    plain = frozen_output(backbone, windows, depth, CPU, None, b"")
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-5)
    for _ in range(2):
        assert torch.equal(frozen_output(backbone, windows, depth, CPU, cache, seal), plain)
    assert entered == [*range(depth), *range(depth)]


def test_the_seal_of_a_depth_knows_what_lies_below_it_and_nothing_above() -> None:
    backbone = prepared()
    seals = {depth: fingerprint(backbone, depth) for depth in range(4)}
    assert len(set(seals.values())) == 4
    changes = {
        "encoder.layers.2.attention.q_proj.weight": {3},
        "encoder.layers.1.feed_forward.output_dense.bias": {2, 3},
        "encoder.layers.0.attention.rel_attn_embed.weight": {1, 2, 3},
        "feature_projection.projection.weight": {1, 2, 3},
        "feature_extractor.conv_layers.3.conv.weight": {0, 1, 2, 3},
    }
    for key, concerned in changes.items():
        other = copy.deepcopy(backbone)
        with torch.no_grad():
            other.get_parameter(key).add_(0.1)
        assert {depth for depth in seals if fingerprint(other, depth) != seals[depth]} == concerned, key
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {depth for depth in seals if fingerprint(backbone, depth) != seals[depth]} == {1, 2, 3}


@pytest.mark.parametrize(
    ("key", "value"), [("max_bucket_distance", 20), ("num_attention_heads", 1), ("do_stable_layer_norm", True)]
)
def test_the_seal_of_a_depth_knows_what_fits_the_same_tensors(key: str, value: object) -> None:
    """The same weights, attended to otherwise, give another hidden state; the convolutions do not mind."""
    backbone, other = prepared(), prepared()
    assert getattr(other.config, key) != value
    setattr(other.config, key, value)
    assert fingerprint(other, 0) == fingerprint(backbone, 0)
    assert fingerprint(other, 2) != fingerprint(backbone, 2)
    other.config = copy.deepcopy(backbone.config)
    other.config._name_or_path = "elsewhere"
    assert fingerprint(other, 2) == fingerprint(backbone, 2)


def test_the_seal_of_a_depth_knows_whether_adapters_are_heard(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm, layer=3)
    heard, stem = fingerprint(model.backbone, 3), fingerprint(model.backbone, 0)
    for module in tuner_layers(model.backbone).values():
        module.enable_adapters(False)
    assert fingerprint(model.backbone, 3) != heard
    assert fingerprint(model.backbone, 0) == stem


def test_the_untuned_model_and_every_adapter_share_what_lies_below_them(tiny_wavlm: Path) -> None:
    settings = {"first_adapted_layer": 2, "layer": 3}
    untuned = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), **settings)
    model = tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac"), **settings)
    for depth in (0, 1, 2):
        expected = fingerprint(untuned.backbone, depth)
        for name in ("s1-ac", "s2-ac"):
            model.set_adapter(name)
            assert fingerprint(model.backbone, depth) == expected
    first = fingerprint(model.backbone, 3)
    model.set_adapter("s1-ac")
    assert fingerprint(model.backbone, 3) != first


def test_a_layer_whose_number_begins_alike_is_another_layer() -> None:
    """Depth 1 of 12 layers: layers 10 and 11 lie above it, as layer 1 does."""
    from transformers import WavLMConfig

    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=12, num_attention_heads=2, intermediate_size=16, conv_dim=[4] * 7,
        num_conv_pos_embedding_groups=4, num_conv_pos_embeddings=4,
    )  # fmt: skip
    backbone = WavLMModel(config)
    seal, at_two = fingerprint(backbone, 1), fingerprint(backbone, 2)
    for index in (1, 10, 11):
        torch.nn.init.ones_(backbone.encoder.layers[index].attention.q_proj.weight)
        assert fingerprint(backbone, 1) == seal
        assert fingerprint(backbone, 2) != at_two


def test_layers_below_the_first_adapted_one_are_computed_once_and_without_gradients(
    tiny_wavlm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"first_adapted_layer": 2}
    plain, cached = tuned_model(tiny_wavlm, **settings).train(), tuned_model(tiny_wavlm, **settings).train()
    assert {key.split(".")[3] for key, p in plain.named_parameters() if ".lora_" in key} == {"2"}
    cached.frozen_cache = FrozenCache(2**24)
    entered, counter = computed_layers(cached.backbone), Counter(cached.backbone, monkeypatch)
    n_groups = len(plain.plan(story(6.0), tr_times(4))["input_values"])
    for _ in range(2):
        for model in (plain, cached):
            model.zero_grad()
            model(**model.plan(story(6.0), tr_times(4)), labels=labels()).loss.backward()
        for (key, one), other in zip(plain.named_parameters(), cached.named_parameters(), strict=True):
            assert (one.grad is None) == (other[1].grad is None), key
            assert one.grad is None or torch.equal(one.grad, other[1].grad), key
    moved = {key for key, p in cached.named_parameters() if p.grad is not None}
    assert moved == {key for key, _ in cached.named_parameters() if ".s1-ac." in key}
    assert counter.windows == 12
    assert [entered.count(index) for index in range(4)] == [n_groups, n_groups, 2 * n_groups, 0]


def test_a_model_that_adapts_upper_layers_only_hears_the_same(tiny_wavlm: Path) -> None:
    every, upper = tuned_model(tiny_wavlm), tuned_model(tiny_wavlm, first_adapted_layer=2)
    for model in (every, upper):
        model.delete_adapter("s1-ac")
    windows = waves(2, 6_000)
    with torch.no_grad():
        torch.testing.assert_close(upper.hidden_state(windows), every.hidden_state(windows), rtol=1e-5, atol=1e-5)


def test_precisions_do_not_share_what_is_remembered(tiny_wavlm: Path) -> None:
    """A frozen layer under autocast gives other numbers: those of float32 may not stand in for them."""
    windows = waves(2, 6_000)
    cache = FrozenCache(2**24)

    def heard(cache: FrozenCache | None, half: bool) -> torch.Tensor:
        model = tuned_model(tiny_wavlm, first_adapted_layer=2)
        model.frozen_cache = cache
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            return model.hidden_state(windows).float()

    full, half = heard(None, False), heard(None, True)
    assert not torch.equal(full, half)
    for _ in range(2):
        assert torch.equal(heard(cache, False), full)
        assert torch.equal(heard(cache, True), half)
    assert cache.n_bytes > 0


def test_one_model_remembers_under_autocast_and_without(tiny_wavlm: Path) -> None:
    """Tuning under bfloat16 and validating in float32 take turns on the same model."""
    model, plain = tuned_model(tiny_wavlm, first_adapted_layer=1), tuned_model(tiny_wavlm, first_adapted_layer=1)
    model.frozen_cache = FrozenCache(2**24)
    for half in (True, False, True, False):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            assert torch.equal(model.hidden_state(waves(2, 6_000)), plain.hidden_state(waves(2, 6_000)))


# The head alone


def test_with_head_only_the_backbone_gets_no_gradient_and_is_computed_once(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm).train()
    expected = model(**model.plan(story(6.0), tr_times(4)), labels=labels())
    model.head_only, model.frozen_cache = True, FrozenCache(2**24)
    entered = computed_layers(model.backbone)
    model.zero_grad()
    for turn in range(2):
        out = model(**model.plan(story(6.0), tr_times(4)), labels=labels())
        torch.testing.assert_close(out.features, expected.features, rtol=1e-5, atol=1e-5)
        out.loss.backward()
        if turn == 0:
            n_entered = len(entered)
    assert n_entered > 0
    assert len(entered) == n_entered
    moved = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {key for key, _ in model.named_parameters() if key.startswith("heads.s1-ac.")}
    # Afterwards the adapter is tuned again.
    model.head_only = False
    model.zero_grad()
    model(**model.plan(story(6.0), tr_times(4)), labels=labels()).loss.backward()
    assert {key for key, p in model.named_parameters() if p.grad is not None} == {
        key for key, _ in model.named_parameters() if ".s1-ac." in key
    }


def test_with_head_only_each_adapter_is_remembered_by_itself(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac"))
    model.set_adapter("s1-ac")
    expected = {}
    for name in ("s1-ac", "s2-ac"):
        model.set_adapter(name)
        expected[name] = model.story_features(story(6.0), tr_times(4))[0]
    model.head_only, model.frozen_cache = True, FrozenCache(2**24)
    for name in ("s1-ac", "s2-ac", "s1-ac"):
        model.set_adapter(name)
        found = model.story_features(story(6.0), tr_times(4))[0]
        torch.testing.assert_close(found, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache", [None, FrozenCache(2**24)], ids=["plain", "cached"])
def test_with_head_only_nothing_is_dropped_and_no_random_number_is_drawn(
    tiny_wavlm: Path, cache: FrozenCache | None
) -> None:
    """Else what is remembered would hold one mask for ever, and a resumed run would draw others."""
    model = tuned_model(tiny_wavlm, lora={**LORA, "lora_dropout": 0.5})
    block = model.plan(story(6.0), tr_times(4))
    model.head_only, model.frozen_cache = True, cache
    with torch.no_grad():
        expected = model(**block).features
        model.train()
        before = torch.get_rng_state()
        for _ in range(2):
            assert torch.equal(model(**block).features, expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())


def test_a_backbone_with_dropout_remembers_no_more_than_its_stem(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm, backbone_dropout=True, first_adapted_layer=2).train()
    model.frozen_cache = FrozenCache(2**24)
    windows = waves(2, 6_000)
    with torch.no_grad():
        assert not torch.equal(model.hidden_state(windows), model.hidden_state(windows))
        model.eval()
        expected = model.hidden_state(windows)
        plain = tuned_model(tiny_wavlm, backbone_dropout=True, first_adapted_layer=2)
        torch.testing.assert_close(expected, plain.hidden_state(windows), rtol=0, atol=0)
        assert torch.equal(model.hidden_state(windows), expected)

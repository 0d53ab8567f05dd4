"""Several adapters on one base: switching, loading more, mixing them in a batch, averaging."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from model_builders import shake, story, tr_times, tuned_model, waves

from brain_tuning.errors import AdapterError
from brain_tuning.models import BrainWavLMForFMRIEncoding, adapters
from brain_tuning.models.backbones import load_backbone
from brain_tuning.models.families import hidden_state
from brain_tuning.models.published import plain_model


@pytest.fixture
def model(tuned: BrainWavLMForFMRIEncoding) -> BrainWavLMForFMRIEncoding:
    """Two adapters, ``s1-ac`` (5 voxels, active) and ``s2-ac`` (6), with weights of their own."""
    made = copy.deepcopy(tuned)
    made.set_adapter("s2-ac")
    shake(made, seed=5)
    for key, parameter in made.named_parameters():
        if ".lora_B.s1-ac." in key:
            with torch.no_grad():
                parameter.mul_(-0.5)
    made.set_adapter("s1-ac")
    return made.eval()


@pytest.fixture
def published(model: BrainWavLMForFMRIEncoding, tmp_path: Path) -> Path:
    return model.save_published(tmp_path / "hub")


@torch.no_grad()
def test_each_window_of_a_batch_may_have_its_own_adapter(model: BrainWavLMForFMRIEncoding) -> None:
    windows = waves(4, 8_000)
    expected = {}
    for name in ("s1-ac", "s2-ac"):
        model.set_adapter(name)
        expected[name] = model.hidden_state(windows)
    expected["__base__"] = hidden_state(
        load_backbone(str(model.config.base_model_name_or_path)).eval(), windows, model.config.layer
    )
    names = ["s2-ac", "__base__", "s1-ac", "s2-ac"]
    found = model.hidden_state(windows, adapter_names=names)
    for k, name in enumerate(names):
        torch.testing.assert_close(found[k], expected[name][k], rtol=1e-5, atol=1e-6)
        for other in set(expected) - {name}:
            assert (found[k] - expected[other][k]).abs().max() > 1e-2
    # Nothing of it stays behind.
    assert torch.equal(model.hidden_state(windows), expected["s2-ac"])


@torch.no_grad()
def test_a_compiled_model_hears_the_named_adapters_too(model: BrainWavLMForFMRIEncoding) -> None:
    """torch.compile does not look again for hooks: the names would be passed over, and the active adapter heard."""
    windows, names = waves(3, 8_000), ["s2-ac", "__base__", "s1-ac"]
    expected = model.hidden_state(windows, adapter_names=names)
    model.compile_layers(backend="eager")
    active = model.hidden_state(windows)
    assert (active - expected)[:2].abs().amax((1, 2)).min() > 1e-2
    torch.testing.assert_close(model.hidden_state(windows, adapter_names=names), expected)
    torch.testing.assert_close(model.hidden_state(windows), active)


def test_windows_with_adapters_of_their_own_train_the_same_with_checkpointing(
    model: BrainWavLMForFMRIEncoding,
) -> None:
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.checkpoint_activations()
        model.train().zero_grad()
        model.hidden_state(waves(2, 8_000), adapter_names=["s1-ac", "s2-ac"]).square().sum().backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == model.config.layer * 6 * 2
    for key, value in gradients[0].items():
        assert torch.equal(gradients[1][key], value), key
    layers = model.backbone.encoder.layers
    assert all(block.gradient_checkpointing for block in layers)


def test_naming_the_wrong_adapters_is_an_error(model: BrainWavLMForFMRIEncoding) -> None:
    with pytest.raises(
        AdapterError, match=r"2 adapters are named for 2 windows, of which 's3' is unknown.*s1-ac, s2-ac"
    ):
        model.hidden_state(waves(2, 4_000), adapter_names=["s1-ac", "s3"])
    with pytest.raises(AdapterError, match="1 adapters are named for 2 windows"):
        model.hidden_state(waves(2, 4_000), adapter_names=["s1-ac"])


def test_an_adapter_is_added_without_reading_the_base_again(
    model: BrainWavLMForFMRIEncoding, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {}
    for name in ("s1-ac", "s2-ac"):
        model.set_adapter(name)
        expected[name] = model.predict(story(6.0), tr_times(4))
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(published, adapter="s1-ac")
    assert list(loaded.heads) == ["s1-ac"]
    monkeypatch.setattr("brain_tuning.models.published.load_backbone", lambda *_: pytest.fail("the base was read"))
    assert loaded.load_adapter(published, "s2-ac") == "s2-ac"
    assert (loaded.predict(story(6.0), tr_times(4)) == expected["s2-ac"]).all()
    loaded.set_adapter("s1-ac")
    assert (loaded.predict(story(6.0), tr_times(4)) == expected["s1-ac"]).all()


def test_an_adapter_takes_the_place_of_another(model: BrainWavLMForFMRIEncoding, published: Path) -> None:
    model.set_adapter("s2-ac")
    expected = model.predict(story(6.0), tr_times(4))
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(published, adapter="s1-ac")
    before = dict(loaded.backbone.named_modules())
    assert loaded.load_adapter(published, "s2-ac", slot="s1-ac") == "s1-ac"
    assert (loaded.predict(story(6.0), tr_times(4)) == expected).all()
    assert loaded.config.adapters["s1-ac"]["subject"] == "s2"
    assert dict(loaded.backbone.named_modules()) == before


def test_what_does_not_fit_leaves_the_model_as_it_was(
    model: BrainWavLMForFMRIEncoding, published: Path, tiny_wavlm: Path
) -> None:
    other = tuned_model(tiny_wavlm, layer=2)
    expected = other.predict(story(6.0), tr_times(4))
    for problem, slot in ((r"tuned with layer 3.*expected 2, as the model has", None), ("layer 3", "s1-ac")):
        with pytest.raises(AdapterError, match=problem):
            other.load_adapter(published, "s2-ac", slot=slot)
    (published / "adapters" / "s2-ac" / "head.safetensors").write_bytes(
        (published / "adapters" / "s1-ac" / "head.safetensors").read_bytes()
    )
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(published, adapter="s1-ac")
    before = loaded.predict(story(6.0), tr_times(4))
    for slot in (None, "s1-ac"):
        with pytest.raises(AdapterError, match="has shape"):
            loaded.load_adapter(published, "s2-ac", slot=slot)
        assert list(loaded.heads) == ["s1-ac"]
        assert loaded.config.default_adapter == "s1-ac"
        assert (loaded.predict(story(6.0), tr_times(4)) == before).all()
    assert (other.predict(story(6.0), tr_times(4)) == expected).all()
    with pytest.raises(AdapterError, match="there is no adapter 'nobody'"):
        loaded.load_adapter(published, "nobody")
    with pytest.raises(AdapterError, match="there is no adapter 'nowhere'"):
        loaded.load_adapter(published, "s2-ac", slot="nowhere")


@torch.no_grad()
def test_the_mean_of_two_subjects_is_the_mean_of_their_weights(model: BrainWavLMForFMRIEncoding) -> None:
    base = load_backbone(str(model.config.base_model_name_or_path)).state_dict()
    one, two = (adapters.merged_state_dict(model.backbone, name) for name in ("s1-ac", "s2-ac"))
    mean = plain_model(model, {"s1-ac": 0.5, "s2-ac": 0.5}).state_dict()
    moved = 0
    for key, value in mean.items():
        torch.testing.assert_close(value, (one[key] + two[key]) / 2, rtol=1e-5, atol=1e-6)
        moved += int((value - base[key]).abs().max() > 1e-3)
    assert moved == model.config.layer * 6
    with pytest.raises(AdapterError, match="there is no adapter 's9'"):
        plain_model(model, {"s9": 1.0})

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import BUNDLED_NAME, LORA, TR_S, labels, shake, story, tr_times, tuned_model
from transformers import AutoModel, WavLMModel

from brain_tuning.errors import AdapterError, AudioError, BackboneError, TimingError
from brain_tuning.models import BrainWavLMForFMRIEncoding
from brain_tuning.models.backbones import bundled_revision
from brain_tuning.models.losses import spatial_correlation_loss
from brain_tuning.timing import lanczos_matrix


def test_the_bundled_backbone_is_the_start_of_a_model() -> None:
    model = BrainWavLMForFMRIEncoding.from_backbone(BUNDLED_NAME, layer=4, read="all")
    assert model.config.base_model_name_or_path == BUNDLED_NAME
    assert model.config.base_model_revision == bundled_revision(BUNDLED_NAME)
    features, seen = model.story_features(story(6.0), tr_times(4))
    assert features.shape == (4, 128)
    assert seen.all()
    with pytest.raises(AdapterError, match="the model has no adapter yet; remedy: call add_adapter"):
        model.predict(story(6.0), tr_times(4))


def test_features_are_those_of_transformers_windowed_and_resampled(tiny_wavlm: Path) -> None:
    """The whole way again from its parts: stock hidden states, last frame, Lanczos from the windows' ends."""
    model = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), layer=2, context_s=1.0, stride_s=0.25)
    audio, times = story(6.0), tr_times(4)
    found, _ = model.story_features(audio, times, windows_per_batch=5)
    stock = WavLMModel.from_pretrained(tiny_wavlm).eval()
    ends = np.arange(1, 25) * 4_000
    with torch.no_grad():
        rows = [
            stock(torch.from_numpy(audio[None, max(0, end - 20_000) : end]), output_hidden_states=True).hidden_states[2]
            for end in ends
        ]
    frames = np.stack([row[0, -1].numpy() for row in rows])
    expected = lanczos_matrix(ends / 16_000, times, lobes=3, cutoff_hz=1 / TR_S) @ frames
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("read", ["all", "first", "mean", "last"])
def test_reads_take_the_frames_they_name(tiny_wavlm: Path, read: str) -> None:
    settings = {"layer": 2, "context_s": 1.0, "stride_s": 0.5}
    every = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), **settings, read="all")
    other = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), **settings, read=read)
    windows = [torch.from_numpy(story(1.5))[None]]
    with torch.no_grad():
        kept = every.frames(windows, [50])
        found = other.frames(windows, [50])
    expected = {"all": kept, "first": kept[:1], "last": kept[-1:], "mean": kept.mean(0, keepdim=True)}[read]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_training_mode_is_deterministic_whatever_the_backbones_config_says(tiny_wavlm: Path) -> None:
    """user-pains 6: the config of this backbone asks for dropout, LayerDrop 0.5 and SpecAugment 0.5."""
    model = tuned_model(tiny_wavlm).train()
    block = model.plan(story(6.0), tr_times(4))
    with torch.no_grad():
        first, second = (model(**block).prediction for _ in range(2))
        assert torch.equal(first, second)
        dropping = tuned_model(tiny_wavlm, backbone_dropout=True).train()
        first, second = (dropping(**block).features for _ in range(2))
        assert not torch.equal(first, second)
        assert torch.equal(*(dropping.eval()(**block).features for _ in range(2)))


def test_only_the_active_adapter_and_its_head_are_trained(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac")).train()
    for name, n_voxels in (("s2-ac", 6), ("s1-ac", 5)):
        model.set_adapter(name)
        model.zero_grad()
        model(**model.plan(story(6.0), tr_times(4)), labels=labels(4, n_voxels)).loss.backward()
        moved = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
        wanted = {key for key, _ in model.named_parameters() if f".{name}." in key}
        assert moved == wanted
        assert len(moved) == 6 * 3 * 2 + 4


def test_full_fine_tuning_reaches_the_computed_layers_only(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm, lora=None, layer=2).train()
    model(**model.plan(story(6.0), tr_times(4)), labels=labels(4, 5)).loss.backward()
    moved = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    layers = {key for key, _ in model.named_parameters() if ".encoder.layers.0." in key or ".encoder.layers.1." in key}
    assert moved == layers | {key for key, _ in model.named_parameters() if key.startswith("heads.")}


def test_gradient_checkpointing_changes_no_gradient(tiny_wavlm: Path) -> None:
    """user-pains 24."""
    plain, saving = tuned_model(tiny_wavlm).train(), tuned_model(tiny_wavlm).train()
    saving.checkpoint_activations()
    entered: list[int] = []
    saving.backbone.encoder.layers[0].attention.register_forward_hook(lambda *_: entered.append(1))
    for model in (plain, saving):
        model(**model.plan(story(6.0), tr_times(4)), labels=labels(4, 5)).loss.backward()
    assert len(entered) == 2 * len(plain.plan(story(6.0), tr_times(4))["input_values"])
    for (key, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-6)


def test_the_loss_sees_the_prediction_in_float32_under_bfloat16(tiny_wavlm: Path) -> None:
    """user-pains 23."""
    model = tuned_model(tiny_wavlm).train()
    block, measured = model.plan(story(6.0), tr_times(4)), labels(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(**block, labels=measured)
    assert out.loss.dtype == out.features.dtype == torch.float32
    torch.testing.assert_close(out.loss, spatial_correlation_loss(out.prediction, measured), rtol=0, atol=0)
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_features_of_a_story_under_a_callers_autocast(tiny_wavlm: Path) -> None:
    """What brings frames to TRs stays in float32; only the backbone rounds."""
    model = tuned_model(tiny_wavlm)
    audio, times = story(18.0), tr_times(8)
    plain, _ = model.story_features(audio, times)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = model.story_features(audio, times)
        layers, _ = model.layer_features(audio, times, [model.config.layer])
    assert rounded.dtype == layers[model.config.layer].dtype == np.float32
    for found in (rounded, layers[model.config.layer]):
        assert 0 < np.linalg.norm(found - plain) <= 0.05 * np.linalg.norm(plain)


@pytest.mark.parametrize("times", [[1.0, 3.0, 5.0, 1.0, 3.0], [5.0, 3.0, 1.0], [1.0, 3.0, float("nan")]])
def test_trs_of_two_runs_are_not_one_run(tiny_wavlm: Path, times: list[float]) -> None:
    with pytest.raises(TimingError, match="the TRs are not evenly spaced"):
        tuned_model(tiny_wavlm).story_features(story(18.0), np.array(times))


def test_a_part_of_a_story_is_predicted_as_in_the_whole(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm)
    audio, times = story(18.0), tr_times(12)
    whole = model.predict(audio, times)
    part = model.predict(audio, times[6:9])
    np.testing.assert_allclose(part, whole[6:9], rtol=1e-5, atol=1e-5)
    # The lead-in TRs before the story are not seen: they count as zeros, as the delays' start does.
    np.testing.assert_allclose(model.predict(audio, times, n_lead_trs=0), whole, rtol=1e-5, atol=1e-5)
    without = model.predict(audio, times[6:9], n_lead_trs=0)
    assert np.abs(without - whole[6:9]).max() > 1e-3
    np.testing.assert_allclose(model.predict(audio, times, windows_per_batch=1), whole, rtol=1e-5, atol=1e-5)


def test_trs_that_audio_does_not_reach_are_known(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm)
    _, seen = model.story_features(story(6.0), (np.arange(10) - 3 + 0.5) * TR_S)
    assert seen.tolist() == [False] * 3 + [True] * 4 + [False] * 3


def test_audio_alone_is_predicted_at_the_tr_of_the_config(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm)
    audio = story(7.0)
    with torch.no_grad():
        out = model(torch.from_numpy(audio)[None], return_dict=False)
    np.testing.assert_allclose(out[0], model.predict(audio, tr_times(4)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(audio.astype(np.float64), tr_times(4)), out[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(TimingError, match=r"a batch of recordings has no common time axis \[input_values\]"):
        model(torch.zeros(2, 16_000))


def test_predicting_leaves_the_mode_as_it_was_even_when_it_fails(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm).train()
    model.predict(story(6.0), tr_times(4))
    assert model.training
    with pytest.raises(TimingError, match=r"no audio lies near the TRs asked for \[TRs 100.0 to 101.5 s, audio 0 to 6"):
        model.predict(story(6.0), np.array([100.0, 101.5]), n_lead_trs=0)
    with pytest.raises(RuntimeError, match="split_size"):
        model.predict(story(6.0), tr_times(4), windows_per_batch=-1)
    assert model.training


@pytest.mark.parametrize(
    ("audio", "text"),
    [
        (np.zeros(96_000, dtype=np.int16), "the audio is an array of int16, shape (96000,); expected (n_samples,) of"),
        (np.zeros((96_000, 2), dtype=np.float32), "the audio is an array of float32, shape (96000, 2)"),
    ],
)
def test_audio_of_another_form_is_refused(tiny_wavlm: Path, audio: np.ndarray, text: str) -> None:
    with pytest.raises(AudioError) as caught:
        tuned_model(tiny_wavlm).predict(audio, tr_times(4))
    assert text in str(caught.value)


def test_a_single_tr_and_an_unknown_loss_are_refused(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm)
    with pytest.raises(TimingError, match="1 TRs were asked for"):
        model.predict(story(6.0), tr_times(1))
    with pytest.raises(TimingError, match="0 TRs were asked for"):
        model(torch.zeros(8_000))
    with pytest.raises(AdapterError, match="unknown loss 'l1'; expected one of spatial_correlation, mse"):
        model(torch.from_numpy(story(6.0)), labels=labels(4, 5), loss="l1")


# One window a TR


# Adapters


def test_switching_adapters_switches_predictions_and_heads(tiny_wavlm: Path) -> None:
    model = tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac"))
    audio = story(6.0)
    first = model.predict(audio, tr_times(4))
    features, _ = model.story_features(audio, tr_times(4))
    model.set_adapter("s2-ac")
    assert model.head.voxels.tolist() == [1, 4, 7, 10, 13, 16]
    assert model.predict(audio, tr_times(4)).shape == (4, 6)
    assert np.abs(model.story_features(audio, tr_times(4))[0] - features).max() > 1e-3
    model.set_adapter("s1-ac")
    assert np.array_equal(model.predict(audio, tr_times(4)), first)
    with pytest.raises(AdapterError, match=r"there is no adapter 's3-ac'; expected one of s1-ac, s2-ac"):
        model.set_adapter("s3-ac")


def test_a_new_adapter_changes_nothing_yet(tiny_wavlm: Path) -> None:
    model = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), layer=3)
    untuned, _ = model.story_features(story(6.0), tr_times(4))
    model.add_adapter("s1-ac", 5, lora=LORA, subject="s1", roi="ac")
    np.testing.assert_array_equal(model.story_features(story(6.0), tr_times(4))[0], untuned)
    assert model.config.adapters == {"s1-ac": {"n_voxels": 5, "subject": "s1", "roi": "ac"}}
    shake(model)
    assert np.abs(model.story_features(story(6.0), tr_times(4))[0] - untuned).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        ("s1-ac", {}, "the adapter name 's1-ac' is taken; expected a new name of letters, digits"),
        ("../s2", {}, "the adapter name '../s2' is not usable"),
        ("", {}, "the adapter name '' is not usable"),
        ("s1.ac", {}, "the adapter name 's1.ac' is not usable"),
        ("type", {}, "the adapter name 'type' is not usable"),
        ("s2", {"lora": {**LORA, "r": 3}}, "adapters of one model share their LoRA settings [s2]; expected {'r': 2"),
        ("s2", {"voxels": np.array([7])}, "voxels has shape (1,) [s2]; expected (6,)"),
        ("s2", {"n_voxels": 0}, "the voxels to predict are int64 of shape (0,) [s2]; expected at least one column"),
        ("s2", {"n_voxels": -1}, "the voxels to predict are int64 of shape (0,) [s2]"),
        ("s2", {"voxels": np.arange(6) + 0.5}, "the voxels to predict are float64 of shape (6,), from 0.5 to 5.5 [s2]"),
        ("s2", {"voxels": np.arange(6) - 1}, "the voxels to predict are int64 of shape (6,), from -1 to 4 [s2]"),
    ],
)
def test_adapters_that_cannot_be_added(tiny_wavlm: Path, name: str, more: dict, text: str) -> None:
    model = tuned_model(tiny_wavlm)
    with pytest.raises(AdapterError) as caught:
        model.add_adapter(name, **{"n_voxels": 6, **more})
    assert text in str(caught.value)
    assert list(model.config.adapters) == list(model.heads) == ["s1-ac"]
    model.add_adapter("s2-ac", 6, lora={**LORA, "target_modules": tuple(LORA["target_modules"])})


@pytest.mark.parametrize("mode", [True, False])
def test_a_new_adapter_is_in_the_mode_that_the_model_is_in(tiny_wavlm: Path, mode: bool) -> None:
    model = tuned_model(tiny_wavlm, lora={**LORA, "lora_dropout": 0.5}).train(mode)
    model.add_adapter("s2-ac", 6)
    assert {module.training for module in model.modules()} == {mode}


def test_a_refused_lora_leaves_the_model_as_it_was(tiny_wavlm: Path) -> None:
    model = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), layer=3)
    with pytest.raises(AdapterError, match="LoRA cannot go to 'projection'"):
        model.add_adapter("s1-ac", 5, lora={**LORA, "target_modules": ["projection"]})
    assert not model.config.adapters
    model.add_adapter("s1-ac", 5, lora=LORA)


# Saving and loading whole


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_a_saved_model_comes_back_to_the_last_bit(tiny_wavlm: Path, tmp_path: Path, lora: dict | None) -> None:
    """user-pains 7, 25: every tensor, heads and the positional convolution included."""
    model = tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac"), lora=lora)
    model.save_pretrained(tmp_path)
    audio = story(6.0)
    expected = model.predict(audio, tr_times(4))
    for loaded in (
        BrainWavLMForFMRIEncoding.from_pretrained(tmp_path),
        AutoModel.from_pretrained(tmp_path),
        BrainWavLMForFMRIEncoding.from_pretrained(tmp_path, adapter="all"),
    ):
        assert type(loaded) is BrainWavLMForFMRIEncoding
        assert np.array_equal(loaded.predict(audio, tr_times(4)), expected)
        state = loaded.state_dict()
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
        assert loaded.head.voxels.tolist() == [0, 3, 6, 9, 12]
    other = BrainWavLMForFMRIEncoding.from_pretrained(tmp_path, adapter="s2-ac")
    model.set_adapter("s2-ac")
    assert np.array_equal(other.predict(audio, tr_times(4)), model.predict(audio, tr_times(4)))
    loaded, report = BrainWavLMForFMRIEncoding.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]


def test_a_loaded_model_can_be_tuned_on(tiny_wavlm: Path, tmp_path: Path) -> None:
    tuned_model(tiny_wavlm).save_pretrained(tmp_path)
    model = BrainWavLMForFMRIEncoding.from_pretrained(tmp_path).train()
    model(**model.plan(story(6.0), tr_times(4)), labels=labels(4, 5)).loss.backward()
    moved = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {key for key, _ in model.named_parameters() if ".s1-ac." in key}
    assert model.audit(story(6.0), tr_times(4)) == 36


def test_the_backbone_in_bfloat16_keeps_its_heads_in_float32(tiny_wavlm: Path, tmp_path: Path) -> None:
    model = tuned_model(tiny_wavlm)
    model.save_pretrained(tmp_path)
    half = BrainWavLMForFMRIEncoding.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.head.readout.weight.dtype == half.head.norm.running_mean.dtype == torch.float32
    found, expected = (m.predict(story(6.0), tr_times(4)) for m in (half, model))
    assert found.dtype == np.float32
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    assert not np.array_equal(found, expected)


def test_a_misspelt_setting_does_not_leave_the_default_in_force(tiny_wavlm: Path) -> None:
    with pytest.raises(BackboneError, match=r"unknown setting 'contexts' \[.*\]; remedy: did you mean 'context_s'\?"):
        BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), contexts=2.0)


def test_a_layer_out_of_range_names_the_backbone(tiny_wavlm: Path) -> None:
    with pytest.raises(BackboneError, match=r"layer 5 cannot be read \[.*tiny-wavlm\]; expected 1 to 4"):
        BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), layer=5)

"""Models that hear one window a TR, with a history of n TRs: what is read of it, trained, judged and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import LORA, TR_S, labels, story, tr_times, tuned_model
from transformers import WavLMModel

from brain_tuning.errors import TimingError
from brain_tuning.models import BrainWavLMForFMRIEncoding

CONVOLUTION = {"channels": 6, "kernel_frames": 5, "stride_frames": 3}


HISTORY = {
    "mean": {"read": "mean"},
    "last": {"read": "last"},
    "first": {"read": "first"},
    "convolution": {"read": "convolution", "convolution": CONVOLUTION},
}


def history_model(backbone: Path, read: str, **settings: object) -> BrainWavLMForFMRIEncoding:
    plain = {"history_trs": 2, "delays_trs": [0], "normalise_features": False, "bottleneck": 0, **HISTORY[read]}
    return tuned_model(backbone, **{**plain, **settings})


@pytest.mark.parametrize("read", HISTORY)
@pytest.mark.parametrize("settings", [{}, {"delays_trs": [1, 2], "normalise_features": True, "bottleneck": 3}])
def test_a_history_model_predicts_what_forward_gives_in_evaluation_mode(
    tiny_wavlm: Path, read: str, settings: dict
) -> None:
    model = history_model(tiny_wavlm, read, **settings)
    audio, times = story(9.0), tr_times(6)
    with torch.no_grad():
        expected = model(**model.plan(audio, times)).prediction.numpy()
    np.testing.assert_allclose(model.predict(audio, times), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(audio, times, windows_per_batch=1), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(audio, times[3:5]), expected[3:5], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(torch.from_numpy(audio))[0].detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("read", ["mean", "last", "first"])
def test_the_feature_of_a_tr_is_read_from_its_own_window(tiny_wavlm: Path, read: str) -> None:
    """The whole way again: transformers' hidden states of the TR's audio and that of the two TRs before it."""
    model = BrainWavLMForFMRIEncoding.from_backbone(
        str(tiny_wavlm), layer=2, history_trs=2, read=read, tr_s=TR_S, delays_trs=[0]
    ).eval()
    model.add_adapter("s1-ac", 5, lora=LORA)
    stock = WavLMModel.from_pretrained(tiny_wavlm).eval()
    audio = story(8.5)  # the last of six TRs hears 1 s
    with torch.no_grad():
        features = model(**model.plan(audio, tr_times(6))).features
        for k in range(6):
            window = torch.from_numpy(audio[None, max(0, k - 2) * 24_000 : (k + 1) * 24_000])
            frames = stock(window, output_hidden_states=True).hidden_states[2][0]
            expected = {"mean": frames.mean(0), "last": frames[-1], "first": frames[0]}[read]
            torch.testing.assert_close(features[k], expected, rtol=1e-4, atol=1e-4)


def test_trs_that_a_history_model_does_not_hear_count_as_zeros(tiny_wavlm: Path) -> None:
    model = history_model(tiny_wavlm, "mean")
    block = model.plan(story(6.0), (np.arange(8) - 2 + 0.5) * TR_S)
    assert block["seen"].tolist() == [False] * 2 + [True] * 4 + [False] * 2
    with torch.no_grad():
        out = model(**block)
    assert torch.equal(out.features[[0, 1, 6, 7]], torch.zeros(4, 32))
    torch.testing.assert_close(out.prediction[0], model.head.readout.bias)
    with pytest.raises(TimingError, match=r"no audio lies near the TRs asked for \[TRs 100.0 to 101.5 s"):
        model.predict(story(6.0), np.array([100.0, 101.5]), n_lead_trs=0)


@pytest.mark.parametrize("read", HISTORY)
def test_a_history_model_trains_every_part_of_its_adapter_and_head(tiny_wavlm: Path, read: str) -> None:
    model = history_model(tiny_wavlm, read).train()
    assert model.audit(story(9.0), tr_times(6)) == 36
    model(**model.plan(story(9.0), tr_times(6)), labels=labels(6, 5)).loss.backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


def test_a_history_model_is_judged_by_every_frame_of_windows_as_long(tiny_wavlm: Path) -> None:
    model = history_model(tiny_wavlm, "convolution")
    judged = model.config.judging()
    assert (judged.history_trs, judged.convolution, judged.read) == (None, None, "all")
    assert (judged.context_s, judged.stride_s) == (2 * TR_S, TR_S)
    # The model's own settings are as they were.
    assert (model.config.history_trs, model.config.convolution) == (2, CONVOLUTION)
    found, seen = model.story_features(story(9.0), tr_times(6))
    other = tuned_model(tiny_wavlm, context_s=2 * TR_S, stride_s=TR_S, read="all")
    other.backbone.load_state_dict(model.backbone.state_dict())
    expected, also_seen = other.story_features(story(9.0), tr_times(6))
    np.testing.assert_array_equal(found, expected)
    assert seen.tolist() == also_seen.tolist() == [True] * 6
    assert other.config.judging() is other.config


def test_a_history_model_comes_back_from_disk_and_from_a_repository(tiny_wavlm: Path, tmp_path: Path) -> None:
    model = history_model(tiny_wavlm, "convolution")
    expected = model.predict(story(9.0), tr_times(6))
    model.save_pretrained(tmp_path / "saved")
    for place in (tmp_path / "saved", model.save_published(tmp_path / "published")):
        loaded = BrainWavLMForFMRIEncoding.from_pretrained(place)
        assert (loaded.config.history_trs, loaded.config.convolution) == (2, CONVOLUTION)
        assert loaded.head.norm is None
        assert np.array_equal(loaded.predict(story(9.0), tr_times(6)), expected)

"""What the papers' pipelines give, by transformers and NumPy."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import tiny_families
import torch
from paper_runs import RATE, Watched
from tiny_families import N_LAYERS
from tiny_runs import metrics
from transformers import WhisperFeatureExtractor

from brain_tuning.models.blocks import plan_block
from brain_tuning.models.configuration import BrainWavLMConfig
from brain_tuning.tuning.recipe import load_recipe


@cache
def whole(kind: str) -> Any:
    return tiny_families.whole(kind)


@torch.no_grad()
def frames_of(kind: str, window: np.ndarray, layer: int = N_LAYERS) -> np.ndarray:
    """transformers' hidden states of one window of audio, (frames, width); of Whisper without padding to 30 s."""
    encoder = tiny_families.stock_encoder(whole(kind))
    if kind != "whisper":
        if kind != "wavlm":  # what these checkpoints' feature extractors do
            window = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
        states = encoder(torch.from_numpy(window)[None], output_hidden_states=True).hidden_states
        return states[layer][0].numpy()
    mel = WhisperFeatureExtractor(feature_size=80)(window, sampling_rate=RATE, padding=False, return_tensors="pt")
    n_frames = (mel.input_features.shape[-1] + 1) // 2
    encoder = copy.deepcopy(encoder)
    encoder.config.max_source_positions = mel.input_features.shape[-1] // 2
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:n_frames])
    return encoder(mel.input_features, output_hidden_states=True).hidden_states[layer][0].numpy()


def clip(audio: np.ndarray, tr: int, n_trs: int, tr_s: float) -> np.ndarray:
    """Audio of a TR and the ``n_trs - 1`` before it, as far as the story goes back."""
    return audio[max(0, round((tr + 1 - n_trs) * tr_s * RATE)) : round((tr + 1) * tr_s * RATE)]


def brainwavlm_features(audio: np.ndarray, tr_times_s: np.ndarray, tr_s: float, layer: int) -> np.ndarray:
    """Last frame of 4 s windows every 0.25 s, stamped at their ends, 3-lobe Lanczos at one over the TR."""
    ends_s = np.arange(1, round(len(audio) / RATE / 0.25) + 1) * 0.25
    near = ends_s[(ends_s > tr_times_s[0] - 3 * tr_s) & (ends_s < tr_times_s[-1] + 3 * tr_s)]
    frames = [
        frames_of("wavlm", audio[max(0, round((end - 4.0) * RATE)) : round(end * RATE)], layer)[-1] for end in near
    ]
    u = (tr_times_s[:, None] - near) / tr_s
    return (np.sinc(u) * np.sinc(u / 3) * (np.abs(u) < 3)) @ np.array(frames)


def spatial_r(prediction: np.ndarray, bold: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(p, m)[0, 1] for p, m in zip(prediction, bold, strict=True)]))


def flat(tensors: Sequence[torch.Tensor | None]) -> np.ndarray:
    return np.concatenate([t.detach().double().numpy().ravel() for t in tensors if t is not None])


def warm_up_and_down(n_steps: int, n_warming: int) -> np.ndarray:
    """Rises by equal steps to 1 at step ``n_warming``, falls by equal steps to 0 after the last."""
    return np.interp(np.arange(n_steps), [-1, n_warming, n_steps], [0, 1, 0])


def check_clips(name: str, *, n_trs: int, tr_s: float, n_samples: int) -> None:
    """Assert that a recipe hears the audio of ``n_trs`` TRs for each; at the story's start what was heard so far."""
    recipe = load_recipe(name)
    config = BrainWavLMConfig(
        speech_config=tiny_families.CONFIGS["wav2vec2"](), layer=1,
        history_trs=recipe.history_trs, read=recipe.read, convolution=recipe.convolution,
    )  # fmt: skip
    audio = np.arange(12 * n_samples // n_trs, dtype=np.float32) / 1e7
    batch = plan_block(config, audio, (np.arange(12) + 0.5) * tr_s)
    windows = [window.numpy() for group in batch["input_values"] for window in group]
    assert len(windows) == 12
    for tr, window in enumerate(windows):
        np.testing.assert_array_equal(window, clip(audio, tr, n_trs, tr_s))
        assert len(window) == min(tr + 1, n_trs) * round(tr_s * RATE)
    # One feature a TR, unfiltered.
    np.testing.assert_array_equal(batch["frame_to_tr"].to_dense(), np.eye(12))


def check_mean_squared_error(run: Watched, n_subjects: int) -> tuple[np.ndarray, np.ndarray]:
    """Assert that the first step's loss is ``mean (XW' + b - Y)^2`` over its TRs, voxels and subjects.

    Returns:
        X (n_trs, width) and ``XW' + b - Y`` (n_subjects, n_trs, n_voxels).
    """
    first = run.first_step(run.untuned())
    x = first.features.detach().double().numpy()
    weight, bias = (tensor.double().numpy() for tensor in run.start[1][-2:])
    errors = x @ weight.T + bias - first.bold
    assert len(errors) == n_subjects
    assert metrics(run.job.output)[0]["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    return x, errors


def check_heads_gradient(run: Watched, n_subjects: int) -> None:
    """Assert :func:`check_mean_squared_error`, and the gradient of W: ``2 (XW' + b - Y)' X / n`` over 128 TRs."""
    x, errors = check_mean_squared_error(run, n_subjects)
    n_trs, n_voxels = errors.shape[1:]
    assert n_trs == 128
    gradient = 2 * errors.mean(0).T @ x / (n_trs * n_voxels)
    np.testing.assert_allclose(run.gradients[1][-2], gradient, rtol=1e-3, atol=1e-6)

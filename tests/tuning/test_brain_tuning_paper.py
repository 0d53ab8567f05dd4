"""``brain-tuning-2025`` on tiny backbones of its three families, against Moussa, Klakow and Toneva 2025."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from paper_formulas import check_clips, check_heads_gradient, clip, frames_of, warm_up_and_down, whole
from paper_runs import N_VOXELS, RATE, RELIABLE, backbone, changed, clip_run, heard, layer_of
from tiny_families import N_LAYERS, WIDTH, stock_encoder
from transformers import WhisperFeatureExtractor

from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model
from brain_tuning.tuning.recipe import load_recipe


def test_clips_are_those_of_exactly_5_trs() -> None:
    """10 s of TRs of 2 s."""
    check_clips("brain-tuning-2025", n_trs=5, tr_s=2.0, n_samples=160_000)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "whisper"])
def test_brain_tuning_is_one_linear_of_the_last_layers_mean_over_a_clip(kind: str, papers: Path) -> None:
    run = clip_run(papers, "brain-tuning-2025", kind, epochs=None if kind == "wav2vec2" else 1)
    model = run.untuned()
    (weight, bias) = run.start[1]
    assert (weight.shape, bias.shape) == ((len(RELIABLE), WIDTH), (len(RELIABLE),))
    assert [type(module) for module in model.head.children()] == [torch.nn.Identity, torch.nn.Linear]
    audio = run.corpus.audio("story1")
    rows = range(3, 11)  # the first of them with one TR less to look back on
    features = np.array([frames_of(kind, clip(audio, tr, 5, 0.125)).mean(0) for tr in rows])
    found = heard(model, run.corpus, "story1", slice(3, 11))
    np.testing.assert_allclose(found.features.detach(), features, rtol=1e-4, atol=1e-5)
    expected = features @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(found.prediction.detach(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_whisper_is_pooled_over_the_frames_that_a_10_s_clip_reaches(papers: Path) -> None:
    """500 frames of the 1500 that transformers pads to; and none of the padding is heard."""
    recipe = load_recipe("brain-tuning-2025").changed(backbone=str(backbone(papers, "whisper")))
    job = TuningJob(recipe, "-", "s1", "all", papers / "-")
    model = build_model(recipe, job, {"s1": np.arange(N_VOXELS)}, tr_s=2.0).eval()
    audio = (0.1 * np.random.default_rng(1).standard_normal(12 * RATE)).astype(np.float32)
    batch = model.plan(audio, np.array([9.0, 11.0]))
    (windows,) = batch["input_values"]
    assert windows.shape == (2, 160_000)
    assert model.hidden_state(windows).shape == (2, 500, WIDTH)
    expected = [frames_of("whisper", window.numpy()) for window in windows]
    assert len(expected[0]) == 500
    found = model(**batch).features
    np.testing.assert_allclose(found, [frames.mean(0) for frames in expected], rtol=1e-3, atol=1e-4)
    padded = WhisperFeatureExtractor(feature_size=80)(list(windows.numpy()), sampling_rate=RATE, return_tensors="pt")
    stock = stock_encoder(whole("whisper"))(padded.input_features).last_hidden_state
    assert stock.shape == (2, 1500, WIDTH)
    assert (stock.mean(1) - found).abs().max() > 0.1


def test_the_mean_squared_error_and_the_heads_gradient_are_the_formulas(papers: Path) -> None:
    check_heads_gradient(clip_run(papers, "brain-tuning-2025"), n_subjects=1)


def test_brain_tunings_rates_over_all_30_epochs(papers: Path) -> None:
    run = clip_run(papers, "brain-tuning-2025")
    assert run.recipe.epochs == 30
    n = run.steps_per_epoch
    body, head = np.array(run.rates).T
    np.testing.assert_allclose(body, 5e-5 * warm_up_and_down(30 * n, 5 * n), rtol=1e-9)
    epoch = np.arange(30 * n) // n
    np.testing.assert_allclose(head, 1e-4 * np.maximum(0.8**epoch, 0.1), rtol=1e-9)
    assert body[::n].argmax() == 5
    assert body.max() == 5e-5


def test_brain_tuning_takes_128_trs_a_step_story_after_story(papers: Path) -> None:
    run = clip_run(papers, "brain-tuning-2025")
    assert run.steps_per_epoch == 2
    assert all(sum(n for _, _, n in blocks) == 128 for blocks in run.blocks)
    for epoch in range(30):
        # Each epoch begins with the next story, so that a remainder that makes no whole step is never the same.
        in_order = [(f"story{(epoch + k) % 4}", tr) for k in range(4) for tr in range(64)]
        heard = [(story, tr + k) for step in run.blocks[2 * epoch :][:2] for story, tr, n in step for k in range(n)]
        assert heard == in_order


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "whisper"])
def test_brain_tuning_moves_every_layer_and_neither_stem_nor_positions(kind: str, papers: Path) -> None:
    run = clip_run(papers, "brain-tuning-2025", kind, epochs=None if kind == "wav2vec2" else 1)
    keys = set(run.untuned().backbone.state_dict())
    layers = {key for key in keys if layer_of(key) is not None}
    assert {layer_of(key) for key in layers} == set(range(N_LAYERS))
    assert changed(run) == layers
    still = {"whisper": {"conv1.weight", "conv2.weight", "embed_positions.weight"}}.get(
        kind, {"feature_extractor.conv_layers.0.conv.weight", "encoder.pos_conv_embed.conv.bias"}
    )
    assert still < keys - layers
    assert all(not torch.equal(a, b) for a, b in zip(run.start[1], run.weights[-1][1], strict=True))


def test_brain_tuning_is_on_voxels_with_a_noise_ceiling_above_0_4(papers: Path) -> None:
    assert clip_run(papers, "brain-tuning-2025").tuned().head.voxels.tolist() == RELIABLE

"""``refined-wav2vec2``, both stages on a tiny backbone, against Li et al. 2024."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_formulas import check_clips, check_mean_squared_error, clip, flat, frames_of, whole
from paper_runs import N_VOXELS, changed, clip_run, heard, layer_of
from tiny_families import WIDTH
from tiny_runs import metrics

from brain_tuning.tuning.loop import tune


def test_clips_are_those_of_exactly_7_trs() -> None:
    """10.5 s of TRs of 1.5 s."""
    check_clips("refined-wav2vec2", n_trs=7, tr_s=1.5, n_samples=168_000)


def test_the_mean_squared_error_is_the_formula(papers: Path) -> None:
    check_mean_squared_error(clip_run(papers, "refined-wav2vec2"), n_subjects=1)


def test_refined_wav2vec2_is_a_convolution_and_a_linear_layer_on_7_trs_of_audio(papers: Path) -> None:
    run = clip_run(papers, "refined-wav2vec2")
    model = run.untuned()
    kernel, offset, weight, bias = (tensor.double().numpy() for tensor in run.start[1])
    settings = run.recipe.convolution
    assert settings is not None
    assert kernel.shape == (settings["channels"], WIDTH, settings["kernel_frames"])
    assert weight.shape == (N_VOXELS, settings["channels"])
    width, stride = settings["kernel_frames"], settings["stride_frames"]
    audio, rows = run.corpus.audio("story1"), range(4, 9)
    features = []
    for tr in rows:
        frames = np.pad(frames_of("wav2vec2", clip(audio, tr, 7, 0.125)), ((width // 2, width // 2), (0, 0)))
        pieces = [frames[start : start + width] for start in range(0, len(frames) - width + 1, stride)]
        convolved = torch.from_numpy(np.einsum("tkw,cwk->tc", np.array(pieces), kernel) + offset)
        features.append(torch.nn.functional.gelu(convolved).mean(0).numpy())
    found = heard(model, run.corpus, "story1", slice(4, 9))
    np.testing.assert_allclose(found.features.detach(), features, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.prediction.detach(), np.array(features) @ weight.T + bias, rtol=1e-3, atol=1e-5)


def test_refined_wav2vec2_adds_the_weights_to_the_gradient(papers: Path) -> None:
    """``d/dw (MSE + penalty |w|^2 / 2)``, clipped before the penalty is added."""
    run = clip_run(papers, "refined-wav2vec2")
    model = run.untuned()
    model.head_only = True
    first = run.first_step(model)
    loss = (first.prediction[0] - torch.from_numpy(first.bold[0])).square().mean()
    slope = flat(torch.autograd.grad(loss, list(model.head.parameters())))
    slope *= min(1.0, run.recipe.max_grad_norm / np.linalg.norm(slope))
    penalty = run.recipe.l2_penalty * flat(run.start[1])
    added = flat(run.gradients[1]) - slope
    assert np.linalg.norm(added) < 0.01 * np.linalg.norm(slope)
    # How many penalties were added to the slope
    assert added @ penalty / (penalty @ penalty) == pytest.approx(1, abs=0.02)


def test_refined_wav2vec2_tunes_the_head_first_and_then_all_together(papers: Path) -> None:
    run = clip_run(papers, "refined-wav2vec2")
    n_alone = run.steps_per_epoch * run.recipe.head_only_epochs
    assert 0 < n_alone < len(run.weights)
    assert run.gradients[0] == [None] * len(run.start[0])
    previous = run.start
    for step, now in enumerate(run.weights):
        stays = [torch.equal(a, b) for a, b in zip(previous[0], now[0], strict=True)]
        assert all(stays) if step < n_alone else not any(stays)
        assert not any(torch.equal(a, b) for a, b in zip(previous[1], now[1], strict=True))
        previous = now
    assert changed(run) == {key for key in whole("wav2vec2").state_dict() if layer_of(key) is not None}
    assert set(run.rates) == {(run.recipe.learning_rate_adapter, run.recipe.learning_rate_head)}


def test_refined_wav2vec2_is_tuned_in_its_own_precision(papers: Path) -> None:
    """The first loss in bfloat16 is that in float32 to its rounding."""
    exact = clip_run(papers, "refined-wav2vec2")
    assert exact.recipe.mixed_precision == "bf16"
    recipe = exact.recipe.changed(epochs=1, head_only_epochs=0)
    job = replace(exact.job, recipe=recipe, output=papers / "refined-wav2vec2-bf16")
    tune(job, progress_bar=False)
    assert metrics(job.output)[0]["loss"] == pytest.approx(metrics(exact.job.output)[0]["loss"], rel=0.02)

"""``brainwavlm`` and its full-fine-tuning arm, run on a tiny backbone, against Vattikonda et al. 2025."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_families
import torch
from paper_formulas import brainwavlm_features, spatial_r, whole
from paper_runs import N_VOXELS, RATE, REGIONS, brainwavlm_run, changed, heard, layer_of, run_of
from tiny_families import N_LAYERS, WIDTH
from tiny_runs import metrics
from transformers import Wav2Vec2FeatureExtractor, WavLMModel

from brain_tuning.corpus import Corpus
from brain_tuning.models.adapters import tuner_layers
from brain_tuning.models.configuration import BrainWavLMConfig
from brain_tuning.timing.runs import lead_in
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tuned_voxels
from brain_tuning.tuning.recipe import load_recipe


def test_brainwavlm_is_z_scored_delayed_and_read_out_linearly_through_100(papers: Path) -> None:
    """Row by row of the paper's pipeline, from audio to voxels; lead-in TRs are heard, not zeros."""
    run = brainwavlm_run(papers)
    model, corpus = run.untuned(), run.corpus
    shapes = {key: tuple(p.shape) for key, p in model.head.named_parameters()}
    assert shapes == {
        "bottleneck.weight": (100, 4 * WIDTH), "bottleneck.bias": (100,),
        "readout.weight": (N_VOXELS, 100), "readout.bias": (N_VOXELS,),
    }  # fmt: skip
    times = lead_in(run_of(corpus, "story0").tr_times_s[7:17], 4)
    layer = model.config.layer
    assert layer == round(0.75 * N_LAYERS) == 2
    features = brainwavlm_features(corpus.audio("story0"), times, 0.25, layer)
    z = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
    delayed = np.concatenate([z[4 - delay : 14 - delay] for delay in (1, 2, 3, 4)], axis=1)
    first, second = (layer.state_dict() for layer in (model.head.bottleneck, model.head.readout))
    expected = delayed @ first["weight"].numpy().T + first["bias"].numpy()
    expected = expected @ second["weight"].numpy().T + second["bias"].numpy()
    found = heard(model, corpus, "story0", slice(7, 17))
    np.testing.assert_allclose(found.features.detach(), features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.prediction.detach(), expected, rtol=1e-3, atol=1e-4)


def test_brainwavlm_reads_one_frame_of_4_s_windows_every_quarter_of_a_second() -> None:
    recipe = load_recipe("brainwavlm")
    config = BrainWavLMConfig(speech_config=tiny_families.CONFIGS["wavlm"](), layer=1)
    config.context_s, config.stride_s, config.read = recipe.context_s, recipe.stride_s, recipe.read
    groups = config.window_plan.groups(30 * RATE, config.frame_grid)
    lengths = [group.n_samples for group in groups]
    # At the story's start windows are as long as what was heard; all are above the 400 samples of a frame.
    assert lengths == [round(0.25 * k * RATE) for k in range(1, 17)]
    full = groups[-1]
    assert full.n_samples == 4 * RATE
    np.testing.assert_array_equal(full.starts, np.arange(0, 26 * RATE + 1, RATE // 4))
    assert all((group.starts == 0).all() and len(group.starts) == 1 for group in groups[:-1])
    for group in groups:
        np.testing.assert_allclose(group.times_s.ravel(), (group.starts + group.n_samples) / RATE)


def test_brainwavlm_reads_layer_9_of_12_with_lora_on_q_k_v_below_it(papers: Path) -> None:
    config = tiny_families.CONFIGS["wavlm"]()
    config.num_hidden_layers = 12
    folder = papers / "twelve-layers"
    torch.manual_seed(0)
    stock = WavLMModel(config).eval()
    stock.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    recipe = load_recipe("brainwavlm").changed(backbone=str(folder))
    job = TuningJob(recipe, "-", "s1", "all", papers / "-")
    model = build_model(recipe, job, {"s1": np.arange(N_VOXELS)}, tr_s=2.0)
    windows = torch.randn(2, 8_000)
    with torch.no_grad():
        expected = stock(windows, output_hidden_states=True).hidden_states[9]
        torch.testing.assert_close(model.eval().hidden_state(windows), expected, rtol=1e-4, atol=1e-4)
    adapted = tuner_layers(model.backbone)
    assert set(adapted) == {
        f"encoder.layers.{layer}.attention.{part}_proj" for layer in range(9) for part in "qkv"
    }  # fmt: skip
    for module in adapted.values():
        assert module.lora_A["s1-all"].weight.shape == (4, WIDTH)
        assert (module.scaling["s1-all"], module.lora_dropout["s1-all"].p) == (1.0, 0.1)


def test_brainwavlms_loss_is_minus_the_mean_correlation_across_voxels(papers: Path) -> None:
    run = brainwavlm_run(papers)
    model = run.untuned()
    first = run.first_step(model)
    (prediction,), (bold,) = first.prediction.detach().double().numpy(), first.bold
    assert prediction.shape == (10, N_VOXELS)
    assert metrics(run.job.output)[0]["loss"] == pytest.approx(-spatial_r(prediction, bold), abs=1e-5)


def test_voxels_that_are_nan_are_dropped_from_the_loss_of_that_block(papers: Path) -> None:
    run = brainwavlm_run(papers)
    model, listening = run.tuned(), run_of(run.corpus, "story0")
    batch = model.plan(run.corpus.audio("story0"), lead_in(listening.tr_times_s[7:17], 4))
    bold = torch.randn(10, N_VOXELS)
    bold[3, 7] = torch.nan
    with torch.no_grad():
        found = model(**batch, n_lead_trs=4, labels=bold, loss=run.recipe.loss)
    kept = np.delete(np.arange(N_VOXELS), 7)
    expected = -spatial_r(found.prediction.numpy()[:, kept], bold.numpy()[:, kept])
    assert float(found.loss) == pytest.approx(expected, abs=1e-5)


def test_brainwavlm_takes_a_step_a_block_of_10_trs_at_a_constant_rate(papers: Path) -> None:
    run = brainwavlm_run(papers)
    assert run.recipe.epochs == 20
    # 16 TRs hear something at one of the delays: a block a story.
    assert run.steps_per_epoch == 2
    assert run.rates == [(1e-4, 1e-4)] * 40
    assert all(len(blocks) == 1 and blocks[0][2] == 10 for blocks in run.blocks)
    for epoch in range(20):
        taken = [(story, tr + k) for ((story, tr, n),) in run.blocks[2 * epoch : 2 * epoch + 2] for k in range(n)]
        assert len(set(taken)) == 20
        assert {story for story, _ in taken} == {"story0", "story1"}


def test_brainwavlm_tunes_lora_and_head_alone(papers: Path) -> None:
    run = brainwavlm_run(papers)
    tuned, stock = run.tuned().backbone.state_dict(), whole("wavlm").state_dict()
    base = {key.replace(".base_layer", ""): value for key, value in tuned.items() if ".lora_" not in key}
    assert base.keys() == stock.keys()
    assert all(torch.equal(value, stock[key]) for key, value in base.items())
    # A and B of q, k and v in the two layers that are read through
    assert len(run.start[0]) == 2 * 3 * 2
    for before, after in zip(run.start, run.weights[-1], strict=True):
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_brainwavlm_keeps_the_epoch_that_a_ridge_finds_best_on_the_validation_story(papers: Path) -> None:
    run = brainwavlm_run(papers)
    scores = metrics(run.job.output, "validation")
    assert [line["select"] for line in scores] == ["ridge"] * 20
    best = int(np.argmax([line["r"] for line in scores]))
    kept = run.tuned().head.readout.weight
    of_epochs = [run.weights[2 * epoch + 1][1][2] for epoch in range(20)]
    assert [torch.equal(kept, weight) for weight in of_epochs].index(True) == best


@pytest.mark.parametrize("roi", ["all", "AC", "left", "right"])
def test_brainwavlm_is_tuned_on_all_voxels_or_auditory_cortex_or_one_hemisphere(roi: str, papers: Path) -> None:
    run = brainwavlm_run(papers, roi=roi, epochs=None if roi == "all" else 1)
    model = run.tuned()
    assert list(model.heads) == [f"s1-{roi.lower()}"]
    assert model.head.voxels.tolist() == (list(range(N_VOXELS)) if roi == "all" else REGIONS[roi])
    assert len(model.head.readout.weight) == len(model.head.voxels)


def test_brainwavlms_targets_are_those_of_a_corpus(corpus: Corpus) -> None:
    """Of simulated cortex: both hemispheres are all voxels, and auditory cortex lies in both."""
    recipe = load_recipe("brainwavlm")
    found = {roi: set(tuned_voxels(recipe, corpus, "s1", roi)) for roi in ("all", "AC", "left", "right")}
    assert found["left"] | found["right"] == found["all"] == set(corpus.ledger("s1").usable)
    assert not found["left"] & found["right"]
    assert found["AC"] & found["left"]
    assert found["AC"] & found["right"]


def test_the_full_arm_tunes_every_layer_below_the_one_that_is_read(papers: Path) -> None:
    run = brainwavlm_run(papers, "brainwavlm-full", epochs=1)
    assert run.rates == [(1e-4, 1e-4)] * 2
    assert not tuner_layers(run.tuned().backbone)
    assert changed(run) == {key for key in whole("wavlm").state_dict() if layer_of(key) in (0, 1)}

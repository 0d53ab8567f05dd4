"""The recipes of papers, run on tiny backbones, against what the papers and their released code say.

:data:`STATED` and :data:`OFF` are written down from the publications, not from the recipes. Everything else here runs
a recipe for all its epochs on a small corpus, watches the optimiser, and compares heads, windows, losses, schedules
and what is frozen with formulas in NumPy and with transformers' own models.
"""

from __future__ import annotations

import copy
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from tiny_runs import metrics
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model, WavLMModel, WhisperFeatureExtractor

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus, Run, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.errors import AdapterError
from brain_tuning.models.adapters import attach, lora_config, tuner_layers
from brain_tuning.models.blocks import plan_block
from brain_tuning.models.configuration import BrainWavLMConfig
from brain_tuning.models.modeling import FMRIEncodingOutput
from brain_tuning.timing.runs import lead_in
from brain_tuning.tuning.data import BlockDataset
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tune, tuned_voxels
from brain_tuning.tuning.recipe import Recipe, load_recipe

sys.path.append(str(Path(__file__).parents[1] / "models"))

import tiny_families
from tiny_families import N_LAYERS, WIDTH

RATE = 16_000
N_VOXELS = 12
REGIONS = {"AC": [1, 4, 5, 9], "left": list(range(6)), "right": list(range(6, 12))}
#: 0.4 itself is not above 0.4, and what is not known is not either
CEILING = [0.1, 0.4, 0.41, 0.9, np.nan, 0.55, 0.7, 0.39, 0.8, 0.2, 0.45, 0.6]
RELIABLE = [2, 3, 5, 6, 8, 10, 11]

_BRAINWAVLM: dict[str, Any] = {
    "backbone": "microsoft/wavlm-base-plus",
    "layer_depth": 9 / 12,
    "context_s": 3.75,
    "stride_s": 0.25,
    "read": "last",
    "lanczos_lobes": 3,
    "delays_trs": (1, 2, 3, 4),
    "normalise_features": True,
    "bottleneck": 100,
    "lora": {"r": 4, "lora_alpha": 4, "lora_dropout": 0.1, "target_modules": ["q_proj", "k_proj", "v_proj"]},
    "loss": "spatial_correlation",
    "learning_rate_adapter": 1e-4,
    "learning_rate_head": 1e-4,
    "schedule": "constant",
    "block_trs": 10,
    "blocks_per_step": 1,
    "epochs": 20,
    "select": "ridge",
    "seed": 42,
}

#: recipe -> what is known of its paper, from its text or released code
STATED: dict[str, dict[str, Any]] = {
    "brainwavlm": _BRAINWAVLM,
    "brainwavlm-full": {**_BRAINWAVLM, "lora": None},
    "refined-wav2vec2": {"history_trs": 6, "read": "convolution", "lora": None, "loss": "mse"},
    "brain-tuning-2025": {
        "backbone": "facebook/wav2vec2-base",
        "layer_depth": 1.0,
        "history_trs": 4,
        "read": "mean",
        "delays_trs": (0,),
        "normalise_features": False,
        "bottleneck": 0,
        "min_noise_ceiling": 0.4,
        "lora": None,
        "loss": "mse",
        "learning_rate_adapter": 5e-5,
        "learning_rate_head": 1e-4,
        "schedule": "linear",
        "warmup_share": 5 / 30,
        "schedule_head": "decay",
        "decay_per_epoch": 0.8,
        "decay_floor": 0.1,
        "order": "stories",
        "epochs": 30,
    },
    "multi-brain-tuning": {
        "bottleneck": 0,
        "readout": "shared",
        "lora": {
            "r": 8, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj"]
        },
        "loss": "mse",
        "learning_rate_adapter": 1e-4,
        "learning_rate_head": 1e-4,
        "schedule": "linear",
        "warmup_share": 0.1,
        "epochs": 30,
    },
}  # fmt: skip
#: TRs of one optimiser step, where it is the batch that is stated, and not how it is cut
BATCH_TRS = {"brain-tuning-2025": 128, "multi-brain-tuning": 128}
ARXIV = {
    "brainwavlm": "2502.08866",
    "brainwavlm-full": "2502.08866",
    "refined-wav2vec2": "2406.08266",
    "brain-tuning-2025": "2410.09230",
    "multi-brain-tuning": "2510.21520",
}
#: values with which a part that no paper mentions is not there
OFF: dict[str, Any] = {
    "adapt_from_depth": 0.0,
    "history_trs": None,
    "convolution": None,
    "readout": "own",
    "min_noise_ceiling": None,
    "l2_penalty": 0.0,
    "schedule_head": None,
    "warmup_share": 0.0,
    "decay_per_epoch": 1.0,
    "decay_floor": 0.0,
    "head_only_epochs": 0,
    "max_grad_norm": 0.0,
}
#: recipe -> keys whose value is the paper's, and whose meaning here differs from it, or that need a word
DEVIATIONS = {
    "brainwavlm": {"lora", "delays_trs", "lanczos_lobes"},
    "brainwavlm-full": {"lora", "delays_trs", "lanczos_lobes"},
    "refined-wav2vec2": {"lora"},
    "brain-tuning-2025": {"lora", "order", "read", "schedule"},
    "multi-brain-tuning": {"loss", "warmup_share"},
}
NAMES = list(STATED)


# What is written in the recipes


@pytest.mark.parametrize("name", NAMES)
def test_what_a_paper_states_is_in_its_recipe_and_all_else_is_named_as_ours(name: str) -> None:
    recipe, stated = load_recipe(name), STATED[name]
    assert {key: getattr(recipe, key) for key in stated} == stated
    assert ARXIV[name] in recipe.source
    if name in BATCH_TRS:
        assert recipe.block_trs * recipe.blocks_per_step == BATCH_TRS[name]
    described = {"name", "source", "ours", "control"}
    if recipe.history_trs is not None:
        described |= {"context_s", "stride_s", "lanczos_lobes"}  # one window a TR: they play no part
    if name in BATCH_TRS:
        described |= {"blocks_per_step"}  # follows from block_trs
    free = {f.name for f in fields(Recipe)} - described - set(stated)
    unnamed = {key for key in free - set(recipe.ours) if key not in OFF or getattr(recipe, key) != OFF[key]}
    assert not unnamed
    assert set(recipe.ours) - free == DEVIATIONS[name]
    assert recipe.control == "none"
    assert all(len(reason) > 5 for reason in recipe.ours.values())


# A corpus, backbones, and a watched run


def backbone(place: Path, kind: str) -> Path:
    """Folder of a tiny model of a family, made once."""
    folder = place / kind
    return folder if folder.exists() else tiny_families.save(kind, folder)


def listened(
    folder: Path, *, tr_s: float, n_trs: int, n_stories: int, n_subjects: int = 1, ceiling: list[float] | None = None
) -> Corpus:
    """Stories of swelling noise, heard from their first sample on, with responses that have nothing to do with them."""
    if folder.exists():
        return open_corpus(folder)
    rng = np.random.default_rng(0)
    lengths = {f"story{k}": n_trs for k in range(n_stories)} | {"validation": 9}
    stories = []
    for name, length in lengths.items():
        seconds = np.arange(round(length * tr_s * RATE)) / RATE
        swell = 0.1 + 0.1 * np.sin(2 * np.pi * seconds / (3.7 * tr_s))
        stories.append(StoryInput(name, (swell * rng.standard_normal(len(seconds))).astype(np.float32)))
    subjects = [
        SubjectInput(
            f"s{k + 1}",
            N_VOXELS,
            [
                RunInput(
                    name, 0, 0, "validation" if name == "validation" else "train", tr_s, 0.0,
                    50 + 3 * rng.standard_normal((length, N_VOXELS)),
                )
                for name, length in lengths.items()
            ],
            regions={region: np.array(voxels) for region, voxels in REGIONS.items()},
            noise_ceiling=None if ceiling is None else np.array(ceiling),
        )
        for k in range(n_subjects)
    ]  # fmt: skip
    made = write_corpus(folder, name="noise", source="x", licence="x", stories=stories, subjects=subjects)
    return open_corpus(made)


@dataclass
class FirstStep:
    """Features (n_trs, width), lead-in included, predictions and z-scored BOLD (n_subjects, n_trs, n_voxels)."""

    features: torch.Tensor
    prediction: torch.Tensor
    bold: np.ndarray


@dataclass
class Watched:
    """A tuning run, and what its optimiser was given and did.

    Args:
        job, corpus: what was run on what.
        rates: learning rates of backbone and head at each step.
        blocks: (story, first TR, number of TRs) of the blocks of each step.
        start: weights of backbone and head before the first step.
        weights: the same after each step.
        gradients: of the first step as Adam took them, penalty included; None where there were none.
    """

    job: TuningJob
    corpus: Corpus
    rates: list[tuple[float, ...]] = field(default_factory=list)
    blocks: list[list[tuple[str, int, int]]] = field(default_factory=list)
    start: list[list[torch.Tensor]] = field(default_factory=list)
    weights: list[list[list[torch.Tensor]]] = field(default_factory=list)
    gradients: list[list[torch.Tensor | None]] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        return self.job.recipe

    @property
    def steps_per_epoch(self) -> int:
        assert len(self.rates) % self.recipe.epochs == 0
        return len(self.rates) // self.recipe.epochs

    def voxels(self) -> dict[str, np.ndarray]:
        return {s: tuned_voxels(self.recipe, self.corpus, s, self.job.roi) for s in self.job.subjects}

    def untuned(self) -> BrainWavLMForFMRIEncoding:
        """The model that the run began with, in training mode."""
        set_seed(self.recipe.seed)
        run = self.corpus.runs(self.job.subjects[0], "train")[0]
        model = build_model(self.recipe, self.job, self.voxels(), tr_s=run.tr_s).train()
        head = [p for key, p in model.named_parameters() if p.requires_grad and key.startswith("heads.")]
        assert all(torch.equal(a, b) for a, b in zip(head, self.start[1], strict=True))
        return model

    def tuned(self) -> BrainWavLMForFMRIEncoding:
        return BrainWavLMForFMRIEncoding.from_pretrained(self.job.output / "model")

    def first_step(self, model: BrainWavLMForFMRIEncoding) -> FirstStep:
        """What the model makes of the first step's blocks."""
        features, predicted, bold = [], defaultdict(list), defaultdict(list)
        for story, first_tr, n_trs in self.blocks[0]:
            rows = slice(first_tr, first_tr + n_trs)
            output = heard(model, self.corpus, story, rows)
            features.append(output.features)
            for subject, columns in self.voxels().items():
                given = output.prediction
                predicted[subject].append(given[subject] if isinstance(given, dict) else given)
                values = self.corpus.bold(run_of(self.corpus, story, subject), columns).astype(np.float64)
                bold[subject].append(((values - values.mean(0)) / values.std(0))[rows])
        return FirstStep(
            torch.cat(features),
            torch.stack([torch.cat(predicted[subject]) for subject in self.job.subjects]),
            np.array([np.concatenate(bold[subject]) for subject in self.job.subjects]),
        )


def run_of(corpus: Corpus, story: str, subject: str = "s1") -> Run:
    (run,) = (run for run in corpus.runs(subject) if run.story == story)
    return run


def heard(model: BrainWavLMForFMRIEncoding, corpus: Corpus, story: str, rows: slice) -> FMRIEncodingOutput:
    """What a model makes of some rows of a story's run."""
    lead = max(0, *model.config.delays_trs)
    batch = model.plan(corpus.audio(story), lead_in(run_of(corpus, story).tr_times_s[rows], lead))
    output = model(**batch, n_lead_trs=lead)
    assert isinstance(output, FMRIEncodingOutput)
    return output


def watch(job: TuningJob, corpus: Corpus) -> Watched:
    """Tune, in float32, and watch the optimiser."""
    watched = Watched(job, corpus)
    step, given = torch.optim.Adam.step, BlockDataset.__getitem__
    taken: list[tuple[str, int, int]] = []

    def recorded_block(data: BlockDataset, index: int) -> dict[str, Any]:
        block = data.blocks[index]
        taken.append((data.hearings[block.hearing].first.story, block.first_tr, block.n_trs))
        return given(data, index)

    def weights(adam: torch.optim.Adam) -> list[list[torch.Tensor]]:
        return [[p.detach().clone() for p in group["params"]] for group in adam.param_groups]

    def recorded_step(adam: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        if not watched.start:
            watched.start = weights(adam)
        result = step(adam, *args, **kwargs)
        if not watched.gradients:
            watched.gradients = [
                [
                    adam.state[p]["exp_avg"].clone() / (1 - group["betas"][0]) if p in adam.state else None
                    for p in group["params"]
                ]
                for group in adam.param_groups
            ]
        watched.rates.append(tuple(group["lr"] for group in adam.param_groups))
        watched.blocks.append(taken[:])
        watched.weights.append(weights(adam))
        taken.clear()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", recorded_step)
        patch.setattr(BlockDataset, "__getitem__", recorded_block)
        tune(job, mixed_precision="no", progress_bar=False)
    return watched


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where backbones, corpora and runs of this file lie."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("papers")
    torch.set_num_threads(before)


def brainwavlm_run(place: Path, name: str = "brainwavlm", roi: str = "all", epochs: int | None = None) -> Watched:
    """A recipe that hears windows every quarter of a second, which is the TR here; two blocks an epoch."""
    return _brainwavlm_run(place, name, roi, epochs)


@cache
def _brainwavlm_run(place: Path, name: str, roi: str, epochs: int | None) -> Watched:
    corpus = listened(place / "windows", tr_s=0.25, n_trs=17, n_stories=2)
    recipe = load_recipe(name).changed(backbone=str(backbone(place, "wavlm")), epochs=epochs)
    return watch(TuningJob(recipe, str(corpus.path), "s1", roi, place / f"{name}-{roi}-{epochs}"), corpus)


def clip_run(place: Path, name: str, kind: str = "wav2vec2", epochs: int | None = None) -> Watched:
    """A recipe that hears one clip a TR, with TRs of an eighth of a second; 64 to 256 TRs an epoch."""
    return _clip_run(place, name, kind, epochs)


@cache
def _clip_run(place: Path, name: str, kind: str, epochs: int | None) -> Watched:
    n_stories, n_trs = {"brain-tuning-2025": (4, 64), "refined-wav2vec2": (2, 32)}.get(name, (2, 64))
    subjects = ("s1", "s2") if name == "multi-brain-tuning" else "s1"
    corpus = listened(
        place / f"{n_stories}x{n_trs}-trs", tr_s=0.125, n_trs=n_trs, n_stories=n_stories, n_subjects=2, ceiling=CEILING
    )  # fmt: skip
    recipe = load_recipe(name).changed(backbone=str(backbone(place, kind)), epochs=epochs)
    return watch(TuningJob(recipe, str(corpus.path), subjects, "all", place / f"{name}-{kind}-{epochs}"), corpus)


# What the papers' pipelines give, by transformers and NumPy


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


# BrainWavLM


def test_brainwavlm_is_z_scored_delayed_and_read_out_linearly_through_100(place: Path) -> None:
    """Row by row of the paper's pipeline, from audio to voxels; lead-in TRs are heard, not zeros."""
    run = brainwavlm_run(place)
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


def test_brainwavlm_reads_layer_9_of_12_with_lora_on_q_k_v_below_it(place: Path) -> None:
    config = tiny_families.CONFIGS["wavlm"]()
    config.num_hidden_layers = 12
    folder = place / "twelve-layers"
    torch.manual_seed(0)
    stock = WavLMModel(config).eval()
    stock.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    recipe = load_recipe("brainwavlm").changed(backbone=str(folder))
    job = TuningJob(recipe, "-", "s1", "all", place / "-")
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


def test_brainwavlms_loss_is_minus_the_mean_correlation_across_voxels(place: Path) -> None:
    run = brainwavlm_run(place)
    model = run.untuned()
    first = run.first_step(model)
    (prediction,), (bold,) = first.prediction.detach().double().numpy(), first.bold
    assert prediction.shape == (10, N_VOXELS)
    assert metrics(run.job.output)[0]["loss"] == pytest.approx(-spatial_r(prediction, bold), abs=1e-5)


def test_voxels_that_are_nan_are_dropped_from_the_loss_of_that_block(place: Path) -> None:
    run = brainwavlm_run(place)
    model, listening = run.tuned(), run_of(run.corpus, "story0")
    batch = model.plan(run.corpus.audio("story0"), lead_in(listening.tr_times_s[7:17], 4))
    bold = torch.randn(10, N_VOXELS)
    bold[3, 7] = torch.nan
    with torch.no_grad():
        found = model(**batch, n_lead_trs=4, labels=bold, loss=run.recipe.loss)
    kept = np.delete(np.arange(N_VOXELS), 7)
    expected = -spatial_r(found.prediction.numpy()[:, kept], bold.numpy()[:, kept])
    assert float(found.loss) == pytest.approx(expected, abs=1e-5)


def test_brainwavlm_takes_a_step_a_block_of_10_trs_at_a_constant_rate(place: Path) -> None:
    run = brainwavlm_run(place)
    assert run.recipe.epochs == 20
    # 16 TRs hear something at one of the delays: a block a story.
    assert run.steps_per_epoch == 2
    assert run.rates == [(1e-4, 1e-4)] * 40
    assert all(len(blocks) == 1 and blocks[0][2] == 10 for blocks in run.blocks)
    for epoch in range(20):
        taken = [(story, tr + k) for ((story, tr, n),) in run.blocks[2 * epoch : 2 * epoch + 2] for k in range(n)]
        assert len(set(taken)) == 20
        assert {story for story, _ in taken} == {"story0", "story1"}


def test_brainwavlm_tunes_lora_and_head_alone(place: Path) -> None:
    run = brainwavlm_run(place)
    tuned, stock = run.tuned().backbone.state_dict(), whole("wavlm").state_dict()
    base = {key.replace(".base_layer", ""): value for key, value in tuned.items() if ".lora_" not in key}
    assert base.keys() == stock.keys()
    assert all(torch.equal(value, stock[key]) for key, value in base.items())
    # A and B of q, k and v in the two layers that are read through
    assert len(run.start[0]) == 2 * 3 * 2
    for before, after in zip(run.start, run.weights[-1], strict=True):
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_brainwavlm_keeps_the_epoch_that_a_ridge_finds_best_on_the_validation_story(place: Path) -> None:
    run = brainwavlm_run(place)
    scores = metrics(run.job.output, "validation")
    assert [line["select"] for line in scores] == ["ridge"] * 20
    best = int(np.argmax([line["r"] for line in scores]))
    kept = run.tuned().head.readout.weight
    of_epochs = [run.weights[2 * epoch + 1][1][2] for epoch in range(20)]
    assert [torch.equal(kept, weight) for weight in of_epochs].index(True) == best


@pytest.mark.parametrize("roi", ["all", "AC", "left", "right"])
def test_brainwavlm_is_tuned_on_all_voxels_or_auditory_cortex_or_one_hemisphere(roi: str, place: Path) -> None:
    run = brainwavlm_run(place, roi=roi, epochs=None if roi == "all" else 1)
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


def test_the_full_arm_tunes_every_layer_below_the_one_that_is_read(place: Path) -> None:
    run = brainwavlm_run(place, "brainwavlm-full", epochs=1)
    assert run.rates == [(1e-4, 1e-4)] * 2
    assert not tuner_layers(run.tuned().backbone)
    assert changed(run) == {key for key in whole("wavlm").state_dict() if layer_of(key) in (0, 1)}


def changed(run: Watched) -> set[str]:
    """Tensors of the backbone that differ between the last step and the pretrained model."""
    model = run.untuned()
    names = [key for key, p in model.backbone.named_parameters() if p.requires_grad]
    moved = {
        name
        for name, before, after in zip(names, run.start[0], run.weights[-1][0], strict=True)
        if not torch.equal(before, after)
    }
    stock, tuned = model.backbone.state_dict(), run.tuned().backbone.state_dict()
    frozen = set(stock) - set(names)
    assert all(torch.equal(stock[key], tuned[key]) for key in frozen)
    return moved


def layer_of(key: str) -> int | None:
    """Transformer layer of a tensor of the backbone."""
    _, inside, rest = key.partition("layers.")
    return int(rest.split(".")[0]) if inside and "conv_layers" not in key else None


# One clip a TR


@pytest.mark.parametrize(
    ("name", "tr_s", "n_samples"), [("brain-tuning-2025", 2.0, 160_000), ("refined-wav2vec2", 1.5, 168_000)]
)
def test_clips_are_those_of_exactly_5_and_7_trs(name: str, tr_s: float, n_samples: int) -> None:
    """10 s of 2 s TRs, 10.5 s of 1.5 s TRs; at the story's start what was heard so far."""
    recipe = load_recipe(name)
    n_trs = {"brain-tuning-2025": 5, "refined-wav2vec2": 7}[name]
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


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "whisper"])
def test_brain_tuning_is_one_linear_of_the_last_layers_mean_over_a_clip(kind: str, place: Path) -> None:
    run = clip_run(place, "brain-tuning-2025", kind, epochs=None if kind == "wav2vec2" else 1)
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
def test_whisper_is_pooled_over_the_frames_that_a_10_s_clip_reaches(place: Path) -> None:
    """500 frames of the 1500 that transformers pads to; and none of the padding is heard."""
    recipe = load_recipe("brain-tuning-2025").changed(backbone=str(backbone(place, "whisper")))
    job = TuningJob(recipe, "-", "s1", "all", place / "-")
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
    stock = tiny_families.stock_encoder(whole("whisper"))(padded.input_features).last_hidden_state
    assert stock.shape == (2, 1500, WIDTH)
    assert (stock.mean(1) - found).abs().max() > 0.1


@pytest.mark.parametrize("name", ["brain-tuning-2025", "multi-brain-tuning", "refined-wav2vec2"])
def test_the_mean_squared_error_and_the_heads_gradient_are_the_formulas(name: str, place: Path) -> None:
    """``mean (XW' + b - Y)^2`` over the step's TRs and voxels, and over subjects; ``2 (XW' + b - Y)' X / n``."""
    run = clip_run(place, name)
    first = run.first_step(run.untuned())
    x = first.features.detach().double().numpy()
    weight, bias = (tensor.double().numpy() for tensor in run.start[1][-2:])
    errors = x @ weight.T + bias - first.bold
    assert len(errors) == (2 if name == "multi-brain-tuning" else 1)
    assert metrics(run.job.output)[0]["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    if name != "refined-wav2vec2":
        n_trs, n_voxels = errors.shape[1:]
        assert n_trs == 128
        gradient = 2 * errors.mean(0).T @ x / (n_trs * n_voxels)
        np.testing.assert_allclose(run.gradients[1][-2], gradient, rtol=1e-3, atol=1e-6)


def warm_up_and_down(n_steps: int, n_warming: int) -> np.ndarray:
    """Rises by equal steps to 1 at step ``n_warming``, falls by equal steps to 0 after the last."""
    return np.interp(np.arange(n_steps), [-1, n_warming, n_steps], [0, 1, 0])


def test_brain_tunings_rates_over_all_30_epochs(place: Path) -> None:
    run = clip_run(place, "brain-tuning-2025")
    assert run.recipe.epochs == 30
    n = run.steps_per_epoch
    body, head = np.array(run.rates).T
    np.testing.assert_allclose(body, 5e-5 * warm_up_and_down(30 * n, 5 * n), rtol=1e-9)
    epoch = np.arange(30 * n) // n
    np.testing.assert_allclose(head, 1e-4 * np.maximum(0.8**epoch, 0.1), rtol=1e-9)
    assert body[::n].argmax() == 5
    assert body.max() == 5e-5


def test_brain_tuning_takes_128_trs_a_step_story_after_story(place: Path) -> None:
    run = clip_run(place, "brain-tuning-2025")
    assert run.steps_per_epoch == 2
    assert all(sum(n for _, _, n in blocks) == 128 for blocks in run.blocks)
    for epoch in range(30):
        # Each epoch begins with the next story, so that a remainder that makes no whole step is never the same.
        in_order = [(f"story{(epoch + k) % 4}", tr) for k in range(4) for tr in range(64)]
        heard = [(story, tr + k) for step in run.blocks[2 * epoch :][:2] for story, tr, n in step for k in range(n)]
        assert heard == in_order


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "whisper"])
def test_brain_tuning_moves_every_layer_and_neither_stem_nor_positions(kind: str, place: Path) -> None:
    run = clip_run(place, "brain-tuning-2025", kind, epochs=None if kind == "wav2vec2" else 1)
    keys = set(run.untuned().backbone.state_dict())
    layers = {key for key in keys if layer_of(key) is not None}
    assert {layer_of(key) for key in layers} == set(range(N_LAYERS))
    assert changed(run) == layers
    still = {"whisper": {"conv1.weight", "conv2.weight", "embed_positions.weight"}}.get(
        kind, {"feature_extractor.conv_layers.0.conv.weight", "encoder.pos_conv_embed.conv.bias"}
    )
    assert still < keys - layers
    assert all(not torch.equal(a, b) for a, b in zip(run.start[1], run.weights[-1][1], strict=True))


def test_brain_tuning_is_on_voxels_with_a_noise_ceiling_above_0_4(place: Path) -> None:
    assert clip_run(place, "brain-tuning-2025").tuned().head.voxels.tolist() == RELIABLE


# Several subjects


def test_all_subjects_share_one_linear_head_on_a_common_surface(place: Path) -> None:
    run = clip_run(place, "multi-brain-tuning")
    # One weight and one bias, whoever it was that listened.
    assert [tuple(p.shape) for p in run.start[1]] == [(N_VOXELS, WIDTH), (N_VOXELS,)]
    model = run.untuned()
    first = run.first_step(model)
    assert first.prediction.shape == (2, 128, N_VOXELS)
    expected = first.features @ run.start[1][0].T + run.start[1][1]
    assert all(torch.allclose(prediction, expected, atol=1e-5) for prediction in first.prediction)
    assert list(run.tuned().heads) == ["group-all"]
    with pytest.raises(AdapterError, match="expected responses on a common surface"):
        build_model(run.recipe, run.job, {"s1": np.arange(5), "s2": np.arange(7)}, tr_s=2.0)


def test_the_group_has_lora_on_q_k_v_and_out_of_rank_8_and_alpha_32(place: Path) -> None:
    run = clip_run(place, "multi-brain-tuning")
    model = run.untuned()
    adapted = tuner_layers(model.backbone)
    assert set(adapted) == {
        f"encoder.layers.{layer}.attention.{part}_proj" for layer in range(N_LAYERS) for part in ("q", "k", "v", "out")
    }
    for module in adapted.values():
        assert module.lora_A["together-all"].weight.shape == (8, WIDTH)
        assert (module.scaling["together-all"], module.lora_dropout["together-all"].p) == (32 / 8, 0.1)
    assert len(run.start[0]) == N_LAYERS * 4 * 2
    assert all(not torch.equal(a, b) for a, b in zip(run.start[0], run.weights[-1][0], strict=True))
    stock = whole("wav2vec2").state_dict()
    base = {key.replace(".base_layer", ""): value for key, value in run.tuned().backbone.state_dict().items()}
    assert all(torch.equal(value, base[key]) for key, value in stock.items())


def test_the_groups_lora_is_0_62_per_cent_of_wav2vec2_base() -> None:
    recipe = load_recipe("multi-brain-tuning")
    with torch.device("meta"):
        base = Wav2Vec2Model(Wav2Vec2Config())
        n_base = sum(p.numel() for p in base.parameters())
        attach(base, "together", lora_config(base, recipe.lora or {}, range(recipe.layer(12))))
    n_lora = sum(p.numel() for key, p in base.named_parameters() if ".lora_" in key)
    assert f"{100 * n_lora / (n_base + n_lora):.2f}" == "0.62"


def test_the_groups_rates_and_batches_over_all_30_epochs(place: Path) -> None:
    run = clip_run(place, "multi-brain-tuning")
    n = run.steps_per_epoch
    assert (run.recipe.epochs, n) == (30, 1)
    expected = 1e-4 * warm_up_and_down(30 * n, 3 * n)
    np.testing.assert_allclose(run.rates, np.stack([expected, expected], 1), rtol=1e-9)
    assert all(sum(n_trs for _, _, n_trs in blocks) == 128 for blocks in run.blocks)


# Refined wav2vec 2.0


def test_refined_wav2vec2_is_a_convolution_and_a_linear_layer_on_7_trs_of_audio(place: Path) -> None:
    run = clip_run(place, "refined-wav2vec2")
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


def test_refined_wav2vec2_adds_the_weights_to_the_gradient(place: Path) -> None:
    """``d/dw (MSE + penalty |w|^2 / 2)``, clipped before the penalty is added."""
    run = clip_run(place, "refined-wav2vec2")
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


def test_refined_wav2vec2_tunes_the_head_first_and_then_all_together(place: Path) -> None:
    run = clip_run(place, "refined-wav2vec2")
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

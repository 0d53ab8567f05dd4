"""The recipes of papers run on tiny backbones and small corpora, with every step of the optimiser watched."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_families
import torch
from accelerate.utils import set_seed

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus, Run, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.models.modeling import FMRIEncodingOutput
from brain_tuning.timing.runs import lead_in
from brain_tuning.tuning.data import BlockDataset
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tune, tuned_voxels
from brain_tuning.tuning.recipe import Recipe, load_recipe

RATE = 16_000
N_VOXELS = 12
REGIONS = {"AC": [1, 4, 5, 9], "left": list(range(6)), "right": list(range(6, 12))}
#: 0.4 itself is not above 0.4, and what is not known is not either
CEILING = [0.1, 0.4, 0.41, 0.9, np.nan, 0.55, 0.7, 0.39, 0.8, 0.2, 0.45, 0.6]
RELIABLE = [2, 3, 5, 6, 8, 10, 11]


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


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where backbones, corpora and runs lie that the tests of the papers' recipes share."""
    return tmp_path_factory.mktemp("papers")


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

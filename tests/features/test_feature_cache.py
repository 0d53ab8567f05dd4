"""The cache of features goes by content: what would change them is never served from it, what would not is."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from story_corpus import corpus_of, noise
from tiny_runs import BACKBONE

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus, StoryInput
from brain_tuning.errors import StorageError
from brain_tuning.features.story import StoryFeatures, extract, feature_cache, layer_features, model_features
from brain_tuning.models import frozen_cache
from brain_tuning.models.adapters import tuner_layers
from brain_tuning.models.backbones import empty_backbone
from brain_tuning.timing import WindowPlan

PLAN = WindowPlan(0.5, 1.0, "all")
TIMES_S = np.arange(6) * 1.49 + 0.745
#: one sample of 16 bits
STEP = 2**-15


@pytest.fixture
def model() -> BrainWavLMForFMRIEncoding:
    return BrainWavLMForFMRIEncoding.from_backbone(BACKBONE, layer=2).eval()


@pytest.fixture
def small(tmp_path: Path) -> Corpus:
    return corpus_of(tmp_path / "corpus", [StoryInput("a", noise(9, 1)), StoryInput("b", noise(9, 2))])


class Watched:
    """Features whose computations are counted."""

    def __init__(self, model: BrainWavLMForFMRIEncoding, corpus: Corpus, folder: Path | None, layer: int = 2) -> None:
        self.computed: list[str] = []
        cache = None if folder is None else feature_cache(folder)
        self.of = layer_features(model, corpus, [layer], self.computed.append, plan=PLAN, cache=cache)[layer]

    def __call__(self, story: str = "a", times_s: np.ndarray = TIMES_S) -> np.ndarray:
        return self.of(story, times_s)[0].copy()


def truth(model: BrainWavLMForFMRIEncoding, corpus: Corpus) -> np.ndarray:
    return model.story_features(corpus.audio("a"), TIMES_S, plan=PLAN)[0]


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_same_function_notices_a_step_of_an_optimiser(
    model: BrainWavLMForFMRIEncoding, small: Corpus, tmp_path: Path, on_disk: bool
) -> None:
    features = Watched(model, small, tmp_path / "cache" if on_disk else None)
    before = features()
    weight = model.backbone.encoder.layers[1].feed_forward.output_dense.weight.requires_grad_()
    weight.grad = weight.detach().clone()
    torch.optim.SGD([weight], lr=0.5).step()
    after = features()
    np.testing.assert_array_equal(after, truth(model, small))
    assert np.abs(after - before).max() > 0.01
    features()
    assert features.computed == ["a", "a"]


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_same_function_notices_which_adapter_is_heard(
    tuned_run: Path, small: Corpus, tmp_path: Path, on_disk: bool
) -> None:
    """Scaled and switched off: neither is in any tensor."""
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model").eval()
    layer = model.config.layer
    features = Watched(model, small, tmp_path / "cache" if on_disk else None, layer)
    found = [features()]
    tuners = tuner_layers(model.backbone).values()
    for module in tuners:
        module.scaling[model.config.default_adapter] *= 30
    found.append(features())
    for module in tuners:
        module.enable_adapters(False)
    found.append(features())
    np.testing.assert_array_equal(found[2], truth(model, small))
    assert features.computed == ["a"] * 3
    assert not any(np.array_equal(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("key", "value"), [("max_bucket_distance", 40), ("layer_norm_eps", 1e-2), ("hidden_act", "relu")]
)
def test_settings_that_no_tensor_shows_are_other_features(
    model: BrainWavLMForFMRIEncoding, small: Corpus, tmp_path: Path, key: str, value: object
) -> None:
    before = Watched(model, small, tmp_path / "cache")()
    config = copy.deepcopy(model.config.speech_config)
    setattr(config, key, value)
    other = empty_backbone(config, dropout=False).eval()
    other.load_state_dict(model.backbone.state_dict(), strict=True)
    model.backbone = other
    features = Watched(model, small, tmp_path / "cache")
    after = features()
    assert features.computed == ["a"]
    np.testing.assert_array_equal(after, truth(model, small))
    assert np.abs(after - before).max() > 1e-4


def test_what_changes_features_misses_and_what_does_not_hits(
    model: BrainWavLMForFMRIEncoding, small: Corpus, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    first = Watched(model, small, folder)()

    def computes(corpus: Corpus, plan: WindowPlan = PLAN, layer: int = 2, story: str = "a", shift_s: float = 0) -> bool:
        computed: list[str] = []
        features = layer_features(model, corpus, [layer], computed.append, plan=plan, cache=feature_cache(folder))
        features[layer](story, TIMES_S + shift_s)
        return bool(computed)

    assert not computes(small)
    for plan in (WindowPlan(0.6, 1.0, "all"), WindowPlan(0.5, 0.9, "all"), WindowPlan(0.5, 1.0, "mean")):
        assert computes(small, plan)
    assert computes(small, layer=1)
    assert computes(small, shift_s=0.01)
    assert computes(small, story="b")
    audio = noise(9, 1)
    audio[70_000] += STEP
    assert computes(corpus_of(tmp_path / "edited", [StoryInput("a", audio)]))
    assert not computes(corpus_of(tmp_path / "renamed", [StoryInput("other", noise(9, 1))]), story="other")
    # A layer above the one that is read decides nothing.
    with torch.no_grad():
        model.backbone.encoder.layers[4].feed_forward.output_dense.weight.add_(1.0)
    assert not computes(small)
    np.testing.assert_array_equal(Watched(model, small, folder)(), first)


def test_an_interrupted_write_leaves_no_file_and_a_damaged_one_is_computed_anew(
    model: BrainWavLMForFMRIEncoding, small: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    real = frozen_cache.save_file

    def stopped(tensors: dict[str, torch.Tensor], path: Path) -> None:
        real(tensors, path)
        os.truncate(path, 100)
        raise KeyboardInterrupt

    monkeypatch.setattr(frozen_cache, "save_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        Watched(model, small, folder)()
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    monkeypatch.setattr(frozen_cache, "save_file", real)
    expected = Watched(model, small, folder)()
    (stored,) = (path for path in folder.rglob("*") if path.is_file())
    assert load_file(stored)["output"].shape == (len(TIMES_S), model.config.hidden_size + 1)
    os.truncate(stored, stored.stat().st_size // 2)
    features = Watched(model, small, folder)
    np.testing.assert_array_equal(features(), expected)
    assert features.computed == ["a"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"the folder of features cannot be made .*file/cache.* you may write to"):
        feature_cache(tmp_path / "file" / "cache")


def test_processes_share_the_stories_and_the_cache_holds_all(
    model: BrainWavLMForFMRIEncoding, small: Corpus, tmp_path: Path
) -> None:
    """Each of three takes its own; afterwards nobody computes, and all layers are those of one process."""
    wanted = [(story, TIMES_S + shift) for story in "ab" for shift in (0.0, 0.2)]
    layers = (0, 2, 6)

    def sources(computed: list[str]) -> dict[int, StoryFeatures]:
        return layer_features(model, small, layers, computed.append, plan=PLAN, cache=feature_cache(tmp_path / "cache"))

    shares: list[list[str]] = [[], [], []]
    taken = [extract([sources(shares[rank])[0]], wanted, rank=rank, world=3) for rank in range(3)]
    assert taken == [2, 1, 1]
    assert [len(share) for share in shares] == taken
    computed: list[str] = []
    shared, alone = sources(computed), layer_features(model, small, layers, plan=PLAN)
    for layer in layers:
        for story, times_s in wanted:
            for one, other in zip(shared[layer](story, times_s), alone[layer](story, times_s), strict=True):
                np.testing.assert_array_equal(one, other)
    assert computed == []


def test_the_fields_plan_is_a_window_of_16_1_s_every_tenth_of_a_second(
    model: BrainWavLMForFMRIEncoding, tmp_path: Path
) -> None:
    """Against transformers, window by window: the last frame of each, at the window's end, and a Lanczos filter."""
    audio = noise(17.03, 3)
    corpus = corpus_of(tmp_path / "corpus", [StoryInput("a", audio)])
    times_s = np.array([16.0, 16.5, 17.0])
    plan = WindowPlan(16.0, 0.1, "last")
    found, seen = model_features(model, corpus, plan=plan)("a", times_s)
    ends = [min(k * 1600 + 1600, len(audio)) for k in range(-(-len(audio) // 1600))]
    near = [(max(0, 1600 * k - 256_000), end) for k, end in enumerate(ends) if end / 16_000 > 14.3]
    assert max(end - start for start, end in near) == 257_600
    # What is left of the last step, 0.03 s, holds one frame, too.
    with torch.no_grad():
        frames = [
            model.backbone(torch.from_numpy(corpus.audio("a")[start:end])[None], output_hidden_states=True)
            .hidden_states[2][0, -1]
            .numpy()
            for start, end in near
        ]
    u = (times_s[:, None] - np.array([end / 16_000 for _, end in near])) / 0.5
    weights = np.where(np.abs(u) <= 3, np.sinc(u) * np.sinc(u / 3), 0.0)
    np.testing.assert_allclose(found, weights @ np.array(frames), atol=2e-5)
    assert seen.tolist() == [True, True, True]

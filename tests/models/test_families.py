"""Every family against transformers' own forward: hidden states, LoRA, merging, checkpointing, precision, compiling."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_builders import shake, story, tr_times, waves
from safetensors.torch import load_file, save_file
from tiny_families import CONFIGS, N_LAYERS, WIDTH, save, stock_encoder, whole
from transformers import PreTrainedModel, WhisperFeatureExtractor

from brain_tuning.errors import BackboneError, TimingError
from brain_tuning.models import BrainWavLMForFMRIEncoding, adapters
from brain_tuning.models.backbones import load_backbone
from brain_tuning.models.families import ROLES, family_of, hidden_state
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.whisper_mel import log_mel

KINDS = list(CONFIGS)
LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": list(ROLES)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("families")
    return {kind: save(kind, place / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tuned(folders: dict[str, Path]) -> dict[str, BrainWavLMForFMRIEncoding]:
    """One tuned model of every family; not to be changed."""
    made = {}
    for kind, folder in folders.items():
        torch.manual_seed(1)
        model = BrainWavLMForFMRIEncoding.from_backbone(
            str(folder), layer=N_LAYERS, context_s=1.0, stride_s=0.5, read="all", tr_s=1.5, bottleneck=4
        )
        model.add_adapter("s1-ac", 5, lora=LORA, subject="s1", roi="AC")
        model.train()
        model(**model.plan(story(6.0), tr_times(4)))
        shake(model)
        made[kind] = model.eval()
    return made


def expected_states(kind: str, model: PreTrainedModel, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """transformers' hidden states of windows; of Whisper, of the same spectrogram without padding to 30 s."""
    encoder = stock_encoder(model)
    if kind != "whisper":
        return encoder(windows, output_hidden_states=True).hidden_states
    mel = log_mel(windows, 80)
    # transformers' encoder takes nothing but 30 s, unless it is told that its table of positions is shorter.
    encoder = copy.deepcopy(encoder)
    n_frames = (mel.shape[-1] + 1) // 2
    encoder.config.max_source_positions = mel.shape[-1] // 2
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:n_frames])
    return encoder(mel, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_layer_is_that_of_transformers(kind: str, folders: dict[str, Path]) -> None:
    ours = load_backbone(str(folders[kind])).eval()
    windows = waves(2, 8_000)
    expected = expected_states(kind, whole(kind), windows)
    assert len(expected) == N_LAYERS + 1
    for layer in range(1, N_LAYERS + 1):
        torch.testing.assert_close(hidden_state(ours, windows, layer), expected[layer], rtol=1e-5, atol=1e-5)
    # The layers differ by far more than the tolerance, so that an off-by-one could not pass.
    assert (expected[1] - expected[2]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_starting_from_a_lower_layer_changes_nothing(kind: str, folders: dict[str, Path]) -> None:
    ours = load_backbone(str(folders[kind])).eval()
    family = family_of(ours.config)
    hidden = family.enter(ours, family.stem(ours, waves(2, 8_000)))
    for middle in range(1, N_LAYERS):
        halfway = family.run(ours, hidden, 0, middle)
        found = family.run(ours, halfway, middle, N_LAYERS)
        torch.testing.assert_close(found, family.run(ours, hidden, 0, N_LAYERS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_above_the_one_that_is_read_are_not_computed(kind: str, folders: dict[str, Path]) -> None:
    ours = load_backbone(str(folders[kind]))
    computed: list[int] = []
    for index, block in enumerate(family_of(ours.config).layers(ours)):
        block.register_forward_hook(lambda *_, index=index: computed.append(index))
    hidden_state(ours, waves(1, 4_000), 2)
    assert computed == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_samples", [1_040, 4_000, 8_000, 8_123, 16_079, 16_080])
@torch.no_grad()
def test_the_frame_grid_counts_frames_as_the_stem_does(kind: str, n_samples: int, folders: dict[str, Path]) -> None:
    ours = load_backbone(str(folders[kind]))
    family = family_of(ours.config)
    grid = family.frame_grid(ours.config, 16_000)
    assert grid.n_frames(n_samples) == family.stem(ours, waves(1, n_samples)).shape[1]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_frame_hears_its_receptive_field_and_nothing_else(kind: str, folders: dict[str, Path]) -> None:
    """A click moves frames within half a receptive field of it, and only those (group norm apart, which is global)."""
    ours = load_backbone(str(folders[kind])).eval()
    family = family_of(ours.config)
    grid = family.frame_grid(ours.config, 16_000)
    quiet = waves(1, 16_000)
    clicked = quiet.clone()
    clicked[0, 8_000] += 0.02
    moved = (family.stem(ours, clicked) - family.stem(ours, quiet)).abs().amax(-1)[0]
    centres = grid.centres_s(len(moved)) * 16_000
    near = torch.from_numpy(abs(centres - 8_000) <= grid.field_samples / 2)
    if getattr(ours.config, "feat_extract_norm", "layer") == "group":
        assert moved[near].max() > 10 * moved[~near].max()
    else:
        assert moved[~near].max() <= 1e-6
        assert (moved[near] > 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_adapter_tensor_is_trained(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    model = copy.deepcopy(tuned[kind])
    n_projections = 8 if kind.startswith("conformer") else 6  # a conformer layer has two feed-forward parts
    assert model.audit(story(6.0), tr_times(4)) == N_LAYERS * n_projections * 2
    model.train()
    model(**model.plan(story(6.0), tr_times(4)), labels=torch.randn(4, 5)).loss.backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key
        else:
            assert parameter.grad is None, key


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_merging_equals_the_adapter(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    model = tuned[kind]
    windows = waves(2, 8_000)
    merged = load_backbone(str(model.config.base_model_name_or_path)).eval()
    untuned = hidden_state(merged, windows, N_LAYERS)
    merged.load_state_dict(adapters.merged_state_dict(model.backbone, "s1-ac"))
    found, expected = hidden_state(merged, windows, N_LAYERS), model.hidden_state(windows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (untuned - expected).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_equals_none(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    labels, gradients = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), []
    for checkpointed in (False, True):
        model = copy.deepcopy(tuned[kind]).train()
        if checkpointed:
            model.checkpoint_activations()
        model(**model.plan(story(6.0), tr_times(4)), labels=labels).loss.backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_bfloat16_stays_within_its_bound(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    """The bound: 5 % of the norm of the hidden states, under autocast as in mixed-precision tuning and as loaded so."""
    windows = waves(2, 8_000)
    exact = tuned[kind].hidden_state(windows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = tuned[kind].hidden_state(windows)
    loaded = copy.deepcopy(tuned[kind])
    loaded.backbone.to(torch.bfloat16)
    for rough in (mixed, loaded.hidden_state(windows)):
        assert 0 < (rough.float() - exact).norm() / exact.norm() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiling_changes_nothing(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    gradients = []
    labels = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    for compiled in (False, True):
        model = copy.deepcopy(tuned[kind])
        if compiled:
            model.compile_layers()
        model.train()
        model(**model.plan(story(6.0), tr_times(4)), labels=labels).loss.backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_predictions_are_equal_to_the_last_bit(
    kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding], tmp_path: Path
) -> None:
    expected = tuned[kind].predict(story(6.0), tr_times(4))
    copy.deepcopy(tuned[kind]).save_pretrained(tmp_path / "own")
    tuned[kind].save_published(tmp_path / "hub")
    for place in ("own", "hub"):
        again = BrainWavLMForFMRIEncoding.from_pretrained(tmp_path / place)
        assert (again.predict(story(6.0), tr_times(4)) == expected).all(), place


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_published_root_is_the_tuned_encoder(
    kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding], tmp_path: Path
) -> None:
    """What a user without this package loads; of Whisper and SpeechT5 the whole model, decoder as in the base."""
    tuned[kind].save_published(tmp_path)
    base = whole(kind)
    root = type(base).from_pretrained(tmp_path).eval()
    windows = waves(2, 8_000)
    found, untuned = (expected_states(kind, model, windows)[N_LAYERS] for model in (root, base))
    torch.testing.assert_close(found, tuned[kind].hidden_state(windows), rtol=1e-5, atol=1e-5)
    assert (found - untuned).abs().max() > 0.1
    if root.config.is_encoder_decoder:
        for (key, value), (_, before) in zip(
            root.get_decoder().state_dict().items(), base.get_decoder().state_dict().items(), strict=True
        ):
            assert torch.equal(value, before), key


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_is_refused_where_it_changes_features(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    model = tuned[kind]
    windows, mask = waves(2, 8_000), torch.ones(2, 8_000)
    windows[1, 6_000:], mask[1, 6_000:] = 0.0, 0
    if kind in ("wavlm-large", "wav2vec2-large", "hubert-large"):
        found = model.hidden_state(windows, mask)
        alone = model.hidden_state(windows[1:, :6_000])
        torch.testing.assert_close(found[1:, : alone.shape[1]], alone)
        torch.testing.assert_close(found[:1], model.hidden_state(windows[:1]))
        # transformers' own answer to the same padded batch, which shows that the table is right about it
        stock = load_backbone(str(model.config.base_model_name_or_path)).eval()
        stock.load_state_dict(adapters.merged_state_dict(model.backbone, "s1-ac"))
        states = stock(windows, attention_mask=mask.long(), output_hidden_states=True).hidden_states[N_LAYERS]
        torch.testing.assert_close(found[1, : alone.shape[1]], states[1, : alone.shape[1]], rtol=1e-4, atol=1e-4)
    else:
        with pytest.raises(BackboneError, match="1 of 2 windows are padded, which changes the features"):
            model.hidden_state(windows, mask)
        with pytest.raises(BackboneError, match="padded"):
            model(windows[1:], attention_mask=mask[1:])
    model.hidden_state(windows, torch.ones(2, 8_000))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [1, 2])
def test_lower_layers_can_be_left_as_they_are(kind: str, first: int, folders: dict[str, Path]) -> None:
    """Adapters on upper layers only: no gradient below, and the cache of the frozen part changes nothing."""
    losses, gradients = [], []
    for cache in (None, FrozenCache(2**20)):
        torch.manual_seed(0)
        model = BrainWavLMForFMRIEncoding.from_backbone(
            str(folders[kind]), layer=N_LAYERS, first_adapted_layer=first, context_s=1.0, stride_s=0.5, read="all",
            tr_s=1.5, bottleneck=4,
        )  # fmt: skip
        model.add_adapter("s1-ac", 5, lora=LORA)
        model.frozen_cache = cache
        touched = {
            int(key.split("layers.")[1].split(".")[0]) for key in dict(model.named_parameters()) if "lora_" in key
        }
        assert touched == set(range(first, N_LAYERS))
        model.train()
        for _ in range(2):
            output = model(**model.plan(story(6.0), tr_times(4)), labels=torch.ones(4, 5).cumsum(1).cos())
            output.loss.backward()
        losses.append(output.loss.item())
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == losses[1]
    assert cache is not None
    assert cache.n_bytes > 0
    for key, value in gradients[0].items():
        assert torch.equal(gradients[1][key], value), key


def test_the_width_and_depth_follow_from_the_backbone(tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    for kind, model in tuned.items():
        features, seen = model.story_features(story(6.0), tr_times(4))
        assert features.shape == (4, WIDTH), kind
        assert seen.all()


@torch.no_grad()
def test_whisper_without_padding_differs_from_padding_only_where_it_must(folders: dict[str, Path]) -> None:
    """What enters the layers is equal but for the last frames; deeper, transformers' frames attend to the padding."""
    ours = load_backbone(str(folders["whisper"])).eval()
    family = family_of(ours.config)
    windows = waves(1, 5 * 16_000)
    entered = family.enter(ours, family.stem(ours, windows))
    stock = stock_encoder(whole("whisper"))
    mel = WhisperFeatureExtractor(feature_size=80)(windows[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    padded = stock(mel.input_features, output_hidden_states=True).hidden_states
    n_real = entered.shape[1]
    assert n_real == 250
    torch.testing.assert_close(entered[:, :-2], padded[0][:, : n_real - 2], rtol=1e-4, atol=1e-4)
    assert (entered[:, -1] - padded[0][:, n_real - 1]).abs().max() > 1e-3
    # The rest of the difference is attention to padding: without it the padded model's frames are ours.
    hidden = padded[0][:, : n_real - 2]
    for block in stock.layers:
        hidden = block(hidden, None)
    found = family.run(ours, entered[:, :-2], 0, N_LAYERS)
    torch.testing.assert_close(found, stock.layer_norm(hidden), rtol=1e-4, atol=1e-4)
    assert (found - padded[-1][:, : n_real - 2]).abs().max() > 1e-2


def test_whisper_refuses_windows_longer_than_its_positions(tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    model = copy.deepcopy(tuned["whisper"])
    model.config.context_s = 40.0
    with pytest.raises(TimingError, match=r"windows of 40.5 s are too long for this encoder.*at most 30 s"):
        model.plan(story(50.0), tr_times(4))


@pytest.mark.parametrize(
    ("n_samples", "text"),
    [
        (399, r"a window is too short for a spectrum \[399 samples\]; expected at least 400 samples"),
        (496_000, r"windows of 31 s are too long for this encoder; expected windows of at most 30 s"),
    ],
)
def test_whisper_refuses_windows_that_it_cannot_hear(
    n_samples: int, text: str, tuned: dict[str, BrainWavLMForFMRIEncoding]
) -> None:
    with pytest.raises(TimingError, match=text):
        tuned["whisper"].hidden_state(waves(1, n_samples))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_checkpoints_as_they_lie_on_the_hub_are_read(
    kind: str, file: str, folders: dict[str, Path], copied: Callable[[Path], Path]
) -> None:
    """user-pains 25: older names of weight-normalised tensors, a prefix, a task's head, and pickled weights."""
    expected = load_backbone(str(folders[kind])).state_dict()
    folder = copied(folders[kind])
    model = whole(kind)
    prefix = "" if model.config.is_encoder_decoder else f"{model.base_model_prefix}."
    tensors = {prefix + key: value.contiguous() for key, value in load_file(folder / "model.safetensors").items()}
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        tensors = {key.replace(f"parametrizations.weight.{new}", old): value for key, value in tensors.items()}
    tensors["lm_head.bias"] = torch.zeros(40)
    (folder / "model.safetensors").unlink()
    if file.endswith("bin"):
        torch.save(tensors, folder / file)
    else:
        save_file(tensors, folder / file, metadata={"format": "pt"})
    found = load_backbone(str(folder)).state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_masks_that_do_not_say_what_is_padded_at_the_end_are_refused(
    tuned: dict[str, BrainWavLMForFMRIEncoding],
) -> None:
    model = tuned["wav2vec2-large"]
    windows, mask = waves(2, 8_000), torch.ones(2, 8_000)
    with pytest.raises(TimingError, match=r"the attention mask has shape \(2, 7000\); expected \(2, 8000\)"):
        model.hidden_state(windows, mask[:, :7_000])
    for part in (slice(0, 2_000), slice(3_000, 5_000)):
        wrong = mask.clone()
        wrong[1, part] = 0
        with pytest.raises(BackboneError, match="padded before its end, which would move its frames"):
            model.hidden_state(windows, wrong)
    # With windows already cut the mask was passed over, and padding was heard.
    block = model.plan(story(6.0), tr_times(4))
    mask[1, 6_000:] = 0
    with pytest.raises(TimingError, match=r"an attention mask of shape \(2, 8000\) says what of the input is padded"):
        model(**block, attention_mask=mask)


def test_a_padded_recording_is_heard_without_its_padding(tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    model = tuned["wav2vec2-large"]
    audio, mask = torch.from_numpy(story(6.0)), torch.ones(1, 96_000)
    mask[:, 80_000:] = 0
    expected = model(audio[:80_000]).prediction
    for given, said in ((audio, mask), (audio, mask[0]), (audio[None], mask), (audio[None], mask[0])):
        assert torch.equal(model(given, attention_mask=said).prediction, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_random_is_left_while_tuning(kind: str, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> None:
    """user-pains 6."""
    model = copy.deepcopy(tuned[kind]).train()
    windows = waves(2, 8_000)
    assert torch.equal(model.hidden_state(windows), model.hidden_state(windows))

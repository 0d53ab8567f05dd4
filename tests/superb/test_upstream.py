"""An encoder's layers for utterances: those of transformers, each computed once, whatever is computed with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_families import CONFIGS, save, stock_encoder, whole
from transformers import AutoFeatureExtractor

from brain_tuning.errors import TaskDataError
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.published import write
from brain_tuning.superb.downstream import Hearing
from brain_tuning.superb.examples import Recording, Utterance
from brain_tuning.superb.upstream import Upstream, load_upstream, place_and_adapter

KINDS = ("wavlm", "wavlm-large", "wav2vec2", "wav2vec2-large", "hubert", "hubert-large", "conformer-rotary", "speecht5")


def wave(n_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


def written(folder: Path, lengths: tuple[int, ...]) -> list[Utterance]:
    made = []
    for k, n_samples in enumerate(lengths):
        path = folder / f"{k}.wav"
        soundfile.write(path, wave(n_samples, k).numpy(), 16_000, subtype="FLOAT")
        made.append(Utterance(name=path.stem, recording=Recording(path)))
    return made


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "me@home" / "run"
    assert place_and_adapter("lab/model") == ("lab/model", None)
    assert place_and_adapter("lab/model@s1") == ("lab/model", "s1")
    folder.mkdir(parents=True)
    assert place_and_adapter(str(folder)) == (str(folder), None)
    assert place_and_adapter(f"{folder}@s1") == (str(folder), "s1")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {kind: save(kind, root / kind) for kind in (*KINDS, "whisper")}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_its_layers_are_those_of_transformers(kind: str, folders: dict[str, Path]) -> None:
    upstream = load_upstream(str(folders[kind]))
    heard = wave(9_000)
    extractor = AutoFeatureExtractor.from_pretrained(folders[kind])
    values = extractor(heard.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    stock = stock_encoder(whole(kind)).eval()
    expected = stock(values, output_hidden_states=True).hidden_states
    (found,) = upstream.hidden_states([heard])
    assert len(expected) == upstream.n_layers
    for layer, states in enumerate(expected):
        torch.testing.assert_close(found[layer], states[0], atol=2e-5, rtol=1e-4)
    assert found.shape == (upstream.n_layers, upstream.grid.n_frames(9_000), upstream.width)


@pytest.mark.parametrize("kind", [*KINDS, "whisper"])
@torch.no_grad()
def test_company_changes_nothing(kind: str, folders: dict[str, Path]) -> None:
    """user-pains 4: where padding changes features nothing is padded; where it does not, batches are."""
    upstream = load_upstream(str(folders[kind]))
    waves = [wave(n, k) for k, n in enumerate((9_000, 5_000, 9_000, 12_345))]
    together = upstream.hidden_states(waves)
    for one, found in zip(waves, together, strict=True):
        (alone,) = upstream.hidden_states([one])
        assert found.shape == alone.shape
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_what_whisper_has_no_positions_for_is_heard_in_equal_parts(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = load_upstream(str(folders["whisper"]))
    longest = upstream.grid.longest_samples
    assert longest == 30 * 16_000
    heard = wave(longest + 320)
    (found,) = upstream.hidden_states([heard])
    halves = upstream.hidden_states([heard[: len(heard) // 2], heard[len(heard) // 2 :]])
    torch.testing.assert_close(found, torch.cat(halves, dim=1), atol=1e-4, rtol=1e-3)


def test_what_is_remembered_is_what_was_computed(folders: dict[str, Path], tmp_path: Path) -> None:
    utterances = written(tmp_path, (9_000, 5_000, 9_000))
    folder = tmp_path / "features"
    upstream = load_upstream(str(folders["wavlm"]), cache=FrozenCache(2**24, folder, 2**30), keep_dtype=torch.float32)
    seal = upstream.seal()
    means, frames = upstream.means(utterances, seal), upstream.frames(utterances, seal)
    for mean, states in zip(means, frames, strict=True):
        torch.testing.assert_close(mean, states.mean(1))
    files = sorted(folder.rglob("*.safetensors"))
    assert len(files) == 6
    again = load_upstream(str(folders["wavlm"]), cache=FrozenCache(2**24, folder, 2**30), keep_dtype=torch.float32)
    computed: list[int] = []
    again.hidden_states = lambda waves: computed.append(len(waves))  # type: ignore[assignment,return-value]
    assert torch.equal(again.means(utterances, again.seal()), means)
    assert all(torch.equal(a, b) for a, b in zip(again.frames(utterances, again.seal()), frames, strict=True))
    assert not computed


def test_other_weights_or_samples_are_not_mistaken_for_known_ones(folders: dict[str, Path], tmp_path: Path) -> None:
    (utterance,) = written(tmp_path, (9_000,))
    cache = FrozenCache(2**24)
    upstream = load_upstream(str(folders["wavlm"]), cache=cache)
    before = upstream.means([utterance], upstream.seal())
    with torch.no_grad():
        upstream.encoder.encoder.layers[-1].final_layer_norm.bias.add_(1.0)
    changed = upstream.means([utterance], upstream.seal())
    assert not torch.allclose(before, changed)
    other = Upstream(upstream.encoder, normalise_input=True, name="x", cache=cache)
    assert not torch.allclose(changed, other.means([utterance], other.seal()))
    part = Utterance(name="part", recording=Recording(utterance.recording.path, 0.1, 0.4))
    assert not torch.allclose(changed, upstream.means([part], upstream.seal()))


def test_half_precision_is_left_where_values_do_not_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    (utterance,) = written(tmp_path, (9_000,))
    upstream = load_upstream(str(folders["wavlm"]))
    (kept,) = upstream.frames([utterance], upstream.seal())
    assert kept.dtype == torch.float16
    with torch.no_grad():
        upstream.encoder.encoder.layers[-1].final_layer_norm.bias.add_(1e5)
    (kept,) = upstream.frames([utterance], upstream.seal())
    assert kept.dtype == torch.float32
    assert kept.isfinite().all()


def test_features_are_computed_in_advance_by_length_and_shared_out(folders: dict[str, Path], tmp_path: Path) -> None:
    utterances = written(tmp_path, (9_000, 5_000, 7_000, 8_000))
    folder = tmp_path / "features"
    done = 0
    for rank in range(2):
        upstream = load_upstream(str(folders["wavlm"]), cache=FrozenCache(2**24, folder, 2**30))
        hear = Hearing(upstream, pooled=True)
        done += sum(hear.prepare(utterances, rank, 2))
    assert done == 4
    assert len(list(folder.rglob("*.safetensors"))) == 4


@torch.no_grad()
def test_a_published_repository_and_its_adapters_are_heard(tmp_path: Path) -> None:
    from model_builders import tuned_model

    base = save("wavlm", tmp_path / "base")
    model = tuned_model(base, adapters=("s1-ac", "s2-ac"))
    repository = model.save_published(tmp_path / "brainwavlm")
    root = load_upstream(str(repository))
    default = load_upstream(str(repository), adapter=str(model.config.default_adapter))
    other = load_upstream(str(repository), adapter="s2-ac")
    untuned = load_upstream(str(base))
    heard = [wave(9_000)]
    torch.testing.assert_close(root.hidden_states(heard)[0], default.hidden_states(heard)[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(other.hidden_states(heard)[0], default.hidden_states(heard)[0], atol=1e-3)
    assert not torch.allclose(untuned.hidden_states(heard)[0], default.hidden_states(heard)[0], atol=1e-3)
    bare = load_upstream(str(write(model, tmp_path / "adapters", merged_root=False)))
    torch.testing.assert_close(bare.hidden_states(heard)[0], default.hidden_states(heard)[0], atol=1e-5, rtol=1e-4)


def test_too_short_an_utterance_is_refused(folders: dict[str, Path]) -> None:
    upstream = load_upstream(str(folders["wavlm"]))
    with pytest.raises(TaskDataError, match=r"300 samples is too short .* at least 400 samples"):
        upstream.hidden_states([wave(9_000), wave(300)])


def test_all_families_are_here() -> None:
    assert {kind.split("-")[0] for kind in (*KINDS, "whisper")} == {kind.split("-")[0] for kind in CONFIGS}


def test_recordings_are_read_as_asked(tmp_path: Path) -> None:
    samples = wave(16_000).numpy()
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(Recording(tmp_path / "a.wav", 0.25, 0.5).load(), samples[4_000:8_000])
    assert Recording(tmp_path / "a.wav", 0.25).duration_s() == pytest.approx(0.75)
    with pytest.raises(TaskDataError, match=r"0.5 s to 1.5 s .* expected a part of 0 s to 1.000 s"):
        Recording(tmp_path / "a.wav", 0.5, 1.5).load()


def test_half_precision_of_the_encoder_is_close_and_kept_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    (utterance,) = written(tmp_path, (9_000,))
    upstream = load_upstream(str(folders["wavlm"]), cache=FrozenCache(2**24), keep_dtype=torch.float32)
    exact = Hearing(upstream, pooled=False)([utterance])[0]
    rough = Hearing(upstream, pooled=False, autocast=lambda: torch.autocast("cpu", torch.bfloat16))([utterance])[0]
    assert not torch.equal(exact, rough)
    assert float((exact - rough).norm() / exact.norm()) < 0.03
    assert torch.equal(Hearing(upstream, pooled=False)([utterance])[0], exact)

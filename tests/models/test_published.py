from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import BUNDLED_NAME, LORA, story, tr_times, tuned_model, waves
from safetensors.torch import load_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    BertConfig,
    BertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMModel,
)

from brain_tuning.errors import AdapterError, BackboneError
from brain_tuning.models import BrainWavLMForFMRIEncoding
from brain_tuning.models.backbones import load_backbone
from brain_tuning.models.published import ADAPTERS_ONLY, plain_model, write
from brain_tuning.models.published_adapters import load_adapter

ROOT = {"config.json", "model.safetensors", "preprocessor_config.json"}
TIMES = tr_times(4)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def hidden(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(waves(1, 8_000), output_hidden_states=True).hidden_states[3]


def renamed_base(folder: Path, base: str) -> Path:
    """The folder, saying that its adapters were tuned from ``base``."""
    for path in (folder / "encoding" / "config.json", *folder.glob("adapters/*/adapter_config.json")):
        said = json.loads(path.read_text())
        said["base_model_name_or_path"] = base
        path.write_text(json.dumps(said))
    return folder


def test_the_layout_is_exactly_what_is_documented(published_once: Path) -> None:
    adapters = {
        f"adapters/{name}/{file}"
        for name in ("s1-ac", "s2-ac")
        for file in ("adapter_config.json", "adapter_model.safetensors", "head.safetensors")
    }
    assert names(published_once) == ROOT | adapters | {"encoding/config.json"}
    root, encoding = (json.loads((published_once / p / "config.json").read_text()) for p in (".", "encoding"))
    assert root["model_type"] == "wavlm"
    assert root["architectures"] == ["WavLMModel"]
    assert encoding["model_type"] == "brainwavlm"
    assert encoding["default_adapter"] == "s1-ac"
    assert encoding["adapters"]["s2-ac"] == {"n_voxels": 6, "subject": "s2", "roi": "ac"}
    said = json.loads((published_once / "adapters" / "s1-ac" / "adapter_config.json").read_text())
    assert said["target_modules"].startswith("(?!)(?#this adapter has no effect in the stock attention of WavLMModel")
    assert (said["layers_to_transform"], said["r"], said["lora_alpha"]) == (None, LORA["r"], LORA["lora_alpha"])
    assert said["inference_mode"] is True
    tensors = load_file(published_once / "adapters" / "s1-ac" / "adapter_model.safetensors")
    assert "base_model.model.encoder.layers.0.attention.q_proj.lora_A.weight" in tensors
    assert all(value.dtype == torch.float32 for value in load_file(published_once / "model.safetensors").values())


def test_a_model_from_the_bundled_backbone_names_it_and_no_path_of_this_machine(tmp_path: Path) -> None:
    model = tuned_model(BUNDLED_NAME)
    folder = model.save_published(tmp_path / "published")
    again = BrainWavLMForFMRIEncoding.from_pretrained(folder).save_published(tmp_path / "again")
    assert names(folder) == names(again)
    for path in sorted(names(folder)):
        content = (folder / path).read_bytes()
        assert content == (again / path).read_bytes(), path
        for place in (Path(__file__).parents[2], tmp_path, Path.home()):
            assert len(str(place)) < 2 or str(place).encode() not in content, path
    said = json.loads((folder / "encoding" / "config.json").read_text())
    assert (said["base_model_name_or_path"], len(said["base_model_revision"])) == (BUNDLED_NAME, 40)
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(folder)
    assert np.array_equal(loaded.predict(story(6.0), TIMES), model.predict(story(6.0), TIMES))


def test_predictions_come_back_to_the_last_bit(tuned: BrainWavLMForFMRIEncoding, published_once: Path) -> None:
    audio = story(6.0)
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(published_once)
    assert type(loaded) is BrainWavLMForFMRIEncoding
    assert not loaded.training
    assert list(loaded.heads) == ["s1-ac"]
    assert loaded.head.voxels.tolist() == [0, 3, 6, 9, 12]
    assert np.array_equal(loaded.predict(audio, TIMES), tuned.predict(audio, TIMES))
    trained = {key for key, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trained == {key for key, _ in loaded.named_parameters() if ".s1-ac." in key}


def test_every_adapter_of_a_repository_can_be_had(tiny_wavlm: Path, published_once: Path) -> None:
    """user-pains 7: heads are neither lost nor mixed up."""
    tuned = tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac"))
    audio = story(6.0)
    expected = {}
    for name in ("s1-ac", "s2-ac"):
        tuned.set_adapter(name)
        expected[name] = tuned.predict(audio, TIMES)
    one = BrainWavLMForFMRIEncoding.from_pretrained(published_once, adapter="s2-ac")
    assert (list(one.heads), one.config.default_adapter) == (["s2-ac"], "s2-ac")
    assert np.array_equal(one.predict(audio, TIMES), expected["s2-ac"])
    every = BrainWavLMForFMRIEncoding.from_pretrained(published_once, adapter="all")
    assert every.config.default_adapter == "s1-ac"
    for name in ("s2-ac", "s1-ac", "s2-ac"):
        every.set_adapter(name)
        assert np.array_equal(every.predict(audio, TIMES), expected[name])
    assert every.config.adapters == tuned.config.adapters
    with pytest.raises(
        AdapterError, match=r"there is no adapter 's3-ac' \[.*brainwavlm\]; expected one of s1-ac, s2-ac"
    ):
        BrainWavLMForFMRIEncoding.from_pretrained(published_once, adapter="s3-ac")


def test_plain_automodel_gets_the_tuned_encoder(
    tuned: BrainWavLMForFMRIEncoding, published_once: Path, tiny_wavlm: Path
) -> None:
    plain, report = AutoModel.from_pretrained(published_once, output_loading_info=True)
    assert type(plain) is WavLMModel
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    plain.eval()
    torch.testing.assert_close(hidden(plain), hidden(tuned.backbone), rtol=1e-5, atol=1e-5)
    assert (hidden(plain) - hidden(WavLMModel.from_pretrained(tiny_wavlm).eval())).abs().max() > 0.01
    extractor = AutoFeatureExtractor.from_pretrained(published_once)
    assert (extractor.sampling_rate, extractor.do_normalize) == (16_000, False)


def test_without_the_base_its_weights_are_the_root_minus_the_delta(
    tuned: BrainWavLMForFMRIEncoding,
    published_once: Path,
    copied: Callable[[Path], Path],
    tiny_wavlm: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    BrainWavLMForFMRIEncoding.from_pretrained(published_once)
    assert not caplog.records
    folder = renamed_base(copied(published_once), "lab/gone")
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(folder, adapter="all")
    said = [record.getMessage() for record in caplog.records if record.name == "brain_tuning.models.published"]
    assert said == [
        f"{folder}: the base model lab/gone is out of reach; its weights are those of the merged root less the merged "
        "adapter, so that results differ by rounding"
    ]
    base = WavLMModel.from_pretrained(tiny_wavlm).state_dict()
    for key, value in loaded.backbone.state_dict().items():
        if ".lora_" not in key:
            torch.testing.assert_close(value, base[key.replace(".base_layer", "")], rtol=0, atol=1e-4)
    audio = story(6.0)
    np.testing.assert_allclose(loaded.predict(audio, TIMES), tuned.predict(audio, TIMES), rtol=0, atol=1e-4)
    loaded.set_adapter("s2-ac")
    other = BrainWavLMForFMRIEncoding.from_pretrained(published_once, adapter="s2-ac")
    np.testing.assert_allclose(loaded.predict(audio, TIMES), other.predict(audio, TIMES), rtol=0, atol=1e-4)


def test_a_repository_of_adapters_only(tuned: BrainWavLMForFMRIEncoding, tmp_path: Path) -> None:
    folder = write(tuned, tmp_path / "small", merged_root=False)
    assert not names(folder) & {"model.safetensors", "adapter_config.json"}
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(folder)
    assert np.array_equal(loaded.predict(story(6.0), TIMES), tuned.predict(story(6.0), TIMES))
    with pytest.raises(ValueError, match=r"model type `adapters-only-load-one-with-brain_tuning\.load_adapter`"):
        AutoModel.from_pretrained(folder)
    renamed_base(folder, "lab/gone")
    with pytest.raises(AdapterError, match="the base model lab/gone cannot be loaded, and there is no merged root"):
        BrainWavLMForFMRIEncoding.from_pretrained(folder)


def test_heads_in_float16_are_half_the_size_and_nearly_the_same(
    tuned: BrainWavLMForFMRIEncoding, published_once: Path, tmp_path: Path
) -> None:
    folder = write(tuned, tmp_path / "half", head_dtype=torch.float16)
    tensors = load_file(folder / "adapters" / "s1-ac" / "head.safetensors")
    kinds = {key: value.dtype for key, value in tensors.items()}
    assert kinds["readout.weight"] == kinds["bottleneck.weight"] == torch.float16
    assert kinds["readout.bias"] == kinds["norm.running_mean"] == torch.float32
    assert kinds["voxels"] == torch.int32
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(folder)
    assert loaded.head.readout.weight.dtype == torch.float32
    found, expected = (model.predict(story(6.0), TIMES) for model in (loaded, tuned))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)
    assert not np.array_equal(found, expected)


def test_full_fine_tuning_is_published_as_its_root(tiny_wavlm: Path, tmp_path: Path) -> None:
    model = tuned_model(tiny_wavlm, lora=None)
    folder = model.save_published(tmp_path / "full")
    assert names(folder) == ROOT | {"encoding/config.json", "adapters/s1-ac/head.safetensors"}
    loaded = BrainWavLMForFMRIEncoding.from_pretrained(folder)
    assert np.array_equal(loaded.predict(story(6.0), TIMES), model.predict(story(6.0), TIMES))
    torch.testing.assert_close(hidden(AutoModel.from_pretrained(folder).eval()), hidden(model.backbone))
    untuned = WavLMModel.from_pretrained(tiny_wavlm).eval()
    assert (hidden(loaded.backbone) - hidden(untuned)).abs().max() > 0.01
    with pytest.raises(AdapterError, match=r"tuned in full and has no adapters .*; remedy: load its root with Auto"):
        load_adapter(untuned, folder)
    with pytest.raises(AdapterError, match="a fully fine-tuned model has no adapters without its root"):
        write(model, tmp_path / "other", merged_root=False)
    model.add_adapter("s2-ac", 3)
    with pytest.raises(AdapterError, match="can be published with one head only"):
        write(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_a_published_model_can_be_loaded_in_bfloat16(
    tuned: BrainWavLMForFMRIEncoding, published_once: Path, dtype: object
) -> None:
    half = BrainWavLMForFMRIEncoding.from_pretrained(published_once, dtype=dtype)
    assert half.dtype == torch.bfloat16
    with pytest.raises(AdapterError, match=r"the model is in torch\.bfloat16, in which a tuned difference drowns"):
        half.save_published(published_once.parent / "half")
    found, expected = (model.predict(story(6.0), TIMES) for model in (half, tuned))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


# Adapters on an encoder that is loaded already


@pytest.mark.parametrize("start", [WavLMModel.from_pretrained, lambda place: load_backbone(str(place))])
def test_an_adapter_can_be_put_on_a_loaded_encoder(
    tuned: BrainWavLMForFMRIEncoding, published_once: Path, tiny_wavlm: Path, start: Callable[[Path], WavLMModel]
) -> None:
    encoder = load_adapter(start(tiny_wavlm), published_once)
    assert not encoder.training
    assert torch.equal(hidden(encoder), hidden(tuned.backbone))
    second = hidden(load_adapter(encoder, published_once, adapter="s2-ac"))
    assert (second - hidden(tuned.backbone)).abs().max() > 0.01
    assert torch.equal(hidden(load_adapter(encoder, published_once, adapter="s1-ac")), hidden(tuned.backbone))
    with pytest.raises(AdapterError, match=r"there is no adapter 's9' \[.*\]; expected one of s1-ac, s2-ac"):
        load_adapter(encoder, published_once, adapter="s9")


def test_an_adapter_is_refused_by_an_encoder_it_was_not_tuned_on(
    published_once: Path, copied: Callable[[Path], Path], tiny_wavlm: Path
) -> None:
    """user-pains 1: shapes fit, so nothing else would tell."""
    folder = renamed_base(copied(published_once), "microsoft/wavlm-base-plus")
    encoder = WavLMModel.from_pretrained(tiny_wavlm)
    encoder.config._name_or_path = "microsoft/wavlm-base"
    with pytest.raises(AdapterError) as caught:
        load_adapter(encoder, folder)
    assert str(caught.value).startswith("the adapter was tuned on microsoft/wavlm-base-plus [")
    assert "put on microsoft/wavlm-base]; expected the encoder microsoft/wavlm-base-plus" in str(caught.value)
    encoder.config._name_or_path = "microsoft/wavlm-base-plus"
    load_adapter(encoder, folder)
    # Of another family with projections of the same names and sizes.
    other = Wav2Vec2Model(
        Wav2Vec2Config(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48)
    )
    keys = list(other.state_dict())
    with pytest.raises(AdapterError) as caught:
        load_adapter(other, folder)
    assert str(caught.value).startswith(f"the adapter was tuned on a wavlm encoder [{folder}, put on a wav2vec2 one]")
    assert list(other.state_dict()) == keys
    with pytest.raises(BackboneError, match="type 'bert' cannot be brain-tuned"):
        load_adapter(BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)), folder)


def test_another_adapter_of_the_same_name_does_not_inherit_the_first_ones_settings(
    published_once: Path, tiny_wavlm: Path, tmp_path: Path
) -> None:
    """Its alpha would be: the tensors fit, and their scale would be wrong."""
    encoder = load_adapter(WavLMModel.from_pretrained(tiny_wavlm), published_once)
    other = tuned_model(tiny_wavlm, lora={**LORA, "lora_alpha": 8}).save_published(tmp_path / "other")
    with pytest.raises(AdapterError, match="another adapter called 's1-ac', with other LoRA settings"):
        load_adapter(encoder, other)


def test_nothing_of_an_earlier_model_stays_in_the_folder(
    tuned: BrainWavLMForFMRIEncoding, tiny_wavlm: Path, tmp_path: Path
) -> None:
    """A root left over would be loaded by AutoModel as if it were this model's."""
    folder = tuned.save_published(tmp_path / "published")
    (folder / "README.md").write_text("mine")
    write(tuned_model(tiny_wavlm), folder, merged_root=False)
    assert "model.safetensors" not in names(folder)
    assert json.loads((folder / "config.json").read_text()) == {"model_type": ADAPTERS_ONLY}
    assert {path.name for path in (folder / "adapters").iterdir()} == {"s1-ac"}
    assert (folder / "README.md").read_text() == "mine"


def test_a_model_without_adapters_or_preprocessor_is_not_published(tiny_wavlm: Path, tmp_path: Path) -> None:
    model = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), layer=2)
    with pytest.raises(AdapterError, match="the model has no adapter to publish"):
        model.save_published(tmp_path / "none")
    bare = tmp_path / "bare"
    WavLMModel.from_pretrained(tiny_wavlm).save_pretrained(bare)
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json cannot be loaded .*; remedy: add one to the"):
        tuned_model(bare).save_published(tmp_path / "other")
    assert names(tmp_path / "other") == set()


def test_a_plain_model_of_no_adapter_is_refused(tuned: BrainWavLMForFMRIEncoding) -> None:
    """An empty choice is not the active adapter."""
    with pytest.raises(AdapterError, match="no adapter is given a weight"):
        plain_model(tuned, {})

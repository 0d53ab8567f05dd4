"""peft's and transformers' own loaders on what is published: tuned, or an error with the reason; never untuned."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import tiny_families
import torch
import transformers
from model_builders import LORA, shake, waves

from brain_tuning.models import BrainWavLMForFMRIEncoding
from brain_tuning.models.families import hidden_state
from brain_tuning.models.published import write
from brain_tuning.models.published_adapters import load_adapter

FAMILIES = ("wavlm", "wav2vec2", "hubert", "whisper", "speecht5")
LAYER = 2
PLACE = "adapters/s1-ac"
#: what a stranger to this package is told, family by family
NO_EFFECT = "this adapter has no effect in the stock attention of WavLMModel, which would stay untuned"
BARE = r"Target modules \(\?#this adapter belongs on a bare \w+: load it by brain_tuning\.load_adapter\)"
ADAPTERS_ONLY = r"model type `adapters-only-load-one-with-brain_tuning\.load_adapter`"
NOT_HERE = r"Unrecognized model in .*Should have a `model_type` key in its config\.json"
NO_HEAD = r"Unrecognized configuration class"
MMS = r"Cannot load_adapter for .* if `config\.adapter_attn_dim` is not defined"


@dataclass(frozen=True)
class Published:
    """A family's stock model, and what was published of a tuned one."""

    kind: str
    base: Path
    merged: Path
    adapters_only: Path
    tuned: torch.Tensor

    def stock(self) -> Any:
        return tiny_families.stock_encoder(tiny_families.whole(self.kind))

    @torch.no_grad()
    def difference(self, encoder: Any) -> float:
        """From the tuned model's features."""
        return float((hidden_state(encoder.eval(), waves(1, 16_000), LAYER) - self.tuned).abs().max())


@pytest.fixture(scope="module", params=FAMILIES)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    place = tmp_path_factory.mktemp(request.param)
    base = tiny_families.save(request.param, place / "base")
    model = BrainWavLMForFMRIEncoding.from_backbone(str(base), layer=LAYER, bottleneck=4)
    model.add_adapter("s1-ac", 5, lora=LORA)
    shake(model.eval())
    with torch.no_grad():
        tuned = model.hidden_state(waves(1, 16_000))
    merged, alone = write(model, place / "merged"), write(model, place / "alone", merged_root=False)
    found = Published(request.param, base, merged, alone, tuned)
    assert found.difference(found.stock()) > 0.05
    return found


def refused(text: str, load: Callable[[], object]) -> None:
    with pytest.raises((ValueError, OSError), match=text):
        load()


def test_pefts_own_loader_is_right_or_says_why(published: Published) -> None:
    def load(encoder: Any) -> Any:
        return peft.PeftModel.from_pretrained(encoder, published.merged, subfolder=PLACE)

    if published.kind == "wavlm":
        refused(NO_EFFECT, lambda: load(published.stock()))
    else:
        assert published.difference(load(published.stock()).base_model.model) < 1e-5


def test_transformers_own_loader_is_right_or_says_why(published: Published) -> None:
    def load(encoder: Any) -> Any:
        encoder.load_adapter(str(published.merged), adapter_kwargs={"subfolder": PLACE})
        return encoder

    if published.kind in ("wavlm", "wav2vec2"):
        refused(NO_EFFECT if published.kind == "wavlm" else MMS, lambda: load(published.stock()))
    else:
        assert published.difference(load(published.stock())) < 1e-5


def test_a_model_around_the_encoder_does_not_take_the_adapter(published: Published) -> None:
    """As a list of names, target_modules would be found there, and the file's tensors would not."""
    of_the_encoder = {
        "wavlm": transformers.WavLMForCTC,
        "wav2vec2": transformers.Wav2Vec2ForCTC,
        "hubert": transformers.HubertForSequenceClassification,
        "whisper": transformers.WhisperModel,
        "speecht5": transformers.SpeechT5ForSpeechToText,
    }[published.kind]
    model = of_the_encoder(tiny_families.CONFIGS[published.kind]())
    reason = NO_EFFECT if published.kind == "wavlm" else BARE
    refused(reason, lambda: peft.PeftModel.from_pretrained(model, published.merged, subfolder=PLACE))


def test_automodel_on_an_adapters_folder(published: Published) -> None:
    place = str(published.merged / PLACE)
    reason = {"wavlm": NO_EFFECT, "wav2vec2": MMS}.get(published.kind, BARE)
    if published.kind == "hubert":
        assert published.difference(transformers.AutoModel.from_pretrained(place)) < 1e-5
    else:
        refused(reason, lambda: transformers.AutoModel.from_pretrained(place))
    for door in (transformers.AutoModelForCTC, transformers.AutoModelForAudioClassification):
        has_door = type(tiny_families.CONFIGS[published.kind]()) in door._model_mapping
        refused(reason if has_door else NO_HEAD, lambda door=door: door.from_pretrained(place))


def test_without_a_model_at_the_root_there_is_none_to_load(published: Published) -> None:
    doors = (transformers.AutoModel, transformers.AutoModelForCTC, transformers.AutoModelForAudioClassification)
    for door in doors:
        refused(ADAPTERS_ONLY, lambda door=door: door.from_pretrained(str(published.adapters_only)))
    for repository in (published.merged, published.adapters_only):
        refused(NOT_HERE, lambda where=repository: doors[0].from_pretrained(str(where), subfolder=PLACE))


def test_our_loader_is_right_for_all(published: Published) -> None:
    assert published.difference(load_adapter(published.stock(), published.adapters_only)) < 1e-5


def test_a_list_of_names_would_be_the_trap(published: Published, tmp_path: Path) -> None:
    """What is guarded against: with peft's usual form a model is left untuned with a warning at most."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_bytes((published.merged / PLACE / name).read_bytes())
    said = json.loads((adapter / "adapter_config.json").read_text())
    targets = ["q_proj", "fc1"] if published.kind == "whisper" else ["q_proj", "intermediate_dense"]
    (adapter / "adapter_config.json").write_text(json.dumps({**said, "target_modules": targets}))
    model = tiny_families.whole(published.kind)
    if model is not tiny_families.stock_encoder(model):
        before = copy.deepcopy(tiny_families.stock_encoder(model))
        with pytest.warns(UserWarning, match="missing adapter keys"):
            peft.PeftModel.from_pretrained(model, adapter)
        encoder = tiny_families.stock_encoder(model)
        found, untuned = (hidden_state(e.eval(), waves(1, 16_000), LAYER) for e in (encoder, before))
        assert torch.equal(found, untuned)

"""Every family over HTTP, in processes of their own: what was tuned is what is loaded, by all four ways.

One interpreter publishes, one loads with this package, one without it, and one with the second's cache and no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_process import HubPython
from local_hub import LocalHub

from brain_tuning.models.published import ADAPTERS_ONLY

FAMILIES = ("wavlm", "wav2vec2", "hubert", "whisper", "speecht5")
NAMES = ("s1-ac", "s1-all", "s2-ac", "s2-all")
BUILDERS = Path(__file__).parents[1] / "models"
LAYER = 2

PUBLISH = """
import sys
sys.path.append(builders)
import huggingface_hub, numpy as np, tiny_families, torch
from model_builders import LORA, shake, story, tr_times, waves
from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.models.published import write

api = huggingface_hub.HfApi()
def upload(folder, name):
    api.create_repo(name, exist_ok=True)
    return api.upload_folder(repo_id=name, folder_path=folder).oid

base = "lab/tiny-" + kind
result = {"base": upload(tiny_families.save(kind, place + "/base"), base)}
torch.manual_seed(0)
settings = {"layer": layer, "context_s": 1.0, "stride_s": 0.5, "read": "all", "tr_s": 1.5, "bottleneck": 4}
model = BrainWavLMForFMRIEncoding.from_backbone(base, **settings)
for k, name in enumerate(adapters):
    subject, roi = name.split("-")
    model.add_adapter(name, 5 + k, lora=LORA, subject=subject, roi=roi)
shake(model)
with torch.no_grad():
    for head in model.heads.values():
        head.norm.running_mean.normal_()
        head.norm.running_var.uniform_(0.5, 2.0)
model.eval()
heard = torch.randn(1, 80, 3000) if kind == "whisper" else waves(1, 8000)
np.save(place + "/heard.npy", heard)
for name in adapters:
    model.set_adapter(name)
    np.save(place + f"/prediction-{name}.npy", model.predict(story(6.0), tr_times(4)))
    with torch.no_grad():
        hidden = model.backbone(heard, output_hidden_states=True).hidden_states[layer]
    np.save(place + f"/hidden-{name}.npy", hidden)
model.set_adapter(adapters[0])
result["merged"] = upload(write(model, place + "/merged"), "lab/merged-" + kind)
result["alone"] = upload(write(model, place + "/alone", merged_root=False), "lab/alone-" + kind)

# From here on the main branches of the base and of what was published hold other weights.
moved = tiny_families.whole(kind, seed=1)
moved.save_pretrained(place + "/base")
result["moved base"] = upload(place + "/base", base)
with torch.no_grad():
    model.head.readout.bias.add_(1.0)
api.upload_folder(repo_id="lab/merged-" + kind, folder_path=write(model, place + "/later"))
"""

PREDICTED = """
import sys
sys.path.append(builders)
import numpy as np
from model_builders import story, tr_times
from brain_tuning import BrainWavLMForFMRIEncoding
model = BrainWavLMForFMRIEncoding.from_pretrained(name, adapter=adapter, revision=revision)
found = model.predict(story(6.0), tr_times(4))
result = float(np.abs(found - np.load(f"{place}/prediction-{adapter}.npy")).max())
"""

ON_AN_ENCODER = """
import numpy as np, torch, brain_tuning, peft
encoder = brain_tuning.load_backbone(base, revision=sha)
if loader == "ours":
    encoder = brain_tuning.load_adapter(encoder, name, adapter)
else:
    from brain_tuning.models.families import family_of
    kinds = {"prefixes": family_of(encoder.config).prefixes, "class": type(encoder)}
    stock = kinds["class"].from_pretrained(
        base, revision=sha, key_mapping={"^" + p.replace(".", "[.]"): "" for p in kinds["prefixes"]} or None
    )
    encoder = peft.PeftModel.from_pretrained(stock, name, subfolder=f"adapters/{adapter}").base_model.model.eval()
with torch.no_grad():
    found = encoder(torch.from_numpy(np.load(place + "/heard.npy")), output_hidden_states=True).hidden_states[layer]
result = float(np.abs(found.numpy() - np.load(f"{place}/hidden-{adapter}.npy")).max())
"""

WITHOUT_THIS_PACKAGE = """
import sys
sys.modules["brain_tuning"] = None
import numpy as np, torch, transformers
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

model = getattr(transformers, door).from_pretrained(name, revision=sha).eval()
weights = load_file(hf_hub_download(name, "model.safetensors", revision=sha))
merged = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
encoder = model
for part in path.split("."):
    encoder = getattr(encoder, part) if part else encoder
held = encoder.state_dict()
result = {"class": type(model).__name__, "same weights": set(held) == set(merged) and all(
    bool((held[key] == merged[key]).all()) for key in held)}
with torch.no_grad():
    found = encoder(torch.from_numpy(np.load(place + "/heard.npy")), output_hidden_states=True).hidden_states[layer]
result["difference"] = float(np.abs(found.numpy() - np.load(place + "/hidden-s1-ac.npy")).max())
try:
    import brain_tuning
except ImportError:
    result["without this package"] = True
"""

#: family -> what it is opened by -> (class, path to the encoder, its prefix in the root's file)
DOORS = {
    "wavlm": {
        "AutoModel": ("WavLMModel", "", ""),
        "AutoModelForCTC": ("WavLMForCTC", "wavlm", ""),
        "AutoModelForAudioClassification": ("WavLMForSequenceClassification", "wavlm", ""),
    },
    "wav2vec2": {
        "AutoModel": ("Wav2Vec2Model", "", ""),
        "AutoModelForCTC": ("Wav2Vec2ForCTC", "wav2vec2", ""),
        "AutoModelForAudioClassification": ("Wav2Vec2ForSequenceClassification", "wav2vec2", ""),
    },
    "hubert": {
        "AutoModel": ("HubertModel", "", ""),
        "AutoModelForCTC": ("HubertForCTC", "hubert", ""),
        "AutoModelForAudioClassification": ("HubertForSequenceClassification", "hubert", ""),
    },
    # Of these two the root is the whole model; neither has a CTC class, and SpeechT5 none for classification.
    "whisper": {
        "AutoModel": ("WhisperModel", "encoder", "model.encoder."),
        "AutoModelForSpeechSeq2Seq": ("WhisperForConditionalGeneration", "model.encoder", "model.encoder."),
        "AutoModelForAudioClassification": ("WhisperForAudioClassification", "encoder", "model.encoder."),
    },
    "speecht5": {
        "AutoModelForSpeechSeq2Seq": ("SpeechT5ForSpeechToText", "speecht5.encoder", "speecht5.encoder."),
    },
}


@dataclass(frozen=True)
class World:
    """What was published of each family, and the interpreters."""

    place: Path
    told: dict[str, dict[str, str]]
    hub: LocalHub
    ours: HubPython
    plain: HubPython

    def values(self, kind: str, **more: object) -> dict[str, object]:
        told = self.told[kind]
        common = {"place": self.place / kind, "builders": BUILDERS, "layer": LAYER, "base": f"lab/tiny-{kind}"}
        return {**common, "sha": told["base"], "revision": told["merged"], "kind": kind, **more}

    def predicted(self, kind: str, adapter: str, python: HubPython | None = None, **more: object) -> object:
        """Largest difference of predictions from those of the model that was published."""
        values = self.values(kind, **{"name": f"lab/merged-{kind}", "adapter": adapter, **more})
        return (python or self.ours).result(PREDICTED, **values)


@pytest.fixture(scope="module")
def world(hub_server: LocalHub, shared_python: HubPython, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    hub_server.reset()
    place, told = tmp_path_factory.mktemp("families"), {}
    for kind in FAMILIES:
        values = {"kind": kind, "place": place / kind, "builders": BUILDERS, "adapters": NAMES, "layer": LAYER}
        told[kind] = shared_python.result(PUBLISH, **values)
    pythons = [HubPython(hub_server, place / name, {"OMP_NUM_THREADS": "1"}) for name in ("ours", "plain")]
    yield World(place, told, hub_server, *pythons)  # type: ignore[arg-type]
    for python in pythons:
        python.close()


@pytest.mark.parametrize("kind", FAMILIES)
def test_predictions_of_every_subject_and_region_come_back(world: World, kind: str) -> None:
    """The main branches of both repositories have moved; the merged root is never asked for."""
    before = len(world.hub.log)
    for adapter in NAMES:
        difference = world.predicted(kind, adapter)
        assert isinstance(difference, float)
        assert difference <= 1e-6
    asked = [seen.path for seen in world.hub.log[before:] if f"lab/merged-{kind}/" in seen.path]
    assert asked
    assert not [path for path in asked if re.search(r"/resolve/\w+/(model\.safetensors|config\.json)", path)]
    # What main holds now is what was published last: its bias is larger by 1.
    assert world.predicted(kind, "s1-ac", revision=None) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_repository_of_adapters_only_is_as_good(world: World, kind: str) -> None:
    name, revision = f"lab/alone-{kind}", world.told[kind]["alone"]
    difference = world.predicted(kind, "s2-all", name=name, revision=revision)
    assert isinstance(difference, float)
    assert difference <= 1e-6


@pytest.mark.parametrize("loader", ["ours", "peft"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_an_adapter_on_a_stock_encoder(world: World, kind: str, loader: str) -> None:
    for name, adapter in ((f"lab/merged-{kind}", "s1-all"), (f"lab/alone-{kind}", "s2-ac")):
        outcome = world.ours.run(ON_AN_ENCODER, **world.values(kind, name=name, adapter=adapter, loader=loader))
        if kind == "wavlm" and loader == "peft":
            assert "no effect in the stock attention of WavLMModel, which would stay untuned" in outcome.text
        else:
            assert not outcome.error, outcome.printed
            assert isinstance(outcome.result, float)
            assert outcome.result <= 1e-5


@pytest.mark.parametrize(("kind", "door"), [(kind, door) for kind in FAMILIES for door in DOORS[kind]])
def test_transformers_alone_opens_the_tuned_model(world: World, kind: str, door: str) -> None:
    name, path, prefix = DOORS[kind][door]
    sha = world.told[kind]["merged"]
    values = {"name": f"lab/merged-{kind}", "sha": sha, "door": door, "path": path, "prefix": prefix}
    assert world.plain.result(WITHOUT_THIS_PACKAGE, **world.values(kind, **values)) == {
        "class": name,
        "same weights": True,
        "difference": pytest.approx(0.0, abs=1e-5),
        "without this package": True,
    }


@pytest.mark.parametrize("kind", FAMILIES)
def test_transformers_alone_opens_nothing_untuned(world: World, kind: str) -> None:
    """An adapters-only repository has no model, and says what loads it; and the untuned one is another."""
    code = "import transformers\nresult = type(transformers.AutoModel.from_pretrained(name)).__name__"
    outcome = world.plain.run(code, name=f"lab/alone-{kind}")
    assert outcome.error == "ValueError"
    assert f"model type `{ADAPTERS_ONLY}`" in outcome.text
    door = next(iter(DOORS[kind]))
    _, path, prefix = DOORS[kind][door]
    values = {"name": f"lab/tiny-{kind}", "door": door, "path": path, "prefix": prefix}
    untuned = world.plain.result(WITHOUT_THIS_PACKAGE, **world.values(kind, **values))
    assert isinstance(untuned, dict)
    assert untuned["difference"] > 0.05


def test_offline_from_the_cache(world: World, hub_server: LocalHub, tmp_path: Path) -> None:
    """What was loaded once loads again without a network, in a process of its own, and the root is not among it."""
    for kind in FAMILIES:
        world.predicted(kind, "s1-ac")
    home = world.place / "ours"
    held = {path.parents[1].parent.name for path in home.rglob("snapshots/*/model.safetensors")}
    assert not [name for name in held if "merged" in name]
    assert len([name for name in held if "tiny" in name]) == len(FAMILIES)
    python = HubPython(hub_server, tmp_path, {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)})
    before = len(hub_server.log)
    try:
        for kind in FAMILIES:
            difference = world.predicted(kind, "s1-ac", python)
            assert isinstance(difference, float)
            assert difference <= 1e-6
        outcome = python.run(PREDICTED, **world.values("wavlm", name="lab/merged-none", adapter="s1-ac"))
        assert outcome.error == "AdapterError"
    finally:
        python.close()
    assert len(hub_server.log) == before

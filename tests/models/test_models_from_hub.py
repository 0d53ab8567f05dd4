"""Models over HTTP and in processes of their own: with and without this package, on and off line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_process import HubPython
from local_hub import LocalHub

PUBLISH = """
import sys
sys.path.append(builders)
import huggingface_hub, numpy as np, torch
from model_builders import story, tr_times, tuned_model, waves
from brain_tuning.models.published import write

api = huggingface_hub.HfApi()
def upload(folder, name):
    api.create_repo(name, exist_ok=True)
    return api.upload_folder(repo_id=name, folder_path=folder).oid

result = {"first_base": upload(tiny, "lab/tiny-wavlm")}
model = tuned_model("lab/tiny-wavlm", adapters=("s1-ac", "s2-ac"))
result["pinned"] = model.config.base_model_revision
result["base_name"] = model.config.base_model_name_or_path
result["published"] = upload(model.save_published(place + "/published"), "lab/brainwavlm-ac")
upload(write(model, place + "/small", merged_root=False), "lab/brainwavlm-small")
model.save_pretrained(place + "/whole")
upload(place + "/whole", "lab/brainwavlm-whole")

np.save(place + "/prediction.npy", model.predict(story(6.0), tr_times(4)))
with torch.no_grad():
    np.save(place + "/hidden.npy", model.backbone(waves(1, 8000), output_hidden_states=True).hidden_states[3])
np.save(place + "/waves.npy", waves(1, 8000))

# From here on the base's main branch holds other weights.
from transformers import WavLMModel
other = WavLMModel.from_pretrained(tiny)
with torch.no_grad():
    other.encoder.layers[0].feed_forward.output_dense.weight.mul_(2.0)
other.save_pretrained(place + "/moved")
result["second_base"] = upload(place + "/moved", "lab/tiny-wavlm")
"""

LOADED = """
import numpy as np, sys
sys.path.append(builders)
from model_builders import story, tr_times
from brain_tuning import BrainWavLMForFMRIEncoding
model = BrainWavLMForFMRIEncoding.from_pretrained(name, **options)
found = model.predict(story(6.0), tr_times(4))
result = [type(model).__name__, float(np.abs(found - np.load(place + "/prediction.npy")).max())]
"""

PLAIN = """
import sys
import numpy as np, torch
from transformers import AutoModel
model = AutoModel.from_pretrained(name).eval()
with torch.no_grad():
    found = model(torch.from_numpy(np.load(place + "/waves.npy")), output_hidden_states=True).hidden_states[3]
result = {
    "class": type(model).__name__,
    "difference": float(np.abs(found.numpy() - np.load(place + "/hidden.npy")).max()),
    "ours is imported": "brain_tuning" in sys.modules,
}
"""


@dataclass(frozen=True)
class World:
    """What was published, where its files are, and an interpreter that published it."""

    place: Path
    told: dict[str, str]
    python: HubPython

    def values(self, **more: object) -> dict[str, object]:
        return {"place": self.place, "builders": Path(__file__).parent, "options": {}, **more}

    def loaded(self, name: str, python: HubPython | None = None, **options: object) -> object:
        return (python or self.python).result(LOADED, **self.values(name=name, options=options))


@pytest.fixture(scope="module")
def world(
    hub_server: LocalHub, shared_python: HubPython, tiny_wavlm: Path, tmp_path_factory: pytest.TempPathFactory
) -> World:
    hub_server.reset()
    place = tmp_path_factory.mktemp("world")
    told = shared_python.result(PUBLISH, place=place, tiny=tiny_wavlm, builders=Path(__file__).parent)
    assert isinstance(told, dict)
    return World(place, told, shared_python)


@pytest.fixture(scope="module")
def offline(world: World, hub_server: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubPython]:
    """A fresh process with the same cache, after everything was loaded once, that may not use the network."""
    for name in ("lab/brainwavlm-ac", "lab/brainwavlm-whole"):
        world.loaded(name)
    home = str(world.python.printed.parent)
    switches = {"HF_HUB_OFFLINE": "1", "HF_HOME": home, "OMP_NUM_THREADS": "1"}
    python = HubPython(hub_server, tmp_path_factory.mktemp("offline"), switches)
    yield python
    python.close()


def test_a_backbone_of_the_hub_is_pinned_to_its_commit(world: World) -> None:
    assert world.told["pinned"] == world.told["first_base"]
    assert world.told["base_name"] == "lab/tiny-wavlm"
    code = """
from brain_tuning import BrainWavLMForFMRIEncoding
models = [BrainWavLMForFMRIEncoding.from_backbone("lab/tiny-wavlm", revision=r, layer=3) for r in (None, "main", first)]
weights = [m.backbone.encoder.layers[0].feed_forward.output_dense.weight for m in models]
result = [m.config.base_model_revision for m in models], bool((weights[0] == weights[1]).all()), \
    bool((weights[0] == 2 * weights[2]).all())
"""
    first, second = world.told["first_base"], world.told["second_base"]
    assert world.python.result(code, first=first) == [[second, second, first], True, True]


@pytest.mark.parametrize("name", ["brainwavlm-ac", "brainwavlm-small", "brainwavlm-whole"])
def test_predictions_come_back_exactly_although_the_base_has_moved(world: World, name: str) -> None:
    """user-pains 5: the base's main branch now holds other weights."""
    assert world.loaded(f"lab/{name}") == ["BrainWavLMForFMRIEncoding", 0.0]


def test_a_published_revision_stays_what_it_was(world: World) -> None:
    code = """
import huggingface_hub, torch
from safetensors.torch import load_file, save_file
file = place + "/published/adapters/s1-ac/head.safetensors"
changed = {key: value + 1 for key, value in load_file(file).items()}
save_file(changed, place + "/head.safetensors")
api = huggingface_hub.HfApi()
api.upload_file(path_or_fileobj=place + "/head.safetensors", path_in_repo="adapters/s1-ac/head.safetensors",
                repo_id="lab/brainwavlm-ac", revision="main")
"""
    world.python.result(
        "import huggingface_hub\nhuggingface_hub.HfApi().create_branch('lab/brainwavlm-ac', branch='v1')"
    )
    world.python.result(code, **world.values())
    pinned = world.loaded("lab/brainwavlm-ac", revision=world.told["published"])
    branch = world.loaded("lab/brainwavlm-ac", revision="v1")
    moved = world.loaded("lab/brainwavlm-ac")
    assert pinned == branch == ["BrainWavLMForFMRIEncoding", 0.0]
    assert isinstance(moved, list)
    assert moved[1] > 0.1
    # The tests after this one find the repository as it was.
    world.python.result(code.replace("value + 1", "value"), **world.values())


def test_with_this_package_automodel_gets_the_tuned_encoder_and_our_class(world: World) -> None:
    told = world.python.result(PLAIN, **world.values(name="lab/brainwavlm-ac"))
    assert isinstance(told, dict)
    assert told == {"class": "WavLMModel", "difference": pytest.approx(0.0, abs=1e-5), "ours is imported": True}
    code = (
        "from transformers import AutoModel\nresult = type(AutoModel.from_pretrained('lab/brainwavlm-whole')).__name__"
    )
    assert world.python.result(code) == "BrainWavLMForFMRIEncoding"


def test_an_adapter_of_the_hub_on_an_encoder_of_the_hub(world: World) -> None:
    code = """
import brain_tuning, numpy as np, torch
encoder = brain_tuning.load_backbone("lab/tiny-wavlm", revision=first)
encoder = brain_tuning.load_adapter(encoder, "lab/brainwavlm-ac")
with torch.no_grad():
    found = encoder(torch.from_numpy(np.load(place + "/waves.npy")), output_hidden_states=True).hidden_states[3]
result = float(np.abs(found.numpy() - np.load(place + "/hidden.npy")).max())
"""
    assert world.python.result(code, **world.values(first=world.told["first_base"])) == 0.0


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "lab/none",
            {},
            "there is no such model [lab/none]; expected a folder that exists, or the id of a Hub repository",
        ),
        ("lab/brainwavlm-ac", {"revision": "v9"}, "there is no such model [lab/brainwavlm-ac]"),
        ("lab/brainwavlm-ac", {"adapter": "s9"}, "there is no adapter 's9' [lab/brainwavlm-ac]; expected one of s1-ac"),
        ("lab/tiny-wavlm", {}, "this is a plain wavlm model, not a brain-tuned one [lab/tiny-wavlm]"),
    ],
)
def test_what_the_hub_does_not_have(world: World, name: str, options: dict, text: str) -> None:
    outcome = world.python.run(LOADED, **world.values(name=name, options=options))
    assert outcome.error in ("AdapterError", "BackboneError")
    assert outcome.text.startswith(text)
    assert "\n" not in outcome.text


def test_offline_everything_that_was_loaded_once_is_there(world: World, offline: HubPython) -> None:
    """That a self-contained repository has no encoding/config.json is remembered, too."""
    for name in ("lab/brainwavlm-ac", "lab/brainwavlm-whole"):
        assert world.loaded(name, offline) == ["BrainWavLMForFMRIEncoding", 0.0]
    code = """
from brain_tuning import BrainWavLMForFMRIEncoding
result = BrainWavLMForFMRIEncoding.from_backbone("lab/tiny-wavlm", revision=first, layer=3).config.base_model_revision
"""
    first = world.told["first_base"]
    assert offline.result(code, first=first) == first
    outcome = offline.run(LOADED, **world.values(name="lab/never-seen"))
    assert outcome.text.startswith(
        "encoding/config.json is not in the local cache and the Hub cannot be reached [lab/n"
    )


def test_without_this_package_plain_transformers_gets_the_tuned_encoder(
    world: World, hub_server: LocalHub, tmp_path: Path
) -> None:
    """The trap of hf-notes section 2: a repository with an adapter at its root would load the untuned base."""
    python = HubPython(hub_server, tmp_path / "home", {"OMP_NUM_THREADS": "1"})
    try:
        tuned = {"class": "WavLMModel", "difference": pytest.approx(0.0, abs=1e-5), "ours is imported": False}
        for name in ("lab/brainwavlm-ac", world.place / "published"):
            assert python.result(PLAIN, **world.values(name=name)) == tuned
        base = python.result(PLAIN, **world.values(name="lab/tiny-wavlm"))
        assert isinstance(base, dict)
        assert base["difference"] > 0.01
        # The others say that they cannot be opened; none of them opens untuned.
        for name in ("lab/brainwavlm-small", world.place / "small", "lab/brainwavlm-whole", world.place / "whole"):
            outcome = python.run(PLAIN, **world.values(name=name))
            assert outcome.error in ("OSError", "ValueError"), name
        assert "brainwavlm" in outcome.text
    finally:
        python.close()

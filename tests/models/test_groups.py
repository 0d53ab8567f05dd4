"""A model whose adapter several subjects share, and the ordinary adapters that are made of it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import LORA, shake, story, tr_times, tuned_model, waves
from transformers import AutoModel

from brain_tuning.errors import AdapterError
from brain_tuning.models import BrainWavLMForFMRIEncoding, adapters, encoders
from brain_tuning.models.convolutions import convolve
from brain_tuning.models.group_head import READOUTS, GroupHead

VOXELS = {"s1": np.arange(5) * 3, "s2": np.arange(7) + 2}
NAMES = {"s1": ("s1", "s1-ac"), "s2": ("s2", "s2-ac")}
TIMES = tr_times(4)


def labels() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {subject: torch.randn(4, len(columns), generator=random) for subject, columns in VOXELS.items()}


def grouped(
    backbone: Path, readout: str = "own", *, lora: dict | None = LORA, **settings: object
) -> BrainWavLMForFMRIEncoding:
    """A group whose adapter and heads are not as they were initialised, in evaluation mode."""
    torch.manual_seed(3)
    plain = {"layer": 2, "context_s": 1.0, "stride_s": 0.5, "read": "all", "tr_s": 1.5, "bottleneck": 4}
    model = BrainWavLMForFMRIEncoding.from_backbone(str(backbone), **{**plain, **settings})
    voxels = VOXELS if readout != "shared" else {s: columns[:5] for s, columns in VOXELS.items()}
    model.add_group("together-ac", voxels, readout=readout, lora=lora, roi="AC", recipe="x")
    model.train()
    model(**model.plan(story(6.0), TIMES))
    shake(model)
    return model.eval()


def predictions(model: BrainWavLMForFMRIEncoding) -> dict[str, np.ndarray]:
    return {subject: model.predict(story(6.0), TIMES, subject=subject) for subject in VOXELS}


def test_a_group_says_whom_it_is_of(tiny_wavlm: Path) -> None:
    model = grouped(tiny_wavlm)
    assert isinstance(model.head, GroupHead)
    assert model.config.adapters == {
        "together-ac": {"subjects": {"s1": 5, "s2": 7}, "readout": "own", "roi": "AC", "recipe": "x"}
    }
    for subject, columns in VOXELS.items():
        assert model.head.head_of(subject).voxels.tolist() == columns.tolist()
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {key for key, _ in model.named_parameters() if ".together-ac." in key}
    assert model.audit(story(6.0), TIMES) == 2 * 6 * 2


@pytest.mark.parametrize("readout", ["own", "shared_basis"])
def test_the_loss_of_a_group_is_the_mean_of_its_subjects(
    tiny_wavlm: Path, readout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is the gradient of the adapter they share, though the backbone heard the block once."""
    model = grouped(tiny_wavlm, readout)
    block, measured = model.plan(story(6.0), TIMES), labels()
    once: list[int] = []
    monkeypatch.setattr(encoders, "convolve", lambda *a: (once.append(1), convolve(*a))[1])
    out = model(**block, labels=measured)
    n_calls = len(once)
    assert set(out.prediction) == set(VOXELS)
    out.loss.backward()
    together = {key: p.grad for key, p in adapters.adapter_parameters(model.backbone, "together-ac").items()}

    split = copy.deepcopy(model)
    split.split_group(NAMES)
    losses, expected = [], {key: torch.zeros_like(grad) for key, grad in together.items()}
    for subject, (_, name) in NAMES.items():
        split.set_adapter(name)
        split.zero_grad()
        once.clear()
        single = split(**block, labels=measured[subject])
        assert len(once) == n_calls
        assert torch.equal(single.prediction, out.prediction[subject])
        losses.append(single.loss)
        single.loss.backward()
        for key, parameter in adapters.adapter_parameters(split.backbone, name).items():
            expected[adapters.renamed(key, "together-ac")] += parameter.grad / len(NAMES)
    torch.testing.assert_close(out.loss, torch.stack(losses).mean(), rtol=0, atol=0)
    for key, grad in together.items():
        assert grad.abs().max() > 0
        torch.testing.assert_close(grad, expected[key], rtol=1e-4, atol=1e-6)


def test_a_block_that_one_subject_heard_is_that_subjects_alone(tiny_wavlm: Path) -> None:
    model = grouped(tiny_wavlm)
    block, measured = model.plan(story(6.0), TIMES), labels()
    every = model(**block, labels=measured)
    out = model(**block, labels={"s2": measured["s2"]})
    assert list(out.prediction) == ["s2"]
    assert torch.equal(out.prediction["s2"], every.prediction["s2"])
    out.loss.backward()
    assert model.head.head_of("s1").readout.weight.grad is None
    assert model.head.head_of("s2").readout.weight.grad.abs().max() > 0
    with pytest.raises(AdapterError, match=r"there is no subject 's9' in the group; expected one of s1, s2"):
        model(**block, labels={"s9": measured["s2"]})


def test_responses_by_subject_are_for_groups_and_only_for_them(tiny_wavlm: Path) -> None:
    model = grouped(tiny_wavlm)
    block, measured = model.plan(story(6.0), TIMES), labels()
    with pytest.raises(AdapterError, match=r"labels of adapter '.*' are Tensor; expected subject -> tensor"):
        model(**block, labels=measured["s2"])
    with pytest.raises(AdapterError, match=r"noise_ceiling of adapter '.*' are Tensor; expected subject -> tensor"):
        model(**block, labels=measured, noise_ceiling=torch.ones(4))
    with pytest.raises(AdapterError, match=r"labels name no subject; expected some of s1, s2"):
        model(**block, labels={})
    with pytest.raises(AdapterError, match="unknown loss 'mes'"):
        model(**block, labels=measured, loss="mes")
    single = tuned_model(tiny_wavlm)
    with pytest.raises(AdapterError, match=r"labels of adapter 's1-ac' are dict; expected a tensor, as it is of one"):
        single(**single.plan(story(6.0), TIMES), labels=measured)


@pytest.mark.parametrize("asked", [None, "s9"])
def test_a_group_predicts_for_a_named_subject(tiny_wavlm: Path, asked: str | None) -> None:
    model = grouped(tiny_wavlm)
    assert predictions(model)["s2"].shape == (4, 7)
    with pytest.raises(AdapterError, match=rf"there is no subject '{asked}' in the group; expected one of s1, s2"):
        model.predict(story(6.0), TIMES, subject=asked)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_split_adapters_predict_as_the_group_to_the_last_bit(tiny_wavlm: Path, readout: str, lora: dict | None) -> None:
    model = grouped(tiny_wavlm, readout, lora=lora)
    expected, features = predictions(model), model.story_features(story(6.0), TIMES)[0]
    names = NAMES if readout != "shared" else {"s1": ("group", "group-ac")}
    model.split_group(names)
    assert list(model.heads) == list(model.config.adapters) == [name for _, name in names.values()]
    assert model.config.default_adapter == next(iter(names.values()))[1]
    assert not any("together" in key for key in model.state_dict())
    for subject, (described, name) in names.items():
        model.set_adapter(name)
        assert np.array_equal(model.predict(story(6.0), TIMES), expected[subject])
        assert np.array_equal(model.story_features(story(6.0), TIMES)[0], features)
        assert model.config.adapters[name] == {
            "n_voxels": 5 if readout == "shared" else len(VOXELS[subject]),
            "subject": described, "readout": readout, "roi": "AC", "recipe": "x",
        }  # fmt: skip
        assert model.head.voxels.tolist() == VOXELS[subject][: len(model.head.voxels)].tolist()
    # They share nothing any more.
    pointers = [p.data_ptr() for head in model.heads.values() for p in head.parameters()]
    assert len(set(pointers)) == len(pointers)


def test_only_a_group_can_be_split(tiny_wavlm: Path) -> None:
    model = grouped(tiny_wavlm)
    with pytest.raises(AdapterError, match=r"there is no subject 's3' in the group; expected one of s1, s2"):
        model.split_group({"s3": ("s3", "s3-ac")})
    model.split_group(NAMES)
    with pytest.raises(AdapterError, match=r"adapter 's1-ac' is of one subject; expected one made by add_group"):
        model.split_group(NAMES)


@pytest.mark.parametrize(
    ("name", "voxels", "readout", "text"),
    [
        ("together-ac", VOXELS, "own", "the adapter name 'together-ac' is taken"),
        ("to.gether", VOXELS, "own", "the adapter name 'to.gether' is not usable"),
        ("other", VOXELS, "shared", "one readout for all needs the same number of voxels in each subject, here"),
        ("other", {}, "own", "a group of 0 subjects with readout 'own'"),
    ],
)
def test_a_group_that_cannot_be_leaves_the_model_as_it_was(
    tiny_wavlm: Path, name: str, voxels: dict[str, np.ndarray], readout: str, text: str
) -> None:
    model = grouped(tiny_wavlm)
    keys, expected = list(model.state_dict()), predictions(model)
    with pytest.raises(AdapterError) as caught:
        model.add_group(name, voxels, readout=readout)
    assert str(caught.value).startswith(text)
    assert list(model.state_dict()) == keys
    assert all(np.array_equal(values, expected[subject]) for subject, values in predictions(model).items())


def test_the_adapters_of_a_split_group_are_saved_and_published(tiny_wavlm: Path, tmp_path: Path) -> None:
    model = grouped(tiny_wavlm, "shared_basis")
    expected = predictions(model)
    tuned = model.hidden_state(waves(1, 8_000)).detach()
    model.split_group(NAMES)
    model.save_pretrained(tmp_path / "saved")
    folder = model.save_published(tmp_path / "published")
    for place in (tmp_path / "saved", folder):
        loaded = BrainWavLMForFMRIEncoding.from_pretrained(place, adapter="all")
        for subject, (_, name) in NAMES.items():
            loaded.set_adapter(name)
            assert np.array_equal(loaded.predict(story(6.0), TIMES), expected[subject])
    with torch.no_grad():
        plain = AutoModel.from_pretrained(folder).eval()(waves(1, 8_000), output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(plain, tuned, rtol=1e-5, atol=1e-5)


def test_a_group_that_was_not_split_is_neither_saved_nor_published(tiny_wavlm: Path, tmp_path: Path) -> None:
    """What is stored is one adapter for each subject: nothing could load a group."""
    model = grouped(tiny_wavlm)
    for save in (model.save_pretrained, model.save_published):
        with pytest.raises(AdapterError, match=r"adapter together-ac is of a group .*; remedy: call split_group"):
            save(tmp_path / "out")
        assert not (tmp_path / "out").exists()


# Removing adapters


def test_removing_an_adapter_leaves_the_others_as_they_are(tiny_wavlm: Path) -> None:
    model = grouped(tiny_wavlm)
    expected = predictions(model)
    model.split_group(NAMES)
    model.set_adapter("s2-ac")
    model.delete_adapter("s1-ac")
    assert list(model.heads) == list(model.config.adapters) == ["s2-ac"]
    assert model.config.default_adapter == "s2-ac"
    assert not any(".s1-ac." in key for key in model.state_dict())
    assert np.array_equal(model.predict(story(6.0), TIMES), expected["s2"])
    with pytest.raises(AdapterError, match=r"there is no adapter 's1-ac'; expected one of s2-ac"):
        model.delete_adapter("s1-ac")
    model.add_adapter("s1-ac", 3, lora=LORA)
    assert model.predict(story(6.0), TIMES).shape == (4, 3)


@pytest.mark.parametrize("n_left", [0, 1])
def test_with_the_active_adapter_removed_none_is_active(tiny_wavlm: Path, n_left: int) -> None:
    """Not another subject's, which would be taken for the untuned backbone."""
    model = grouped(tiny_wavlm)
    untuned = BrainWavLMForFMRIEncoding.from_backbone(str(tiny_wavlm), layer=2).eval()
    with torch.no_grad():
        expected, tuned = (m.hidden_state(waves(1, 8_000)) for m in (untuned, model))
        assert (tuned - expected).abs().max() > 0.01
        model.split_group(NAMES)
        if not n_left:
            model.delete_adapter("s2-ac")
        model.delete_adapter("s1-ac")
        assert model.config.default_adapter is None
        torch.testing.assert_close(model.hidden_state(waves(1, 8_000)), expected, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(AdapterError, match="the model has no adapter yet"):
        model.predict(story(6.0), TIMES)
    if n_left:
        model.set_adapter("s2-ac")
        assert model.predict(story(6.0), TIMES).shape == (4, 7)

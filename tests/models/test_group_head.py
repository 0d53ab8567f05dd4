"""Heads of several subjects: the same numbers as separate heads, on one set of features."""

from __future__ import annotations

import copy

import pytest
import torch
from test_head import features
from torch import nn

from brain_tuning.errors import AdapterError
from brain_tuning.models.group_head import READOUTS, GroupHead
from brain_tuning.models.head import EncodingHead

SIZES = {"s1": 5, "s2": 7, "s3": 5}
DELAYS = (1, 2)
SEEN = torch.tensor([False, *[True] * 11])


def separate(sizes: dict[str, int] | None = None, **settings: object) -> dict[str, EncodingHead]:
    """Heads of several subjects, each with its own random weights."""
    torch.manual_seed(0)
    plain = {"bottleneck": 3, "normalise": True, **settings}
    return {s: EncodingHead(6, n, DELAYS, **plain) for s, n in (sizes or SIZES).items()}  # type: ignore[arg-type]


def group(readout: str, **settings: object) -> GroupHead:
    sizes = dict.fromkeys(SIZES, 5) if readout == "shared" else SIZES
    return GroupHead(separate(sizes, **settings), readout)


def alone(head: GroupHead, subject: str) -> EncodingHead:
    """A subject's head as it is after the group is split."""
    return copy.deepcopy(head.head_of(subject))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("settings", [{}, {"normalise": False}, {"bottleneck": 0}])
def test_predictions_are_those_of_each_head_alone_to_the_last_bit(readout: str, settings: dict) -> None:
    head = group(readout, **settings)
    values = features(12)
    for mode in (True, False):
        singles = {subject: alone(head, subject).train(mode) for subject in SIZES}
        found = head.train(mode)(values, 2, SEEN)
        assert list(found) == list(SIZES)
        for subject, prediction in found.items():
            assert torch.equal(prediction, singles[subject](values, 2, SEEN)), subject
            assert prediction.shape == (10, len(head.head_of(subject).voxels))


@pytest.mark.parametrize(
    ("readout", "n_bases", "n_readouts"), [("own", 3, 3), ("shared_basis", 1, 3), ("shared", 1, 1)]
)
def test_what_is_shared_is_one_and_the_same(readout: str, n_bases: int, n_readouts: int) -> None:
    head = group(readout)
    members = [head.head_of(subject) for subject in SIZES]
    assert len({id(member.norm) for member in members}) == 1
    assert len({id(member.bottleneck) for member in members}) == n_bases
    assert len({id(member.readout) for member in members}) == n_readouts
    width = 6 * len(DELAYS)
    n_voxels = {"own": 17, "shared_basis": 17, "shared": 5}[readout]
    expected = n_bases * (width + 1) * 3 + n_voxels * (3 + 1)
    assert sum(parameter.numel() for parameter in head.parameters()) == expected


@pytest.mark.parametrize("readout", READOUTS)
def test_gradients_are_the_mean_of_those_of_separate_heads(readout: str) -> None:
    head = group(readout).train()
    values = features(12).requires_grad_()
    targets = {
        s: torch.randn(10, len(head.head_of(s).voxels), generator=torch.Generator().manual_seed(1)) for s in SIZES
    }

    def loss(prediction: torch.Tensor, subject: str) -> torch.Tensor:
        return (prediction - targets[subject]).square().mean()

    expected: dict[str, torch.Tensor] = {}
    of_features = torch.zeros_like(values)
    for subject in SIZES:
        single = alone(head, subject).train()
        loss(single(values, 2, SEEN), subject).backward()
        of_features += values.grad / len(SIZES)
        values.grad = None
        for key, parameter in single.named_parameters():
            own = readout == "own" or (readout == "shared_basis" and key.startswith("readout."))
            name = f"{subject if own else 'all'}.{key}"
            expected[name] = expected.get(name, 0) + parameter.grad / len(SIZES)
    predictions = head(values, 2, SEEN)
    torch.stack([loss(predictions[subject], subject) for subject in SIZES]).mean().backward()
    torch.testing.assert_close(values.grad, of_features, rtol=1e-5, atol=1e-7)
    for name, gradient in expected.items():
        subject, _, key = name.partition(".")
        member = head.first if subject == "all" else head.head_of(subject)
        torch.testing.assert_close(member.get_parameter(key).grad, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("readout", READOUTS)
def test_only_those_who_are_asked_for_are_predicted(readout: str) -> None:
    head = group(readout).eval()
    every = head(features(12), 2, SEEN)
    some = head(features(12), 2, SEEN, ["s3", "s1"])
    assert list(some) == ["s3", "s1"]
    assert all(torch.equal(some[subject], every[subject]) for subject in some)
    for parameter in head.parameters():
        parameter.grad = None
    head(features(12), 2, SEEN, ["s2"])["s2"].sum().backward()
    if readout != "shared":
        assert head.head_of("s1").readout.weight.grad is None
    assert head.head_of("s2").readout.weight.grad is not None
    with pytest.raises(AdapterError, match=r"there is no subject 's9' in the group; expected one of s1, s2, s3"):
        head(features(12), 2, SEEN, ["s9"])


def test_statistics_over_time_are_taken_once_a_block() -> None:
    """Each subject's head on its own would count a block again."""
    head = group("own").train()
    head(features(12))
    assert int(head.first.norm.n_blocks) == 1


def test_the_convolution_is_shared() -> None:
    convolution = {"channels": 4, "kernel_frames": 3, "stride_frames": 2}
    head = group("own", convolution=convolution)
    assert head.read is head.first.read is head.head_of("s3").read
    assert isinstance(head.read.convolution, nn.Conv1d)
    assert group("own").read is None


@pytest.mark.parametrize("subject", ["sub.01", "type", "keys", "0"])
def test_any_subject_of_a_corpus_may_be_in_a_group(subject: str) -> None:
    """Names that PyTorch has for itself, or does not take."""
    head = GroupHead(separate({subject: 4, "s2": 4}), "own").eval()
    assert head(features(12), 2)[subject].shape == (10, 4)


@pytest.mark.parametrize(
    ("sizes", "readout", "text"),
    [
        (
            SIZES,
            "common",
            "a group of 3 subjects with readout 'common'; expected at least one subject, and one of own,",
        ),
        ({}, "own", "a group of 0 subjects with readout 'own'"),
        (
            SIZES,
            "shared",
            "one readout for all needs the same number of voxels in each subject, here {'s1': 5, 's2': 7, 's3': 5}; "
            "expected responses on a common surface; remedy: project the responses to one surface, or set readout: "
            "shared_basis in the recipe",
        ),
    ],
)
def test_groups_that_cannot_be(sizes: dict[str, int], readout: str, text: str) -> None:
    heads = separate(sizes) if sizes else {}
    with pytest.raises(AdapterError) as caught:
        GroupHead(heads, readout)
    assert str(caught.value).startswith(text)

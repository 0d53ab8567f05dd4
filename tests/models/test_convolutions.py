"""The stem in tiles against transformers' own convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_builders import waves
from torch import nn
from transformers import HubertConfig, SpeechT5Config, Wav2Vec2Config, WavLMConfig
from transformers.models.hubert.modeling_hubert import HubertFeatureEncoder
from transformers.models.speecht5.modeling_speecht5 import SpeechT5FeatureEncoder
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder

from brain_tuning.errors import BackboneError, TimingError
from brain_tuning.models import convolutions
from brain_tuning.models.convolutions import convolve

FAMILIES: dict[str, tuple[Any, Any]] = {
    "wavlm": (WavLMConfig, WavLMFeatureEncoder),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2FeatureEncoder),
    "hubert": (HubertConfig, HubertFeatureEncoder),
    "speecht5": (SpeechT5Config, SpeechT5FeatureEncoder),
}
NORMS = ("group", "layer")
#: samples that one output frame sees, and how many further on the next begins
FIELD, HOP = 400, 320


def stem(norm: str = "group", *, bias: bool = False, family: str = "wavlm", **settings: Any) -> nn.Module:
    """A stem of 16 channels whose norms and biases do something."""
    config, encoder = FAMILIES[family]
    torch.manual_seed(0)
    values = {"conv_dim": [16] * 7, "feat_extract_norm": norm, "conv_bias": bias, **settings}
    made = encoder(config(**values)).eval()
    made._freeze_parameters()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def expected_of(made: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return made(windows).transpose(1, 2)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Greatest difference as a share of the greatest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [False, True])
def test_it_gives_what_transformers_gives(family: str, norm: str, bias: bool) -> None:
    made, windows = stem(norm, bias=bias, family=family), waves(3, 20_123)
    assert apart(convolve(made, windows), expected_of(made, windows)) < 2e-6
    twin = made.double()
    assert apart(convolve(twin, windows.double()), expected_of(twin, windows.double())) < 1e-12


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("tile_frames", [1, 3, 10, 11, 500])
def test_tiles_of_any_size_meet_without_a_seam(norm: str, tile_frames: int) -> None:
    made, windows = stem(norm, bias=True).double(), waves(2, FIELD + 9 * HOP).double()
    expected = expected_of(made, windows)
    assert expected.shape[1] == 10
    assert apart(convolve(made, windows, tile_frames=tile_frames), expected) < 1e-12


@pytest.mark.parametrize("norm", NORMS)
def test_every_length_gives_the_frames_of_transformers(norm: str) -> None:
    made = stem(norm).double()
    lengths = [FIELD, FIELD + 1, FIELD + HOP - 1, FIELD + HOP, 1_000, 2_047, 2_048, 2_049, 5_003, 31 * HOP + FIELD]
    for n_samples in lengths:
        windows = waves(1, n_samples).double()
        assert apart(convolve(made, windows, tile_frames=4), expected_of(made, windows)) < 1e-12, n_samples


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((10, 3, 3), (5, 2, 2)), ((6, 4, 1), (3, 1, 1)), ((5, 2, 5), (5, 3, 2)), ((4, 7, 2), (1, 3, 2))],
)
def test_kernels_and_strides_of_any_size(norm: str, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
    made = stem(norm, conv_dim=[8, 12, 4], conv_kernel=kernel, conv_stride=stride).double()
    windows = waves(2, 611).double()
    assert apart(convolve(made, windows, tile_frames=7), expected_of(made, windows)) < 1e-12


@pytest.mark.parametrize("settings", [{}, {"offset": 0.5}, {"scale": 1e-4}, {"scale": 300.0, "offset": -1_000.0}])
def test_group_norm_sees_the_whole_window_however_loud_or_shifted(settings: dict[str, float]) -> None:
    """Mean and variance are far apart in size: sums of squares would lose the variance."""
    made = stem()
    windows = waves(2, 16_000) * settings.get("scale", 1.0) + settings.get("offset", 0.0)
    # float32 itself loses digits of an offset: what counts is the true value.
    truth = expected_of(made.double(), windows.double())
    expected, found = expected_of(made.float(), windows), convolve(made, windows)
    assert apart(found.double(), truth) < max(2e-6, 2 * apart(expected.double(), truth))
    # Statistics of its own part would make a tile another function.
    half = convolve(made, windows[:, :8_000])
    assert apart(half, found[:, : half.shape[1]]) > 1e-4


def test_statistics_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = waves(5_000).double() + 3.0
    stretches = samples.unfold(0, 10, 5)
    expected_mean, expected_covariance = stretches.mean(0), torch.cov(stretches.T, correction=0)
    for rows in (7, 100, 10**6):
        monkeypatch.setattr(convolutions, "MOMENT_ROWS", rows)
        mean, covariance = convolutions._moments(samples, 10, 5)
        torch.testing.assert_close(mean, expected_mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(covariance, expected_covariance, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("norm", NORMS)
def test_silence_is_finite_and_equal(norm: str) -> None:
    made = stem(norm, bias=True)
    windows = torch.zeros(1, 4_000)
    found = convolve(made, windows)
    assert found.isfinite().all()
    assert apart(found, expected_of(made, windows)) < 1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_a_window_does_not_depend_on_its_company(norm: str) -> None:
    made, windows = stem(norm), waves(4, 9_000)
    found = convolve(made, windows)
    assert torch.equal(convolve(made, windows[[2, 0]]), found[[2, 0]])
    # Windows need not lie in a row of memory.
    assert torch.equal(convolve(made, windows.T.contiguous().T), found)


def test_bfloat16_stays_close() -> None:
    made, windows = stem(), waves(1, 9_000)
    expected = expected_of(made, windows)
    found = convolve(made.bfloat16(), windows.bfloat16())
    assert found.dtype == torch.bfloat16
    assert nn.functional.cosine_similarity(found.float().ravel(), expected.ravel(), dim=0) > 0.999


def test_nothing_has_a_gradient_and_nothing_is_changed() -> None:
    made, windows = stem(), waves(1, 9_000).requires_grad_(True)
    made.requires_grad_(True)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    assert not convolve(made, windows).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_windows_shorter_than_a_frame_are_refused() -> None:
    with pytest.raises(TimingError, match=r"too short for the convolutions \[399 samples\]; expected at least 400 "):
        convolve(stem(), waves(2, FIELD - 1))


def test_other_convolutions_are_refused() -> None:
    padded = stem()
    padded.conv_layers[2].conv.padding = (1,)
    late = stem()
    late.conv_layers[1].layer_norm = nn.GroupNorm(16, 16)
    grouped = stem()
    grouped.conv_layers[0].layer_norm = nn.GroupNorm(4, 16)
    for made in (padded, late, grouped):
        with pytest.raises(BackboneError, match="cannot be computed in tiles"):
            convolve(made, waves(1, 4_000))

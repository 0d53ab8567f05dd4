from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm, zscore

from brain_tuning.errors import TimingError
from brain_tuning.models.head import ConvolutionRead, EncodingHead, TemporalNorm


def features(n_trs: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((3.0 + 2.0 * rng.normal(size=(n_trs, width))).astype(np.float32))


def test_training_normalises_by_the_block_and_evaluation_by_what_was_seen_before() -> None:
    norm = TemporalNorm(6)
    first, second = features(12, seed=1), features(20, seed=2)
    np.testing.assert_allclose(norm(first), zscore(first.numpy(), axis=0), rtol=0, atol=1e-4)
    np.testing.assert_allclose(norm.running_mean, first.numpy().mean(0), rtol=1e-5)
    norm(second)
    for running, estimate in ((norm.running_mean, np.mean), (norm.running_var, np.var)):
        expected = 0.9 * estimate(first.numpy(), axis=0) + 0.1 * estimate(second.numpy(), axis=0)
        np.testing.assert_allclose(running, expected, rtol=1e-5)
    assert int(norm.n_blocks) == 2

    before = norm.running_mean.clone()
    norm.eval()
    expected = (second.numpy() - before.numpy()) / np.sqrt(norm.running_var.numpy() + 1e-5)
    np.testing.assert_allclose(norm(second), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm(second[4:6]), expected[4:6], rtol=1e-5, atol=1e-5)
    assert torch.equal(norm.running_mean, before)


def test_trs_without_audio_stay_zero_and_out_of_the_estimates() -> None:
    values = features(10)
    seen = torch.ones(10, dtype=torch.bool)
    seen[[0, 1, 9]] = False
    disturbed = values.clone()
    disturbed[~seen] = 1e6
    norm, other = TemporalNorm(6), TemporalNorm(6)
    out = norm(disturbed, seen)
    assert torch.equal(out[~seen], torch.zeros(3, 6))
    torch.testing.assert_close(out[seen], other(values[seen]), rtol=1e-5, atol=1e-5)
    assert torch.equal(norm.running_mean, other.running_mean)
    assert torch.equal(norm.eval()(disturbed, seen)[~seen], torch.zeros(3, 6))


def test_a_training_block_without_any_audio_is_refused() -> None:
    norm = TemporalNorm(6)
    with pytest.raises(TimingError, match="audio reaches none of the 4 TRs of this block; expected TRs while"):
        norm(features(4), torch.zeros(4, dtype=torch.bool))
    assert torch.equal(norm.running_mean, torch.zeros(6))


@pytest.mark.parametrize("bottleneck", [0, 3])
def test_the_readout_is_linear_in_delayed_features(bottleneck: int) -> None:
    torch.manual_seed(0)
    head = EncodingHead(6, 5, (1, 3), bottleneck).eval()
    values = features(9)
    delayed = np.zeros((9, 12), dtype=np.float32)
    delayed[1:, :6], delayed[3:, 6:] = values[:-1], values[:-3]
    delayed /= np.sqrt(1 + 1e-5)
    if bottleneck:
        delayed = delayed @ head.bottleneck.weight.detach().numpy().T + head.bottleneck.bias.detach().numpy()
    expected = delayed @ head.readout.weight.detach().numpy().T + head.readout.bias.detach().numpy()
    np.testing.assert_allclose(head(values).detach(), expected, rtol=1e-4, atol=1e-5)
    assert head.voxels.tolist() == [0, 1, 2, 3, 4]


def test_a_prediction_depends_on_no_tr_but_those_its_delays_name() -> None:
    torch.manual_seed(0)
    head = EncodingHead(6, 5, (1, 2, 3, 4), 3).eval()
    values = features(12).requires_grad_()
    head(values)[7].sum().backward()
    heard = torch.nonzero(values.grad.abs().sum(1)).ravel()
    assert heard.tolist() == [3, 4, 5, 6]


def test_lead_in_trs_feed_the_delays_and_are_not_predicted() -> None:
    torch.manual_seed(0)
    head = EncodingHead(6, 5, (1, 2, 3, 4), 3).eval()
    values = features(15)
    whole = head(values)
    torch.testing.assert_close(head(values[3:12], n_lead_trs=4), whole[7:12], rtol=1e-5, atol=1e-6)
    cut = head(values[7:12])
    assert (cut[0] - whole[7]).abs().max() > 1e-3


def test_without_normalisation_features_are_delayed_as_they_are() -> None:
    head = EncodingHead(6, 5, (0, 2), 0, normalise=False)
    values = features(9)
    delayed = np.zeros((9, 12), dtype=np.float32)
    delayed[:, :6], delayed[2:, 6:] = values, values[:-2]
    expected = delayed @ head.readout.weight.detach().numpy().T + head.readout.bias.detach().numpy()
    for mode in (True, False):
        # Not a single estimate is kept: training is evaluation.
        np.testing.assert_allclose(head.train(mode)(values).detach(), expected, rtol=1e-5, atol=1e-5)
    assert head.norm is None
    assert not any("norm" in key for key in head.state_dict())


@pytest.mark.parametrize(("kernel", "stride", "n_frames"), [(3, 1, 8), (5, 2, 11), (9, 4, 1), (2, 3, 7)])
def test_the_convolution_reads_a_window_as_written_out(kernel: int, stride: int, n_frames: int) -> None:
    torch.manual_seed(0)
    read = ConvolutionRead(6, 4, kernel, stride)
    frames = features(n_frames).numpy()
    weight, bias = (p.detach().numpy() for p in (read.convolution.weight, read.convolution.bias))
    padded = np.pad(frames, ((kernel // 2, kernel // 2), (0, 0)))
    starts = range(0, len(padded) - kernel + 1, stride)
    sums = np.stack([np.einsum("ock,kc->o", weight, padded[s : s + kernel]) for s in starts]) + bias
    expected = (sums * norm.cdf(sums)).mean(0)
    found = read(torch.from_numpy(frames)[None])
    assert found.shape == (1, 4)
    np.testing.assert_allclose(found[0].detach(), expected, rtol=1e-4, atol=1e-5)


def test_a_head_behind_a_convolution_is_as_wide_as_its_channels() -> None:
    head = EncodingHead(6, 5, (1, 2), 0, convolution={"channels": 4, "kernel_frames": 3, "stride_frames": 2})
    assert head.readout.weight.shape == (5, 8)
    assert head.norm.running_mean.shape == (4,)
    assert head.eval()(features(9, width=4)).shape == (9, 5)
    assert EncodingHead(6, 5, (1,), 0).read is None

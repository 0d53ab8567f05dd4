"""Windows are given to the backbone as it was trained to hear them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor

from brain_tuning import BrainWavLMConfig, BrainWavLMForFMRIEncoding
from brain_tuning.models.backbones import expects_normalised_input
from brain_tuning.models.blocks import plan_block

RATE_HZ = 16_000
TIMES_S = np.arange(4) * 2.0 + 5.0


def story() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.05 * rng.standard_normal(20 * RATE_HZ) + 0.2).astype(np.float32)


def test_normalised_windows_are_those_of_the_feature_extractor() -> None:
    settings = {"context_s": 1.0, "stride_s": 2.0, "read": "all"}
    raw = plan_block(BrainWavLMConfig(**settings), story(), TIMES_S)["input_values"]
    ours = plan_block(BrainWavLMConfig(**settings, normalise_input=True), story(), TIMES_S)["input_values"]
    extract = Wav2Vec2FeatureExtractor(do_normalize=True)
    for windows, normal in zip(raw, ours, strict=True):
        theirs = extract(list(windows.numpy()), sampling_rate=RATE_HZ, return_tensors="pt").input_values
        torch.testing.assert_close(normal, theirs, rtol=0, atol=1e-5)


def test_the_preprocessor_of_the_backbone_decides(tiny_wavlm: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backbone"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        (copy / name).write_bytes((Path(tiny_wavlm) / name).read_bytes())
    assert not expects_normalised_input(str(copy))
    for normalises in (False, True):
        Wav2Vec2FeatureExtractor(do_normalize=normalises).save_pretrained(copy)
        model = BrainWavLMForFMRIEncoding.from_backbone(str(copy), layer=1, context_s=1.0, stride_s=2.0)
        assert model.config.normalise_input is normalises

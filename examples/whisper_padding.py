"""How far Whisper's features move when a window is not padded to 30 s: ``python examples/whisper_padding.py``.

``--model openai/whisper-small --audio speech.wav`` measures a real checkpoint on real speech; without them a model
of whisper-tiny's shape with random weights hears noise, which needs no network.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from brain_tuning.models.families import family_of, hidden_state


@torch.no_grad()
def differences(encoder: Any, audio: np.ndarray) -> list[float]:
    """Relative difference of each layer's frames, padded to 30 s against not padded, without the last two frames."""
    config = encoder.config
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    mel = extractor(audio, sampling_rate=16_000, return_tensors="pt").input_features
    padded = encoder(mel, output_hidden_states=True).hidden_states
    windows, family = torch.from_numpy(audio)[None], family_of(config)
    alone = [family.enter(encoder, family.stem(encoder, windows))]
    alone += [hidden_state(encoder, windows, layer) for layer in range(1, config.encoder_layers + 1)]
    n_frames = alone[0].shape[1] - 2
    return [
        float((a[:, :n_frames] - p[:, :n_frames]).norm() / p[:, :n_frames].norm())
        for a, p in zip(alone, padded, strict=True)
    ]


def main() -> None:
    """Print one line for each length of window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Hub id or folder; default: random weights")
    parser.add_argument("--audio", help="16 kHz mono, at least 20 s; default: noise")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = WhisperModel.from_pretrained(args.model) if args.model else WhisperModel(WhisperConfig())
    audio = np.random.default_rng(0).normal(0, 0.1, 20 * 16_000).astype(np.float32)
    if args.audio:
        audio, _ = soundfile.read(args.audio, dtype="float32")
    encoder = model.get_encoder().eval()
    n_states = encoder.config.encoder_layers + 1
    print("| window |" + "".join(f" hidden_states[{k}] |" for k in range(n_states)))
    print("|---" * (n_states + 1) + "|")
    for seconds in (2, 4, 10, 20):
        cells = "".join(f" {value:.1e} |" for value in differences(encoder, audio[: seconds * 16_000]))
        print(f"| {seconds} s |{cells}")


if __name__ == "__main__":
    main()

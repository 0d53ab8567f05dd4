"""Whisper's log-mel spectrogram of a window, without the 30 s of padding that its feature extractor adds."""

from __future__ import annotations

from functools import lru_cache

import torch
from transformers.audio_utils import mel_filter_bank

#: of every Whisper checkpoint
SAMPLING_RATE_HZ, N_FFT, HOP_SAMPLES = 16_000, 400, 160


def log_mel(windows: torch.Tensor, n_mels: int) -> torch.Tensor:
    """``max(log10 M |STFT|^2, max - 8) / 4 + 1`` of each window, in float32.

    Equal to ``WhisperFeatureExtractor`` on the same samples without padding. With padding it gives the same
    columns, but for the last one or two, whose spectrum reaches over the window's end.

    Args:
        windows: (n_windows, n_samples) at 16 kHz, at least 400 samples.
        n_mels: bands, 80 or 128.

    Returns:
        (n_windows, n_mels, n_samples // 160).

    Source: Radford et al. 2023.
    """
    windows = windows.float()
    hann = torch.hann_window(N_FFT, device=windows.device)
    spectrum = torch.stft(windows, N_FFT, HOP_SAMPLES, window=hann, return_complex=True)[..., :-1]
    power = spectrum.real.square() + spectrum.imag.square()
    mel = torch.matmul(_filters(n_mels).to(windows.device), power)
    log = mel.clamp_min(1e-10).log10()
    log = torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0)
    return (log + 4.0) / 4.0


@lru_cache
def _filters(n_mels: int) -> torch.Tensor:
    """Slaney's mel filters, (n_mels, n_frequencies)."""
    filters = mel_filter_bank(
        num_frequency_bins=1 + N_FFT // 2,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLING_RATE_HZ / 2,
        sampling_rate=SAMPLING_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters.T).float().contiguous()

"""What the model is given for a run of TRs: windows of audio, and the matrix that brings their frames to TRs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from brain_tuning.errors import AudioError, TimingError
from brain_tuning.timing import WindowGroup
from brain_tuning.timing.lanczos import lanczos_matrix, to_torch
from brain_tuning.timing.runs import repetition_time
from brain_tuning.timing.windows import history_windows

from .configuration import BrainEncodingConfig


def plan_block(config: BrainEncodingConfig, audio: np.ndarray, tr_times_s: np.ndarray) -> dict[str, Any]:
    """Windows and the frame-to-TR matrix for a run of TRs; see :meth:`BrainWavLMForFMRIEncoding.plan`."""
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(
            f"the audio is an array of {audio.dtype}, shape {audio.shape}",
            expected=f"(n_samples,) of floats from -1 to 1, mono at {config.sampling_rate_hz} Hz",
        )
    audio = audio.astype(np.float32, copy=False)
    times = np.asarray(tr_times_s, dtype=np.float64)
    repetition_time(times)
    if config.history_trs is None:
        groups, matrix, seen = stride_windows(config, len(audio), times)
    else:
        groups, matrix, seen = tr_windows(config, len(audio), times)
    return {
        "seen": torch.from_numpy(seen),
        "input_values": [_prepared(torch.from_numpy(group.cut(audio)), config) for group in groups],
        "first_frames": [group.first_frame for group in groups],
        "frame_to_tr": to_torch(matrix),
    }


def stride_windows(
    config: BrainEncodingConfig, n_samples: int, times: np.ndarray
) -> tuple[list[WindowGroup], sparse.csr_matrix, np.ndarray]:
    """Windows every ``stride_s``, filtered to TRs."""
    tr_s = repetition_time(times)
    reach_s = config.lanczos_lobes * tr_s
    groups = config.window_plan.groups(
        n_samples,
        config.frame_grid,
        start_s=max(0.0, times[0] - reach_s),
        stop_s=max(0.0, times[-1] + reach_s),
    )
    _check_heard(groups, config, n_samples, times)
    frame_times_s = np.concatenate([group.times_s.ravel() for group in groups])
    matrix = lanczos_matrix(frame_times_s, times, lobes=config.lanczos_lobes, cutoff_hz=1.0 / tr_s, allow_empty=True)
    frame_s = config.frame_grid.hop_samples / config.sampling_rate_hz
    full_weight = tr_s / (frame_s if config.read == "all" else config.stride_s)
    return groups, matrix, np.asarray(matrix.sum(axis=1)).ravel() > 0.5 * full_weight


def tr_windows(
    config: BrainEncodingConfig, n_samples: int, times: np.ndarray
) -> tuple[list[WindowGroup], sparse.csr_matrix, np.ndarray]:
    """One window a TR; what is read of it is that TR's feature."""
    groups, members = history_windows(n_samples, config.frame_grid, times, history_trs=int(config.history_trs or 0))
    _check_heard(groups, config, n_samples, times)
    order = np.concatenate(members)
    matrix = sparse.csr_matrix((np.ones(len(order)), (order, np.arange(len(order)))), shape=(len(times), len(order)))
    seen = np.zeros(len(times), bool)
    seen[order] = True
    return groups, matrix, seen


def _check_heard(groups: list[WindowGroup], config: BrainEncodingConfig, n_samples: int, times: np.ndarray) -> None:
    if not groups:
        audio_s = n_samples / config.sampling_rate_hz
        raise TimingError(
            "no audio lies near the TRs asked for",
            where=f"TRs {times[0]:.1f} to {times[-1]:.1f} s, audio 0 to {audio_s:.1f} s",
            expected="TR times in seconds from the audio's start",
        )


def _prepared(windows: torch.Tensor, config: BrainEncodingConfig) -> torch.Tensor:
    """Windows as the backbone was trained to hear them: zero mean and unit variance each, if it expects that."""
    if not config.normalise_input:
        return windows
    centred = windows - windows.mean(-1, keepdim=True)
    # The constant is that of transformers' Wav2Vec2FeatureExtractor.
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-7)

"""Small stories, runs and subjects whose every value is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from brain_tuning.corpus import Interval, RunInput, StoryInput, SubjectInput

N_VOXELS = 7
TR_S = 2.0


def story_audio(seed: int, duration_s: float = 40.0) -> np.ndarray:
    """Noise whose samples are 16-bit numbers, so that FLAC keeps them exactly."""
    pcm = np.random.default_rng(seed).integers(-8000, 8000, round(duration_s * 16_000))
    return (pcm / 32768).astype(np.float32)


def story_input(name: str, seed: int = 0) -> StoryInput:
    words = (Interval("hello", 0.5, 1.0), Interval('"world"', 1.0, 1.75))
    return StoryInput(name, story_audio(seed), words, (Interval("HH", 0.5, 0.625),))


def run_input(story: str = "wood", **changes: Any) -> RunInput:
    given: dict[str, Any] = {
        "story": story,
        "run": 0,
        "repeat": 0,
        "split": "train",
        "tr_s": TR_S,
        "onset_s": -1.0,
        "bold": np.random.default_rng(len(story)).standard_normal((20, N_VOXELS)).astype(np.float32),
    }
    return RunInput(**{**given, **changes})


def subject_input(*runs: RunInput, **changes: Any) -> SubjectInput:
    return SubjectInput(**{"subject": "s1", "n_voxels": N_VOXELS, "runs": runs or (run_input(),), **changes})

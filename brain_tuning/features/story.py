"""Frozen features of stories at TR rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brain_tuning.corpus import Corpus
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding


def model_features(
    model: BrainWavLMForFMRIEncoding, corpus: Corpus, progress: Callable[[str], object] | None = None
) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Features of a model's read layer; each (story, TR grid) is computed once.

    Args:
        model: tuned or not; it is put in evaluation mode while computing.
        corpus: holds the audio.
        progress: called with the story's name before it is computed.

    Returns:
        A function (story, TR times in s (n_trs,)) -> features (n_trs, width), whether audio reaches each TR (n_trs,).
    """
    known: dict[tuple[str, bytes], tuple[np.ndarray, np.ndarray]] = {}

    def features(story: str, tr_times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = (story, np.asarray(tr_times_s).tobytes())
        if key not in known:
            if progress is not None:
                progress(story)
            known[key] = model.story_features(corpus.audio(story), tr_times_s)
        return known[key]

    return features

"""One tuned model and what is published of it, made once for all tests that only read it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from model_builders import tuned_model

from brain_tuning.models import BrainWavLMForFMRIEncoding


@pytest.fixture(scope="session")
def tuned(tiny_wavlm: Path) -> BrainWavLMForFMRIEncoding:
    """A model with two adapters on the tiny backbone; not to be changed."""
    return tuned_model(tiny_wavlm, adapters=("s1-ac", "s2-ac"))


@pytest.fixture(scope="session")
def published_once(tuned: BrainWavLMForFMRIEncoding, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published layout of ``tuned``; not to be changed."""
    return tuned.save_published(tmp_path_factory.mktemp("published") / "brainwavlm")


@pytest.fixture(scope="session")
def saved_once(tuned: BrainWavLMForFMRIEncoding, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The self-contained folder of ``tuned``; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "brainwavlm"
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a folder that a test may damage."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy

"""A small corpus whose every value is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus_builders import story_input, subject_input

from brain_tuning.corpus import write_corpus


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus of two stories; keyword arguments replace what it is given."""

    def written(destination: Path | None = None, **changes: Any) -> Path:
        given: dict[str, Any] = {
            "name": "small",
            "source": "made for a test",
            "licence": "CC BY 4.0",
            "stories": [story_input("wood", 1), story_input("wind", 2)],
            "subjects": [subject_input()],
        }
        return write_corpus(destination or tmp_path / "small", **{**given, **changes})

    return written

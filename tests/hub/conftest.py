"""Small published folders, for the tests of publishing."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_layout import write_layout


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A small folder in the published layout."""
    return write_layout(tmp_path / "published")

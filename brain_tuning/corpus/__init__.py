"""Stories and responses in `datasets` format: what is stored, how it is read, and where it comes from.

Every name is imported when it is first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .audio import read_audio
    from .ceiling import schoppe_ceiling
    from .ledger import VoxelLedger, examine
    from .schema import Interval, Run, RunInput, Story, StoryInput, SubjectInput
    from .splits import assign_splits
    from .store import Corpus, open_corpus
    from .textgrid import read_textgrid
    from .writer import write_corpus

_MODULE_OF = {
    "Corpus": "store",
    "open_corpus": "store",
    "write_corpus": "writer",
    "Interval": "schema",
    "Run": "schema",
    "RunInput": "schema",
    "Story": "schema",
    "StoryInput": "schema",
    "SubjectInput": "schema",
    "VoxelLedger": "ledger",
    "examine": "ledger",
    "schoppe_ceiling": "ceiling",
    "read_audio": "audio",
    "read_textgrid": "textgrid",
    "assign_splits": "splits",
}

__all__ = [
    "Corpus",
    "Interval",
    "Run",
    "RunInput",
    "Story",
    "StoryInput",
    "SubjectInput",
    "VoxelLedger",
    "assign_splits",
    "examine",
    "open_corpus",
    "read_audio",
    "read_textgrid",
    "schoppe_ceiling",
    "write_corpus",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

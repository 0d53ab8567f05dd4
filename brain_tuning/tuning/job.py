"""One tuning run, as it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from brain_tuning.errors import RecipeError

from .recipe import Recipe


@dataclass(frozen=True)
class TuningJob:
    """One tuning run.

    Args:
        recipe: what to do.
        corpus: folder or Hub id of the corpus.
        subject: whose responses; several subjects are tuned together, on one adapter.
        roi: ``all``, ``AC``, ``left``, ``right``, any region of the corpus, or an expression: ``left & AC``.
        output: folder of the run.
        save_every: optimiser steps between checkpoints; an epoch's end is always one.
        workers: processes that prepare blocks.
        cache_mb: memory for outputs of the frozen part of the backbone, which every epoch needs again; 0 for none.
        disk_cache: folder where these outputs are kept from run to run; None for memory alone.
        disk_cache_gb: it never holds more.
        gradient_checkpointing: half the activations' memory for about 1.4 times the time.
        compile: run the transformer layers through ``torch.compile``.

    Raises:
        RecipeError: a number is out of range, or no or a repeated subject is named.
    """

    recipe: Recipe
    corpus: str
    subject: str | tuple[str, ...]
    roi: str
    output: Path
    save_every: int = 200
    workers: int = 0
    cache_mb: int = 1024
    disk_cache: Path | None = None
    disk_cache_gb: float = 20.0
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for key, least in (("save_every", 1), ("workers", 0), ("cache_mb", 0), ("disk_cache_gb", 0)):
            if not least <= getattr(self, key) < math.inf:
                raise RecipeError(f"{key}: {getattr(self, key)} is out of range", expected=f"at least {least}")
        if not self.subjects or len(set(self.subjects)) < len(self.subjects):
            raise RecipeError(
                f"the subjects are {', '.join(self.subjects) or '(none)'}", expected="at least one, each named once"
            )

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects."""
        return (self.subject,) if isinstance(self.subject, str) else tuple(self.subject)

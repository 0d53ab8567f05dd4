"""Responses of a corpus as a regression takes them: z-scored within the run, one run below the other, on demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brain_tuning.corpus import Corpus, Run
from brain_tuning.errors import EncodingError

from .scores import mean_and_std, zscore

_VOXELS_PER_BLOCK = 4096


class StoredResponses:
    """Responses of some runs of a subject, read from the store a block of voxels at a time.

    Nothing is held: each block is read, z-scored within its runs and handed over, so that memory does not grow with
    the number of voxels. A voxel that does not vary within a run, or holds a NaN there, is NaN in that run.

    Args:
        corpus: the store.
        runs: of one subject, in the order of the rows.
        voxels: columns wanted, (n_voxels,); None takes all.

    Raises:
        EncodingError: there is no run, or they are of several subjects, whose voxels are not the same.

    Example:
        >>> fit = ridge_cv(features, StoredResponses(corpus, runs), folds, memory_mb=2048)
    """

    def __init__(self, corpus: Corpus, runs: Sequence[Run], voxels: np.ndarray | None = None) -> None:
        subjects = sorted({run.subject for run in runs})
        if len(subjects) != 1:
            raise EncodingError(
                "responses are those of one subject", where=f"runs of {', '.join(subjects) or 'none'}", expected="one"
            )
        self.corpus, self.runs, self.voxels = corpus, list(runs), voxels
        n_voxels = corpus.n_voxels(self.runs[0].subject) if voxels is None else len(voxels)
        self.shape = (sum(run.n_trs for run in self.runs), n_voxels)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """The rows and columns asked for, (n_rows, n_columns), float32."""
        rows, columns = key
        n_columns = len(range(*columns.indices(self.shape[1])))
        wanted = columns if self.voxels is None else self.voxels[columns]
        block = np.empty((self.shape[0], n_columns), np.float32)
        begin = 0
        for run in self.runs:
            block[begin : begin + run.n_trs] = zscore(self.corpus.bold(run, wanted))
            begin += run.n_trs
        return block[rows]


class StoredRun:
    """z-scored responses of one run, read from the store a few TRs at a time.

    What is held is the mean and the standard deviation of each voxel.

    Args:
        corpus: the store.
        run: one of its runs.
        voxels: columns wanted, (n_voxels,).
        n_trs: rows, if not those of the run: a shorter run begins again.
    """

    def __init__(self, corpus: Corpus, run: Run, voxels: np.ndarray, n_trs: int | None = None) -> None:
        self.corpus, self.run, self.voxels = corpus, run, voxels
        self.shape = (run.n_trs if n_trs is None else n_trs, len(voxels))
        parts = [voxels[begin : begin + _VOXELS_PER_BLOCK] for begin in range(0, len(voxels), _VOXELS_PER_BLOCK)]
        moments = [mean_and_std(corpus.bold(run, part).astype(np.float64)) for part in parts]
        self.mean, self.std = (np.concatenate(each) for each in zip(*moments, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.mean.nbytes + self.std.nbytes

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The TRs asked for, (n_rows, n_voxels), float32: those of ``zscore(corpus.bold(run, voxels))``."""
        begin, end, _ = rows.indices(self.shape[0])
        if end <= self.run.n_trs:
            values = self.corpus.bold(self.run, self.voxels, rows=slice(begin, end))
        else:
            values = self.corpus.bold(self.run, self.voxels)[np.arange(begin, end) % self.run.n_trs]
        with np.errstate(invalid="ignore", over="ignore"):
            return ((values.astype(np.float64) - self.mean) / self.std).astype(np.float32)

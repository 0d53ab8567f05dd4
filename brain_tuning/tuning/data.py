"""Blocks of consecutive TRs to tune on: which, in which order, and what the model is given for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from brain_tuning.corpus import Corpus, Run
from brain_tuning.corpus.schema import SAMPLING_RATE_HZ
from brain_tuning.encoding.scores import zscore
from brain_tuning.errors import CorpusError
from brain_tuning.models.blocks import plan_block
from brain_tuning.models.configuration import BrainEncodingConfig
from brain_tuning.timing.runs import lead_in


@dataclass(frozen=True)
class Block:
    """Consecutive TRs of one run: ``first_tr`` to ``first_tr + n_trs``."""

    run: int
    first_tr: int
    n_trs: int


class BlockDataset(Dataset):
    """Blocks of one subject's runs in one region, z-scored within each run, as the model takes them.

    Args:
        corpus: where audio and responses are.
        runs: to take blocks from.
        voxels: columns of the responses, (n_voxels,).
        config: of the model: window plan, delays, filter.
        block_trs: TRs of a block.
        seed: of the order.
        shuffled_stories: control condition: each run is given the responses of the next run.

    Raises:
        CorpusError: there are no runs, or one has fewer TRs than a block while the story is heard.
    """

    def __init__(
        self,
        corpus: Corpus,
        runs: list[Run],
        voxels: np.ndarray,
        config: BrainEncodingConfig,
        *,
        block_trs: int,
        seed: int,
        shuffled_stories: bool = False,
    ) -> None:
        if not runs:
            raise CorpusError(
                "there are no runs to tune on", where=corpus.path, expected="runs of the train split",
                remedy="see `brain-tuning corpus inspect`",
            )  # fmt: skip
        #: rows of each run that blocks are cut from
        self.rows = [
            _rows_that_hear(run, corpus.n_samples(run.story) / SAMPLING_RATE_HZ, config.delays_trs) for run in runs
        ]
        for run, rows in zip(runs, self.rows, strict=True):
            if len(rows) < block_trs:
                raise CorpusError(
                    f"a run has {len(rows)} TRs while the story is heard",
                    where=f"subject {run.subject}, story {run.story}, run {run.run}",
                    expected=f"at least block_trs = {block_trs}",
                    remedy="choose a smaller block_trs in the recipe",
                )
        self.corpus, self.runs, self.config = corpus, runs, config
        self.block_trs, self.seed, self.epoch = block_trs, seed, 0
        self.bold = [zscore(corpus.bold(run, voxels)) for run in runs]
        if shuffled_stories:
            self.bold = _moved_to_other_stories(runs, self.bold)
        self.blocks: list[Block] = []
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Cut and order the blocks of an epoch; both depend on (seed, epoch) alone."""
        rng = np.random.default_rng([self.seed, epoch])
        blocks = []
        for k, rows in enumerate(self.rows):
            n_blocks, spare = divmod(len(rows), self.block_trs)
            # The grid starts anywhere within the remainder, so that over epochs no TR is left out.
            offset = rows.start + int(rng.integers(spare + 1))
            blocks += [Block(k, offset + b * self.block_trs, self.block_trs) for b in range(n_blocks)]
        self.epoch = epoch
        self.blocks = [blocks[k] for k in rng.permutation(len(blocks))]

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        block = self.blocks[index]
        run = self.runs[block.run]
        rows = slice(block.first_tr, block.first_tr + block.n_trs)
        n_lead = max(0, *self.config.delays_trs)
        batch = plan_block(self.config, self.corpus.audio(run.story), lead_in(run.tr_times_s[rows], n_lead))
        return {**batch, "n_lead_trs": n_lead, "labels": torch.from_numpy(self.bold[block.run][rows])}

    def describe(self, index: int) -> str:
        """Where a block is, for logs and errors."""
        block = self.blocks[index]
        run = self.runs[block.run]
        return f"{run.story} run {run.run} repeat {run.repeat} TR {block.first_tr}-{block.first_tr + block.n_trs - 1}"


def _rows_that_hear(run: Run, duration_s: float, delays_trs: Sequence[int]) -> range:
    """Rows of a run with audio at one of their delays: a block without any has nothing to learn from."""
    first_heard = math.ceil(-run.onset_s / run.tr_s)
    last_heard = math.floor((duration_s - run.onset_s) / run.tr_s) - 1
    return range(max(0, first_heard + min(delays_trs)), min(run.n_trs, last_heard + max(delays_trs) + 1))


def _moved_to_other_stories(runs: list[Run], bold: list[np.ndarray]) -> list[np.ndarray]:
    stories = list(dict.fromkeys(run.story for run in runs))
    if len(stories) < 2:
        raise CorpusError("the control shuffled_stories needs at least two training stories", expected="2 or more")
    donor = {story: stories[(k + 1) % len(stories)] for k, story in enumerate(stories)}
    first_run = {story: next(k for k, run in enumerate(runs) if run.story == story) for story in stories}
    # A donor of another length is cut, or repeated from its start: its timing is to be wrong anyway.
    return [np.resize(bold[first_run[donor[run.story]]], values.shape) for run, values in zip(runs, bold, strict=True)]

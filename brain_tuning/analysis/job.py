"""What is evaluated, and what of it can be known to be wrong before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from brain_tuning.corpus import Corpus, Run
from brain_tuning.cortex.regions import ALL, select_voxels
from brain_tuning.encoding.ridge import check_penalties
from brain_tuning.errors import AdapterError, EncodingError, StorageError, TimingError
from brain_tuning.timing import WindowPlan
from brain_tuning.timing.delays import check_delays

from .alignment import AlignmentSettings, chosen_penalties, runs_to_align

#: regions of this kind choose voxels to tune on; they are not reported unless asked for
_SELECTION = "selection"
#: a file by which a folder of another kind is known
_OF_OTHERS = {"corpus.json": "a corpus", "run.json": "that of a tuning run"}


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated.

    Args:
        corpus: folder or Hub id.
        subject: whose responses.
        models: folders or ids of tuned models, of this subject or another; ``LABEL=FOLDER`` names one. Their untuned
            backbone is added by itself.
        output: folder for ``results.json`` and ``voxels.safetensors``.
        baselines: names in :data:`brain_tuning.features.low_level.BASELINES`, or several joined by ``+``.
        regions: names of regions, or expressions over them, to report; None for all that are not mere selections of
            voxels.
        backbone: to evaluate when no tuned model is given (with the window plan of ``recipe_config``).
        recipe_config: fields of the model config for that backbone.
        layers: indices into ``hidden_states``, or ``"all"``; None is the layer that each model reads.
        plan: windows for the features instead of the models' own.
        settings: the same for all.
        n_permutations: of the tests against chance and of tuned against untuned; 0 tests nothing.
        low_level_impact: baselines whose linear part is removed from each model's features, one at a time, to see how
            much alignment goes with it; see :mod:`brain_tuning.analysis.low_level_impact`.
        cache_mb: memory for outputs of the frozen stem, which tuned and untuned share.
        features: folder where features are kept for other runs; None keeps them in memory, for this run alone.
    """

    corpus: str
    subject: str
    models: tuple[str, ...]
    output: Path
    baselines: tuple[str, ...] = ()
    regions: tuple[str, ...] | None = None
    backbone: str | None = None
    recipe_config: Mapping[str, Any] | None = None
    layers: tuple[int, ...] | Literal["all"] | None = None
    plan: WindowPlan | None = None
    settings: AlignmentSettings = field(default_factory=AlignmentSettings)
    n_permutations: int = 0
    low_level_impact: tuple[str, ...] = ()
    cache_mb: int = 1024
    features: Path | None = None


def check_job(job: EvaluationJob, corpus: Corpus) -> None:
    """Raise whatever of a job is wrong and can be known without reading a model or a response.

    Raises:
        BrainTuningError: of the kind that fits.
    """
    if not (job.models or job.baselines or job.backbone):
        raise AdapterError(
            "there is nothing to evaluate",
            expected="a tuned model, a baseline or a backbone",
            remedy="pass --model, --baseline or --backbone",
        )
    if not (job.models or job.backbone) and (job.layers or job.plan or job.low_level_impact):
        raise AdapterError(
            "layers, windows and low-level impact are those of a model, and there is none",
            expected="a tuned model or a backbone beside the baselines",
            remedy="pass --model or --backbone, or leave these options out",
        )
    for file, what in _OF_OTHERS.items():
        if (job.output / file).is_file():
            raise StorageError(
                f"the output folder is {what}",
                where=job.output,
                expected="a folder of its own for each evaluation",
                remedy="name another --output",
            )
    if job.models and job.backbone:
        raise AdapterError(
            "a backbone is named beside tuned models",
            where=job.backbone,
            expected="one or the other: the untuned backbone of each model is added by itself",
        )
    if job.n_permutations < 0:
        raise EncodingError(f"{job.n_permutations} permutations", expected="at least 1, or 0 to test nothing")
    if job.n_permutations and job.settings.cross_validate:
        raise EncodingError(
            "p-values of cross-validated predictions would be far too small",
            where=f"{job.n_permutations} permutations with {job.settings.cross_validate} blocks cross-validated",
            expected="predictions that no tested response has taken part in",
            remedy="leave the permutations out, or cut the corpus into train and test pieces (docs/statistics.md)",
        )
    check_penalties(chosen_penalties(job.settings))
    _check_delays(job.settings.delays_trs, runs_to_align(corpus, job.subject, job.settings))
    reported_regions(job, corpus)


def _check_delays(delays_trs: Sequence[int], runs: tuple[list[Run], list[Run]]) -> None:
    """Refuse delays of which one would find nothing in any run."""
    longest_trs = max(run.n_trs for several in runs for run in several)
    for delay in check_delays(delays_trs):
        if abs(delay) >= longest_trs:
            raise TimingError(
                f"a delay of {delay} TRs is longer than every run",
                expected=f"delays below {longest_trs} TRs; the field's are 1 2 3 4",
            )


def reported_regions(job: EvaluationJob, corpus: Corpus) -> dict[str, np.ndarray]:
    """Region -> voxel indices, of the regions that an evaluation reports.

    Raises:
        RegionError: a region that is asked for does not exist or is empty.
    """
    every = np.arange(corpus.n_voxels(job.subject))
    stored = corpus.regions(job.subject)
    if job.regions is not None:
        ceiling = corpus.noise_ceiling(job.subject)
        return {
            name: select_voxels(name, stored, every, subject=job.subject, noise_ceiling=ceiling) for name in job.regions
        }
    kinds = corpus.region_kinds(job.subject)
    return {name: v for name, v in stored.items() if v.size and kinds.get(name) != _SELECTION} or {ALL: every}

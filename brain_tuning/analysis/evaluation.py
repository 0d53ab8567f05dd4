"""Evaluate models on a corpus: alignment of tuned, untuned and baseline features, written as one JSON file.

Beside ``results.json`` a safetensors file holds what the means were taken over: the correlation of each voxel
for each set of features, and the predictions of each tuned model's own head on the test stories.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from brain_tuning.atomic import whole_file
from brain_tuning.corpus import Corpus, Run, open_corpus
from brain_tuning.cortex.regions import ALL, GROUP
from brain_tuning.encoding.design import StoryFeatures
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import AdapterError
from brain_tuning.features.low_level import baseline_features
from brain_tuning.features.story import model_features
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.head import EncodingHead
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.shared_files import shared_file
from brain_tuning.versions import versions

from .alignment import Alignment, AlignmentSettings, align

log = logging.getLogger(__name__)

UNTUNED = "untuned"
#: regions of this kind choose voxels to tune on; they are not reported unless asked for
SELECTION = "selection"


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated.

    Args:
        corpus: folder or Hub id.
        subject: whose responses.
        models: folders or ids of tuned models; their untuned backbone is added by itself.
        output: folder for ``results.json`` and ``voxels.safetensors``.
        baselines: names in :data:`brain_tuning.features.low_level.BASELINES`, or several joined by ``+``.
        regions: names of regions to report; None for all that are not mere selections of voxels.
        backbone: to evaluate when no tuned model is given (with the window plan of ``recipe_config``).
        recipe_config: fields of the model config for that backbone.
        settings: the same for all.
        cache_mb: memory for outputs of the frozen stem, which tuned and untuned share.
    """

    corpus: str
    subject: str
    models: tuple[str, ...]
    output: Path
    baselines: tuple[str, ...] = ()
    regions: tuple[str, ...] | None = None
    backbone: str | None = None
    recipe_config: Mapping[str, Any] | None = None
    settings: AlignmentSettings = field(default_factory=AlignmentSettings)
    cache_mb: int = 1024


def evaluate_models(
    job: EvaluationJob, *, report: Callable[[str], object] = log.info, cache: FrozenCache | None = None
) -> dict[str, Any]:
    """Run the evaluation and write its files.

    Args:
        job: what to evaluate.
        report: called with a line of progress now and then.
        cache: of frozen outputs, to share with other work in this process.

    Returns:
        What ``results.json`` holds: ``rows`` of {subject, region, model, r, r_normalised, ceiling, n_voxels, ...},
        and everything needed to run it again.

    Raises:
        BrainTuningError: bad input of any kind; nothing is left half-written.
    """
    corpus = open_corpus(job.corpus)
    if not (job.models or job.baselines or job.backbone):
        raise AdapterError(
            "there is nothing to evaluate",
            expected="a tuned model, a baseline or a backbone",
            remedy="pass --model, --baseline or --backbone",
        )
    regions = _reported_regions(job, corpus)
    tuned = _load_tuned(job.models, job.subject)
    cache = cache or FrozenCache(job.cache_mb * 2**20)
    models = {**_untuned(job, tuned), **tuned}
    features: dict[str, StoryFeatures] = {}
    for label, model in models.items():
        model.frozen_cache = cache
        features[label] = model_features(model, corpus)
    features.update({name: baseline_features(name, corpus) for name in job.baselines})
    measured, pieces, aligned = align(corpus, job.subject, features, job.settings, report=report)
    r = {label: _voxelwise(result, measured) for label, result in aligned.items()}
    heads = {} if job.settings.cross_validate else _head_predictions(tuned, corpus, pieces)
    results = {
        "subject": job.subject,
        "rows": _rows(job, corpus, regions, r),
        "head": _head_rows(job, corpus, regions, heads, measured),
        "models": {label: _described(model) for label, model in models.items()},
        "corpus": _corpus_described(corpus, job.subject),
        "settings": {**asdict(job.settings), "penalties": _penalties(job)},
        "seconds": {label: {k: round(v, 2) for k, v in result.seconds.items()} for label, result in aligned.items()},
        "median_penalty": {label: _median(result.penalty) for label, result in aligned.items()},
        "versions": versions(),
    }
    tensors = {f"r/{label}": values.astype(np.float32) for label, values in r.items()}
    for label, (prediction, voxels) in heads.items():
        tensors[f"prediction/{label}"], tensors[f"voxels/{label}"] = prediction, voxels
    tensors["tr_times_s"] = np.concatenate([run.tr_times_s for run in pieces])
    # Both or neither.
    with whole_file(job.output / "voxels.safetensors") as scores, whole_file(job.output / "results.json") as summary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, scores)
        summary.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def model_label(model: BrainWavLMForFMRIEncoding) -> str:
    """``tuned-<roi>`` of the active adapter."""
    described = (model.config.adapters or {})[str(model.config.default_adapter)]
    return f"tuned-{described.get('roi', model.config.default_adapter)}"


def _load_tuned(names: tuple[str, ...], subject: str) -> dict[str, BrainWavLMForFMRIEncoding]:
    loaded: dict[str, BrainWavLMForFMRIEncoding] = {}
    for name in names:
        model = BrainWavLMForFMRIEncoding.from_pretrained(_place_of_model(name), adapter="all")
        own = [key for key, said in (model.config.adapters or {}).items() if said.get("subject") == subject]
        if own and str(model.config.default_adapter) not in own:
            model.set_adapter(own[0])
        label = model_label(model.eval())
        if label in loaded:
            raise AdapterError(
                f"two models are both {label}", where=name, remedy="evaluate them one at a time, into two outputs"
            )
        loaded[label] = model
    return loaded


def _place_of_model(name: str) -> str | Path:
    """The folder of a tuning run stands for the model in it."""
    folder = Path(name)
    if not (folder / "run.json").is_file():
        return name
    if not (folder / "model").is_dir():
        raise AdapterError(
            "the run has no tuned model yet",
            where=name,
            expected="a finished tuning run",
            remedy="finish it with `brain-tuning tune ... --resume`",
        )
    return folder / "model"


def _untuned(job: EvaluationJob, tuned: dict[str, BrainWavLMForFMRIEncoding]) -> dict[str, BrainWavLMForFMRIEncoding]:
    """The backbone that the tuned models started from, with their layer and window plan."""
    fields = ("layer", "context_s", "stride_s", "read", "lanczos_lobes", "first_adapted_layer")
    plans = {
        (config.base_model_name_or_path, config.base_model_revision, *(getattr(config, f) for f in fields))
        for config in (model.config.judging() for model in tuned.values())
    }
    if len(plans) > 1:
        raise AdapterError(
            "the models differ in backbone, layer or window plan",
            expected="models that share one untuned baseline",
            remedy="evaluate them one at a time",
        )
    if plans:
        name, revision, *values = next(iter(plans))
        settings = dict(zip(fields, values, strict=True))
    elif job.backbone:
        name, revision, settings = job.backbone, None, dict(job.recipe_config or {})
    else:
        return {}
    return {UNTUNED: BrainWavLMForFMRIEncoding.from_backbone(name, revision=revision, **settings).eval()}


def _head_predictions(
    tuned: dict[str, BrainWavLMForFMRIEncoding], corpus: Corpus, pieces: list[Run]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each model tuned on these voxels itself predicts for the test stories, and for which voxels."""
    predictions = {}
    for label, model in tuned.items():
        head = model.head
        described = (model.config.adapters or {})[str(model.config.default_adapter)]
        # The head of another subject predicts that subject's voxels; of a shared one voxels are common vertices.
        if isinstance(head, EncodingHead) and described.get("subject") in (pieces[0].subject, GROUP):
            predicted = [model.predict(corpus.audio(run.story), run.tr_times_s) for run in pieces]
            predictions[label] = np.concatenate(predicted), head.voxels.cpu().numpy()
    return predictions


def _voxelwise(result: Alignment, measured: np.ndarray) -> np.ndarray:
    import evaluate

    metric = evaluate.load(str(shared_file("evaluation/metrics/voxelwise_pearson")))
    if np.isnan(result.prediction).all(axis=1).any():
        return pearson_r(result.prediction, measured)
    return metric.compute(predictions=result.prediction, references=measured, return_per_voxel=True)["per_voxel"]


def _rows(
    job: EvaluationJob, corpus: Corpus, regions: dict[str, np.ndarray], r: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    import evaluate

    summary = evaluate.load(str(shared_file("evaluation/metrics/region_summary")))
    ceiling = corpus.noise_ceiling(job.subject)
    return [
        {
            "subject": job.subject,
            "region": row["region"],
            "model": label,
            "r": _finite(row["mean_r"]),
            "r_normalised": _finite(row["mean_r_normalised"]),
            "ceiling": _finite(row["mean_ceiling"]),
            "n_voxels": row["n_voxels"],
            "n_unscored": row["n_nan"],
            "n_normalised": row["n_normalised"],
        }
        for label, values in r.items()
        for row in summary.compute(predictions=values, regions=regions, noise_ceiling=ceiling)["regions"]
    ]


def _head_rows(
    job: EvaluationJob,
    corpus: Corpus,
    regions: dict[str, np.ndarray],
    heads: dict[str, tuple[np.ndarray, np.ndarray]],
    measured: np.ndarray,
) -> list[dict[str, Any]]:
    """Mean correlation of the tuned heads' own predictions, by region."""
    rows = []
    for label, (prediction, voxels) in heads.items():
        r = np.full(corpus.n_voxels(job.subject), np.nan)
        r[voxels] = pearson_r(prediction, measured[:, voxels])
        for region, members in regions.items():
            inside = np.intersect1d(members, voxels)
            if inside.size:
                rows.append(
                    {
                        "subject": job.subject, "region": region, "model": label,
                        "r": _finite(np.nanmean(r[inside])), "n_voxels": int(inside.size),
                    }
                )  # fmt: skip
    return rows


def _reported_regions(job: EvaluationJob, corpus: Corpus) -> dict[str, np.ndarray]:
    every = np.arange(corpus.n_voxels(job.subject))
    if job.regions is not None:
        return {name: every if name == ALL else corpus.region(job.subject, name) for name in job.regions}
    kinds = corpus.region_kinds(job.subject)
    stored = corpus.regions(job.subject).items()
    return {name: v for name, v in stored if v.size and kinds.get(name) != SELECTION} or {ALL: every}


def _described(model: BrainWavLMForFMRIEncoding) -> dict[str, Any]:
    config = model.config.judging()
    return {
        "backbone": config.base_model_name_or_path,
        "revision": config.base_model_revision,
        "layer": config.layer,
        "window": {"context_s": config.context_s, "stride_s": config.stride_s, "read": config.read},
        "adapter": config.default_adapter,
        **((config.adapters or {}).get(str(config.default_adapter)) or {}),
    }


def _corpus_described(corpus: Corpus, subject: str) -> dict[str, Any]:
    runs = corpus.runs(subject)
    return {
        "name": corpus.name,
        "source": corpus.meta.get("source"),
        "licence": corpus.meta.get("licence"),
        "surrogate_audio": corpus.surrogate_audio,
        "notes": corpus.meta.get("notes"),
        "split": {s: sorted({run.story for run in runs if run.split == s}) for s in ("train", "validation", "test")},
        "n_test_repeats": len({run.repeat for run in runs if run.split == "test"}),
        "trims": sorted({run.trim for run in runs if run.trim}),
        "tr_s": sorted({run.tr_s for run in runs}),
        "ledger": corpus.ledger(subject).counts(),
    }


def _penalties(job: EvaluationJob) -> list[float]:
    from .alignment import chosen_penalties

    return [float(p) for p in chosen_penalties(job.settings)]


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

"""Evaluate models on a corpus: alignment of tuned, untuned and baseline features, written as one JSON file.

Beside ``results.json`` a safetensors file holds what the means were taken over: the correlation of each voxel
for each set of features, and the predictions of each tuned model's own head on the test stories.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from brain_tuning.atomic import whole_file
from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint
from brain_tuning.cortex.regions import GROUP
from brain_tuning.encoding.score_ledger import score_voxels
from brain_tuning.encoding.scores import pearson_r
from brain_tuning.errors import AdapterError
from brain_tuning.features.story import extract, feature_cache
from brain_tuning.models.families import check_layers
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.head import EncodingHead
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.processes import this_process
from brain_tuning.versions import versions

from .alignment import Alignment, Listener, align_one, chosen_penalties, listener
from .candidates import (
    UNTUNED,
    Candidate,
    baseline_candidate,
    head_identity,
    load_tuned,
    model_candidates,
    tuned_on,
    untuned_twin,
    weights_identity,
)
from .candidates import described as model_described
from .job import EvaluationJob, check_job, reported_regions
from .low_level_impact import WithoutLowLevel, impact_candidates, impact_rows
from .parts import Parts, corpus_identity
from .result_rows import head_rows, median_of, scored_rows, voxelwise_r
from .significance import against_chance, against_untuned
from .story_intervals import region_intervals, story_lengths

log = logging.getLogger(__name__)

RESULTS = "results.json"
VOXELS = "voxels.safetensors"


def evaluate_models(
    job: EvaluationJob, *, report: Callable[[str], object] = log.info, cache: FrozenCache | None = None
) -> dict[str, Any]:
    """Run the evaluation and write its files.

    What is finished is kept in ``output/parts`` until all is: an evaluation that was stopped goes on from there. On
    several processes (``accelerate launch``) the stories are shared out first, then the sets of features.

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
    state = this_process()
    corpus = open_corpus(job.corpus)
    check_job(job, corpus)
    regions = reported_regions(job, corpus)
    tuned = load_tuned(job.models, job.subject)
    models = {**untuned_twin(tuned, job.backbone, job.recipe_config), **tuned}
    for model in models.values():
        check_layers(job.layers if isinstance(job.layers, tuple) else (), model.backbone.config)
        if job.plan is not None:
            job.plan.check(model.config.frame_grid)
    kept = feature_cache(job.features) if job.features else None
    cache = cache or FrozenCache(job.cache_mb * 2**20)
    for model in models.values():
        model.frozen_cache = cache
        model.to(state.device)
    candidates = [
        candidate
        for label, model in models.items()
        for candidate in model_candidates(label, model, corpus, layers=job.layers, plan=job.plan, cache=kept)
    ]
    candidates += [baseline_candidate(name, corpus) for name in dict.fromkeys(job.baselines)]
    removed = [baseline_candidate(name, corpus) for name in dict.fromkeys(job.low_level_impact)]
    heard = listener(corpus, job.subject, job.settings)
    reduced = impact_candidates(candidates, removed, heard.wanted(job.settings.delays_trs))
    common = [corpus_identity(corpus, job.subject), _settings(job), None if job.plan is None else asdict(job.plan)]
    parts = Parts(job.output / "parts", common)
    reported = {name: voxels.tolist() for name, voxels in regions.items()}
    everything = [*candidates, *(without for _, without in reduced)]
    _check_labels(everything)
    for note in _notes(job, models):
        log.warning("%s: %s", job.subject, note)
    compared = [(c.label, c.identity) for c in everything] + [(label, head_identity(m)) for label, m in models.items()]
    key = parts.key([job.n_permutations, versions(), reported, compared])
    state.wait_for_everyone()  # before the main process writes what others look for
    if (finished := _already(job.output / RESULTS, key)) is not None:
        report(f"{job.subject}: finished before, {job.output / RESULTS}")
        return finished
    if state.num_processes > 1:
        _share_out(job, candidates, heard, state)
    device = "cuda" if state.device.type == "cuda" else "cpu"
    _check_transcripts(removed, heard, job)
    for candidate in everything[state.process_index :: state.num_processes]:
        if parts.load(candidate.label, candidate.identity) is None:
            found = align_one(heard, candidate.label, candidate.features, job.settings, device=device, report=report)
            parts.save(candidate.label, candidate.identity, found)
        if isinstance(candidate.features, WithoutLowLevel):
            candidate.features.forget()
    state.wait_for_everyone()
    if state.is_main_process:
        _write(job, key, corpus, regions, models, candidates, reduced, heard, parts)
        parts.clear()
    state.wait_for_everyone()
    return dict(json.loads((job.output / RESULTS).read_text()))


def _check_labels(candidates: Sequence[Candidate]) -> None:
    labels = [candidate.label for candidate in candidates]
    alike = sorted({label for label in labels if labels.count(label) > 1})
    if alike:
        raise AdapterError(
            f"two sets of features are both called {alike[0]}",
            where=f"labels {', '.join(labels)}",
            remedy="give the model another label, --model LABEL=FOLDER, or rename the file",
        )


def _notes(job: EvaluationJob, models: Mapping[str, BrainWavLMForFMRIEncoding]) -> list[str]:
    """What a reader of the results must know to judge them."""
    tuned = [label for label in models if label != UNTUNED]
    if not (job.settings.cross_validate and tuned):
        return []
    return [
        f"cross-validation predicts all runs, those that {', '.join(tuned)} may have been tuned on as well: "
        "a gain over the untuned model is not one on held-out stories"
    ]


def _already(path: Path, key: str) -> dict[str, Any] | None:
    """Results of just this evaluation, if an earlier run finished it and both of its files are there."""
    if not path.with_name(VOXELS).is_file():
        return None
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None


def _share_out(job: EvaluationJob, candidates: list[Candidate], heard: Listener, state: Any) -> None:
    """Compute this process's share of the features, and wait for the others."""
    if job.features is None:
        raise AdapterError(
            f"{state.num_processes} processes cannot share features without a folder for them",
            expected="--feature-cache DIR",
        )
    # One layer of each model: the others are computed with it.
    models = [candidate for candidate in candidates if candidate.layer is not None]
    sources = {candidate.label.partition("@")[0]: candidate.features for candidate in models}
    extract(
        sources.values(), heard.wanted(job.settings.delays_trs), rank=state.process_index, world=state.num_processes
    )
    state.wait_for_everyone()


def _write(
    job: EvaluationJob,
    key: str,
    corpus: Corpus,
    regions: dict[str, np.ndarray],
    models: dict[str, BrainWavLMForFMRIEncoding],
    candidates: list[Candidate],
    reduced: list[tuple[Candidate, Candidate]],
    heard: Listener,
    parts: Parts,
) -> None:
    """Put the parts together."""
    ceiling = corpus.noise_ceiling(job.subject)
    rows: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    results: dict[str, Any] = {"seconds": {}, "median_penalty": {}, "ledger": {}}
    tensors: dict[str, np.ndarray] = {}
    identities = {candidate.label: candidate.identity for candidate in candidates}
    lengths = story_lengths(heard.pieces)
    for candidate in candidates:
        label = candidate.label
        found = _finished(parts, label, candidate.identity)
        scores = score_voxels(found.prediction, heard.measured, ceiling=ceiling)
        r = voxelwise_r(found, heard.measured)
        tested: dict[str, dict[str, Any]] = {}
        if job.n_permutations:
            tensors[f"p/{label}"], tested = against_chance(
                found.prediction, heard.measured, heard.pieces, regions, job.n_permutations
            )
            if candidate.against in identities:
                other = _finished(parts, candidate.against, identities[candidate.against])
                tensors[f"p-tuned/{label}"], of_regions = against_untuned(
                    found.prediction, other.prediction, heard.measured, heard.pieces, regions, job.n_permutations
                )
                about = {"subject": job.subject, "model": label, "against": candidate.against}
                compared += [{**about, **row} for row in of_regions]
        intervals = region_intervals(found.prediction, heard.measured, lengths, regions, r)
        rows += scored_rows(job.subject, candidate, regions, r, scores, ceiling, tested, intervals)
        tensors[f"r/{label}"] = r.astype(np.float32)
        results["seconds"][label] = {key: round(value, 2) for key, value in found.seconds.items()}
        results["median_penalty"][label] = median_of(found.penalty)
        results["ledger"][label] = scores.ledger.counts()
    impacts, of_voxels = _impacts(job, reduced, heard, parts, regions)
    heads = {} if job.settings.cross_validate else _head_predictions(models, heard, corpus)
    for label, (prediction, voxels) in heads.items():
        tensors[f"prediction/{label}"], tensors[f"voxels/{label}"] = prediction, voxels
    tensors |= of_voxels
    tensors["tr_times_s"] = np.concatenate([run.tr_times_s for run in heard.pieces])
    document = {
        "subject": job.subject,
        "rows": rows,
        "comparisons": compared,
        "low_level_impact": impacts,
        "head": head_rows(job.subject, corpus, regions, heads, heard.measured),
        "models": {
            **{
                label: {**model_described(model, job.plan), "identity": weights_identity(model)}
                for label, model in models.items()
            },
            **{c.label: c.described for c in candidates if c.label not in models},
            **{without.label: without.described for _, without in reduced},
        },
        "corpus": corpus_described(corpus, job.subject),
        "settings": _settings(job),
        "options": _options(job),
        "notes": _notes(job, models),
        **results,
        "versions": versions(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "key": key,
    }
    # Both or neither.
    with whole_file(job.output / VOXELS) as scored, whole_file(job.output / RESULTS) as summary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, scored)
        summary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def _finished(parts: Parts, label: str, identity: str) -> Alignment:
    found = parts.load(label, identity)
    if found is None:
        raise AdapterError(
            "a finished part of the evaluation has gone or is damaged",
            where=parts.path(label, identity),
            remedy="run the same command again; what is finished is kept",
        )
    return found


def _check_transcripts(removed: list[Candidate], heard: Listener, job: EvaluationJob) -> None:
    """Compute low-level features of all stories, which is quick: what is missing is said before hours of work."""
    for low in removed:
        for story, tr_times_s in heard.wanted(job.settings.delays_trs):
            low.features(story, tr_times_s)


def _impacts(
    job: EvaluationJob,
    reduced: list[tuple[Candidate, Candidate]],
    heard: Listener,
    parts: Parts,
    regions: Mapping[str, np.ndarray],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Low-level impact of each model by region, and r of each voxel without what was removed."""
    rows, tensors = [], {}
    lengths = story_lengths(heard.pieces)
    for full, without in reduced:
        before, after = (_finished(parts, one.label, one.identity).prediction for one in (full, without))
        about = {"subject": job.subject, "model": full.label, "layer": full.layer, "tuned_on": full.tuned_on}
        about["removed"] = without.described["without"]["baseline"]
        rows += [{**about, **row} for row in impact_rows(before, after, heard.measured, lengths, regions)]
        tensors[f"r/{without.label}"] = pearson_r(after, heard.measured).astype(np.float32)
    return rows, tensors


def _settings(job: EvaluationJob) -> dict[str, Any]:
    penalties = [float(p) for p in chosen_penalties(job.settings)]
    return {**asdict(job.settings), "penalties": penalties, "n_permutations": job.n_permutations}


def _options(job: EvaluationJob) -> dict[str, Any]:
    """What was asked for besides, so that a card can say how to ask for it again; files by their names alone."""
    return {
        "baselines": [_without_folders(name) for name in dict.fromkeys(job.baselines)],
        "low_level_impact": [_without_folders(name) for name in job.low_level_impact],
        "regions": None if job.regions is None else list(job.regions),
        "layers": list(job.layers) if isinstance(job.layers, tuple) else job.layers,
        "plan": None if job.plan is None else asdict(job.plan),
    }


def _without_folders(baseline: str) -> str:
    kinds = [kind.partition(":") for kind in baseline.split("+")]
    return "+".join(f"{kind}{colon}{Path(file).name}" for kind, colon, file in kinds)


def _head_predictions(
    models: Mapping[str, BrainWavLMForFMRIEncoding], heard: Listener, corpus: Corpus
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each model tuned on these voxels itself predicts for the test stories, and for which voxels."""
    predictions = {}
    for label, model in models.items():
        # The head of another subject predicts that subject's voxels; of a shared one voxels are common vertices.
        if label != UNTUNED and isinstance(model.head, EncodingHead) and tuned_on(model) in (heard.subject, GROUP):
            predicted = [model.predict(corpus.audio(run.story), run.tr_times_s) for run in heard.pieces]
            predictions[label] = np.concatenate(predicted), model.head.voxels.cpu().numpy()
    return predictions


def corpus_described(corpus: Corpus, subject: str) -> dict[str, Any]:
    """What a result must say of its corpus."""
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
        "fingerprint": corpus_fingerprint(corpus, subject),
        "simulation": ((corpus.meta.get("extra") or {}).get("simulation") or {}).get("settings"),
    }

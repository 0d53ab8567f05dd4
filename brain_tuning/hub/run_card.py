"""What the card of one or several tuning runs is told, from what the runs say of themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from brain_tuning.errors import PublishError
from brain_tuning.models.backbones import BUNDLED
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.models.published_shapes import published_bytes

from .card_citations import corpus_bibtex, recipe_bibtex, recipe_paper
from .card_commands import rerun
from .card_context import AdapterRow, ModelCardContext
from .run_scores import Scores

#: licence of the checkpoints of a family where all its authors' checkpoints have the same
_LICENCES = {"wavlm": "cc-by-sa-3.0"}
#: what the command that pushes is told, and the card repeats
_OF_PUSH = (
    "repo_id", "licence", "licence_name", "licence_link", "consent", "corpus_id", "adapters_only", "half_heads",
    "chosen_adapter",
)  # fmt: skip
#: of these, what is no field of the card
_NOT_OF_CARD = ("half_heads", "chosen_adapter")
_MEASURED = ("energy_kwh", "power_w", "carbon_g_per_kwh")


def licence_of(family: str, licence: str | None) -> str:
    """The licence that was asked for, or the one that a family's checkpoints are under.

    Args:
        family: transformers' ``model_type`` of the backbone.
        licence: identifier the Hub knows; None for the family's.

    Raises:
        PublishError: none was asked for, and the family's checkpoints have different ones.
    """
    if licence is None and family not in _LICENCES:
        raise PublishError(
            f"the licence of the tuned weights is not known: {family} checkpoints differ in it",
            expected="an identifier of the Hub, e.g. apache-2.0, as the backbone's own card says",
            remedy="name it with --licence",
        )
    return licence or _LICENCES[family]


def card_context(
    model: BrainWavLMForFMRIEncoding, runs: Sequence[Mapping[str, Any]], scores: Scores, **given: Any
) -> ModelCardContext:
    """Gather what a card says.

    Args:
        model: with the adapters of all runs.
        runs: what each ``run.json`` says.
        scores: of the adapters.
        **given: fields of the context that only the publisher knows: ``repo_id``, ``licence``, ``consent``, ...;
            ``half_heads``, and as ``chosen_adapter`` the default one where it was asked for.

    Raises:
        PublishError: nobody else can load the backbone, the runs are of several corpora or were evaluated on other
            stories than they held out, or a power or energy is none.
    """
    config = model.config
    if config.base_model_revision is None:
        raise PublishError(
            f"the backbone {config.base_model_name_or_path} is a local folder, which nobody else can load",
            expected="a Hub id with a revision, or a bundled backbone",
            remedy="push the backbone to the Hub and tune from its id",
        )
    corpora = [run["corpus"] for run in runs]
    corpus = corpora[0]
    _check_one_corpus(corpora)
    _check_evaluated_on(scores.sources, corpus)
    _check_measured(given)
    written = published_bytes(
        config, str(config.default_adapter), torch.float16 if given.get("half_heads") else torch.float32
    )
    place = f"adapters/{config.default_adapter}"
    adapters: dict[str, dict[str, Any]] = dict(config.adapters or {})
    recipes = [run["recipe"] for run in runs]
    source = "; ".join(_unique(str(recipe.get("source") or "") for recipe in recipes))
    asked = {key: given[key] for key in _OF_PUSH if key in given}
    speech_config: Any = config.speech_config
    return ModelCardContext(
        base_model=str(config.base_model_name_or_path),
        base_revision=config.base_model_revision,
        adapters=tuple(adapters),
        default_adapter=str(config.default_adapter),
        adapter_rows=tuple(
            AdapterRow(
                name=name,
                subject=str(said.get("subject", "")),
                region=str(said.get("roi", "")),
                n_voxels=int(said["n_voxels"]),
            )
            for name, said in adapters.items()
        ),
        subjects=_unique(subject for run in runs for subject in run["subjects"]),
        region=", ".join(_unique(run["roi"] for run in runs)),
        n_voxels=int(adapters[str(config.default_adapter)]["n_voxels"]),
        family=speech_config.model_type,
        layer=config.layer,
        lora=bool(config.lora),
        corpus_name=corpus["name"],
        corpus_licence=str(corpus["licence"]),
        corpus_source=_public(corpus.get("source")),
        corpus_fingerprints={
            str(document["subject"]): document["corpus"]["fingerprint"]
            for document in scores.sources
            if "fingerprint" in document["corpus"]
        },
        corpus_bibtex=corpus_bibtex(corpus["name"], _public(corpus.get("source"))),
        audio_hours=max(said["hours_of_training"] for said in corpora),
        test_stories=tuple(corpus["splits"]["test"]),
        recipe_name=", ".join(_unique(recipe["name"] for recipe in recipes)),
        recipe=_shared_recipe(recipes),
        recipe_source=source,
        recipe_paper=recipe_paper(source),
        deviations=_unique(
            f"{key} = {recipe.get(key)}: {why}" for recipe in recipes for key, why in recipe["ours"].items()
        ),
        results=scores.rows,
        low_level=scores.low_level,
        evaluated_on=scores.evaluated_on,
        training_s=sum(_training_s(run["finished"]) for run in runs),
        hardware="; ".join(_unique(run["hardware"] for run in runs)),
        versions=_joined([run["versions"] for run in runs]),
        n_trained_parameters=sum(run["n_trained_parameters"] for run in runs),
        n_processes=runs[0].get("n_processes"),
        mixed_precision=runs[0].get("mixed_precision"),
        lora_bytes=written.get(f"{place}/adapter_model.safetensors"),
        head_bytes=written[f"{place}/head.safetensors"],
        seed=" or ".join(_unique(str(recipe["seed"]) for recipe in recipes)),
        surrogate_audio=bool(corpus["surrogate_audio"]),
        simulated=bool(corpus["simulated"]),
        citation_bibtex=recipe_bibtex(source),
        rerun=rerun(runs, scores.sources, **asked),
        base_on_hub=str(config.base_model_name_or_path) not in BUNDLED,
        **{
            **{key: value for key, value in given.items() if key not in _NOT_OF_CARD},
            "consent": given["consent"] or "See the corpus for what participants agreed to.",
        },
    )


def _training_s(finished: Mapping[str, Any]) -> float:
    # The total over sessions; runs that finished before it was counted know that of their last session.
    return float(finished.get("seconds", finished["seconds_of_this_session"]))


def _check_one_corpus(corpora: Sequence[Mapping[str, Any]]) -> None:
    for corpus in corpora[1:]:
        for name, of in (("corpus", lambda said: said["name"]), ("test stories", lambda said: said["splits"]["test"])):
            if of(corpus) != of(corpora[0]):
                raise PublishError(
                    f"the runs differ in their {name}: {of(corpora[0])} and {of(corpus)}",
                    expected="runs of one corpus, held out alike, in a repository",
                    remedy="push them to repositories of their own with --namespace",
                )


def _check_evaluated_on(documents: Iterable[Mapping[str, Any]], corpus: Mapping[str, Any]) -> None:
    """Refuse scores on stories that tuning did not hold out: the card says that they are of held-out stories."""
    held_out = set(corpus["splits"]["test"])
    for document in documents:
        split = document["corpus"].get("split") or {}
        # Cross-validation predicts every story, those that the model was tuned on as well.
        parts = split if (document.get("settings") or {}).get("cross_validate") else ["test"]
        tested = {story for part in parts for story in split.get(part) or ()}
        name = document["corpus"].get("name")
        if name != corpus["name"] or not tested <= held_out:
            raise PublishError(
                f"the evaluation is of {name}, {', '.join(sorted(tested)) or 'no test story'}",
                where=f"results of {document.get('subject')}",
                expected=f"of {corpus['name']}, among the stories that tuning held out: {', '.join(sorted(held_out))}",
                remedy="evaluate the run with `brain-tuning align` on the corpus that it was tuned on",
            )


def _check_measured(given: Mapping[str, Any]) -> None:
    for key in _MEASURED:
        value = given.get(key)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise PublishError(f"{key} is {value}", expected="a finite number, not below 0")


def _shared_recipe(recipes: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    plain = [{k: v for k, v in recipe.items() if k not in ("name", "source", "ours")} for recipe in recipes]
    joined: dict[str, object] = {}
    for key in dict.fromkeys(key for recipe in plain for key in recipe):
        values: list[object] = []
        for recipe in plain:
            if recipe.get(key) not in values:
                values.append(recipe.get(key))
        joined[key] = values[0] if len(values) == 1 else " or ".join(str(value) for value in values)
    return joined


def _joined(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    return {key: ", ".join(_unique(m[key] for m in mappings if key in m)) for key in keys}


def _public(source: object) -> str:
    """What a corpus says of its source, unless that is a place on this machine."""
    text = str(source or "")
    return "" if Path(text).is_absolute() or text.startswith(("~", "file:")) else text


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))

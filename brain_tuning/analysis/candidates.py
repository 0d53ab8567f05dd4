"""The sets of features that an evaluation compares: tuned models, the backbones they came from, and baselines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from brain_tuning.corpus import Corpus
from brain_tuning.cortex.regions import GROUP
from brain_tuning.encoding.design import StoryFeatures
from brain_tuning.errors import AdapterError
from brain_tuning.features.low_level import baseline_features, baseline_files, describe_baseline
from brain_tuning.features.story import features_identity, layer_features
from brain_tuning.models.adapters import tuner_layers
from brain_tuning.models.families import check_layers
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.timing import WindowPlan

UNTUNED = "untuned"
#: fields of the config that tuned and untuned model share
_SHARED = ("layer", "context_s", "stride_s", "read", "lanczos_lobes", "first_adapted_layer")


@dataclass(frozen=True)
class Candidate:
    """One set of features.

    Args:
        label: unique name; of another layer than the model's own, ``<model>@<layer>``.
        features: of a story at TR times.
        described: what it is, as plain values.
        identity: changes with anything that changes the features of a story.
        layer: index into ``hidden_states``; None for a baseline.
        tuned_on: subject whose responses the model was tuned on; None if it was not tuned.
        against: label of the untuned features that it is compared with; None if it was not tuned.
    """

    label: str
    features: StoryFeatures
    described: Mapping[str, Any]
    identity: str
    layer: int | None = None
    tuned_on: str | None = None
    against: str | None = None


def load_tuned(names: tuple[str, ...], subject: str) -> dict[str, BrainWavLMForFMRIEncoding]:
    """Tuned models by label, with the adapter of the subject active where they have one.

    Args:
        names: folders of tuning runs or models, or ids; ``LABEL=NAME`` gives a label of one's own.
        subject: who is predicted.

    Raises:
        AdapterError: a run is not finished, or two models have one label.
    """
    loaded: dict[str, BrainWavLMForFMRIEncoding] = {}
    for text in names:
        given, name = _split_label(text)
        model = BrainWavLMForFMRIEncoding.from_pretrained(_place_of_model(name), adapter="all")
        own = [key for key, said in (model.config.adapters or {}).items() if said.get("subject") == subject]
        if own and str(model.config.default_adapter) not in own:
            model.set_adapter(own[0])
        label = given or _label(model.eval(), subject)
        if label in (*loaded, UNTUNED):
            raise AdapterError(
                f"two models are both {label}",
                where=name,
                remedy="give one a label of its own: --model LABEL=FOLDER, of seeds LABEL#1=FOLDER and so on",
            )
        loaded[label] = model
    return loaded


def tuned_on(model: BrainWavLMForFMRIEncoding) -> str:
    """The subject whose responses the active adapter was tuned on."""
    described = (model.config.adapters or {})[str(model.config.default_adapter)]
    return str(described.get("subject", ""))


def untuned_twin(
    tuned: Mapping[str, BrainWavLMForFMRIEncoding], backbone: str | None, settings: Mapping[str, Any] | None
) -> dict[str, BrainWavLMForFMRIEncoding]:
    """The backbone that tuned models started from, with their layer and window plan.

    Args:
        tuned: label -> model.
        backbone: to take when there is none.
        settings: fields of the model config for that backbone.

    Raises:
        AdapterError: the tuned models do not share one.
    """
    plans = {
        (config.base_model_name_or_path, config.base_model_revision, *(getattr(config, name) for name in _SHARED))
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
        settings = dict(zip(_SHARED, values, strict=True))
    elif backbone:
        name, revision = backbone, None
    else:
        return {}
    return {UNTUNED: BrainWavLMForFMRIEncoding.from_backbone(name, revision=revision, **(settings or {})).eval()}


def model_candidates(
    label: str,
    model: BrainWavLMForFMRIEncoding,
    corpus: Corpus,
    *,
    layers: tuple[int, ...] | Literal["all"] | None = None,
    plan: WindowPlan | None = None,
    cache: FrozenCache | None = None,
    progress: Callable[[str], object] | None = None,
) -> list[Candidate]:
    """A model's features, one candidate a layer.

    Args:
        label: of the model.
        model: tuned, or not.
        corpus: holds the audio.
        layers: indices into ``hidden_states``; None is the layer that the model reads.
        plan, cache, progress: see :func:`~brain_tuning.features.story.layer_features`.

    Raises:
        BackboneError: the model has no such layer.
    """
    n_layers = int(model.config.speech_config.num_hidden_layers)  # type: ignore[union-attr]
    wanted = tuple(range(n_layers + 1)) if layers == "all" else layers or (model.config.layer,)
    check_layers(wanted, model.backbone.config)
    subject = None if label == UNTUNED else tuned_on(model)

    def named(model_label: str, layer: int) -> str:
        return f"{model_label}@{layer}" if layers else model_label

    return [
        Candidate(
            label=named(label, layer),
            features=features,
            described={**described(model, plan), "layer": layer},
            identity=features_identity(model, layer, plan).hex(),
            layer=layer,
            tuned_on=subject,
            against=None if subject is None else named(UNTUNED, layer),
        )
        for layer, features in layer_features(model, corpus, wanted, progress, plan=plan, cache=cache).items()
    ]


def baseline_candidate(name: str, corpus: Corpus) -> Candidate:
    """A baseline; files that it names are called by their names alone, as folders are private.

    Raises:
        CorpusError: there is no such baseline.
    """
    features = baseline_features(name, corpus)  # first, as it says which file is missing
    label, contents = name, []
    for file in baseline_files(name):
        label = label.replace(f":{file}", f":{file.name}").replace(f":~/{_from_home(file)}", f":{file.name}")
        contents.append(hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest())
    parts = [
        {**part, "kind": part["kind"].partition(":")[0], "n_columns": len(part["columns"])}
        for part in describe_baseline(name, corpus)
    ]
    for part in parts:
        del part["columns"]
    return Candidate(label, features, {"baseline": label, "parts": parts}, repr((label, contents)))


def described(model: BrainWavLMForFMRIEncoding, plan: WindowPlan | None = None) -> dict[str, Any]:
    """What a model is, as plain values."""
    config = model.config.judging(plan)
    return {
        "backbone": config.base_model_name_or_path,
        "revision": config.base_model_revision,
        "layer": config.layer,
        "window": {"context_s": config.context_s, "stride_s": config.stride_s, "read": config.read},
        "adapter": config.default_adapter,
        **((config.adapters or {}).get(str(config.default_adapter)) or {}),
    }


def weights_identity(model: BrainWavLMForFMRIEncoding) -> str:
    """Digest of the weights that an evaluation reads: the backbone up to the model's layer, with the active adapter.

    What else the model holds does not count, so that an adapter is the same alone and among those of other runs.

    Args:
        model: tuned, or not; anywhere, in any precision that float32 holds.
    """
    depth, active = max(model.config.layer, 1), str(model.config.default_adapter)
    n_layers = int(model.config.speech_config.num_hidden_layers)  # type: ignore[union-attr]
    above = tuple(f"layers.{index}." for index in range(depth, n_layers))
    scaling = {key: layer.scaling.get(active) for key, layer in tuner_layers(model.backbone).items()}
    heard = sorted((key, value) for key, value in scaling.items() if not any(part in f"{key}." for part in above))
    digest = hashlib.blake2b(repr((depth, heard)).encode(), digest_size=16)
    for key, value in sorted(model.backbone.state_dict().items()):
        if any(part in key for part in above) or (".lora_" in key and f".{active}." not in key):
            continue
        digest.update(key.encode())
        digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def head_identity(model: BrainWavLMForFMRIEncoding) -> str:
    """Digest of the active encoding head, whose own predictions are scored as well; empty for an untuned model."""
    if not model.config.adapters:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.head.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def _split_label(text: str) -> tuple[str, str]:
    label, equals, name = text.partition("=")
    if not equals or Path(text).exists() or not label or "/" in label:
        return "", text
    return label, name


def _label(model: BrainWavLMForFMRIEncoding, subject: str) -> str:
    """``tuned-<roi>`` of the active adapter, and whose it is if not the subject's who is predicted."""
    said = (model.config.adapters or {})[str(model.config.default_adapter)]
    owner = tuned_on(model)
    other = f"-of-{owner}" if owner not in ("", GROUP, subject) else ""
    return f"tuned-{said.get('roi', model.config.default_adapter)}{other}"


def _from_home(file: Path) -> str:
    return str(file).removeprefix(f"{Path.home()}/")


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

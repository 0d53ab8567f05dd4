"""The repository layout that is published: merged plain encoder at the root, adapters and heads beside it.

    config.json  model.safetensors        plain model with the default adapter merged, float32
    preprocessor_config.json
    encoding/config.json                  the brain-encoding config
    adapters/<name>/adapter_config.json   PEFT, keys relative to the backbone
    adapters/<name>/adapter_model.safetensors
    adapters/<name>/head.safetensors

``AutoModel`` without this package therefore gets the tuned encoder, never the untuned one: there is no
``adapter_config.json`` at the root, where transformers would load the base instead. In the adapters' folders it says by
``target_modules`` where peft may put them; see :mod:`brain_tuning.models.published_targets`.

A repository is somebody's word. Before memory is taken for what it describes, its config is compared with the base's,
and the headers of its files with the config (:mod:`~brain_tuning.models.published_checks`).
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from brain_tuning.errors import AdapterError, BackboneError

from . import adapters
from .backbones import backbone_location, empty_backbone, find_backbone_config, load_backbone, load_whole_model
from .families import encoder_state, family_of
from .published_checks import check_adapter_config, check_same_backbone, read_encoding
from .published_shapes import PEFT_PREFIX, backbone_shapes, head_shapes, lora_shapes, unallocated, whole_shapes
from .published_targets import target_expression
from .source import Source, largest_file

if TYPE_CHECKING:
    from .configuration import BrainEncodingConfig
    from .modeling import BrainWavLMForFMRIEncoding

_log = logging.getLogger(__name__)

#: model_type of a root without a model: transformers knows none of that name, and its error says this one
ADAPTERS_ONLY = "adapters-only-load-one-with-brain_tuning.load_adapter"


def write(
    model: BrainWavLMForFMRIEncoding,
    folder: str | Path,
    *,
    merged_root: bool = True,
    head_dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the published layout of every adapter of ``model``; the active one is merged at the root.

    Args:
        model: with at least one adapter.
        folder: created if need be; an earlier model of this layout in it is replaced.
        merged_root: False leaves the root's model out: a repository of a few MB that AutoModel refuses with the reason.
        head_dtype: float16 halves the head's size at a stated loss of precision.

    Returns:
        The folder.

    Raises:
        AdapterError: the model has no adapter, one of a group, is not in float32, or was tuned in full and the root
            is to be left out.
        BackboneError: the base's preprocessor_config.json cannot be had.
    """
    config, folder = model.config, Path(folder)
    name = config.default_adapter
    if name is None:
        raise AdapterError("the model has no adapter to publish", where=folder)
    model.check_storable(folder)
    if not config.lora and not merged_root:
        raise AdapterError("a fully fine-tuned model has no adapters without its root", where=folder)
    if not config.lora and len(model.heads) > 1:
        raise AdapterError("a fully fine-tuned backbone can be published with one head only", where=folder)
    if model.dtype != torch.float32:
        raise AdapterError(
            f"the model is in {model.dtype}, in which a tuned difference drowns",
            where=folder,
            expected="torch.float32",
            remedy="load it without dtype",
        )
    folder.mkdir(parents=True, exist_ok=True)
    _copy_preprocessor(model, folder)
    _remove_earlier(folder)
    for key, head in model.heads.items():
        place = folder / "adapters" / key
        place.mkdir(parents=True, exist_ok=True)
        if config.lora:
            _write_lora(model, key, place)
        state = {n: v.contiguous() for n, v in head.state_dict().items()}
        half = {n: v.to(head_dtype) if v.ndim == 2 else v for n, v in state.items()}
        save_file(half, place / "head.safetensors", metadata={"format": "pt"})
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder / "encoding")
    if merged_root:
        plain_model(model).save_pretrained(folder)
    else:
        (folder / "config.json").write_text(json.dumps({"model_type": ADAPTERS_ONLY}, indent=2) + "\n")
    return folder


def _remove_earlier(folder: Path) -> None:
    """Remove adapters and root of an earlier model: what is left of one would be loaded with the new one."""
    if (folder / "encoding" / "config.json").is_file():
        shutil.rmtree(folder / "adapters", ignore_errors=True)
        for name in ("config.json", "model.safetensors"):
            (folder / name).unlink(missing_ok=True)


def _write_lora(model: BrainWavLMForFMRIEncoding, name: str, place: Path) -> None:
    state = get_peft_model_state_dict(model.backbone, adapter_name=name, save_embedding_layers=False)
    renamed = {PEFT_PREFIX + key: value.contiguous() for key, value in state.items()}
    save_file(renamed, place / "adapter_model.safetensors", metadata={"format": "pt"})
    lora: LoraConfig = copy.deepcopy(getattr(model.backbone, "peft_config")[name])  # noqa: B009
    lora.base_model_name_or_path = model.config.base_model_name_or_path
    lora.revision = model.config.base_model_revision
    lora.target_modules = target_expression(model.backbone, lora.target_modules or (), model.config.adapted_layers)
    lora.layers_to_transform = lora.layers_pattern = None  # the expression says it
    lora.inference_mode = True
    lora.save_pretrained(str(place))


def _copy_preprocessor(model: BrainWavLMForFMRIEncoding, folder: Path) -> None:
    from transformers import AutoFeatureExtractor

    name = model.config.base_model_name_or_path
    if name is None:
        return
    place = backbone_location(name)
    local = Path(place).is_dir()
    try:
        extractor = AutoFeatureExtractor.from_pretrained(
            place, revision="main" if local else model.config.base_model_revision or "main"
        )
    except OSError as error:
        raise BackboneError(
            "the base model's preprocessor_config.json cannot be loaded",
            where=name,
            remedy="add one to the folder" if local else "connect to the Hub once",
        ) from error
    extractor.save_pretrained(folder)


def plain_model(model: BrainWavLMForFMRIEncoding, weights: Mapping[str, float] | None = None) -> PreTrainedModel:
    """A stock model with adapters merged into its encoder, of the base's own config, float32.

    Of a family whose encoder is part of a larger model (Whisper, SpeechT5) the rest is the base's.

    Args:
        model: with at least one adapter.
        weights: adapter -> weight of its change, e.g. ``{"s1-all": 0.5, "s2-all": 0.5}`` for the mean of two subjects;
            None merges the active adapter.

    Raises:
        AdapterError: there is no such adapter, or none is named, or the model was tuned in full.
        BackboneError: the base cannot be loaded.
    """
    config = model.config
    if weights is not None and not weights:
        raise AdapterError("no adapter is given a weight", expected="adapter -> weight, or None for the active one")
    strangers = sorted(set(weights or {}) - set(model.heads))
    if strangers or (weights is not None and not config.lora):
        raise AdapterError(
            f"there is no adapter {strangers[0]!r}" if strangers else "a model tuned in full has no adapters to weigh",
            expected=f"weights for some of {', '.join(model.heads)}",
        )
    speech_config: Any = config.speech_config
    family = family_of(speech_config)
    merged = adapters.merged_state_dict(model.backbone, weights or config.default_adapter)
    if family.whole_path is None:
        encoder = whole = family.encoder_class._from_config(speech_config, dtype=torch.float32)
    else:
        whole = load_whole_model(str(config.base_model_name_or_path), config.base_model_revision)
        encoder = whole.get_encoder()
    encoder.load_state_dict(merged, strict=True)
    return whole.eval()


def load(
    cls: type[BrainWavLMForFMRIEncoding], source: Source, *, adapter: str | None, dtype: torch.dtype
) -> BrainWavLMForFMRIEncoding:
    """Rebuild a model from the published layout: base at its pinned revision, LoRA and head on top.

    Args:
        cls: model class.
        source: repository.
        adapter: one name, ``"all"``, or None for the default.
        dtype: of the loaded model.

    Raises:
        AdapterError: a file or tensor is missing, damaged or of another shape, or the adapter does not exist.
    """
    config: Any = read_encoding(cls.config_class, cls.__name__, source)
    described: dict[str, dict] = config.adapters
    names = list(described) if adapter == "all" else [adapter or str(config.default_adapter)]
    missing = [name for name in names if name not in described]
    if missing:
        raise AdapterError(
            f"there is no adapter {missing[0]!r}",
            where=source.name,
            expected=f"one of {', '.join(described)}",
        )
    cls._check(config)
    # All that memory is taken for is fetched and compared first.
    base = _base_state(source, config)
    lora, merged_into_root = config.lora, config.default_adapter
    loras = {name: lora_tensors(name, config, source) for name in names} if lora else {}
    heads = {name: head_tensors(name, config, source) for name in names}
    config.adapters, config.default_adapter = {}, None
    model = cls(config)
    model.backbone.load_state_dict(base, strict=True)
    for name in names:
        extra = {key: value for key, value in described[name].items() if key != "n_voxels"}
        model.add_adapter(name, described[name]["n_voxels"], lora=lora, **extra)
        if lora:
            set_lora(model.backbone, name, loras[name])
        model.heads[name].load_state_dict(heads[name], strict=True)
    model.set_adapter(str(merged_into_root) if merged_into_root in names else names[0])
    model.backbone.to(dtype=dtype)  # type: ignore[call-arg]
    return model.eval()


def _base_state(source: Source, config: Any) -> dict[str, torch.Tensor]:
    """Weights of the untuned base; if it is out of reach, the merged root minus its adapter's delta."""
    if not config.lora:
        return _root_state(source, config.speech_config)
    name, revision, hub = config.base_model_name_or_path, config.base_model_revision, source.base_hub
    found = find_backbone_config(str(name), revision, hub)
    if found is not None:
        found._name_or_path = name
        check_same_backbone(config.speech_config, found, source)
        return load_backbone(name, revision, hub=hub).state_dict()
    if source.file("model.safetensors", _largest_root(config.speech_config)) is None:
        raise AdapterError(
            f"the base model {name} cannot be loaded, and there is no merged root",
            where=source.name,
            remedy="connect to the Hub once, or use a repository with a merged root",
        )
    _log.warning(
        "%s: the base model %s is out of reach; its weights are those of the merged root less the merged adapter, "
        "so that results differ by rounding",
        source.name,
        name,
    )
    return _unmerged(source, config)


def _unmerged(source: Source, config: Any) -> dict[str, torch.Tensor]:
    """The merged root minus the delta of the adapter that is merged there."""
    merged_into_root = str(config.default_adapter)
    tensors = lora_tensors(merged_into_root, config, source)
    merged = _root_state(source, config.speech_config)
    stand_in = empty_backbone(config.speech_config)
    adapters.attach(stand_in, merged_into_root, adapters.lora_config(stand_in, config.lora, config.adapted_layers))
    set_lora(stand_in, merged_into_root, tensors)
    deltas = adapters.merged_state_dict(_zeroed(stand_in), {merged_into_root: -1.0})
    return {key: value + deltas[key] if _is_target(key, config.lora) else value for key, value in merged.items()}


def _zeroed(backbone: nn.Module) -> nn.Module:
    """The backbone with every weight but LoRA's set to zero, so that its merged state dict is the delta."""
    with torch.no_grad():
        for key, parameter in backbone.named_parameters():
            if "lora_" not in key:
                parameter.zero_()
    return backbone


def _is_target(key: str, lora: dict) -> bool:
    owner, _, leaf = key.rpartition(".")
    return leaf == "weight" and owner.rpartition(".")[2] in lora["target_modules"]


def _root_state(source: Source, speech_config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """The merged encoder of the root, checked tensor by tensor."""
    family = family_of(speech_config)
    return source.tensors(
        "model.safetensors",
        backbone_shapes(speech_config),
        most_bytes=_largest_root(speech_config),
        select=lambda tensors: encoder_state(family, tensors),
    )


def _largest_root(speech_config: PreTrainedConfig) -> int:
    return largest_file(whole_shapes(speech_config))


def lora_tensors(
    name: str, config: BrainEncodingConfig, source: Source, backbone: PreTrainedModel | None = None
) -> dict[str, torch.Tensor]:
    """The LoRA tensors of one adapter under the backbone's own names, of the shapes that the config describes.

    Args:
        name: of the adapter.
        config: of the repository.
        source: repository.
        backbone: they are for; None for one such as the config describes.

    Raises:
        AdapterError: a file is missing, damaged, or not of this base or these shapes.
    """
    lora, path = config.lora or {}, f"adapters/{name}/adapter_model.safetensors"
    check_adapter_config(source.json(f"adapters/{name}/adapter_config.json"), name, config, source)
    if backbone is None:
        with unallocated():
            backbone = empty_backbone(config.speech_config)  # type: ignore[arg-type]
    expected = lora_shapes(backbone, lora, config.adapted_layers)
    return source.tensors(
        path,
        expected,
        select=lambda tensors: {key.removeprefix(PEFT_PREFIX): value for key, value in tensors.items()},
    )


def set_lora(backbone: nn.Module, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Put LoRA tensors, as :func:`lora_tensors` gives them, into an attached adapter."""
    set_peft_model_state_dict(backbone, tensors, adapter_name=name)


def head_tensors(name: str, config: BrainEncodingConfig, source: Source) -> dict[str, torch.Tensor]:
    """The tensors of one adapter's head, of the shapes that the config describes."""
    n_voxels = (config.adapters or {})[name]["n_voxels"]
    return source.tensors(f"adapters/{name}/head.safetensors", head_shapes(config, n_voxels))

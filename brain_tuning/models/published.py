"""The repository layout that is published: merged plain encoder at the root, adapters and heads beside it.

    config.json  model.safetensors        plain model with the default adapter merged, float32
    preprocessor_config.json
    encoding/config.json                  the brain-encoding config
    adapters/<name>/adapter_config.json   PEFT, keys relative to the backbone
    adapters/<name>/adapter_model.safetensors
    adapters/<name>/head.safetensors

``AutoModel`` without this package therefore gets the tuned encoder, never the untuned one: there is no
``adapter_config.json`` at the root, where transformers would load the base instead.
"""

from __future__ import annotations

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
from .backbones import backbone_location, empty_backbone, load_backbone, load_whole_model
from .families import encoder_state, family_of
from .source import Source

if TYPE_CHECKING:
    from .modeling import BrainWavLMForFMRIEncoding

_PEFT_PREFIX = "base_model.model."


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
        merged_root: False leaves the root out: a repository of a few MB that plain AutoModel refuses.
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
    return folder


def _remove_earlier(folder: Path) -> None:
    """Remove adapters and root of an earlier model: what is left of one would be loaded with the new one."""
    if (folder / "encoding" / "config.json").is_file():
        shutil.rmtree(folder / "adapters", ignore_errors=True)
        for name in ("config.json", "model.safetensors"):
            (folder / name).unlink(missing_ok=True)


def _write_lora(model: BrainWavLMForFMRIEncoding, name: str, place: Path) -> None:
    lora: LoraConfig = getattr(model.backbone, "peft_config")[name]  # noqa: B009
    lora.base_model_name_or_path = model.config.base_model_name_or_path
    lora.revision = model.config.base_model_revision
    state = get_peft_model_state_dict(model.backbone, adapter_name=name, save_embedding_layers=False)
    renamed = {_PEFT_PREFIX + key: value.contiguous() for key, value in state.items()}
    save_file(renamed, place / "adapter_model.safetensors", metadata={"format": "pt"})
    lora.target_modules = sorted(lora.target_modules or ())  # a set has no order to repeat
    was, lora.inference_mode = lora.inference_mode, True
    lora.save_pretrained(str(place))
    lora.inference_mode = was


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
        AdapterError: there is no such adapter, or the model was tuned in full.
        BackboneError: the base cannot be loaded.
    """
    config = model.config
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
    config = cls.config_class.from_dict(source.json("encoding/config.json"))
    if config.model_type != cls.config_class.model_type or not config.adapters:
        raise AdapterError(
            "encoding/config.json does not describe a brain-tuned model",
            where=source.name,
            expected=f"model_type {cls.config_class.model_type!r} with adapters",
        )
    described: dict[str, dict] = config.adapters
    names = list(described) if adapter == "all" else [adapter or str(config.default_adapter)]
    missing = [name for name in names if name not in described]
    if missing:
        raise AdapterError(
            f"there is no adapter {missing[0]!r}",
            where=source.name,
            expected=f"one of {', '.join(described)}",
        )
    for name in names:
        if not isinstance(described[name].get("n_voxels"), int):
            raise AdapterError(f"encoding/config.json does not say n_voxels of adapter {name}", where=source.name)
    merged_into_root = config.default_adapter
    config.adapters, config.default_adapter = {}, None
    model = cls(config)
    lora = config.lora
    loras = {name: lora_tensors(name, source) for name in names} if lora else {}
    model.backbone.load_state_dict(_base_state(source, config, str(merged_into_root)), strict=True)
    for name in names:
        extra = {key: value for key, value in described[name].items() if key != "n_voxels"}
        model.add_adapter(name, described[name]["n_voxels"], lora=lora, **extra)
        if lora:
            _load_lora(model, name, loras[name], source)
        set_head(model, name, head_tensors(name, source), source)
    model.set_adapter(str(merged_into_root) if merged_into_root in names else names[0])
    model.backbone.to(dtype=dtype)  # type: ignore[call-arg]
    return model.eval()


def _base_state(source: Source, config: Any, merged_into_root: str) -> dict[str, torch.Tensor]:
    """Weights of the untuned base; if it is out of reach, the merged root minus its adapter's delta."""
    if not config.lora:
        return _root_state(source, config.speech_config)
    try:
        return load_backbone(config.base_model_name_or_path, config.base_model_revision).state_dict()
    except BackboneError as unreachable:
        if source.file("model.safetensors") is None:
            raise AdapterError(
                f"the base model {config.base_model_name_or_path} cannot be loaded, and there is no merged root",
                where=source.name,
                remedy="connect to the Hub once, or use a repository with a merged root",
            ) from unreachable
    stand_in = empty_backbone(config.speech_config)
    adapters.attach(stand_in, merged_into_root, adapters.lora_config(stand_in, config.lora, config.adapted_layers))
    set_lora(stand_in, merged_into_root, lora_tensors(merged_into_root, source), source)
    merged = _root_state(source, config.speech_config)
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
    loaded = encoder_state(family_of(speech_config), source.tensors("model.safetensors"))
    expected = empty_backbone(speech_config).state_dict()
    check_shapes(loaded, expected, "model.safetensors", source)
    return loaded


def lora_tensors(name: str, source: Source) -> dict[str, torch.Tensor]:
    """The LoRA tensors of one adapter."""
    return source.tensors(f"adapters/{name}/adapter_model.safetensors")


def _load_lora(model: BrainWavLMForFMRIEncoding, name: str, tensors: dict[str, torch.Tensor], source: Source) -> None:
    said = source.json(f"adapters/{name}/adapter_config.json")
    if said.get("base_model_name_or_path") != model.config.base_model_name_or_path:
        raise AdapterError(
            f"adapter {name} was tuned on {said.get('base_model_name_or_path')}",
            where=source.name,
            expected=f"{model.config.base_model_name_or_path}, as encoding/config.json says",
        )
    set_lora(model.backbone, name, tensors, source)


def set_lora(backbone: nn.Module, name: str, tensors: dict[str, torch.Tensor], source: Source) -> None:
    """Put LoRA tensors into an attached adapter; every one must be there with its shape."""
    plain = {key.removeprefix(_PEFT_PREFIX): value for key, value in tensors.items()}
    expected = get_peft_model_state_dict(backbone, adapter_name=name, save_embedding_layers=False)
    check_shapes(plain, expected, f"adapters/{name}/adapter_model.safetensors", source)
    set_peft_model_state_dict(backbone, plain, adapter_name=name)


def head_tensors(name: str, source: Source) -> dict[str, torch.Tensor]:
    """The tensors of one adapter's head."""
    return source.tensors(f"adapters/{name}/head.safetensors")


def set_head(model: BrainWavLMForFMRIEncoding, name: str, tensors: dict[str, torch.Tensor], source: Source) -> None:
    """Put tensors into the head of an adapter; every one must be there with its shape."""
    head = model.heads[name]
    check_shapes(tensors, head.state_dict(), f"adapters/{name}/head.safetensors", source)
    head.load_state_dict(tensors, strict=True)


def check_shapes(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], path: str, source: Source) -> None:
    """Every expected tensor is there with its shape, and nothing else is."""
    odd = sorted(set(found) ^ set(expected))
    if odd:
        state = "missing from" if odd[0] in expected else "unknown in"
        raise AdapterError(f"tensor {odd[0]} is {state} {path}", where=source.name, expected=f"{len(expected)} tensors")
    for key, value in expected.items():
        if found[key].shape != value.shape:
            raise AdapterError(
                f"tensor {key} of {path} has shape {tuple(found[key].shape)}",
                where=source.name,
                expected=str(tuple(value.shape)),
            )

"""The repository layout that is published: merged plain encoder at the root, adapters and heads beside it.

    config.json  model.safetensors        plain encoder with the default adapter merged, float32
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from brain_tuning.errors import AdapterError, BackboneError

from . import adapters
from .backbones import backbone_location, empty_backbone, load_backbone
from .families import family_of
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
        AdapterError: the model has no adapter, is not in float32, or was tuned in full and the root is to be
            left out.
        BackboneError: the base's preprocessor_config.json cannot be had.
    """
    config, folder = model.config, Path(folder)
    name = config.default_adapter
    if name is None:
        raise AdapterError("the model has no adapter to publish", where=folder)
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
        plain_encoder(model).save_pretrained(folder)
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


def plain_encoder(model: BrainWavLMForFMRIEncoding) -> PreTrainedModel:
    """A stock encoder with the active adapter merged, of the backbone's own config, float32, for evaluation."""
    encoder = AutoModel.from_config(model.config.speech_config, dtype=torch.float32)
    merged = adapters.merged_state_dict(model.backbone, model.config.default_adapter)
    encoder.load_state_dict(merged, strict=True)
    return encoder.eval()


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
    loras = {name: _lora_tensors(name, source) for name in names} if lora else {}
    model.backbone.load_state_dict(_base_state(source, config, str(merged_into_root)), strict=True)
    for name in names:
        extra = {key: value for key, value in described[name].items() if key != "n_voxels"}
        model.add_adapter(name, described[name]["n_voxels"], lora=lora, **extra)
        if lora:
            _load_lora(model, name, loras[name], source)
        _load_head(model, name, source)
    model.set_adapter(str(merged_into_root) if merged_into_root in names else names[0])
    model.backbone.to(dtype=dtype)  # type: ignore[call-arg]
    return model.eval()


def load_adapter(
    backbone: PreTrainedModel, name: str | Path, adapter: str | None = None, **hub: Any
) -> PreTrainedModel:
    """Put a published adapter on a speech encoder that is loaded already; its features are then tuned.

    Args:
        backbone: the stock encoder the adapter was tuned from; it is changed in place (WavLM's attention is
            replaced by an equal one that LoRA reaches).
        name: folder or Hub id of a published repository.
        adapter: one of its adapters; None for its default.
        **hub: revision, token, cache_dir, ...

    Returns:
        The backbone, in evaluation mode, with the adapter active. Call again for another adapter.

    Raises:
        AdapterError: no such repository or adapter, or it does not fit the backbone.
    """
    source = Source.open(name, hub)
    said = source.json("encoding/config.json")
    chosen = adapter or str(said.get("default_adapter"))
    if chosen not in (said.get("adapters") or {}):
        raise AdapterError(
            f"there is no adapter {chosen!r}",
            where=source.name,
            expected=f"one of {', '.join(said.get('adapters') or {}) or '(none)'}",
        )
    if not said.get("lora"):
        raise AdapterError(
            "the repository was tuned in full and has no adapters",
            where=source.name,
            remedy="load its root with AutoModel",
        )
    _check_base(backbone.config, said.get("base_model_name_or_path"), source)
    tensors = _lora_tensors(chosen, source)
    family_of(backbone.config).prepare(backbone)
    config = adapters.lora_config(backbone, said["lora"], said["layer"])
    present = getattr(backbone, "peft_config", {}).get(chosen)
    if present is None:
        adapters.attach(backbone, chosen, config)
    elif _reach(present) != _reach(config):
        raise AdapterError(
            f"the encoder has another adapter called {chosen!r}, with other LoRA settings",
            where=source.name,
            remedy="load the encoder anew, with brain_tuning.load_backbone",
        )
    _set_lora(backbone, chosen, tensors, source)
    adapters.switch(backbone, chosen)
    return backbone.eval()


def _check_base(config: PreTrainedConfig, base: str | None, source: Source) -> None:
    """Refuse an encoder that is known to come from another Hub repository than ``base``."""
    loaded_from = str(getattr(config, "_name_or_path", "") or "")
    if loaded_from and not Path(loaded_from).exists() and loaded_from != base:
        raise AdapterError(
            f"the adapter was tuned on {base}",
            where=f"{source.name}, put on {loaded_from}",
            expected=f"the encoder {base}",
            remedy=f"brain_tuning.load_backbone({base!r})",
        )


def _reach(lora: LoraConfig) -> tuple[object, ...]:
    """What of its settings decides what an adapter's tensors mean."""
    layers = lora.layers_to_transform
    return lora.r, lora.lora_alpha, sorted(lora.target_modules or ()), layers


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
    adapters.attach(stand_in, merged_into_root, adapters.lora_config(stand_in, config.lora, config.layer))
    _set_lora(stand_in, merged_into_root, _lora_tensors(merged_into_root, source), source)
    merged = _root_state(source, config.speech_config)
    deltas = adapters.merged_state_dict(_zeroed(stand_in), merged_into_root, sign=-1.0)
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
    family_of(speech_config)
    loaded = source.tensors("model.safetensors")
    expected = empty_backbone(speech_config).state_dict()
    _check_shapes(loaded, expected, "model.safetensors", source)
    return loaded


def _lora_tensors(name: str, source: Source) -> dict[str, torch.Tensor]:
    return source.tensors(f"adapters/{name}/adapter_model.safetensors")


def _load_lora(model: BrainWavLMForFMRIEncoding, name: str, tensors: dict[str, torch.Tensor], source: Source) -> None:
    said = source.json(f"adapters/{name}/adapter_config.json")
    if said.get("base_model_name_or_path") != model.config.base_model_name_or_path:
        raise AdapterError(
            f"adapter {name} was tuned on {said.get('base_model_name_or_path')}",
            where=source.name,
            expected=f"{model.config.base_model_name_or_path}, as encoding/config.json says",
        )
    _set_lora(model.backbone, name, tensors, source)


def _set_lora(backbone: nn.Module, name: str, tensors: dict[str, torch.Tensor], source: Source) -> None:
    plain = {key.removeprefix(_PEFT_PREFIX): value for key, value in tensors.items()}
    expected = get_peft_model_state_dict(backbone, adapter_name=name, save_embedding_layers=False)
    _check_shapes(plain, expected, f"adapters/{name}/adapter_model.safetensors", source)
    set_peft_model_state_dict(backbone, plain, adapter_name=name)


def _load_head(model: BrainWavLMForFMRIEncoding, name: str, source: Source) -> None:
    path = f"adapters/{name}/head.safetensors"
    tensors = source.tensors(path)
    head = model.heads[name]
    _check_shapes(tensors, head.state_dict(), path, source)
    head.load_state_dict(tensors, strict=True)


def _check_shapes(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], path: str, source: Source) -> None:
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

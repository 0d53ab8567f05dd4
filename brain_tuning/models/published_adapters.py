"""Published adapters on an encoder or a model that is loaded already: the base is not read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig
from transformers import PreTrainedConfig, PreTrainedModel

from brain_tuning.errors import AdapterError

from . import adapters
from .families import family_of
from .published import check_shapes, head_tensors, lora_tensors, set_head, set_lora
from .source import Source

if TYPE_CHECKING:
    from .modeling import BrainWavLMForFMRIEncoding

#: settings that all adapters of one model share
_SHARED = (
    "base_model_name_or_path", "base_model_revision", "layer", "first_adapted_layer", "lora", "context_s", "stride_s",
    "read", "history_trs", "convolution", "delays_trs", "normalise_features", "bottleneck",
)  # fmt: skip


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
    _check_base(backbone.config, said, source)
    tensors = lora_tensors(chosen, source)
    family_of(backbone.config).prepare(backbone)
    config = adapters.lora_config(backbone, said["lora"], range(said.get("first_adapted_layer", 0), said["layer"]))
    present = getattr(backbone, "peft_config", {}).get(chosen)
    if present is None:
        adapters.attach(backbone, chosen, config)
    elif _reach(present) != _reach(config):
        raise AdapterError(
            f"the encoder has another adapter called {chosen!r}, with other LoRA settings",
            where=source.name,
            remedy="load the encoder anew, with brain_tuning.load_backbone",
        )
    set_lora(backbone, chosen, tensors, source)
    adapters.switch(backbone, chosen)
    return backbone.eval()


def add_published(model: BrainWavLMForFMRIEncoding, source: Source, adapter: str | None, slot: str | None) -> str:
    """Put a published adapter and its head on a model; see ``load_adapter`` of the model.

    Returns:
        The name it is known by in the model.
    """
    config = type(model.config).from_dict(source.json("encoding/config.json"))
    described: dict[str, dict] = config.adapters or {}
    name = adapter or str(config.default_adapter)
    if name not in described:
        raise AdapterError(
            f"there is no adapter {name!r}", where=source.name, expected=f"one of {', '.join(described) or '(none)'}"
        )
    if not config.lora:
        raise AdapterError("the repository was tuned in full and has no adapters", where=source.name)
    for key in _SHARED:
        theirs, ours = (_plain(getattr(c, key)) for c in (config, model.config))
        if theirs != ours:
            raise AdapterError(
                f"the adapter was tuned with {key} {theirs}",
                where=source.name,
                expected=f"{ours}, as the model has",
                remedy="load it on its own with from_pretrained",
            )
    loras, head = lora_tensors(name, source), head_tensors(name, source)
    extra = {key: value for key, value in described[name].items() if key != "n_voxels"}
    before = model.config.default_adapter
    if slot is not None:
        # All is checked before anything is replaced.
        check_shapes(head, model.new_head(described[name]["n_voxels"]).state_dict(), f"the head of {name}", source)
        set_lora(model.backbone, slot, loras, source)
        model.replace_head(slot, described[name]["n_voxels"], **extra)
        set_head(model, slot, head, source)
        return slot
    model.add_adapter(name, described[name]["n_voxels"], lora=config.lora, **extra)
    try:
        set_lora(model.backbone, name, loras, source)
        set_head(model, name, head, source)
    except AdapterError:
        model.delete_adapter(name)
        if before is not None:
            model.set_adapter(before)
        raise
    return name


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _check_base(config: PreTrainedConfig, said: dict[str, Any], source: Source) -> None:
    """Refuse an encoder of another family, or one known to come from another Hub repository than the adapter's."""
    base, model_type = said.get("base_model_name_or_path"), (said.get("speech_config") or {}).get("model_type")
    family_of(config)
    if model_type not in (None, config.model_type):
        raise AdapterError(
            f"the adapter was tuned on a {model_type} encoder",
            where=f"{source.name}, put on a {config.model_type} one",
            expected=f"the encoder {base}",
            remedy=f"brain_tuning.load_backbone({base!r})",
        )
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

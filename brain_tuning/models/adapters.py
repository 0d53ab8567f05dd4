"""LoRA on a speech backbone: attach, switch, audit, merge."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from transformers import PreTrainedModel

from brain_tuning.errors import AdapterError

from .families import family_of

LORA_KEYS = ("r", "lora_alpha", "lora_dropout", "target_modules")


def lora_config(backbone: PreTrainedModel, lora: dict, layers: Sequence[int]) -> LoraConfig:
    """PEFT's config of adapters on some layers.

    Args:
        backbone: of a known family.
        lora: r, lora_alpha, lora_dropout, target_modules; targets by their roles (``q_proj``, ...) or by this
            family's own names.
        layers: that carry adapters.

    Raises:
        AdapterError: an unknown key, a number out of range, no target, or one that LoRA cannot reach in this family.
    """
    unknown = sorted(set(lora) - set(LORA_KEYS))
    if unknown:
        raise AdapterError(f"unknown LoRA key {unknown[0]!r}", expected=f"some of {', '.join(LORA_KEYS)}")
    numbers = {key: lora[key] for key in LORA_KEYS[:3] if key in lora}
    rank, alpha, dropout = (numbers.get(key, usual) for key, usual in zip(LORA_KEYS, (1, 1, 0), strict=False))
    fits = all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers.values())
    if not (fits and isinstance(rank, int) and rank >= 1 and 0 < alpha < math.inf and 0 <= dropout < 1):
        raise AdapterError(
            f"the LoRA settings are {numbers}",
            expected="r of at least 1, lora_alpha above 0, lora_dropout from 0 to below 1",
            remedy="leave lora out to tune the backbone itself",
        )
    family = family_of(backbone.config)
    allowed = list(family.lora_targets.values())
    if not lora.get("target_modules") or isinstance(lora["target_modules"], str):
        raise AdapterError("the LoRA settings name no target_modules", expected=f"some of {', '.join(allowed)}")
    targets = family.target_names(lora["target_modules"])
    wrong = sorted(set(targets) - set(allowed))
    if wrong:
        raise AdapterError(
            f"LoRA cannot go to {wrong[0]!r} of a {backbone.config.model_type} backbone",
            expected=f"some of {', '.join(allowed)}",
        )
    return LoraConfig(
        **{**lora, "target_modules": targets},
        layers_to_transform=list(layers),
        layers_pattern="layers",
    )


def attach(backbone: nn.Module, name: str, config: LoraConfig) -> None:
    """Inject one more adapter, in place; it starts as the identity."""
    with warnings.catch_warnings():
        # PEFT warns of every adapter after the first; several are what this package is for.
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        inject_adapter_in_model(config, backbone, adapter_name=name)


def tuner_layers(backbone: nn.Module) -> dict[str, LoraLinear]:
    """Every module that carries adapters, by its name in the backbone."""
    return {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLinear)}


def switch(backbone: nn.Module, name: str) -> None:
    """Make one adapter the active and only trainable one."""
    for module in tuner_layers(backbone).values():
        module.set_adapter(name)


def adapter_parameters(backbone: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The LoRA tensors of one adapter, by name."""
    return {
        key: parameter
        for key, parameter in backbone.named_parameters()
        # <module>.lora_A.<adapter>.weight: an adapter may be called like a module
        if ".lora_" in key and key.split(".")[-2] == name
    }


def renamed(key: str, adapter: str) -> str:
    """The name that one adapter's tensor has in another adapter: ``<module>.lora_A.<adapter>.weight``."""
    owner, _, leaf = key.rpartition(".")
    return f"{owner.rpartition('.')[0]}.{adapter}.{leaf}"


def detach(backbone: nn.Module, name: str) -> None:
    """Remove one adapter, in place; the projections stay wrapped."""
    for module in tuner_layers(backbone).values():
        if name in module.active_adapters:
            # PEFT would make another adapter the active one.
            module.set_adapter([key for key in module.active_adapters if key != name])
        module.delete_adapter(name)
    getattr(backbone, "peft_config", {}).pop(name, None)


def merged_state_dict(backbone: nn.Module, adapter: str | Mapping[str, float] | None) -> dict[str, torch.Tensor]:
    """State dict of a plain backbone (stock names) with the adapters' deltas added, in float32.

    ``W + sum_i weight_i (alpha / r) B_i A_i``, which is exact for any number of adapters.

    Args:
        backbone: with adapters attached.
        adapter: the one that is merged; or adapter -> weight, e.g. halves for the mean of two; None for none.

    Raises:
        AdapterError: there is no such adapter.
    """
    weights = {adapter: 1.0} if isinstance(adapter, str) else dict(adapter or {})
    tuned = tuner_layers(backbone)
    known = sorted({name for module in tuned.values() for name in module.lora_A})
    for name in weights:
        if tuned and name not in known:
            raise AdapterError(f"there is no adapter {name!r}", expected=f"one of {', '.join(known) or '(none)'}")
    plain: dict[str, torch.Tensor] = {}
    for key, value in backbone.state_dict().items():
        if ".lora_" in key:
            continue
        owner, _, leaf = key.rpartition(".")
        if owner.endswith(".base_layer"):
            owner = owner.removesuffix(".base_layer")
            value = value.detach().float().clone()
            for name, weight in weights.items():
                if leaf == "weight" and name in tuned[owner].lora_A:
                    value += weight * tuned[owner].get_delta_weight(name).detach().float()
            key = f"{owner}.{leaf}"
        plain[key] = value.detach().clone()
    return plain


@contextmanager
def mixed(backbone: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """For a while, give each window of a batch an adapter of its own.

    No layer is checkpointed meanwhile: backward would compute it again when this is over, with the active adapter.

    Args:
        backbone: with these adapters attached.
        names: adapter of each window, in the batch's order; ``"__base__"`` for none.
    """

    def name_them(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, {**kwargs, "adapter_names": list(names)}

    hooks = [
        module.register_forward_pre_hook(name_them, with_kwargs=True) for module in tuner_layers(backbone).values()
    ]
    checkpointed = [module for module in backbone.modules() if getattr(module, "gradient_checkpointing", False)]
    for module in checkpointed:
        module.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in checkpointed:
            module.gradient_checkpointing = True  # type: ignore[assignment]


def audit_gradients(backbone: nn.Module, name: str, output: Callable[[], torch.Tensor], *, reread: bool = True) -> int:
    """Prove that every tensor of an adapter is trained and moves the output, before a long run starts.

    LoRA begins with B = 0, which hides A from the gradient; so B is set to small noise for the test and
    restored afterwards. Gradients are left as they were (None).

    Args:
        backbone: with the adapter attached and active.
        name: of the adapter.
        output: computes the tensor that the loss will see; called two times.
        reread: also check that the output changes when the adapter does.

    Returns:
        Number of adapter tensors proved.

    Raises:
        AdapterError: a tensor has no gradient or a zero one, or the output does not move.
    """
    parameters = adapter_parameters(backbone, name)
    if not parameters:
        raise AdapterError("the adapter has no tensors", where=name, expected="LoRA on at least one layer")
    generator = torch.Generator().manual_seed(0)
    kept = {key: parameter.detach().clone() for key, parameter in parameters.items() if "lora_B" in key}
    try:
        with torch.no_grad():
            before = output() if reread else None
            for key in kept:
                noise = torch.randn(kept[key].shape, generator=generator) * 1e-2
                parameters[key].add_(noise.to(parameters[key].device, parameters[key].dtype))
        after = output()
        grads: tuple[torch.Tensor | None, ...] = (None,) * len(parameters)
        if after.requires_grad:
            weights = torch.randn(after.shape, generator=generator).to(after.device)
            grads = torch.autograd.grad((after.float() * weights).sum(), list(parameters.values()), allow_unused=True)
    finally:
        with torch.no_grad():
            for key, value in kept.items():
                parameters[key].copy_(value)
    dead = [key for key, grad in zip(parameters, grads, strict=True) if grad is None or not bool(grad.abs().max() > 0)]
    if dead:
        raise AdapterError(
            f"{len(dead)} of {len(parameters)} adapter tensors receive no gradient",
            where=dead[0],
            expected="a gradient for every adapter tensor",
            remedy="the backbone bypasses its projections; use a family of brain_tuning.models.families",
        )
    if before is not None and torch.equal(before, after):
        raise AdapterError("the adapter does not change the output", where=name)
    return len(parameters)

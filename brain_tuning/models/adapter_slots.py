"""The adapters of a model, each with its own head: adding, switching, sharing, removing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from brain_tuning.errors import AdapterError

from . import adapters
from .configuration import BrainEncodingConfig
from .families import family_of
from .group_head import GroupHead
from .head import EncodingHead
from .source import Source


class AdapterSlots(PreTrainedModel if TYPE_CHECKING else object):  # type: ignore[misc]
    """What :class:`~brain_tuning.models.modeling.BrainWavLMForFMRIEncoding` can do with its adapters."""

    config: BrainEncodingConfig
    backbone: PreTrainedModel
    heads: nn.ModuleDict
    _seals: dict[tuple[int, bool], bytes]
    #: modules that carry adapters, once one has been chosen; None when adapters have come or gone
    _switchable: list[Any] | None

    def add_adapter(
        self,
        name: str,
        n_voxels: int,
        *,
        lora: dict | None = None,
        voxels: np.ndarray | None = None,
        **described: Any,
    ) -> None:
        """Add an adapter with its own head and make it active.

        Args:
            name: ``<subject>-<roi>``, e.g. ``"s1-ac"``; letters, digits, ``_`` and ``-``.
            n_voxels: of the head.
            lora: LoRA settings (r, lora_alpha, lora_dropout, target_modules); the first adapter fixes them for
                the model, None tunes the backbone itself.
            voxels: columns of the subject's responses that the head predicts, (n_voxels,); None for all.
            **described: what to remember of it (subject, roi, ...), plain values.

        Raises:
            AdapterError: the name is taken or not usable, other LoRA settings are in force, there is no voxel, or
                ``voxels`` has another length or holds what is no column.
        """
        if voxels is not None and np.shape(voxels) != (n_voxels,):
            raise AdapterError(f"voxels has shape {np.shape(voxels)}", where=name, expected=f"({n_voxels},)")
        columns = _columns(np.arange(n_voxels) if voxels is None else voxels, name)
        self._checked(name, lora)
        self._attach(name)
        head = self.new_head(n_voxels)
        head.voxels.copy_(columns)
        self._keep(name, head, {"n_voxels": n_voxels, **described})

    def add_group(
        self,
        name: str,
        voxels: Mapping[str, np.ndarray],
        *,
        readout: str = "own",
        lora: dict | None = None,
        **described: Any,
    ) -> None:
        """Add one adapter that several subjects share, with a head for each, and make it active.

        It is what several subjects are tuned with at once; :meth:`split_group` then makes ordinary adapters of it.

        Args:
            name: of the adapter.
            voxels: subject -> columns of its responses, (n_voxels,).
            readout: ``own``, ``shared_basis`` or ``shared``; see :class:`~brain_tuning.models.group_head.GroupHead`.
            lora: as in :meth:`add_adapter`.
            **described: what to remember of it, plain values.

        Raises:
            AdapterError: as :meth:`add_adapter`, or the heads cannot be shared.
        """
        predicted = {subject: _columns(columns, f"{name}, {subject}") for subject, columns in voxels.items()}
        self._checked(name, lora)
        heads = {}
        for subject, columns in predicted.items():
            heads[subject] = self.new_head(len(columns))
            heads[subject].voxels.copy_(columns)
        head = GroupHead(heads, readout)
        self._attach(name)
        sizes = {subject: len(columns) for subject, columns in predicted.items()}
        self._keep(name, head, {"subjects": sizes, "readout": readout, **described})

    def split_group(self, names: Mapping[str, tuple[str, str]]) -> None:
        """Replace the active group by one ordinary adapter for each subject, with the same LoRA weights.

        Args:
            names: subject -> what its adapter says of the subject, and the adapter's name. Of a ``shared`` readout any
                one subject is enough.

        Raises:
            AdapterError: the active adapter is no group, or a name cannot be used.
        """
        group_name = str(self.config.default_adapter)
        group = self.heads[group_name]
        if not isinstance(group, GroupHead):
            raise AdapterError(f"adapter {group_name!r} is of one subject", expected="one made by add_group")
        said = {k: v for k, v in (self.config.adapters or {})[group_name].items() if k not in ("subjects", "subject")}
        weights = adapters.adapter_parameters(self.backbone, group_name)
        for subject, (described, name) in names.items():
            head = group.head_of(subject)
            self.add_adapter(name, len(head.voxels), lora=self.config.lora, subject=described, **said)
            self.heads[name].load_state_dict(head.state_dict())
            with torch.no_grad():
                for key, parameter in adapters.adapter_parameters(self.backbone, name).items():
                    parameter.copy_(weights[adapters.renamed(key, group_name)])
        self.delete_adapter(group_name)
        self.set_adapter(next(iter(names.values()))[1])

    def load_adapter(self, name: str | Path, adapter: str | None = None, *, slot: str | None = None, **hub: Any) -> str:
        """Add an adapter of a published repository to this model and make it active; the base is not read again.

        Args:
            name: folder or Hub id.
            adapter: one of the repository's; None for its default.
            slot: one of this model's adapters whose place it takes: modules stay as they are, so that compiled code
                stays valid. None adds it beside the others, under its own name.
            **hub: revision, token, cache_dir, ...

        Returns:
            The name it has in this model.

        Raises:
            AdapterError: no such repository or adapter, or it was tuned with another base or other settings; the model
                is then as it was.
        """
        from .published_adapters import add_published

        if slot is not None:
            self._known(slot)
        taken = add_published(self, Source.open(name, hub), adapter, slot)
        self.set_adapter(taken)
        return taken

    def replace_head(self, name: str, n_voxels: int, **described: Any) -> None:
        """Give an adapter a fresh head and description, e.g. because its weights are another subject's now."""
        self._known(name)
        self.heads[name] = self.new_head(n_voxels).train(self.training).to(device=self.device)
        self.config.adapters = {**(self.config.adapters or {}), name: {"n_voxels": n_voxels, **described}}

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter and its head; if it was active, none is.

        Raises:
            AdapterError: there is no such adapter.
        """
        self._known(adapter_name)
        del self.heads[adapter_name]
        self.config.adapters = {k: v for k, v in (self.config.adapters or {}).items() if k != adapter_name}
        self._switchable = None
        adapters.detach(self.backbone, adapter_name)
        if self.config.default_adapter == adapter_name:
            self.config.default_adapter = None
        self._seals.clear()
        self.freeze()

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Write a folder that :meth:`from_pretrained` reads, with all adapters; see transformers.

        Raises:
            AdapterError: an adapter is of a group.
        """
        self.check_storable(save_directory)
        return super().save_pretrained(save_directory, *args, **kwargs)

    def check_storable(self, where: object) -> None:
        """Raise AdapterError unless every adapter is of one subject: groups are for tuning, and never stored."""
        for name, head in self.heads.items():
            if isinstance(head, GroupHead):
                raise AdapterError(
                    f"adapter {name} is of a group and cannot be stored",
                    where=where,
                    expected="adapters of one subject each",
                    remedy="call split_group first",
                )

    def _checked(self, name: str, lora: dict | None) -> None:
        """Refuse a name or LoRA settings that do not fit; the first adapter's settings become the model's."""
        known = self.config.adapters or {}
        plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        # A ModuleDict holds no module called like one of its own attributes, e.g. "type".
        if not plain or hasattr(self.heads, name):
            raise AdapterError(
                f"the adapter name {name!r} is {'taken' if name in known else 'not usable'}",
                expected="a new name of letters, digits, '-' and '_', e.g. 's1-ac'",
            )
        if lora is not None:
            targets = family_of(self.backbone.config).target_names(list(lora.get("target_modules") or ()))
            lora = {**lora, "target_modules": targets}
        if not known:
            self.config.lora = lora
        elif lora is not None and lora != self.config.lora:
            raise AdapterError(
                "adapters of one model share their LoRA settings", where=name, expected=str(self.config.lora)
            )

    def _attach(self, name: str) -> None:
        config, self._switchable = self.config, None
        if config.lora:
            settings = adapters.lora_config(self.backbone, config.lora, config.adapted_layers)
            adapters.attach(self.backbone, name, settings)

    def new_head(self, n_voxels: int) -> EncodingHead:
        """A head as the config describes them, initialised, that belongs to no adapter yet."""
        config = self.config
        return EncodingHead(
            config.hidden_size,
            n_voxels,
            config.delays_trs,
            config.bottleneck,
            normalise=config.normalise_features,
            convolution=config.convolution,
        )

    def _keep(self, name: str, head: nn.Module, described: dict[str, Any]) -> None:
        head.apply(self._init_head)
        self.heads[name] = head.to(device=self.device)
        self.config.adapters = {**(self.config.adapters or {}), name: described}
        self.train(self.training)  # what is new would be in training mode, whatever the model is in
        self.set_adapter(name)

    @staticmethod
    def _init_head(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def set_adapter(self, adapter_name: str) -> None:
        """Make one adapter and its head active; every other tensor is frozen.

        Raises:
            AdapterError: there is no such adapter.
        """
        self._known(adapter_name)
        before, self.config.default_adapter = self.config.default_adapter, adapter_name
        self._seals.clear()  # with head_only the adapter is part of what is frozen
        if self._switchable is None or before is None or before not in self.heads:
            self._switchable = list(adapters.tuner_layers(self.backbone).values())
            adapters.switch(self.backbone, adapter_name)
            self.freeze()
            return
        # All else is frozen since the last time: walking through the whole model again would take most of the time.
        for layer in self._switchable:
            layer.set_adapter(adapter_name)
        self.heads[before].requires_grad_(False)
        self.heads[adapter_name].requires_grad_(True)

    def _known(self, adapter_name: str) -> None:
        if adapter_name not in self.heads:
            raise AdapterError(
                f"there is no adapter {adapter_name!r}",
                expected=f"one of {', '.join(self.heads) or '(none)'}",
            )

    def freeze(self) -> None:
        """Let gradients reach the active adapter and head only; without LoRA, the layers that are computed."""
        name, config = self.config.default_adapter, self.config
        self.requires_grad_(False)
        if name is None:
            return
        self.heads[name].requires_grad_(True)
        if config.lora:
            for parameter in adapters.adapter_parameters(self.backbone, name).values():
                parameter.requires_grad_(True)
        else:
            layers = family_of(self.backbone.config).layers(self.backbone)
            for index in config.adapted_layers:
                layers[index].requires_grad_(True)

    @property
    def head(self) -> EncodingHead | GroupHead:
        """The active head."""
        name = self.config.default_adapter
        if name is None:
            raise AdapterError("the model has no adapter yet", remedy="call add_adapter or load a tuned model")
        return self.heads[name]  # type: ignore[return-value]


def _columns(voxels: Any, where: str) -> torch.Tensor:
    """Columns of a subject's responses as a head keeps them, (n_voxels,), int32.

    Raises:
        AdapterError: there is none, or they are no numbers of columns.
    """
    columns = np.asarray(voxels)
    whole = columns.ndim == 1 and columns.dtype.kind in "iu"
    if not whole or not len(columns) or columns.min() < 0 or columns.max() >= 2**31:
        raise AdapterError(
            f"the voxels to predict are {columns.dtype} of shape {columns.shape}"
            + (f", from {columns.min()} to {columns.max()}" if columns.size else ""),
            where=where,
            expected="at least one column of the responses, counted from 0",
        )
    return torch.as_tensor(columns.astype(np.int32))

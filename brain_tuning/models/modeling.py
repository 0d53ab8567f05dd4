"""BrainWavLMForFMRIEncoding: audio in, predicted voxels out, as a transformers model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from brain_tuning.errors import AdapterError, BackboneError, TimingError
from brain_tuning.timing.runs import lead_in

from . import adapters
from .backbones import (
    empty_backbone,
    expects_normalised_input,
    load_backbone,
    load_backbone_config,
    pinned_revision,
)
from .blocks import plan_block
from .configuration import BrainEncodingConfig, BrainWavLMConfig
from .families import FAMILIES, family_of
from .head import EncodingHead, TemporalNorm
from .losses import LOSSES
from .source import Source, as_dtype, check_complete
from .stem import StemCache, fingerprint, stem_output


@dataclass
class FMRIEncodingOutput(ModelOutput):
    """Output of the encoding models.

    Args:
        loss: scalar, if ``labels`` were given.
        prediction: predicted BOLD, (n_trs, n_voxels).
        features: backbone features at TR rate, lead-in TRs included, (n_lead_trs + n_trs, width).
    """

    loss: torch.Tensor | None = None
    prediction: torch.Tensor | None = None
    features: torch.Tensor | None = None


class BrainEncodingPreTrainedModel(PreTrainedModel):
    """Initialisation and loading common to all brain-encoding models."""

    config: BrainEncodingConfig
    config_class = BrainEncodingConfig
    base_model_prefix = "backbone"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    # The readout is computed in float32, whatever type the backbone is loaded in.
    _keep_in_fp32_modules_strict = ["heads"]  # noqa: RUF012
    _no_split_modules = ["WavLMEncoderLayer", "WavLMEncoderLayerStableLayerNorm"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TemporalNorm):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.n_blocks)
        elif isinstance(module, EncodingHead):
            init.copy_(module.voxels, torch.arange(len(module.voxels), dtype=torch.int32))


class BrainWavLMForFMRIEncoding(BrainEncodingPreTrainedModel):
    """WavLM with LoRA adapters and a low-rank readout to the voxels of a subject's region.

    The model holds any number of adapters, each with its own head; one is active. Build it with
    :meth:`from_backbone` to start tuning, with :meth:`from_pretrained` to use what was tuned.
    """

    config: BrainWavLMConfig
    config_class = BrainWavLMConfig

    def __init__(self, config: BrainWavLMConfig) -> None:
        super().__init__(config)
        self._check(config)
        speech_config: Any = config.speech_config
        self.backbone = empty_backbone(speech_config, dropout=config.backbone_dropout)
        #: shared memory of stem outputs; set it to compute each window's stem only once
        self.stem_cache: StemCache | None = None
        self._stem_seal: bytes | None = None
        self.heads = nn.ModuleDict()
        for name, described in (config.adapters or {}).items():
            self._build_adapter(name, described["n_voxels"])
        self.post_init()
        if config.default_adapter:
            self.set_adapter(config.default_adapter)

    @staticmethod
    def _check(config: BrainEncodingConfig) -> None:
        n_layers = config.speech_config.num_hidden_layers  # type: ignore[union-attr]
        if not 1 <= config.layer <= n_layers:
            raise BackboneError(
                f"layer {config.layer} cannot be read",
                where=config.base_model_name_or_path or config.model_type,
                expected=f"1 to {n_layers}, as this backbone has {n_layers} layers",
            )

    # Building and loading

    @classmethod
    def from_backbone(cls, name: str, *, revision: str | None = None, **settings: Any) -> BrainWavLMForFMRIEncoding:
        """A pretrained speech encoder, ready for adapters.

        Args:
            name: Hub id, local folder or bundled backbone, e.g. ``"microsoft/wavlm-base-plus"``.
            revision: commit, branch or tag; the commit it resolves to is kept in the config.
            **settings: fields of :class:`BrainWavLMConfig`, e.g. ``layer=9``.

        Raises:
            BackboneError: the backbone cannot be found or is of another family, or a setting is unknown.
        """
        known = [field.name for field in fields(cls.config_class)]
        for key in settings:
            # A transformers config would keep it as one more attribute, and the default would stay in force.
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                raise BackboneError(
                    f"unknown setting {key!r}", where=name, remedy=f"did you mean {near[0]!r}?" if near else ""
                )
        speech_config = load_backbone_config(name, revision)
        pinned = pinned_revision(name, revision)
        speech_config._name_or_path = name  # else the folder of a bundled backbone would be published
        config = cls.config_class(
            speech_config=speech_config,
            base_model_name_or_path=name,
            base_model_revision=pinned,
            normalise_input=expects_normalised_input(name, pinned),
            **settings,
        )
        model = cls(config)
        source = load_backbone(name, config.base_model_revision, dropout=config.backbone_dropout)
        model.backbone.load_state_dict(source.state_dict(), strict=True)
        return model

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        adapter: str | None = None,
        **kwargs: Any,
    ) -> BrainWavLMForFMRIEncoding:
        """Load a published repository, or a folder written by :meth:`save_pretrained`.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            adapter: name of the adapter to use, ``"all"`` for every one; default is the published default.
            **kwargs: transformers' own (revision, token, cache_dir, local_files_only, dtype, ...); the heads
                stay in float32.

        Raises:
            AdapterError: something that the repository promises is missing, damaged or does not fit.
            BackboneError: the repository holds another kind of model, e.g. a plain speech encoder (use
                :meth:`from_backbone`).
        """
        from . import published

        if pretrained_model_name_or_path is None or "state_dict" in kwargs:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        source = Source.open(pretrained_model_name_or_path, kwargs)
        if source.is_published:
            return published.load(cls, source, adapter=adapter, dtype=as_dtype(kwargs.get("dtype")))
        kind = source.root_model_type()
        if kind != cls.config_class.model_type:
            here = str(pretrained_model_name_or_path)
            raise BackboneError(
                f"this is a plain {kind} model, not a brain-tuned one",
                where=here,
                expected=f"model_type {cls.config_class.model_type!r}, or encoding/config.json",
                remedy=f"start from it with {cls.__name__}.from_backbone({here!r})" if kind in FAMILIES else "",
            )
        asked = kwargs.pop("output_loading_info", False)
        # Tensors of another shape are to be reported, and are then refused like all that does not fit.
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
        with source.damage_is_an_error():
            loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model, report = loaded
        check_complete(model, report, source)
        if adapter is not None and adapter != "all":
            model.set_adapter(adapter)
        model.freeze()  # what __init__ froze, loading has set free again
        return loaded if asked else model

    # Adapters

    def add_adapter(  # type: ignore[override]
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
            AdapterError: the name is taken or not usable, other LoRA settings are in force, or ``voxels`` has
                another length.
        """
        known = self.config.adapters or {}
        plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        # A ModuleDict holds no module called like one of its own attributes, e.g. "type".
        if not plain or hasattr(self.heads, name):
            raise AdapterError(
                f"the adapter name {name!r} is {'taken' if name in known else 'not usable'}",
                expected="a new name of letters, digits, '-' and '_', e.g. 's1-ac'",
            )
        if voxels is not None and np.shape(voxels) != (n_voxels,):
            raise AdapterError(f"voxels has shape {np.shape(voxels)}", where=name, expected=f"({n_voxels},)")
        if lora is not None:
            lora = {**lora, "target_modules": list(lora.get("target_modules") or ())}
        if not known:
            self.config.lora = lora
        elif lora is not None and lora != self.config.lora:
            raise AdapterError(
                "adapters of one model share their LoRA settings", where=name, expected=str(self.config.lora)
            )
        head = self._build_adapter(name, n_voxels)
        self.config.adapters = {**known, name: {"n_voxels": n_voxels, **described}}
        head.apply(self._init_head)
        if voxels is not None:
            head.voxels.copy_(torch.as_tensor(voxels, dtype=torch.int32))
        self.heads.to(device=self.device)
        self.set_adapter(name)

    def _build_adapter(self, name: str, n_voxels: int) -> EncodingHead:
        config = self.config
        if config.lora:
            settings = adapters.lora_config(self.backbone, config.lora, config.layer)
            adapters.attach(self.backbone, name, settings)
        head = EncodingHead(config.hidden_size, n_voxels, config.delays_trs, config.bottleneck)
        self.heads[name] = head
        return head

    @staticmethod
    def _init_head(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def set_adapter(self, adapter_name: str) -> None:  # type: ignore[override]
        """Make one adapter and its head active; every other tensor is frozen.

        Raises:
            AdapterError: there is no such adapter.
        """
        if adapter_name not in self.heads:
            raise AdapterError(
                f"there is no adapter {adapter_name!r}",
                expected=f"one of {', '.join(self.heads) or '(none)'}",
            )
        self.config.default_adapter = adapter_name
        adapters.switch(self.backbone, adapter_name)
        self.freeze()

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
            for block in family_of(self.backbone.config).layers(self.backbone)[: config.layer]:
                block.requires_grad_(True)

    @property
    def head(self) -> EncodingHead:
        """The active head."""
        name = self.config.default_adapter
        if name is None:
            raise AdapterError("the model has no adapter yet", remedy="call add_adapter or load a tuned model")
        return self.heads[name]  # type: ignore[return-value]

    # Computing

    def frames(self, input_values: Sequence[torch.Tensor], first_frames: Sequence[int]) -> torch.Tensor:
        """Backbone features of windows, read as the window plan says.

        Args:
            input_values: groups of windows, each (n_windows, n_samples), in time order.
            first_frames: first kept frame of each group.

        Returns:
            (n_read, width), float32, in time order.
        """
        hidden_state = family_of(self.backbone.config).hidden_state
        if self.stem_cache is not None and self._stem_seal is None:
            self._stem_seal = fingerprint(self.backbone)
        read = []
        for windows, first in zip(input_values, first_frames, strict=True):
            stem = stem_output(self.backbone, windows, self.device, self.stem_cache, self._stem_seal or b"")
            kept = hidden_state(self.backbone, stem.to(self.dtype), self.config.layer)[:, first:].float()
            if self.config.read == "mean":
                kept = kept.mean(1, keepdim=True)
            elif self.config.read != "all":
                kept = kept[:, :1] if self.config.read == "first" else kept[:, -1:]
            read.append(kept.flatten(0, 1))
        return torch.cat(read)

    def forward(
        self,
        input_values: Sequence[torch.Tensor] | torch.Tensor,
        frame_to_tr: torch.Tensor | None = None,
        first_frames: Sequence[int] | None = None,
        labels: torch.Tensor | None = None,
        n_lead_trs: int = 0,
        seen: torch.Tensor | None = None,
        loss: str = "spatial_correlation",
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> FMRIEncodingOutput | tuple:
        """Predict BOLD from audio.

        With ``frame_to_tr`` the input is windows already cut, which is what the tuning loop sends. Without
        it, ``input_values`` is one stretch of audio and its TRs are those of ``config.tr_s`` from its start.

        Args:
            input_values: groups of windows, each (n_windows, n_samples); or audio, (n_samples,) or
                (1, n_samples).
            frame_to_tr: sparse (n_lead_trs + n_trs, n_read) matrix from what is read to TRs.
            first_frames: first kept frame of each group.
            labels: measured BOLD (n_trs, n_voxels), NaN where not measured.
            n_lead_trs: leading TRs that only feed the FIR delays.
            seen: which TRs audio reaches, (n_lead_trs + n_trs,) bool; None for all.
            loss: name of the loss, a key of :data:`brain_tuning.models.losses.LOSSES`.
            return_dict: False for a tuple.

        Returns:
            :class:`FMRIEncodingOutput`.
        """
        if frame_to_tr is None:
            if not isinstance(input_values, torch.Tensor) or input_values.numel() != input_values.shape[-1]:
                raise TimingError(
                    "a batch of recordings has no common time axis",
                    where="input_values",
                    expected="one recording (n_samples,), or windows with frame_to_tr",
                    remedy="call the model once for each recording",
                )
            audio = input_values.detach().reshape(-1).cpu().float().numpy()
            n_trs = int(len(audio) / self.config.sampling_rate_hz / self.config.tr_s)
            block = self.plan(audio, (np.arange(n_trs) + 0.5) * self.config.tr_s)
            input_values, first_frames = block["input_values"], block["first_frames"]
            frame_to_tr, seen = block["frame_to_tr"], block["seen"]
        matrix = frame_to_tr.to(self.device)
        groups = list(input_values)
        frames = self.frames(groups, first_frames or [0] * len(groups))
        # Sparse products exist in float32 only; under autocast they would be asked for in bfloat16.
        with torch.autocast(self.device.type, enabled=False):
            features = matrix @ frames
        prediction = self.head(features, n_lead_trs, None if seen is None else seen.to(self.device))
        value = None
        if labels is not None:
            if loss not in LOSSES:
                raise AdapterError(f"unknown loss {loss!r}", expected=f"one of {', '.join(LOSSES)}")
            with torch.autocast(self.device.type, enabled=False):
                value = LOSSES[loss](prediction, labels.to(self.device))
        output = FMRIEncodingOutput(loss=value, prediction=prediction, features=features)
        return output.to_tuple() if return_dict is False else output

    def plan(self, audio: np.ndarray, tr_times_s: np.ndarray) -> dict[str, Any]:
        """What :meth:`forward` needs to predict TRs at given times of a story.

        Args:
            audio: the whole story, (n_samples,), float, mono at ``config.sampling_rate_hz``.
            tr_times_s: middle of each TR, seconds from the story's start, evenly spaced, (n_trs,).

        Returns:
            ``input_values``, ``first_frames``, ``frame_to_tr`` and ``seen``, as :meth:`forward` takes them.
        """
        return plan_block(self.config, audio, tr_times_s)

    @torch.no_grad()
    def predict(
        self,
        audio: np.ndarray,
        tr_times_s: np.ndarray,
        *,
        n_lead_trs: int | None = None,
        windows_per_batch: int = 16,
    ) -> np.ndarray:
        """Predicted BOLD of the active adapter's voxels while someone hears ``audio``.

        Args:
            audio: the whole story, (n_samples,), float, mono at ``config.sampling_rate_hz``.
            tr_times_s: middle of each TR in seconds from the story's start, evenly spaced, (n_trs,).
            n_lead_trs: TRs before the first one that feed the delays; default is the longest delay.
            windows_per_batch: windows computed at once.

        Returns:
            (n_trs, n_voxels), float32.
        """
        lead = max(0, *self.config.delays_trs) if n_lead_trs is None else n_lead_trs
        times_s = lead_in(tr_times_s, lead)
        features, seen = self.story_features(audio, times_s, windows_per_batch=windows_per_batch)
        with _evaluating(self):
            predicted = self.head(
                torch.from_numpy(features).to(self.device), lead, torch.from_numpy(seen).to(self.device)
            )
        return predicted.float().cpu().numpy()

    @torch.no_grad()
    def story_features(
        self, audio: np.ndarray, tr_times_s: np.ndarray, *, windows_per_batch: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        """Backbone features at TR rate, and which TRs audio reaches.

        Args:
            audio, tr_times_s, windows_per_batch: see :meth:`predict`.

        Returns:
            Features (n_trs, width), float32, and seen (n_trs,), bool.
        """
        block = self.plan(audio, tr_times_s)
        with _evaluating(self):
            frames = [
                self.frames([part], [first])
                for group, first in zip(block["input_values"], block["first_frames"], strict=True)
                for part in group.split(windows_per_batch)
            ]
        matrix = block["frame_to_tr"].to(self.device)
        return (matrix @ torch.cat(frames)).cpu().numpy(), block["seen"].numpy()

    def audit(self, audio: np.ndarray, tr_times_s: np.ndarray) -> int:
        """Prove on real input that every tensor of the active adapter is trained.

        See :func:`brain_tuning.models.adapters.audit_gradients`.
        """
        block = self.plan(audio, tr_times_s)
        # The longest windows: in one of a single frame, attention has no choice and q and k no gradient.
        longest = int(np.argmax([group.shape[1] for group in block["input_values"]]))
        group, first = block["input_values"][longest], block["first_frames"][longest]
        middle = max(0, len(group) // 2 - 2)  # a story may begin with silence
        windows = group[middle : middle + 4]
        with _evaluating(self):
            return adapters.audit_gradients(
                self.backbone, str(self.config.default_adapter), lambda: self.frames([windows], [first])
            )

    def save_published(self, folder: str | Path, **kwargs: Any) -> Path:
        """Write the repository layout of the Hub; see :func:`brain_tuning.models.published.write`."""
        from . import published

        return published.write(self, folder, **kwargs)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)

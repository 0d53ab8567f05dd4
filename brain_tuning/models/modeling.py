"""BrainWavLMForFMRIEncoding: audio in, predicted voxels out, as a transformers model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
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

from .adapter_slots import AdapterSlots
from .backbones import (
    empty_backbone,
    expects_normalised_input,
    load_backbone,
    load_backbone_config,
    pinned_revision,
)
from .configuration import BrainEncodingConfig, BrainWavLMConfig
from .families import FAMILIES, check_padding, family_of
from .frozen_cache import FrozenCache
from .group_head import GroupHead
from .head import EncodingHead, TemporalNorm
from .listening import Listening
from .losses import LOSSES
from .source import Source, as_dtype, check_complete


@dataclass
class FMRIEncodingOutput(ModelOutput):
    """Output of the encoding models.

    Args:
        loss: scalar, if ``labels`` were given.
        prediction: predicted BOLD, (n_trs, n_voxels); of several subjects, subject -> (n_trs, n_voxels).
        features: backbone features at TR rate, lead-in TRs included, (n_lead_trs + n_trs, width).
    """

    loss: torch.Tensor | None = None
    prediction: torch.Tensor | dict[str, torch.Tensor] | None = None
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
    _no_split_modules = [  # noqa: RUF012
        "WavLMEncoderLayer",
        "WavLMEncoderLayerStableLayerNorm",
        "Wav2Vec2EncoderLayer",
        "Wav2Vec2EncoderLayerStableLayerNorm",
        "Wav2Vec2ConformerEncoderLayer",
        "HubertEncoderLayer",
        "HubertEncoderLayerStableLayerNorm",
        "WhisperEncoderLayer",
        "SpeechT5EncoderLayer",
    ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TemporalNorm):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.n_blocks)
        elif isinstance(module, EncodingHead):
            init.copy_(module.voxels, torch.arange(len(module.voxels), dtype=torch.int32))


class BrainWavLMForFMRIEncoding(AdapterSlots, Listening, BrainEncodingPreTrainedModel):  # type: ignore[misc]
    """A speech encoder with LoRA adapters and a low-rank readout to the voxels of a subject's region.

    It is named after BrainWavLM; the encoder may be of any family of :data:`brain_tuning.models.families.FAMILIES`.
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
        #: shared memory of the frozen part's outputs; set it to compute each window's only once
        self.frozen_cache: FrozenCache | None = None
        #: keep the whole backbone as it is, and tune the head alone
        self.head_only = False
        self._seals: dict[tuple[int, bool], bytes] = {}
        self._switchable: list[Any] | None = None
        self._run: Any = family_of(speech_config).run
        self.heads = nn.ModuleDict()
        for name, described in (config.adapters or {}).items():
            self._attach(name)
            self.heads[name] = self.new_head(described["n_voxels"])
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
        if not 0 <= config.first_adapted_layer < config.layer:
            raise BackboneError(
                f"layers from {config.first_adapted_layer} on cannot be adapted",
                where=config.base_model_name_or_path or config.model_type,
                expected=f"0 to {config.layer - 1}, as layer {config.layer} is read",
            )
        if (config.read == "convolution") != bool(config.convolution) or (
            config.convolution and not config.history_trs
        ):
            raise BackboneError(
                f"read {config.read!r} with convolution {config.convolution} and history_trs {config.history_trs}",
                expected="a convolution where read is 'convolution', and history_trs with it",
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
        cls._check(config)
        source = load_backbone(name, config.base_model_revision, dropout=config.backbone_dropout)
        model = cls(config)
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
        from .published_checks import check_described

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
        check_described(cls, source)
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

    # Computing

    def forward(
        self,
        input_values: Sequence[torch.Tensor] | torch.Tensor,
        frame_to_tr: torch.Tensor | None = None,
        first_frames: Sequence[int] | None = None,
        labels: torch.Tensor | Mapping[str, torch.Tensor] | None = None,
        n_lead_trs: int = 0,
        seen: torch.Tensor | None = None,
        loss: str = "spatial_correlation",
        noise_ceiling: torch.Tensor | Mapping[str, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
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
            labels: measured BOLD (n_trs, n_voxels), NaN where not measured; of a group, subject -> BOLD of those
                who heard this. The backbone runs once for all of them; the loss is their mean.
            n_lead_trs: leading TRs that only feed the FIR delays.
            seen: which TRs audio reaches, (n_lead_trs + n_trs,) bool; None for all.
            loss: name of the loss, a key of :data:`brain_tuning.models.losses.LOSSES`.
            noise_ceiling: of the voxels, (n_voxels,), for losses that weight by it; of a group, by subject.
            attention_mask: of one recording, (1, n_samples), 0 where it is padded.
            return_dict: False for a tuple.

        Returns:
            :class:`FMRIEncodingOutput`.
        """
        self._check_labels(loss, labels, noise_ceiling)
        if attention_mask is not None:
            input_values = self._unpadded(input_values, attention_mask)
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
        seen = None if seen is None else seen.to(self.device)
        if isinstance(self.head, GroupHead):
            prediction = self.head(features, n_lead_trs, seen, labels)
        else:
            prediction = self.head(features, n_lead_trs, seen)
        value = None if labels is None else self._loss(loss, prediction, labels, noise_ceiling)
        output = FMRIEncodingOutput(loss=value, prediction=prediction, features=features)
        return output.to_tuple() if return_dict is False else output

    def _unpadded(self, input_values: Any, attention_mask: torch.Tensor) -> Any:
        """One recording without its padding; what is not padded stays as it is."""
        if bool((attention_mask != 0).all()):
            return input_values
        recording = isinstance(input_values, torch.Tensor) and input_values.numel() == input_values.shape[-1]
        if not recording or attention_mask.numel() != input_values.numel():
            raise TimingError(
                f"an attention mask of shape {tuple(attention_mask.shape)} says what of the input is padded",
                where="attention_mask",
                expected="of one recording, (1, n_samples), a mask of that shape; windows are cut without padding",
                remedy="call the model once for each recording",
            )
        check_padding(self.backbone.config, attention_mask.reshape(1, -1))
        return input_values.reshape(-1)[attention_mask.reshape(-1).bool()]

    def _check_labels(self, loss: str, labels: Any, noise_ceiling: Any) -> None:
        """Refuse an unknown loss, and responses by subject where one subject is tuned or the other way round."""
        if labels is None:
            return
        if loss not in LOSSES:
            raise AdapterError(f"unknown loss {loss!r}", expected=f"one of {', '.join(LOSSES)}")
        head = self.head
        group = isinstance(head, GroupHead)
        for what, given in (("labels", labels), ("noise_ceiling", noise_ceiling)):
            if given is not None and isinstance(given, Mapping) != group:
                raise AdapterError(
                    f"{what} of adapter {self.config.default_adapter!r} are {type(given).__name__}",
                    expected="subject -> tensor, as it is of a group" if group else "a tensor, as it is of one subject",
                )
        if isinstance(head, GroupHead) and not labels:
            raise AdapterError("labels name no subject", expected=f"some of {', '.join(head.subjects)}")

    def _loss(self, name: str, prediction: Any, labels: Any, noise_ceiling: Any) -> torch.Tensor:
        """Mean over subjects of the loss, in float32."""
        if not isinstance(prediction, dict):
            prediction, labels, noise_ceiling = {"": prediction}, {"": labels}, {"": noise_ceiling}
        ceilings = noise_ceiling or {}
        values = []
        with torch.autocast(self.device.type, enabled=False):
            for subject, bold in labels.items():
                ceiling = ceilings.get(subject)
                ceiling = None if ceiling is None else ceiling.to(self.device)
                values.append(LOSSES[name](prediction[subject], bold.to(self.device), ceiling))
        return torch.stack(values).mean()

    def save_published(self, folder: str | Path, **kwargs: Any) -> Path:
        """Write the repository layout of the Hub; see :func:`brain_tuning.models.published.write`."""
        from . import published

        return published.write(self, folder, **kwargs)

"""Audio -> hidden states -> features at TR rate -> predicted BOLD: what a model does with a story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from brain_tuning.errors import AdapterError, TimingError
from brain_tuning.timing import WindowPlan
from brain_tuning.timing.runs import lead_in

from . import adapters
from .blocks import plan_block
from .configuration import BrainEncodingConfig
from .families import check_layers, check_padding, family_of
from .frozen import evaluating, fingerprint, frozen_output
from .frozen_cache import FrozenCache
from .group_head import GroupHead


class Listening(PreTrainedModel if TYPE_CHECKING else object):  # type: ignore[misc]
    """How :class:`~brain_tuning.models.modeling.BrainWavLMForFMRIEncoding` hears a story."""

    config: BrainEncodingConfig
    backbone: PreTrainedModel
    heads: nn.ModuleDict
    #: shared memory of the frozen part's outputs; set it to compute each window's only once
    frozen_cache: FrozenCache | None
    #: keep the whole backbone as it is, and tune the head alone
    head_only: bool
    _seals: dict[tuple[int, bool], bytes]
    _run: Any

    def frames(
        self, input_values: Sequence[torch.Tensor], first_frames: Sequence[int], read: str | None = None
    ) -> torch.Tensor:
        """Backbone features of windows, read as the window plan says.

        Args:
            input_values: groups of windows, each (n_windows, n_samples), in time order.
            first_frames: first kept frame of each group.
            read: ``all``, ``first``, ``last``, ``mean`` or ``convolution``; None is the config's.

        Returns:
            (n_read, width), float32, in time order.
        """
        return torch.cat(
            [
                self._read(self.hidden_state(windows)[:, first:].float(), read or self.config.read).flatten(0, 1)
                for windows, first in zip(input_values, first_frames, strict=True)
            ]
        )

    def hidden_state(
        self,
        windows: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        adapter_names: Sequence[str] | None = None,
    ) -> torch.Tensor:
        """The backbone's hidden state at ``config.layer``.

        Gradients reach the adapted layers only; what lies below them is computed without, and remembered if there
        is a ``frozen_cache``. In bfloat16, under autocast or as loaded, it departs from the float32 state by at most
        5 % of its norm (on small models of every family 0.3 to 1.2 % under autocast, 0.6 to 2.4 % as loaded).

        Args:
            windows: (n_windows, n_samples).
            attention_mask: (n_windows, n_samples), 0 where a window is padded at its end.
            adapter_names: adapter of each window, ``"__base__"`` for none; None is the active one for all. Such a batch
                is neither compiled nor checkpointed.

        Returns:
            (n_windows, frames, width); frames that only padding reaches are zero.

        Raises:
            BackboneError: windows are padded elsewhere than at their end, or padding would change this backbone's
                features.
            TimingError: the mask is not of the windows' shape.
            AdapterError: the names are not one known adapter for each window.
        """
        if adapter_names is not None:
            self._check_names(adapter_names, len(windows))
        if attention_mask is not None and attention_mask.shape != windows.shape:
            raise TimingError(
                f"the attention mask has shape {tuple(attention_mask.shape)}",
                expected=f"{tuple(windows.shape)}, as the windows have",
            )
        if attention_mask is not None and bool((attention_mask == 0).any()):
            check_padding(self.backbone.config, attention_mask)
            alone = [
                self.hidden_state(window[None, mask.bool()], adapter_names=adapter_names and adapter_names[k : k + 1])[
                    0
                ]
                for k, (window, mask) in enumerate(zip(windows, attention_mask, strict=True))
            ]
            return nn.utils.rnn.pad_sequence(alone, batch_first=True)
        if adapter_names is not None:
            # Compiled code would not notice the names: torch.compile does not look again for hooks on modules.
            run = family_of(self.backbone.config).run
            with adapters.mixed(self.backbone, adapter_names):
                return self._from_depth(windows, self.config.first_adapted_layer, run)
        depth = self.config.layer if self.head_only else self.config.first_adapted_layer
        return self._from_depth(windows, depth, self._run)

    def _from_depth(self, windows: torch.Tensor, depth: int, run: Any) -> torch.Tensor:
        """The hidden state of windows, whose part up to ``depth`` is frozen and may be remembered."""
        config, family = self.config, family_of(self.backbone.config)
        if config.backbone_dropout and self.training:
            depth = 0  # dropout below differs from step to step
        known = frozen_output(self.backbone, windows, depth, self.device, self.frozen_cache, self._seal(depth))
        known = known.to(self.dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.head_only):
            hidden = family.enter(self.backbone, known) if depth == 0 else known
            return run(self.backbone, hidden, depth, config.layer)

    def _check_names(self, adapter_names: Sequence[str], n_windows: int) -> None:
        strangers = sorted(set(adapter_names) - set(self.heads) - {"__base__"})
        if strangers or len(adapter_names) != n_windows or not self.config.lora:
            raise AdapterError(
                f"{len(adapter_names)} adapters are named for {n_windows} windows"
                + (f", of which {strangers[0]!r} is unknown" if strangers else ""),
                expected=f"for each window one of {', '.join([*self.heads, '__base__'])}, of a model tuned with LoRA",
            )

    def _seal(self, depth: int) -> bytes:
        """What the frozen part up to ``depth`` is known by in the cache."""
        if self.frozen_cache is None:
            return b""
        key = (depth, torch.is_autocast_enabled(self.device.type))
        if key not in self._seals:
            self._seals[key] = fingerprint(self.backbone, depth)
        return self._seals[key]

    def _read(self, kept: torch.Tensor, how: str) -> torch.Tensor:
        """(n_windows, n_frames, width) -> (n_windows, n_read, width or channels)."""
        match how:
            case "mean":
                return kept.mean(1, keepdim=True)
            case "first":
                return kept[:, :1]
            case "last":
                return kept[:, -1:]
            case "convolution":
                read = self.head.read
                assert read is not None
                # Autocast makes bfloat16 of it, in which there are no sparse products.
                return read(kept)[:, None].float()
        return kept

    def checkpoint_activations(self) -> None:
        """Keep the layers' inputs only, and compute the rest again in backward: half the memory, 1.4 times the time."""
        # The second name is that of older transformers, e.g. of the last that runs on Python 3.10.
        enable = getattr(self, "activation_checkpointing_enable", None) or self.gradient_checkpointing_enable
        enable({"use_reentrant": False})  # True lets memory grow from step to step

    def compile_layers(self, **options: Any) -> None:
        """Run the transformer layers through ``torch.compile``; ``options`` are its own."""
        self._run = torch.compile(family_of(self.backbone.config).run, **options)

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
        subject: str | None = None,
    ) -> np.ndarray:
        """Predicted BOLD of the active adapter's voxels while someone hears ``audio``.

        Args:
            audio: the whole story, (n_samples,), float, mono at ``config.sampling_rate_hz``.
            tr_times_s: middle of each TR in seconds from the story's start, evenly spaced, (n_trs,).
            n_lead_trs: TRs before the first one that feed the delays; default is the longest delay.
            windows_per_batch: windows computed at once.
            subject: whose, while several are tuned together.

        Returns:
            (n_trs, n_voxels), float32.
        """
        lead = max(0, *self.config.delays_trs) if n_lead_trs is None else n_lead_trs
        features, seen = self._features(self.config, audio, lead_in(tr_times_s, lead), windows_per_batch)
        at_trs, heard = torch.from_numpy(features).to(self.device), torch.from_numpy(seen).to(self.device)
        with evaluating(self):
            if isinstance(self.head, GroupHead):
                predicted = self.head(at_trs, lead, heard, [str(subject)])[str(subject)]
            else:
                predicted = self.head(at_trs, lead, heard)
        return predicted.float().cpu().numpy()

    @torch.no_grad()
    def story_features(
        self,
        audio: np.ndarray,
        tr_times_s: np.ndarray,
        *,
        plan: WindowPlan | None = None,
        windows_per_batch: int = 16,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Backbone features at TR rate, and which TRs audio reaches: what a model is judged by.

        Of a model that is tuned on one window a TR they are those of windows that long, all frames of whose last TR
        are filtered to TRs; see :meth:`BrainEncodingConfig.judging`.

        Args:
            audio, tr_times_s, windows_per_batch: see :meth:`predict`.
            plan: windows to use instead of those that the config says.

        Returns:
            Features (n_trs, width), float32, and seen (n_trs,), bool.
        """
        return self._features(self.config.judging(plan), audio, tr_times_s, windows_per_batch)

    @torch.no_grad()
    def layer_features(
        self,
        audio: np.ndarray,
        tr_times_s: np.ndarray,
        layers: Sequence[int],
        *,
        plan: WindowPlan | None = None,
        windows_per_batch: int = 16,
    ) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """:meth:`story_features` of several layers, for one pass of the backbone.

        Args:
            audio, tr_times_s, plan, windows_per_batch: see :meth:`story_features`.
            layers: indices into ``hidden_states``, from 0, what enters the first layer, to the number of layers.

        Returns:
            Layer -> features (n_trs, width), float32, and seen (n_trs,), bool.

        Raises:
            BackboneError: the backbone has no such layer.
        """
        config, family = self.config.judging(plan), family_of(self.backbone.config)
        check_layers(layers, self.backbone.config)
        ascending = sorted(set(layers))
        block = plan_block(config, audio, tr_times_s)
        frames: dict[int, list[torch.Tensor]] = {layer: [] for layer in ascending}
        with evaluating(self):
            for group, first in zip(block["input_values"], block["first_frames"], strict=True):
                for part in group.split(windows_per_batch):
                    known = frozen_output(self.backbone, part, 0, self.device, self.frozen_cache, self._seal(0))
                    hidden, at = family.enter(self.backbone, known.to(self.dtype)), 0
                    for layer in ascending:
                        hidden, at = self._run(self.backbone, hidden, at, layer), layer
                        frames[layer].append(self._read(hidden[:, first:].float(), config.read).flatten(0, 1))
        return {layer: self._at_trs(block, parts) for layer, parts in frames.items()}, block["seen"].numpy()

    def _features(
        self, config: BrainEncodingConfig, audio: np.ndarray, tr_times_s: np.ndarray, windows_per_batch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        block = plan_block(config, audio, tr_times_s)
        with evaluating(self):
            frames = [
                self.frames([part], [first], config.read)
                for group, first in zip(block["input_values"], block["first_frames"], strict=True)
                for part in group.split(windows_per_batch)
            ]
        return self._at_trs(block, frames), block["seen"].numpy()

    def _at_trs(self, block: Mapping[str, Any], frames: list[torch.Tensor]) -> np.ndarray:
        """Features of TRs (n_trs, width), float32, from what was read of windows in time order."""
        # Under a caller's autocast the sparse product would be asked for in bfloat16.
        with torch.autocast(self.device.type, enabled=False):
            return (block["frame_to_tr"].to(self.device) @ torch.cat(frames).float()).cpu().numpy()

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
        with evaluating(self):
            return adapters.audit_gradients(
                self.backbone, str(self.config.default_adapter), lambda: self.frames([windows], [first])
            )

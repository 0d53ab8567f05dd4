"""A frozen speech encoder that utterances go through: all its layers, each utterance computed once.

Any encoder of the known families serves: a plain one (folder, Hub id, the merged root of a published repository), an
adapter of a published repository, the folder of a tuning run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from brain_tuning.errors import TaskDataError
from brain_tuning.models import adapters
from brain_tuning.models.backbones import empty_backbone, expects_normalised_input, load_backbone
from brain_tuning.models.families import Family, family_of, frame_grid
from brain_tuning.models.frozen import evaluating, fingerprint, frozen_output
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.timing import FrameGrid

from .examples import Recording, Utterance

#: changes when the same encoder and utterance come to mean other features
_VERSION = 1
#: utterances of one length that are computed at once hold at most this many seconds
_SECONDS_AT_ONCE = 60.0


class Upstream:
    """An encoder and what it makes of utterances.

    Args:
        encoder: of a known family, in float32; it is put in evaluation mode while computing.
        normalise_input: whether utterances are brought to zero mean and unit variance first, as the checkpoint expects.
        name: for tables and errors.
        adapter: whose weights it has, for the same; empty for none or the root's.
        cache: where features are kept; None keeps none.
        keep_dtype: of frames in the cache, float16 or float32; layers whose values do not fit float16 stay float32.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        *,
        normalise_input: bool,
        name: str,
        adapter: str = "",
        cache: FrozenCache | None = None,
        keep_dtype: torch.dtype = torch.float16,
    ) -> None:
        self.encoder, self.normalise_input, self.name, self.adapter = encoder, normalise_input, name, adapter
        self.cache, self.keep_dtype = cache, keep_dtype
        config: Any = encoder.config
        self.n_layers, self.width = int(config.num_hidden_layers) + 1, int(config.hidden_size)
        self._digests: dict[Recording, bytes] = {}

    @property
    def public_name(self) -> str:
        """Its name without what is of this machine: of a folder the last part; ``NAME@ADAPTER`` of an adapter."""
        plain = Path(self.name).name if Path(self.name).exists() else self.name
        return f"{plain}@{self.adapter}" if self.adapter else plain

    @property
    def bytes_per_second(self) -> float:
        """Of all layers' frames of a second of audio, as they are kept."""
        frames = self.grid.sampling_rate_hz / self.grid.hop_samples
        return frames * self.n_layers * self.width * self.keep_dtype.itemsize

    @property
    def family(self) -> Family:
        """What is known of the encoder's family."""
        return family_of(self.encoder.config)

    @property
    def grid(self) -> FrameGrid:
        """Where its frames lie in the audio."""
        return frame_grid(self.encoder.config, 16_000)

    def to(self, device: torch.device) -> Upstream:
        """Move the encoder; returns this upstream."""
        nn.Module.to(self.encoder, device)
        return self

    def seal(self) -> bytes:
        """Digest of all that decides the features of a waveform."""
        n_layers = self.n_layers - 1
        said = repr((_VERSION, self.normalise_input, str(self.keep_dtype)))
        return hashlib.blake2b(fingerprint(self.encoder, n_layers) + said.encode(), digest_size=16).digest()

    # Computing

    def hidden_states(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """transformers' ``hidden_states`` of waveforms, each as if it were alone.

        Waveforms of one length share a batch; of a family that bears padding, those of other lengths as well.
        Gradients flow as they do in the encoder.

        Args:
            waves: each (n_samples,), float32, 16 kHz.

        Returns:
            For each (n_layers + 1, frames, width), on the encoder's device.

        Raises:
            TaskDataError: a waveform is too short for one frame.
        """
        for wave in waves:
            if self.grid.n_frames(len(wave)) == 0:
                raise TaskDataError(
                    f"an utterance of {len(wave)} samples is too short for {self.name}",
                    expected=f"at least {max(self.grid.field_samples, self.grid.shortest_samples)} samples at 16 kHz",
                    remedy="leave it out of the data set, or join it with its neighbours",
                )
        heard = [self._normalised(wave) for wave in waves]
        pieces = [piece for wave in heard for piece in self._pieces(wave)]
        if len({len(piece) for piece in pieces}) == 1:
            found = list(self._alone(torch.stack(pieces)))
        elif self.family.padding_is_exact(self.encoder.config):
            found = self._padded(pieces)
        else:
            found = [states for piece in pieces for states in self._alone(piece[None])]
        joined, at = [], 0
        for wave in heard:
            n_pieces = len(self._pieces(wave))
            joined.append(torch.cat(found[at : at + n_pieces], dim=1))
            at += n_pieces
        return joined

    def _normalised(self, wave: torch.Tensor) -> torch.Tensor:
        wave = wave.to(self.encoder.device)
        if not self.normalise_input:
            return wave
        return (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)

    def _pieces(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """The waveform, or equal parts of it where the encoder has no positions for so much."""
        longest = self.grid.longest_samples
        if longest is None or len(wave) <= longest:
            return [wave]
        return list(torch.tensor_split(wave, -(-len(wave) // longest)))

    def _alone(self, waves: torch.Tensor) -> torch.Tensor:
        """Of waveforms (n, n_samples) of one length: (n, n_layers + 1, frames, width)."""
        family, encoder = self.family, self.encoder
        hidden = family.enter(encoder, frozen_output(encoder, waves, 0, encoder.device, None, b""))
        states = [hidden]
        for layer in range(self.n_layers - 1):
            hidden = family.run(encoder, hidden, layer, layer + 1)
            states.append(hidden)
        return torch.stack(states, dim=1)

    def _padded(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        lengths = [len(wave) for wave in waves]
        batch = nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
        mask = torch.arange(batch.shape[1], device=batch.device) < torch.tensor(lengths, device=batch.device)[:, None]
        computed: Any = self.encoder(batch, attention_mask=mask.long(), output_hidden_states=True)
        states = torch.stack(computed.hidden_states, dim=1)
        return [one[:, : self.grid.n_frames(length)] for one, length in zip(states, lengths, strict=True)]

    # Features of utterances, remembered

    def frames(self, utterances: Sequence[Utterance], seal: bytes) -> list[torch.Tensor]:
        """All layers of utterances: each (n_layers + 1, frames, width), float16 or float32, on the CPU.

        Args:
            utterances: of one task.
            seal: :meth:`seal`, taken once.
        """
        return self._remembered(utterances, seal, pooled=False)

    def means(self, utterances: Sequence[Utterance], seal: bytes) -> torch.Tensor:
        """Mean of each layer over the frames of each utterance: (n_utterances, n_layers + 1, width), float32.

        A head that projects frames linearly and then takes their mean needs no more: the mean goes first.

        Args:
            utterances: of one task.
            seal: :meth:`seal`, taken once.
        """
        return torch.stack(self._remembered(utterances, seal, pooled=True))

    def _remembered(self, utterances: Sequence[Utterance], seal: bytes, *, pooled: bool) -> list[torch.Tensor]:
        kind = b"mean" if pooled else b"frames"
        found: dict[bytes, torch.Tensor] = {}
        missing: dict[bytes, np.ndarray] = {}
        keys = []
        for utterance in utterances:
            key, audio = self._key(utterance, seal + kind)
            keys.append(key)
            known = self.cache.get(key) if self.cache is not None else None
            if known is not None:
                found[key] = known
            elif key not in missing:
                missing[key] = utterance.recording.load() if audio is None else audio
        for part in self._batches(missing):
            with torch.no_grad(), evaluating(self.encoder):
                states = self.hidden_states([torch.from_numpy(audio) for _, audio in part])
            for (key, _), computed in zip(part, states, strict=True):
                found[key] = (computed.float().mean(1) if pooled else self._kept(computed)).cpu()
                if self.cache is not None:
                    self.cache.put(key, found[key])
        return [found[key] for key in keys]

    def _key(self, utterance: Utterance, seal: bytes) -> tuple[bytes, np.ndarray | None]:
        """Key of an utterance's features by its samples; these too, if they had to be read for it."""
        recording, audio = utterance.recording, None
        if recording not in self._digests:
            audio = recording.load()
            self._digests[recording] = hashlib.blake2b(audio.tobytes(), digest_size=16).digest()
        return hashlib.blake2b(seal + self._digests[recording], digest_size=16).digest(), audio

    def _batches(self, missing: dict[bytes, np.ndarray]) -> Iterator[list[tuple[bytes, np.ndarray]]]:
        """Utterances by length, so many at once that a batch stays small; of one length where padding is not exact."""
        mixes = self.family.padding_is_exact(self.encoder.config)
        part: list[tuple[bytes, np.ndarray]] = []
        for item in sorted(missing.items(), key=lambda item: len(item[1])):
            too_long = (len(part) + 1) * len(item[1]) > _SECONDS_AT_ONCE * 16_000
            if part and (too_long or (not mixes and len(part[0][1]) != len(item[1]))):
                yield part
                part = []
            part.append(item)
        if part:
            yield part

    def _kept(self, states: torch.Tensor) -> torch.Tensor:
        kept = states.to(self.keep_dtype)
        return kept if bool(kept.isfinite().all()) else states.float()


def place_and_adapter(name: str) -> tuple[str, str | None]:
    """``NAME@ADAPTER`` -> its parts; of a folder that is there by the whole name there is no adapter."""
    if Path(name).exists():
        return name, None
    place, _, adapter = name.rpartition("@") if "@" in name else (name, "", "")
    return place, adapter or None


def load_upstream(
    name: str, *, adapter: str | None = None, cache: FrozenCache | None = None, **options: Any
) -> Upstream:
    """Load what is to be compared.

    Args:
        name: folder or Hub id of a plain encoder or of a published repository, or folder of a tuning run.
        adapter: of a published repository: hear through this one; None takes the merged root, or the only adapter.
        cache: see :class:`Upstream`.
        **options: further arguments of :class:`Upstream`, and ``revision`` on the Hub.

    Raises:
        BackboneError: no such encoder, or one of a family that is not known.
        AdapterError: no such adapter, or a damaged repository.
    """
    revision = options.pop("revision", None)
    folder = Path(name)
    tuned = folder / "model" if (folder / "run.json").is_file() else folder
    if adapter is None and tuned == folder and not _has_no_root(folder):
        encoder = load_backbone(name, revision)
        normalise = expects_normalised_input(name, revision)
    else:
        model = BrainWavLMForFMRIEncoding.from_pretrained(str(tuned), adapter=adapter, revision=revision)
        speech_config: Any = model.config.speech_config
        encoder = empty_backbone(speech_config)
        encoder.load_state_dict(adapters.merged_state_dict(model.backbone, model.config.default_adapter))
        normalise = bool(model.config.normalise_input)
    return Upstream(encoder, normalise_input=normalise, name=name, adapter=adapter or "", cache=cache, **options)


def _has_no_root(folder: Path) -> bool:
    """Whether a folder is published without a model of its own."""
    return (folder / "encoding" / "config.json").is_file() and not (folder / "model.safetensors").is_file()

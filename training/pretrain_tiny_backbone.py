"""Pre-train the bundled tiny WavLM by masked prediction of phonemes in synthesised nonsense speech.

    python training/pretrain_tiny_backbone.py --output DIR

The speech is nonsense words and function words spoken by eSpeak NG, whose event stream gives the
phoneme of every 20 ms frame. The simulator's story vocabulary is never heard, so what the backbone
knows is phonetics; the meaning that simulated cortex responds to is left for brain-tuning to find.
The phoneme error rate is measured on both held-out nonsense and real story sentences.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from brain_tuning.corpus.simulator.grammar import sentences
from brain_tuning.corpus.simulator.speech import SAMPLING_RATE_HZ, VOICES, Synthesiser
from brain_tuning.corpus.simulator.vocabulary import FUNCTION_WORDS

SILENCE = "_"
CLIP_S = 4.0
CONFIG = WavLMConfig(
    hidden_size=128,
    num_hidden_layers=6,
    num_attention_heads=4,
    intermediate_size=256,
    conv_dim=(48,) * 7,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=8,
    num_buckets=64,
    max_bucket_distance=200,
    layerdrop=0.0,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    mask_time_prob=0.15,
    mask_time_length=6,
)

_ONSETS = "b bl br ch d dr f fl g gl h j k kl l m n p pl r s sh sk sl st t th tr v w y z".split()
_VOWELS = "a ai e ee i o oa oo ou u ar er or ie".split()
_CODAS = ["", "", *"b ck d f g l ll m mp n nd ng nk p r rd s sh st t th v x z".split()]


def nonsense(rng: np.random.Generator) -> Iterator[str]:
    """Yield sentences of one- to three-syllable nonsense words among function words."""
    while True:
        tokens = []
        for _ in range(int(rng.integers(5, 10))):
            if rng.random() < 0.35:
                tokens.append(str(rng.choice(FUNCTION_WORDS)))
            else:
                parts = (
                    str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) + str(rng.choice(_CODAS))
                    for _ in range(int(rng.integers(1, 4)))
                )
                tokens.append("".join(parts))
        yield " ".join(tokens)


def phoneme_class(mnemonic: str) -> str:
    """Fold stress marks and allophone digits of an eSpeak mnemonic into one class."""
    return mnemonic.strip("',;%=").rstrip("0123456789#-") or mnemonic


@dataclass
class ClipStream:
    """Endless 4 s clips of continuous speech with the phoneme of each frame."""

    texts: Iterator[str]
    rng: np.random.Generator
    classes: dict[str, int]

    def __post_init__(self) -> None:
        self.synthesiser = Synthesiser()
        self.audio = np.zeros(0, np.float32)
        self.labels = np.zeros(0, np.int64)

    def clip(self) -> tuple[np.ndarray, np.ndarray]:
        """One clip: audio (64000,), class index of each sample (64000,)."""
        n = int(CLIP_S * SAMPLING_RATE_HZ)
        voice, rate = str(self.rng.choice(VOICES)), int(self.rng.integers(130, 230))
        pitch = int(self.rng.integers(30, 70))
        while len(self.audio) < n:
            said = self.synthesiser.speak(next(self.texts), voice=voice, rate_wpm=rate, pitch=pitch)
            labels = np.full(len(said.audio), self.classes[SILENCE])
            for name, start_s, end_s in said.phones:
                index = self.classes.setdefault(phoneme_class(name), len(self.classes))
                labels[round(start_s * SAMPLING_RATE_HZ) : round(end_s * SAMPLING_RATE_HZ)] = index
            gain = 10 ** self.rng.uniform(-0.5, 0.2)
            noise = self.rng.standard_normal(len(labels)) * 10 ** self.rng.uniform(-4, -2)
            self.audio = np.concatenate([self.audio, (gain * said.audio + noise).astype(np.float32)])
            self.labels = np.concatenate([self.labels, labels])
        audio, labels = self.audio[:n], self.labels[:n]
        self.audio, self.labels = self.audio[n:], self.labels[n:]
        return audio, labels


def frame_labels(sample_labels: np.ndarray, n_frames: int) -> np.ndarray:
    """Class at the centre of each 25 ms frame (hop 20 ms)."""
    return sample_labels[200 + 320 * np.arange(n_frames)]


def phoneme_errors(predicted: np.ndarray, truth: np.ndarray, silence: int) -> tuple[int, int]:
    """Edit distance and reference length of two frame-label sequences, runs collapsed, silence dropped."""

    def collapse(labels: np.ndarray) -> list[int]:
        kept = labels[np.r_[True, labels[1:] != labels[:-1]]]
        return [int(k) for k in kept if k != silence]

    p, t = collapse(predicted), collapse(truth)
    row = np.arange(len(p) + 1)
    for i, symbol in enumerate(t, 1):
        previous, row = row, np.empty_like(row)
        row[0] = i
        for j, other in enumerate(p, 1):
            row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (symbol != other))
    return int(row[-1]), len(t)


@torch.no_grad()
def error_rate(model: WavLMModel, head: torch.nn.Linear, stream: ClipStream, n_clips: int) -> float:
    """Phoneme error rate over ``n_clips`` clips, in per cent."""
    model.eval()
    errors = total = 0
    for _ in range(n_clips):
        audio, labels = stream.clip()
        logits = head(model(torch.from_numpy(audio)[None]).last_hidden_state)[0]
        e, n = phoneme_errors(logits.argmax(-1).numpy(), frame_labels(labels, len(logits)), stream.classes[SILENCE])
        errors, total = errors + e, total + n
    model.train()
    return 100.0 * errors / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=16, help="4 s clips a step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    started = time.monotonic()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002  transformers draws its time masks from numpy's global generator
    train_rng, held_rng, story_rng = (np.random.default_rng([args.seed, k]) for k in range(3))
    classes = {SILENCE: 0}
    train = ClipStream(nonsense(train_rng), train_rng, classes)
    held = ClipStream(nonsense(held_rng), held_rng, classes)
    story = ClipStream(sentences(story_rng), story_rng, classes)

    model = WavLMModel(CONFIG).train()
    head = torch.nn.Linear(CONFIG.hidden_size, 96)
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, args.steps, pct_start=0.1)
    progress = tqdm(range(args.steps), unit="step")
    for _ in progress:
        clips = [train.clip() for _ in range(args.batch)]
        logits = head(model(torch.from_numpy(np.stack([a for a, _ in clips]))).last_hidden_state)
        target = np.stack([frame_labels(t, logits.shape[1]) for _, t in clips])
        loss = functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(target).flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")

    figures = {
        "phoneme_error_rate_nonsense_percent": round(error_rate(model, head, held, 60), 2),
        "phoneme_error_rate_story_sentences_percent": round(error_rate(model, head, story, 60), 2),
        "n_phoneme_classes": len(classes),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "steps": args.steps,
        "hours_of_speech": round(args.steps * args.batch * CLIP_S / 3600, 2),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "seed": args.seed,
    }
    model.config.apply_spec_augment = False
    model.save_pretrained(args.output)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=False).save_pretrained(args.output)
    (args.output / "pretraining.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

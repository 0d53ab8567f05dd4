"""A tiny model of every family, as its users would have it: whole, with its feature extractor, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    SpeechT5Config,
    SpeechT5FeatureExtractor,
    SpeechT5ForSpeechToText,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

N_LAYERS, WIDTH = 3, 32

_STEM = {
    "hidden_size": WIDTH,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.5,
    "mask_time_prob": 0.3,
    "mask_time_length": 2,
}
_ENCODER = {"num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "intermediate_size": 48, **_STEM}
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_WAVLM = {"num_buckets": 32, "max_bucket_distance": 80}
_BOTH_SIDES: dict[str, Any] = {
    "encoder_layers": N_LAYERS,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "vocab_size": 40,
    "encoder_layerdrop": 0.5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}

#: name -> config of a tiny model; ``-large`` is shaped like the family's large checkpoints
CONFIGS: dict[str, Any] = {
    "wavlm": lambda: WavLMConfig(**_ENCODER, **_WAVLM),
    "wavlm-large": lambda: WavLMConfig(**_ENCODER, **_WAVLM, **_LARGE),
    "wav2vec2": lambda: Wav2Vec2Config(**_ENCODER),
    "wav2vec2-large": lambda: Wav2Vec2Config(**_ENCODER, **_LARGE),
    "conformer-relative": lambda: Wav2Vec2ConformerConfig(**_ENCODER, position_embeddings_type="relative"),
    "conformer-rotary": lambda: Wav2Vec2ConformerConfig(**_ENCODER, position_embeddings_type="rotary"),
    "hubert": lambda: HubertConfig(**_ENCODER),
    "hubert-large": lambda: HubertConfig(**_ENCODER, **_LARGE),
    "whisper": lambda: WhisperConfig(d_model=WIDTH, num_mel_bins=80, max_source_positions=1500, **_BOTH_SIDES),
    "speecht5": lambda: SpeechT5Config(**{k: v for k, v in _STEM.items() if k != "layerdrop"}, **_BOTH_SIDES),
}

_MODELS: dict[str, type[PreTrainedModel]] = {
    "wavlm": WavLMModel,
    "wav2vec2": Wav2Vec2Model,
    "wav2vec2-conformer": Wav2Vec2ConformerModel,
    "hubert": HubertModel,
    "whisper": WhisperForConditionalGeneration,
    "speecht5": SpeechT5ForSpeechToText,
}


def whole(kind: str, seed: int = 0) -> PreTrainedModel:
    """transformers' own whole model, with weights large enough that no layer is nearly the identity."""
    config = CONFIGS[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _MODELS[config.model_type](config).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "layers." in key and "conv_layers" not in key:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def save(kind: str, folder: Path) -> Path:
    """A folder with the whole model and its feature extractor."""
    model = whole(kind)
    model.save_pretrained(folder)
    match model.config.model_type:
        case "whisper":
            WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
        case "speecht5":
            SpeechT5FeatureExtractor().save_pretrained(folder)
        case model_type:
            Wav2Vec2FeatureExtractor(do_normalize=model_type != "wavlm").save_pretrained(folder)
    return folder


def stock_encoder(model: PreTrainedModel) -> Any:
    """The encoder of a whole model, as transformers computes it."""
    return model.get_encoder() if model.config.is_encoder_decoder else model

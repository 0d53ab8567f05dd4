"""Prove that published folders load tuned: ``python -m brain_tuning.hub.load_back FOLDER [FOLDER ...]``.

For each folder the plain encoder that ``AutoModel`` gives, the encoding model, and the untuned backbone hear the
same second of noise. The last line of the output is JSON: folder -> the differences between them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoModel

from brain_tuning.errors import PublishError
from brain_tuning.models.backbones import empty_backbone, load_backbone
from brain_tuning.models.configuration import BrainWavLMConfig
from brain_tuning.models.families import encoder_state, family_of, hidden_state
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding

#: hidden states of the merged encoder and of the adapter model may differ by rounding only
TOLERANCE = 1e-5


@torch.no_grad()
def load_back(folder: str) -> dict[str, float]:
    """Load a published folder both ways and compare.

    Returns:
        ``from_adapter``: largest difference of AutoModel's hidden states to the adapter model's;
        ``from_base``: to the untuned backbone's.

    Raises:
        PublishError: the two ways differ, or the model is untuned.
    """
    model = BrainWavLMForFMRIEncoding.from_pretrained(folder)
    config = model.config
    base = load_backbone(str(config.base_model_name_or_path), config.base_model_revision).eval()
    heard = torch.randn(1, config.sampling_rate_hz, generator=torch.Generator().manual_seed(0))
    states = _of_root(folder, config, heard)
    adapted, untuned = (hidden_state(backbone, heard, config.layer) for backbone in (model.backbone, base))
    found = {
        "from_adapter": float((states - adapted).abs().max()),
        "from_base": float((states - untuned).abs().max()),
    }
    if found["from_adapter"] > TOLERANCE or found["from_base"] < 10 * TOLERANCE:
        raise PublishError(
            "the published encoder is not the tuned one",
            where=f"{folder}: {found}",
            expected=f"equal to the adapter model to {TOLERANCE}, different from the base",
        )
    return found


def _of_root(folder: str, config: BrainWavLMConfig, heard: torch.Tensor) -> torch.Tensor:
    """Hidden state of the read layer of what a user without this package loads."""
    speech_config: Any = config.speech_config
    family = family_of(speech_config)
    if family.whole_path is None:
        plain = AutoModel.from_pretrained(folder).eval()
        return plain(heard, output_hidden_states=True).hidden_states[config.layer]
    # Such a model takes spectrograms or padded audio: its encoder is asked as ours is.
    encoder = empty_backbone(speech_config).eval()
    encoder.load_state_dict(encoder_state(family, family.whole_class.from_pretrained(folder).state_dict()))
    return hidden_state(encoder, heard, config.layer)


if __name__ == "__main__":
    print(json.dumps({folder: load_back(folder) for folder in sys.argv[1:]}))

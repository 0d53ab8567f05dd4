"""Brain-tuning: fine-tune speech encoders on fMRI of people listening to stories, measure it, publish it.

Importing this package registers its model classes with transformers' ``AutoConfig`` and ``AutoModel``.
Everything else is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from transformers import AutoConfig, AutoModel

from .models.configuration import BrainWavLMConfig
from .models.modeling import BrainWavLMForFMRIEncoding

__version__ = "0.1.0"

AutoConfig.register(BrainWavLMConfig.model_type, BrainWavLMConfig, exist_ok=True)
AutoModel.register(BrainWavLMConfig, BrainWavLMForFMRIEncoding, exist_ok=True)

#: public name -> module that defines it
_LAZY = {
    "load_adapter": "brain_tuning.models.published_adapters",
    "plain_model": "brain_tuning.models.published",
    "load_backbone": "brain_tuning.models.backbones",
    "WindowPlan": "brain_tuning.timing",
    "Recipe": "brain_tuning.tuning.recipe",
    "open_corpus": "brain_tuning.corpus",
    "write_corpus": "brain_tuning.corpus",
}

__all__ = ["BrainWavLMConfig", "BrainWavLMForFMRIEncoding", "__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'brain_tuning' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

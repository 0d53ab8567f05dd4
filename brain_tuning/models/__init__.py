"""Speech backbones with brain adapters: audio -> predicted voxels."""

from .configuration import BrainEncodingConfig, BrainWavLMConfig
from .modeling import BrainWavLMForFMRIEncoding, FMRIEncodingOutput

__all__ = ["BrainEncodingConfig", "BrainWavLMConfig", "BrainWavLMForFMRIEncoding", "FMRIEncodingOutput"]

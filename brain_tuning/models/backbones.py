"""Finding and loading pretrained speech encoders: bundled ones, local folders, and the Hub."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, Wav2Vec2FeatureExtractor

from brain_tuning.errors import BackboneError

from .families import family_of, quiet_config

_BUNDLED_FOLDER = Path(__file__).parent / "bundled"

#: Hub-style id -> folder inside this package.
BUNDLED = {"brain-tuning/wavlm-tiny-espeak": _BUNDLED_FOLDER / "wavlm-tiny-espeak"}


def backbone_location(name: str) -> str:
    """Where transformers finds a backbone: the folder of a bundled one, else ``name`` itself."""
    return str(BUNDLED[name]) if name in BUNDLED else name


@cache
def bundled_revision(name: str) -> str:
    """Content hash of a bundled backbone's weights (40 hex digits, as a commit would have)."""
    return hashlib.sha256((BUNDLED[name] / "model.safetensors").read_bytes()).hexdigest()[:40]


def load_backbone_config(name: str, revision: str | None = None) -> PreTrainedConfig:
    """The config of a backbone of a known family.

    Args:
        name: bundled name, local folder or Hub id.
        revision: commit, branch or tag on the Hub; for a bundled backbone its content hash.

    Raises:
        BackboneError: not found, not reachable, of another revision, or of a family this package does not
            tune.
    """
    if name in BUNDLED:
        if revision not in (None, bundled_revision(name)):
            raise BackboneError(
                f"the bundled backbone {name} is not the one this model was tuned from",
                expected=f"content hash {revision}",
                remedy=f"install the version of brain-tuning whose {name} has that hash",
            )
        revision = None
    try:
        config = AutoConfig.from_pretrained(backbone_location(name), revision=revision or "main")
    except (OSError, ValueError) as error:
        raise BackboneError(
            "the backbone cannot be loaded",
            where=name,
            expected=f"a folder, a Hub id that can be reached, or one of {', '.join(BUNDLED)}",
            remedy="check the name and the network, or name a bundled backbone",
        ) from error
    family_of(config)
    return config


def pinned_revision(name: str, revision: str | None) -> str | None:
    """The commit (or content hash) a backbone just loaded was read at; None for a local folder.

    Args:
        name: whose config is in the cache already.
        revision: commit, branch or tag it was asked for at.
    """
    if name in BUNDLED:
        return bundled_revision(name)
    if Path(name).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision or "main")
    # The cache keeps each commit's files in snapshots/<commit>/.
    return Path(cached).parent.name if isinstance(cached, str) else revision


def expects_normalised_input(name: str, revision: str | None = None) -> bool:
    """Whether a backbone was trained on input of zero mean and unit variance (WavLM large was, base+ was not).

    Args:
        name, revision: see :func:`load_backbone_config`.

    Returns:
        ``do_normalize`` of its preprocessor_config.json; False if it has none.
    """
    try:
        said, _ = Wav2Vec2FeatureExtractor.get_feature_extractor_dict(
            backbone_location(name), revision="main" if name in BUNDLED else revision or "main"
        )
    except OSError:
        return False
    return bool(said.get("do_normalize", False))


def load_backbone(name: str, revision: str | None = None, *, dropout: bool = False) -> PreTrainedModel:
    """A pretrained backbone in float32, with attention LoRA can reach.

    Args:
        name: bundled name, local folder or Hub id.
        revision: see :func:`load_backbone_config`.
        dropout: keep the dropout of its config.

    Raises:
        BackboneError: as :func:`load_backbone_config`; also if a weight is missing from the checkpoint.
    """
    config = load_backbone_config(name, revision)
    kept = config if dropout else quiet_config(config)
    try:
        backbone, report = AutoModel.from_pretrained(
            backbone_location(name),
            config=kept,
            revision="main" if name in BUNDLED else revision or "main",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, OS and hub errors share no base class
        raise BackboneError(
            f"the backbone's weights cannot be loaded ({type(error).__name__}: {error})",
            where=name,
            remedy="download it again",
        ) from error
    if report["missing_keys"]:
        raise BackboneError(
            f"{len(report['missing_keys'])} weights are missing from the backbone's checkpoint",
            where=f"{name}: {sorted(report['missing_keys'])[0]}",
            remedy="use a complete checkpoint of the encoder",
        )
    family_of(config).prepare(backbone)
    return backbone


def empty_backbone(config: PreTrainedConfig, *, dropout: bool = False) -> PreTrainedModel:
    """A backbone of the given shape whose weights are still to be loaded."""
    backbone = AutoModel.from_config(config if dropout else quiet_config(config))
    family_of(config).prepare(backbone)
    return backbone

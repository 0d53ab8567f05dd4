"""Finding and loading pretrained speech encoders: bundled ones, local folders, and the Hub."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, Wav2Vec2FeatureExtractor

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
    """Whether a backbone expects input of zero mean and unit variance (wav2vec 2.0 does, WavLM base+ does not).

    Args:
        name, revision: see :func:`load_backbone_config`.

    Returns:
        ``do_normalize`` of its preprocessor_config.json; if that says nothing, what its family is used to.
    """
    usual = family_of(load_backbone_config(name, revision)).normalise_input
    try:
        said, _ = Wav2Vec2FeatureExtractor.get_feature_extractor_dict(
            backbone_location(name), revision="main" if name in BUNDLED else revision or "main"
        )
    except OSError:
        return usual
    return bool(said.get("do_normalize", usual))


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
    kept, family = config if dropout else quiet_config(config), family_of(config)
    try:
        loaded: Any = family.encoder_class.from_pretrained(
            backbone_location(name),
            config=kept,
            revision="main" if name in BUNDLED else revision or "main",
            dtype=torch.float32,
            output_loading_info=True,
            key_mapping={f"^{re.escape(prefix)}": "" for prefix in family.prefixes} or None,
        )
    except Exception as error:  # safetensors, OS and hub errors share no base class
        raise BackboneError(
            f"the backbone's weights cannot be loaded ({type(error).__name__}: {error})",
            where=name,
            remedy="download it again",
        ) from error
    backbone, report = loaded
    if report["missing_keys"]:
        raise BackboneError(
            f"{len(report['missing_keys'])} weights are missing from the backbone's checkpoint",
            where=f"{name}: {sorted(report['missing_keys'])[0]}",
            remedy="use a complete checkpoint of the encoder",
        )
    family.prepare(backbone)
    return backbone


def empty_backbone(config: PreTrainedConfig, *, dropout: bool = False) -> PreTrainedModel:
    """A backbone of the given shape whose weights are still to be loaded."""
    family = family_of(config)
    backbone = family.encoder_class._from_config(config if dropout else quiet_config(config))
    family.prepare(backbone)
    return backbone


def load_whole_model(name: str, revision: str | None = None) -> PreTrainedModel:
    """The whole model that a backbone is the encoder of, e.g. Whisper with its decoder, in float32.

    Args:
        name, revision: see :func:`load_backbone_config`.

    Raises:
        BackboneError: the checkpoint holds no such model.
    """
    config = load_backbone_config(name, revision)
    loaded: Any = family_of(config).whole_class.from_pretrained(
        backbone_location(name),
        revision="main" if name in BUNDLED else revision or "main",
        dtype=torch.float32,
        output_loading_info=True,
    )
    whole, report = loaded
    if report["missing_keys"]:
        raise BackboneError(
            f"the checkpoint is no complete {type(whole).__name__}, which is what would be published",
            where=f"{name}: {min(report['missing_keys'])} is missing",
            remedy="start from a complete checkpoint, or publish the adapter alone (--adapters-only)",
        )
    return whole

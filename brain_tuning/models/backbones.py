"""Finding and loading pretrained speech encoders: bundled ones, local folders, and the Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, Wav2Vec2FeatureExtractor
from transformers.initialization import no_init_weights

from brain_tuning.errors import AdapterError, BackboneError

from .families import FAMILIES, family_of, quiet_config
from .published_json import check_config
from .published_private import without_tokens

_BUNDLED_FOLDER = Path(__file__).parent / "bundled"
_PREPROCESSOR = "preprocessor_config.json"

#: Hub-style id -> folder inside this package.
BUNDLED = {"brain-tuning/wavlm-tiny-espeak": _BUNDLED_FOLDER / "wavlm-tiny-espeak"}


def backbone_location(name: str) -> str:
    """Where transformers finds a backbone: the folder of a bundled one, else ``name`` itself."""
    return str(BUNDLED[name]) if name in BUNDLED else name


@cache
def bundled_revision(name: str) -> str:
    """Content hash of a bundled backbone's weights (40 hex digits, as a commit would have)."""
    return hashlib.sha256((BUNDLED[name] / "model.safetensors").read_bytes()).hexdigest()[:40]


def load_backbone_config(
    name: str, revision: str | None = None, hub: Mapping[str, Any] | None = None
) -> PreTrainedConfig:
    """The config of a backbone of a known family.

    Args:
        name: bundled name, local folder or Hub id.
        revision: commit, branch or tag on the Hub; for a bundled backbone its content hash.
        hub: further keywords for the download: token, cache_dir, local_files_only.

    Raises:
        BackboneError: not found, not reachable, of another revision, or of a family this package does not
            tune.
    """
    found = find_backbone_config(name, revision, hub)
    if found is None:
        raise _not_loaded(name)
    return found


def find_backbone_config(
    name: str, revision: str | None = None, hub: Mapping[str, Any] | None = None
) -> PreTrainedConfig | None:
    """As :func:`load_backbone_config`, but None where there is no such backbone or it is out of reach.

    Raises:
        BackboneError: it can be reached, but has no such revision, or is none that this package tunes.
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
        config = AutoConfig.from_pretrained(backbone_location(name), revision=revision or "main", **(hub or {}))
    except OSError as error:
        # What was raised may quote the Hub, and the Hub the token.
        if _is_unknown_revision(error):
            raise BackboneError(
                f"the backbone has no revision {revision}",
                where=name,
                expected="a branch, tag or commit of its repository",
                remedy="check the revision, or ask who published it",
            ) from None
        return None
    except ValueError as error:
        place = Path(backbone_location(name))
        if isinstance(error, HFValidationError) or (place.is_dir() and not (place / "config.json").is_file()):
            raise _not_loaded(name) from error
        raise BackboneError(
            "transformers does not know what kind of model this is",
            where=f"{name}: config.json",
            expected=f"a model_type that is one of {', '.join(FAMILIES)}",
            remedy="choose another --backbone, e.g. microsoft/wavlm-base-plus",
        ) from error
    except StrictDataclassError as error:
        raise BackboneError(
            f"config.json describes no model ({error})", where=name, remedy="download it again, or use another backbone"
        ) from error
    try:
        check_config(config.to_dict(), name, "config.json")
    except AdapterError as error:
        raise BackboneError(error.what, where=name, expected=error.expected, remedy="use another backbone") from None
    family_of(config)
    return config


def _not_loaded(name: str) -> BackboneError:
    if Path(name).is_dir():
        return BackboneError(
            "the folder holds no config.json that can be read",
            where=name,
            expected="a model as transformers saves it",
            remedy="check the path, or download the model again",
        )
    return BackboneError(
        "the backbone cannot be loaded",
        where=name,
        expected=f"a folder, a Hub id that can be reached, or one of {', '.join(BUNDLED)}",
        remedy="check the name and the network, or name a bundled backbone",
    )


def _is_unknown_revision(error: BaseException | None) -> bool:
    """Whether the Hub was reached, knew the repository, and not the revision; transformers wraps what it said."""
    from huggingface_hub.errors import RevisionNotFoundError

    while error is not None and not isinstance(error, RevisionNotFoundError):
        error = error.__cause__
    return error is not None


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

    Raises:
        BackboneError: as :func:`load_backbone_config`; also if the file is there, but does not say it legibly, or is
            of a backbone for another sampling rate.
    """
    from brain_tuning.corpus.schema import SAMPLING_RATE_HZ

    config = load_backbone_config(name, revision)
    usual = family_of(config).normalise_input(config)
    commit = "main" if name in BUNDLED else revision or "main"
    try:
        said, _ = Wav2Vec2FeatureExtractor.get_feature_extractor_dict(backbone_location(name), revision=commit)
    except OSError as error:
        if not _is_at_hand(backbone_location(name), _PREPROCESSOR, commit):
            return usual
        raise _unclear_preprocessor(name, "it is not JSON") from error
    rate = said.get("sampling_rate", SAMPLING_RATE_HZ)
    if rate != SAMPLING_RATE_HZ:
        raise BackboneError(
            f"the backbone was trained on audio of {rate} Hz",
            where=f"{name}: {_PREPROCESSOR}",
            expected=f"{SAMPLING_RATE_HZ} Hz, as corpora hold",
            remedy="choose another --backbone",
        )
    normalise = said.get("do_normalize", usual)
    if not isinstance(normalise, bool):
        raise _unclear_preprocessor(name, f"do_normalize is {normalise!r}")
    return normalise


def _is_at_hand(place: str, file: str, revision: str) -> bool:
    """Whether a folder, or the cache of a Hub repository, has a file."""
    if Path(place).is_dir():
        return (Path(place) / file).is_file()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(place, file, revision=revision), str)


def _unclear_preprocessor(name: str, why: str) -> BackboneError:
    return BackboneError(
        f"{_PREPROCESSOR} does not say whether the backbone's input is normalised ({why})",
        where=name,
        expected='a JSON object with "do_normalize": true or false',
        remedy="download or correct it",
    )


def load_backbone(
    name: str, revision: str | None = None, *, dropout: bool = False, hub: Mapping[str, Any] | None = None
) -> PreTrainedModel:
    """A pretrained backbone in float32, with attention LoRA can reach.

    Args:
        name: bundled name, local folder or Hub id.
        revision: see :func:`load_backbone_config`.
        dropout: keep the dropout of its config.
        hub: see :func:`load_backbone_config`.

    Raises:
        BackboneError: as :func:`load_backbone_config`; also if a weight is missing from the checkpoint.
    """
    config = load_backbone_config(name, revision, hub)
    kept, family = config if dropout else quiet_config(config), family_of(config)
    _check_checkpoint(config, name, revision, hub)
    try:
        loaded: Any = family.encoder_class.from_pretrained(
            backbone_location(name),
            config=kept,
            revision="main" if name in BUNDLED else revision or "main",
            dtype=torch.float32,
            output_loading_info=True,
            key_mapping={f"^{re.escape(prefix)}": "" for prefix in family.prefixes} or None,
            **(hub or {}),
        )
    except Exception as error:  # safetensors, OS and hub errors share no base class
        said = without_tokens(error, (hub or {}).get("token"))
        raise BackboneError(
            f"the backbone's weights cannot be loaded ({type(error).__name__}: {said})",
            where=name,
            remedy="download it again",
        ) from None
    backbone, report = loaded
    if getattr(backbone, "_hf_peft_config_loaded", False):
        raise BackboneError(
            "the backbone has an adapter on top of it, which transformers has loaded with it",
            where=f"{name}: adapter_config.json",
            expected="the plain weights of an encoder",
            remedy="merge the adapter into the weights, or remove adapter_config.json",
        )
    if report["missing_keys"]:
        raise BackboneError(
            f"{len(report['missing_keys'])} weights are missing from the backbone's checkpoint",
            where=f"{name}: {sorted(report['missing_keys'])[0]}",
            remedy="use a complete checkpoint of the encoder",
        )
    family.prepare(backbone)
    return backbone


def _check_checkpoint(config: PreTrainedConfig, name: str, revision: str | None, hub: Mapping[str, Any] | None) -> None:
    """Refuse weights of another size than the config describes, before they are fetched and memory is taken for them.

    Between two bytes for each value of the encoder and sixteen for each of the whole model, with 256 MiB for what else
    a checkpoint of its family may hold. Sharded ones are not looked at.
    """
    n_bytes = _checkpoint_bytes(backbone_location(name), "main" if name in BUNDLED else revision or "main", hub or {})
    if n_bytes is None:
        return
    family = family_of(config)
    with torch.device("meta"), no_init_weights():
        try:
            least = 2 * _n_values(family.encoder_class._from_config(config))
            most = 16 * _n_values(family.whole_class._from_config(config)) + 2**28
        except (RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
            raise BackboneError(f"config.json describes no {config.model_type} model ({error})", where=name) from error
    if not least <= n_bytes <= most:
        raise BackboneError(
            f"the backbone's weights cannot be loaded (they have {n_bytes} bytes)",
            where=name,
            expected=f"{least} to {most}, for the model that its config.json describes",
            remedy="download it again, or use another backbone",
        )


def _n_values(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _checkpoint_bytes(place: str, revision: str, hub: Mapping[str, Any]) -> int | None:
    """Size of a checkpoint of one file, which is not fetched; None if it cannot be told."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    for file in ("model.safetensors", "pytorch_model.bin"):
        if Path(place).is_dir():
            if (Path(place) / file).is_file():
                return (Path(place) / file).stat().st_size
            continue
        try:
            return hf_hub_download(place, file, revision=revision, dry_run=True, **hub).file_size
        except (HfHubHTTPError, HFValidationError, OSError):
            continue
    return None


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

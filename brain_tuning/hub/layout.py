"""The folder that is published, and the proof before any upload that it is whole, finite and private.

    config.json, model.safetensors    plain backbone, default adapter merged, float32; of adapters only
                                      a config.json whose model_type says so
    preprocessor_config.json          of the backbone
    encoding/config.json              backbone's id and revision, LoRA, adapters, default adapter
    adapters/<subject>-<roi>/         adapter_config.json, adapter_model.safetensors, head.safetensors
                                      (the head alone where the whole backbone was tuned, without LoRA)
    README.md  metrics.json  .eval_results/*.yaml  figures/*.png

There is never an ``adapter_config.json`` at the root: ``AutoModel`` would load the backbone's original
weights, or add the adapter to weights that already contain it, and say nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brain_tuning.errors import AdapterError, BackboneError, PublishError
from brain_tuning.hub.front_matter import check_eval_results, check_model_card
from brain_tuning.hub.private_text import check_private_text
from brain_tuning.hub.tensor_files import check_tensor_file
from brain_tuning.models.backbones import empty_backbone
from brain_tuning.models.configuration import BrainEncodingConfig, BrainWavLMConfig
from brain_tuning.models.families import encoder_state, family_named, family_of
from brain_tuning.models.modeling import BrainWavLMForFMRIEncoding
from brain_tuning.models.published import ADAPTERS_ONLY
from brain_tuning.models.published_checks import check_adapter_config, read_encoding
from brain_tuning.models.published_json import LONGEST_JSON_BYTES, check_config, remote_key, strict_json
from brain_tuning.models.published_shapes import published_shapes, unallocated
from brain_tuning.models.published_targets import same_targets, target_expression
from brain_tuning.models.source import Source, check_shapes

SUFFIXES = (".json", ".safetensors", ".yaml", ".md", ".png")
BACKBONE_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
ENCODING_CONFIG = "encoding/config.json"
HEAD_FILE = "head.safetensors"
LORA_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: what the Hub itself keeps in a repository: neither pushed nor pulled
HUB_FILES = (".gitattributes", ".gitignore")

_ADAPTER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_LAYOUT_NAME = re.compile(
    rf"config\.json|model\.safetensors|preprocessor_config\.json|encoding/config\.json|README\.md|metrics\.json"
    rf"|adapters/{_ADAPTER_NAME}/(?:adapter_config\.json|adapter_model\.safetensors|head\.safetensors)"
    r"|\.eval_results/[^/]+\.yaml|figures/[^/]+\.png"
)
#: devices of Windows
_RESERVED = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class LayoutReport:
    """What a published folder holds.

    Args:
        folder: the folder that was checked.
        files: paths of all files relative to the folder, sorted, with forward slashes.
        n_bytes: their size together.
        base_model: Hub id (or bundled name) of the backbone.
        base_revision: commit of the backbone.
        adapters: names of the adapters, sorted.
        default_adapter: the adapter that is merged into the root's weights.
        has_backbone: whether the root holds the merged backbone (False: adapters only).
    """

    folder: Path
    files: tuple[str, ...]
    n_bytes: int
    base_model: str
    base_revision: str
    adapters: tuple[str, ...]
    default_adapter: str
    has_backbone: bool


def is_layout_name(name: str) -> bool:
    """Whether a path is one that this layout writes, and so may delete when it is no longer written."""
    return _LAYOUT_NAME.fullmatch(name) is not None


def check_names(names: Iterable[str]) -> None:
    """Refuse file names that are hostile or whose content is not data.

    Args:
        names: paths in a repository or folder, with forward slashes.

    Raises:
        PublishError: a name leaves the folder, is hidden, is not shown as it is, is another's but for upper case, or
            does not end in one of the allowed suffixes.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise PublishError(f"two file names are one on some systems: {other} and {name}", where=repr(name))
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or re.search(r'[\\:*?"<>|\x00-\x1f\x7f]', name):
            raise PublishError(
                "a file name would leave its folder or be unsafe on some systems",
                where=repr(name),
                remedy="do not use this repository" if ".." in parts or parts[0] == "" else "rename the file",
            )
        if not name.isprintable() or _RESERVED.fullmatch(parts[-1].partition(".")[0]) or parts[-1][-1] in ". ":
            raise PublishError("a file name is not shown as it is, or none on some systems", where=repr(name))
        if any(part.startswith(".") for part in parts[:-1] if part != ".eval_results") or parts[-1][0] == ".":
            raise PublishError("a hidden file is not published", where=name, remedy="remove it")
        if name == "adapter_config.json":
            raise PublishError(
                "adapter_config.json lies at the root, where AutoModel would silently load other weights",
                where=name,
                expected="it in adapters/<subject>-<roi>/",
                remedy="move the adapter into its folder",
            )
        if not name.endswith(SUFFIXES) and name != "LICENSE":
            raise PublishError(
                "the file's suffix is not published",
                where=name,
                expected="one of " + " ".join(SUFFIXES),
                remedy="remove it: only data is published, never code or pickles",
            )
        if name.endswith(".safetensors") and not is_layout_name(name):
            raise PublishError("weights lie outside of the layout", where=name, remedy="remove or move the file")


def list_files(folder: Path) -> dict[str, Path]:
    """Map every file of a folder from its relative name to its path, sorted by name.

    Args:
        folder: a folder on disk; the Hub's own ``.gitattributes`` and ``.gitignore`` are passed over.

    Raises:
        PublishError: the folder does not exist, or holds a symbolic link (which would publish a file from
            somewhere else).
    """
    if not folder.is_dir():
        raise PublishError("there is no such folder", where=folder, expected="a folder in the published layout")
    files = {}
    for root, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise PublishError("a symbolic link is not published", where=relative, remedy="copy the file")
            if name in names and relative not in HUB_FILES:
                files[relative] = path
    return dict(sorted(files.items()))


def check_layout(folder: Path | str) -> LayoutReport:
    """Prove that a folder has the published layout and may be uploaded.

    Args:
        folder: the folder to publish.

    Returns:
        What the folder holds.

    Raises:
        PublishError: naming the first file that is missing, misplaced, damaged, inconsistent with another,
            not finite, or that names a path of this machine.
    """
    folder = Path(folder)
    files = list_files(folder)
    check_names(files)
    _require(files, ("README.md", ENCODING_CONFIG), "every published repository has it")
    documents = {name: _read_json(path, name) for name, path in files.items() if name.endswith(".json")}
    encoding = documents[ENCODING_CONFIG]
    adapters, default_adapter = _check_adapters(encoding, files)
    has_backbone = "model.safetensors" in files
    _require(files, ("config.json",), "AutoModel is told by it what to load, or that there is nothing to load")
    if has_backbone or not encoding.get("lora"):
        _require(files, BACKBONE_FILES, "the tuned backbone at the root is complete, or absent beside LoRA")
    base_model, base_revision = _check_base(encoding)
    if has_backbone:
        _check_backbone_config(documents["config.json"], encoding)
    elif documents["config.json"] != {"model_type": ADAPTERS_ONLY}:
        raise PublishError(
            "the root has a config and no model",
            where="config.json",
            expected=f"model.safetensors beside it, or nothing but model_type {ADAPTERS_ONLY!r}",
            remedy="export the run again",
        )
    config = read_config(folder)
    if config.lora:
        _check_adapter_configs(documents, config, adapters)
    for name, path in files.items():
        if not name.endswith((".safetensors", ".png")):
            check_private_text(_read_text(path, name), name)
        if name.startswith(".eval_results/"):
            with _nesting_refused(name):
                check_eval_results(_read_text(path, name), name)
    with _nesting_refused("README.md"):
        check_model_card(_read_text(files["README.md"], "README.md"), base_model=base_model, files=files)
    _check_tensors(files, config)
    n_bytes = sum(path.stat().st_size for path in files.values())
    return LayoutReport(
        folder, tuple(files), n_bytes, base_model, base_revision, adapters, default_adapter, has_backbone
    )


def _require(files: dict[str, Path], names: Iterable[str], why: str) -> None:
    for name in names:
        if name not in files:
            raise PublishError("a file is missing", where=name, expected=why, remedy="export the run again")


def _read_text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PublishError(f"the file is not UTF-8 text ({error})", where=name) from error


@contextmanager
def _nesting_refused(name: str) -> Iterator[None]:
    """PyYAML calls itself for each level of what it reads."""
    try:
        yield
    except RecursionError:
        raise PublishError("the YAML nests too deeply", where=name, remedy="do not use this repository") from None


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """What a model says of a file, as this check says it."""
    try:
        yield
    except (AdapterError, BackboneError) as error:
        raise PublishError(error.what, where=where, expected=error.expected, remedy=error.remedy) from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if path.stat().st_size > LONGEST_JSON_BYTES:
        raise PublishError(f"the file has {path.stat().st_size} bytes", where=name, expected=f"<= {LONGEST_JSON_BYTES}")
    try:
        document = strict_json(_read_text(path, name))
    except ValueError as error:
        raise PublishError(f"the file is not JSON ({error})", where=name) from error
    if not isinstance(document, dict):
        raise PublishError("the file is not a JSON object", where=name, expected="{...}")
    key = remote_key(document)
    if key is not None:
        raise PublishError(f"the file asks for remote code or kernels ({key!r})", where=name, remedy="remove the key")
    return document


def read_config(folder: Path) -> BrainEncodingConfig:
    """The encoding's config of a folder, checked by itself.

    Raises:
        PublishError: it describes another class, code of others, sizes that no model has, or adapters that cannot be.
    """
    with _refused(ENCODING_CONFIG):
        config = read_encoding(BrainWavLMConfig, BrainWavLMForFMRIEncoding.__name__, Source(str(folder)))
        BrainWavLMForFMRIEncoding._check(config)
    return config


def _check_adapters(encoding: dict[str, Any], files: dict[str, Path]) -> tuple[tuple[str, ...], str]:
    named = encoding.get("adapters")
    if not isinstance(named, dict) or not named:
        raise PublishError("no adapter is named", where=ENCODING_CONFIG, expected="adapters: {name: {...}}")
    for name, about in named.items():
        if re.fullmatch(_ADAPTER_NAME, name) is None or not isinstance(about, dict):
            raise PublishError(
                f"the adapter {name!r} is not described, or its name cannot be a folder",
                where=ENCODING_CONFIG,
                expected="<subject>-<roi> of letters, digits, dots, hyphens and underscores: {...}",
            )
        own_files = (HEAD_FILE, *LORA_FILES) if encoding.get("lora") else (HEAD_FILE,)
        _require(files, [f"adapters/{name}/{file}" for file in own_files], f"{ENCODING_CONFIG} names {name!r}")
    for name in files:
        if name.startswith("adapters/") and name.split("/")[1] not in named:
            raise PublishError(
                "the adapter is not named in the encoding's configuration",
                where=name,
                expected=f"one of {', '.join(sorted(named))} ({ENCODING_CONFIG})",
                remedy="name it there, or remove its folder",
            )
    default = str(encoding.get("default_adapter"))
    if default not in named:
        raise PublishError(
            f"default_adapter is {default!r}",
            where=ENCODING_CONFIG,
            expected=f"one of {', '.join(sorted(named))}",
        )
    return tuple(sorted(named)), default


def _check_base(encoding: dict[str, Any]) -> tuple[str, str]:
    base, revision = encoding.get("base_model_name_or_path"), encoding.get("base_model_revision")
    if not isinstance(base, str) or _REPO_ID.fullmatch(base) is None:
        raise PublishError(
            f"base_model_name_or_path is {base!r}",
            where=ENCODING_CONFIG,
            expected="a repository id of the Hub, or the name of a bundled backbone, not a path",
            remedy="tune from the Hub id, or set it to the id of the same weights",
        )
    if _COMMIT.fullmatch(str(revision)) is None:
        raise PublishError(
            f"base_model_revision is {revision!r}",
            where=ENCODING_CONFIG,
            expected="the 40 hexadecimal digits of a commit",
            remedy=f"pin the commit of {base} that was tuned: a branch may move",
        )
    return base, str(revision)


def _check_backbone_config(config: dict[str, Any], encoding: dict[str, Any]) -> None:
    with _refused("config.json"):
        check_config(config, "", "config.json")
    own, wrapped = config.get("model_type"), (encoding.get("speech_config") or {}).get("model_type")
    if not own or own == encoding.get("model_type") or (wrapped is not None and wrapped != own):
        raise PublishError(
            f"model_type is {own!r}",
            where="config.json",
            expected=f"that of the plain backbone ({wrapped or 'wavlm'!r}), which AutoModel knows",
            remedy="export the run again: the root holds the backbone, encoding/ the encoding model",
        )
    with _refused("config.json"):
        expected = family_named(str(own)).whole_class.__name__
    if config.get("architectures") != [expected]:
        raise PublishError(
            f"architectures is {config.get('architectures')!r}", where="config.json", expected=f"[{expected!r}]"
        )


def _check_adapter_configs(documents: dict[str, Any], config: BrainEncodingConfig, adapters: Iterable[str]) -> None:
    with _refused(ENCODING_CONFIG), unallocated():
        backbone = empty_backbone(config.speech_config)  # type: ignore[arg-type]
        roles = list((config.lora or {}).get("target_modules") or ())
        targets = family_of(backbone.config).target_names(roles)
        expected = target_expression(backbone, targets, config.adapted_layers)
    for adapter in adapters:
        name = f"adapters/{adapter}/adapter_config.json"
        said = documents[name]
        if said.get("peft_type") != "LORA":
            raise PublishError(f"peft_type is {said.get('peft_type')!r}", where=name, expected="'LORA'")
        with _refused(name):
            check_adapter_config(said, adapter, config, Source(name))
        if not same_targets(said.get("target_modules"), expected) or said.get("layers_to_transform") is not None:
            raise PublishError(
                "target_modules do not say where peft may put this adapter, and where it would stay without effect",
                where=name,
                expected=expected,
                remedy="export the run again",
            )


def _check_tensors(files: dict[str, Path], config: BrainEncodingConfig) -> None:
    """Every tensor file is finite, and holds exactly the tensors that the encoding's config describes."""
    with _refused(ENCODING_CONFIG):
        expected = published_shapes(config, adapters_only="model.safetensors" not in files)
    backbone_config: Any = config.speech_config
    for name, path in files.items():
        if not name.endswith(".safetensors"):
            continue
        is_root = name == "model.safetensors"
        found: Any = check_tensor_file(path, name, float_dtype="F32" if is_root else None)
        if is_root:
            found = encoder_state(family_of(backbone_config), found)
        with _refused(name):
            check_shapes(found, expected[name], name, Source(name))

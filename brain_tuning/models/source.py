"""Where a tuned model is read from: a folder or a Hub repository, and the refusal of what is damaged there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from brain_tuning.errors import AdapterError

#: keywords of from_pretrained that say where files come from
_HUB_KEYS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


@dataclass(frozen=True)
class Source:
    """A folder or a Hub repository that files are read from.

    Args:
        name: folder path or Hub id.
        hub: keywords for the download.
    """

    name: str
    hub: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, name: object, keywords: dict[str, Any]) -> Source:
        """The source called ``name``, with what ``keywords`` of from_pretrained say of the download."""
        return cls(str(name), {key: keywords[key] for key in _HUB_KEYS if keywords.get(key) is not None})

    def file(self, path: str) -> Path | None:
        """Local path of one file, downloaded if need be; None if the repository has no such file.

        Raises:
            AdapterError: the repository cannot be reached or does not exist.
        """
        folder = Path(self.name)
        if folder.is_dir():
            return folder / path if (folder / path).is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        try:
            return Path(hf_hub_download(self.name, path, **self.hub))
        except LocalEntryNotFoundError as error:
            if self._known_to_be_missing(path):
                return None
            raise AdapterError(
                f"{path} is not in the local cache and the Hub cannot be reached",
                where=self.name,
                expected="a folder that exists, or a Hub id that can be reached",
            ) from error
        except EntryNotFoundError:
            return None
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise AdapterError(
                "there is no such model",
                where=self.name,
                expected="a folder that exists, or the id of a Hub repository you may read",
                remedy="check the name; for a private repository log in with `hf auth login`",
            ) from error

    def _known_to_be_missing(self, path: str) -> bool:
        """Whether the cache remembers that the repository has no such file."""
        from huggingface_hub import try_to_load_from_cache

        known = try_to_load_from_cache(
            self.name, path, cache_dir=self.hub.get("cache_dir"), revision=self.hub.get("revision")
        )
        return known is not None and not isinstance(known, str)

    def require(self, path: str) -> Path:
        """As :meth:`file`, but a missing file is an error."""
        found = self.file(path)
        if found is None:
            raise AdapterError(
                f"{path} is missing",
                where=self.name,
                expected="a complete published repository",
                remedy="publish or download it again",
            )
        return found

    def json(self, path: str) -> dict:
        """The object in a JSON file of the repository."""
        try:
            document = json.loads(self.require(path).read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise AdapterError(f"{path} is not JSON ({error})", where=self.name, remedy="download it again") from error
        if not isinstance(document, dict):
            raise AdapterError(f"{path} holds no JSON object", where=self.name, remedy="download it again")
        return document

    def tensors(self, path: str) -> dict[str, torch.Tensor]:
        """A safetensors file of the repository; every tensor must be finite."""
        with self.damage_is_an_error(path):
            loaded = load_file(self.require(path))
        self.refuse_not_finite(loaded, path)
        return loaded

    def refuse_not_finite(self, tensors: dict[str, torch.Tensor], path: str = "model.safetensors") -> None:
        """Raise AdapterError if a tensor holds NaN or infinity."""
        for key, value in tensors.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise AdapterError(
                    f"tensor {key} of {path} holds NaN or infinity",
                    where=self.name,
                    remedy="download it again, or tune again with lower learning rates",
                )

    @contextmanager
    def damage_is_an_error(self, path: str = "model.safetensors") -> Iterator[None]:
        """Turn complaints about a damaged or missing file into an AdapterError that names it."""
        try:
            yield
        except (SafetensorError, OSError) as error:
            raise AdapterError(
                f"{path} is missing or damaged ({error})",
                where=self.name,
                expected="an intact safetensors file",
                remedy="download or save it again",
            ) from error

    @property
    def is_published(self) -> bool:
        """Whether the repository has the published layout."""
        return self.file("encoding/config.json") is not None

    def root_model_type(self) -> str:
        """``model_type`` of the root's config.json."""
        return str(self.json("config.json").get("model_type"))


def as_dtype(asked: torch.dtype | str | None) -> torch.dtype:
    """The type that from_pretrained's ``dtype`` asks for; float32, in which everything is stored, for "auto"."""
    if asked is None or asked == "auto":
        return torch.float32
    return getattr(torch, asked) if isinstance(asked, str) else asked


def check_complete(model: PreTrainedModel, report: dict[str, Any], source: Source) -> None:
    """Refuse a self-contained checkpoint that lacks a tensor, or has one that does not fit or holds NaN.

    Args:
        model: as loaded.
        report: transformers' loading info.
        source: it was loaded from, for the error.
    """
    for state, keys in (
        ("missing from", report["missing_keys"]),
        ("unknown in", report["unexpected_keys"]),
        ("of another shape in", [key for key, *_ in report["mismatched_keys"]]),
    ):
        if keys:
            raise AdapterError(
                f"tensor {min(keys)} is {state} the checkpoint",
                where=source.name,
                expected="exactly the tensors that config.json describes",
                remedy="save or download the model again",
            )
    source.refuse_not_finite(model.state_dict())

"""A tuning recipe: every number of a training run, as data.

Recipes are YAML files under ``training/recipes``. Unknown keys are errors; keys under ``ours`` name the
values that are not a paper's, each with its reason, and are printed on the model card.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from brain_tuning.errors import RecipeError
from brain_tuning.models.adapters import LORA_KEYS
from brain_tuning.models.losses import LOSSES
from brain_tuning.timing import WindowPlan
from brain_tuning.timing.delays import check_delays

SELECTIONS = ("last", "head", "ridge")
CONTROLS = ("none", "shuffled_stories")
SCHEDULES = ("constant", "linear")
PRECISIONS = ("no", "bf16")

#: key -> smallest value
_WHOLE_NUMBERS = {"lanczos_lobes": 1, "bottleneck": 0, "block_trs": 2, "blocks_per_step": 1, "epochs": 1, "seed": 0}
#: key -> smallest and largest value
_NUMBERS = {
    "layer_depth": (1e-9, 1.0),
    "context_s": (0.0, math.inf),
    "stride_s": (1e-3, math.inf),
    "learning_rate_adapter": (0.0, math.inf),
    "learning_rate_head": (0.0, math.inf),
    "max_grad_norm": (0.0, math.inf),
    "warmup_share": (0.0, 1.0),
}
_TEXTS = ("name", "backbone", "source")


@dataclass(frozen=True)
class Recipe:
    """How to tune.

    Args:
        name: of the recipe.
        backbone: Hub id, folder or bundled name.
        layer_depth: depth that is read as a share of the backbone's layers; 0.75 is hidden_states[9] of 12.
        context_s, stride_s, read: the window plan, seconds.
        lanczos_lobes: half width of the frame-to-TR filter, in TRs.
        delays_trs: FIR delays.
        bottleneck: rank of the readout, 0 for a direct one.
        lora: r, lora_alpha, lora_dropout, target_modules; null tunes the transformer layers in full.
        loss: a name in :data:`brain_tuning.models.losses.LOSSES`.
        learning_rate_adapter, learning_rate_head: of Adam.
        schedule: ``constant``, or ``linear``: warm-up over ``warmup_share`` of the steps, then down to 0.
        block_trs: consecutive TRs of one story in a block.
        blocks_per_step: blocks whose gradients are averaged into one step (on each process).
        epochs: passes over the training stories.
        max_grad_norm: clip gradients at this norm; 0 does not clip.
        backbone_dropout: keep the backbone's own dropout (LayerDrop and SpecAugment are never applied).
        mixed_precision: ``no`` or ``bf16``.
        select: which epoch is kept: the ``last``, the best on validation stories by the tuned ``head``, or by a
            ``ridge`` fitted anew on each epoch's features.
        control: ``none``, or ``shuffled_stories``: responses of another training story, which must undo any gain.
        seed: of initialisation, order and dropout.
        source: the publication.
        ours: key -> why this value is not the publication's.
    """

    name: str
    backbone: str = "microsoft/wavlm-base-plus"
    layer_depth: float = 0.75
    context_s: float = 3.75
    stride_s: float = 0.25
    read: str = "last"
    lanczos_lobes: int = 3
    delays_trs: tuple[int, ...] = (1, 2, 3, 4)
    bottleneck: int = 100
    lora: dict[str, Any] | None = field(
        default_factory=lambda: {
            "r": 4,
            "lora_alpha": 4,
            "lora_dropout": 0.1,
            "target_modules": ["q_proj", "k_proj", "v_proj"],
        }
    )
    loss: str = "spatial_correlation"
    learning_rate_adapter: float = 1e-4
    learning_rate_head: float = 1e-4
    schedule: str = "constant"
    warmup_share: float = 0.0
    block_trs: int = 10
    blocks_per_step: int = 1
    epochs: int = 20
    max_grad_norm: float = 0.0
    backbone_dropout: bool = False
    mixed_precision: str = "no"
    select: str = "ridge"
    control: str = "none"
    seed: int = 42
    source: str = ""
    ours: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "delays_trs", check_delays(self.delays_trs))
        if min(self.delays_trs) < 0:
            # The end of a block would be cut off from the TRs such a delay looks ahead to.
            raise self._refused("delays_trs", "looks into the future", "delays of 0 or more")
        choices = {"select": SELECTIONS, "control": CONTROLS, "schedule": SCHEDULES, "loss": tuple(LOSSES)}
        for key, known in {**choices, "mixed_precision": PRECISIONS}.items():
            if getattr(self, key) not in known:
                raise self._refused(key, "is not known", f"one of {', '.join(known)}")
        for key, low in _WHOLE_NUMBERS.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise self._refused(key, "is out of range", f"a whole number of at least {low}")
        for key, (least, most) in _NUMBERS.items():
            value = getattr(self, key)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not least <= value <= most:
                raise self._refused(key, "is out of range", f"a number from {least:g} to {most:g}")
        WindowPlan(self.context_s, self.stride_s, self.read)
        if not isinstance(self.backbone_dropout, bool):
            raise self._refused("backbone_dropout", "is neither true nor false", "true or false")
        for key in _TEXTS:
            if not isinstance(getattr(self, key), str):
                raise self._refused(key, "is not text", "text, in quotes if need be")
        for key in ("lora", "ours"):
            if not isinstance(getattr(self, key), dict) and not (key == "lora" and self.lora is None):
                raise self._refused(key, "is not a mapping", "keys with values")
        if self.lora is not None:
            self._check_lora(self.lora)
        strangers = sorted(set(self.ours) - {f.name for f in fields(self)})
        if strangers:
            raise RecipeError(f"ours: {strangers[0]!r} is not a key of the recipe", where=self.name)

    def _check_lora(self, lora: dict[str, Any]) -> None:
        rank, alpha, dropout = (lora.get(key, 0) for key in ("r", "lora_alpha", "lora_dropout"))
        fits = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (rank, alpha, dropout))
        if not (fits and isinstance(rank, int) and rank >= 1 and alpha > 0 and 0 <= dropout < 1):
            raise self._refused(
                "lora", "is out of range", "r of at least 1, lora_alpha above 0, lora_dropout in [0, 1)"
            )

    def _refused(self, key: str, why: str, expected: str) -> RecipeError:
        return RecipeError(f"{key}: {getattr(self, key)!r} {why}", where=self.name, expected=expected)

    def layer(self, n_layers: int) -> int:
        """Index into ``hidden_states`` that is read of a backbone with ``n_layers`` layers."""
        return max(1, int(self.layer_depth * n_layers + 0.5))

    def learning_rate_factor(self, step: int, n_steps: int) -> float:
        """Multiplier of both learning rates at a step (0-based) of ``n_steps``."""
        if self.schedule == "constant":
            return 1.0
        warmup = self.warmup_share * n_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return (n_steps - step) / max(1.0, n_steps - warmup)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the YAML file."""
        return {**asdict(self), "delays_trs": list(self.delays_trs)}

    def changed(self, **values: Any) -> Recipe:
        """A copy with other values, checked again; None leaves a value as it is."""
        return replace(self, **{key: value for key, value in values.items() if value is not None})


def parse_recipe(values: object, where: str) -> Recipe:
    """A recipe from plain values; unknown keys are errors that name the nearest known one."""
    if not isinstance(values, dict) or "name" not in values:
        raise RecipeError(
            "a recipe is a mapping with a name", where=where, expected="keys such as name, backbone, lora"
        )
    known = [f.name for f in fields(Recipe)]
    _refuse_unknown(values, known, where)
    if isinstance(values.get("lora"), dict):
        _refuse_unknown(values["lora"], LORA_KEYS, f"{where}, lora")
    try:
        return Recipe(**values)
    except TypeError as error:
        raise RecipeError(f"a value has the wrong type ({error})", where=where) from error


def _refuse_unknown(values: dict[Any, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            raise RecipeError(
                f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""),
                where=where,
                expected=f"some of {', '.join(known)}",
            )


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Args:
        path: of a YAML file, or the bare name of a recipe that comes with the package (``brainwavlm``).

    Raises:
        RecipeError: no such file, not YAML, an unknown key, or a value out of range.
    """
    from brain_tuning.shared_files import shared_file

    path, shipped = Path(path), shared_file("training/recipes")
    if not path.is_file() and path.suffix == "" and path.parent == Path("."):
        path = shipped / f"{path.name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = sorted(file.stem for file in shipped.glob("*.yaml"))
        raise RecipeError(
            f"the recipe cannot be read ({error.strerror})",
            where=path,
            expected=f"a YAML file, or one of {', '.join(names)}",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe is not YAML ({error})", where=path) from error
    return parse_recipe(values, str(path))

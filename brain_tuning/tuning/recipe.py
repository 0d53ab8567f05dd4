"""A tuning recipe: every number of a training run, as data.

Recipes are YAML files under ``training/recipes``. Unknown keys are errors; keys under ``ours`` name the
values that are not a paper's, each with its reason, and are printed on the model card. A file may begin from
another by ``extends: NAME``, and then states what differs.
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
from brain_tuning.models.group_head import READOUTS
from brain_tuning.models.losses import LOSSES
from brain_tuning.strict_yaml import parse_yaml
from brain_tuning.timing import WindowPlan
from brain_tuning.timing.delays import check_delays

SELECTIONS = ("last", "head", "ridge")
CONTROLS = ("none", "shuffled_stories")
SCHEDULES = ("constant", "linear", "decay")
ORDERS = ("random", "stories")
PRECISIONS = ("no", "bf16")

#: key -> smallest value
_WHOLE_NUMBERS = {
    "lanczos_lobes": 1, "bottleneck": 0, "block_trs": 2, "blocks_per_step": 1, "epochs": 1, "seed": 0,
    "head_only_epochs": 0,
}  # fmt: skip
#: key -> smallest and largest value
_NUMBERS = {
    "layer_depth": (1e-9, 1.0),
    "adapt_from_depth": (0.0, 1.0),
    "context_s": (0.0, math.inf),
    "stride_s": (1e-3, math.inf),
    "learning_rate_adapter": (0.0, math.inf),
    "learning_rate_head": (0.0, math.inf),
    "decay_per_epoch": (1e-9, 1.0),
    "decay_floor": (0.0, 1.0),
    "l2_penalty": (0.0, math.inf),
    "max_grad_norm": (0.0, math.inf),
    "warmup_share": (0.0, 1.0),
}
#: key -> values it may have
_CHOICES: dict[str, tuple[str, ...]] = {
    "select": SELECTIONS,
    "control": CONTROLS,
    "schedule": SCHEDULES,
    "schedule_head": SCHEDULES,
    "order": ORDERS,
    "readout": READOUTS,
    "loss": tuple(LOSSES),
    "mixed_precision": PRECISIONS,
}
CONVOLUTION_KEYS = ("channels", "kernel_frames", "stride_frames")
_TEXTS = ("name", "backbone", "source")


@dataclass(frozen=True)
class Recipe:
    """How to tune.

    Args:
        name: of the recipe.
        backbone: Hub id, folder or bundled name.
        layer_depth: depth that is read as a share of the backbone's layers; 0.75 is hidden_states[9] of 12.
        adapt_from_depth: layers below this share of the backbone's are neither tuned nor given adapters.
        context_s, stride_s, read: the window plan, seconds.
        history_trs: one window a TR instead, of its own audio and that of so many TRs before it; context_s, stride_s
            and lanczos_lobes then play no part in tuning. ``read`` may then be ``convolution``, too.
        convolution: channels, kernel_frames and stride_frames of the head's convolution, for that read.
        lanczos_lobes: half width of the frame-to-TR filter, in TRs.
        delays_trs: FIR delays.
        normalise_features: z-score features over time before the delays.
        bottleneck: rank of the readout, 0 for a direct one.
        readout: of several subjects tuned together: ``own`` heads, a ``shared_basis`` (one bottleneck, a readout for
            each), or one ``shared`` head on a common surface.
        min_noise_ceiling: tune on voxels of the region whose noise ceiling is above this; null for all.
        lora: r, lora_alpha, lora_dropout, target_modules; null tunes the transformer layers in full.
        loss: a name in :data:`brain_tuning.models.losses.LOSSES`.
        learning_rate_adapter, learning_rate_head: of Adam.
        l2_penalty: of all tuned weights, added to the gradient as Adam's weight decay.
        schedule: of the backbone's learning rate: ``constant``; ``linear``, warm-up over ``warmup_share`` of the steps,
            then down to 0; or ``decay``, times max(decay_per_epoch ** epoch, decay_floor).
        schedule_head: of the head's; null for the same.
        head_only_epochs: first epochs, in which the backbone stays as it is and the head alone is tuned.
        order: ``random`` blocks, or ``stories``: block after block of one story after the other, round and round.
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
    adapt_from_depth: float = 0.0
    context_s: float = 3.75
    stride_s: float = 0.25
    read: str = "last"
    history_trs: int | None = None
    convolution: dict[str, int] | None = None
    lanczos_lobes: int = 3
    delays_trs: tuple[int, ...] = (1, 2, 3, 4)
    normalise_features: bool = True
    bottleneck: int = 100
    readout: str = "own"
    min_noise_ceiling: float | None = None
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
    l2_penalty: float = 0.0
    schedule: str = "constant"
    schedule_head: str | None = None
    warmup_share: float = 0.0
    decay_per_epoch: float = 1.0
    decay_floor: float = 0.0
    head_only_epochs: int = 0
    order: str = "random"
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
        if not isinstance(self.delays_trs, list | tuple):
            raise self._refused("delays_trs", "is not a list", "delays in TRs, such as [1, 2, 3, 4]")
        object.__setattr__(self, "delays_trs", check_delays(self.delays_trs))
        if min(self.delays_trs) < 0:
            # The end of a block would be cut off from the TRs such a delay looks ahead to.
            raise self._refused("delays_trs", "looks into the future", "delays of 0 or more")
        for key, known in _CHOICES.items():
            if getattr(self, key) not in known and not (key == "schedule_head" and self.schedule_head is None):
                raise self._refused(key, "is not known", f"one of {', '.join(known)}")
        for key, low in _WHOLE_NUMBERS.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise self._refused(key, "is out of range", f"a whole number of at least {low}")
        for key, (least, most) in _NUMBERS.items():
            if not _is_number(getattr(self, key), least, most):
                raise self._refused(key, "is out of range", f"a number from {least:g} to {most:g}")
        self._check_windows()
        for key in ("backbone_dropout", "normalise_features"):
            if not isinstance(getattr(self, key), bool):
                raise self._refused(key, "is neither true nor false", "true or false")
        if self.min_noise_ceiling is not None and not _is_number(self.min_noise_ceiling, -1.0, 1.0):
            raise self._refused("min_noise_ceiling", "is out of range", "a number from -1 to 1, or null")
        if self.head_only_epochs >= self.epochs:
            raise self._refused(
                "head_only_epochs", "leaves no epoch for the backbone", f"less than {self.epochs} epochs"
            )
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

    def _check_windows(self) -> None:
        if self.history_trs is None:
            WindowPlan(self.context_s, self.stride_s, self.read)
        elif isinstance(self.history_trs, bool) or not isinstance(self.history_trs, int) or self.history_trs < 0:
            raise self._refused("history_trs", "is out of range", "a whole number of TRs, or null")
        elif self.read not in (reads := ("mean", "first", "last", "convolution")):
            raise self._refused("read", "gives more than one feature a TR", f"one of {', '.join(reads)}")
        if (self.read == "convolution") != (self.convolution is not None):
            raise self._refused(
                "convolution", "does not go with read", "read: convolution and its settings, or neither"
            )
        if self.convolution is not None:
            right = isinstance(self.convolution, dict) and set(self.convolution) == set(CONVOLUTION_KEYS)
            if not right or not all(isinstance(v, int) and v >= 1 for v in self.convolution.values()):
                raise self._refused("convolution", "is out of range", f"whole numbers {', '.join(CONVOLUTION_KEYS)}")

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

    def first_adapted_layer(self, n_layers: int) -> int:
        """The lowest layer that is tuned or given adapters, of a backbone with ``n_layers``."""
        return min(int(self.adapt_from_depth * n_layers + 0.5), self.layer(n_layers) - 1)

    def learning_rate_factors(self, step: int, n_steps: int) -> tuple[float, float]:
        """Multipliers of the backbone's and the head's learning rate at a step (0-based) of ``n_steps``."""
        backbone = self._factor(self.schedule, step, n_steps)
        return backbone, self._factor(self.schedule_head or self.schedule, step, n_steps)

    def _factor(self, schedule: str, step: int, n_steps: int) -> float:
        if schedule == "constant":
            return 1.0
        if schedule == "decay":
            epoch = step * self.epochs // n_steps
            return max(self.decay_per_epoch**epoch, self.decay_floor)
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


def _is_number(value: object, least: float, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and least <= value <= most  # type: ignore[operator]


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
        RecipeError: no such file, not YAML, an unknown key, a value out of range, or a file that begins from itself.
    """
    return _load(Path(path), ())


def _load(path: Path, above: tuple[Path, ...]) -> Recipe:
    """See :func:`load_recipe`; ``above`` are the files that begin from this one."""
    from brain_tuning.shared_files import shared_file

    shipped = shared_file("training/recipes")
    if not path.is_file() and path.suffix == "" and path.parent == Path("."):
        path = shipped / f"{path.name}.yaml"
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = sorted(file.stem for file in shipped.glob("*.yaml"))
        raise RecipeError(
            f"the recipe cannot be read ({error.strerror})",
            where=path,
            expected=f"a YAML file, or one of {', '.join(names)}",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe is not YAML ({error})", where=path) from error
    if isinstance(values, dict) and "name" in values and "extends" in values:
        values = _extended(values, path, above)
    return parse_recipe(values, str(path))


def _extended(values: dict[Any, Any], path: Path, above: tuple[Path, ...]) -> dict[Any, Any]:
    """What a file states, and all else from the recipe it begins from: a shipped one, or a file beside it."""
    name = values.pop("extends")
    if not isinstance(name, str):
        raise RecipeError(f"extends: {name!r} is not text", where=path, expected="one recipe's name or file")
    beside = path.parent / name
    base_path = beside if beside.is_file() else Path(name)
    if path.resolve() in above:
        raise RecipeError("the recipe extends itself", where=" -> ".join(str(file) for file in (*above, path)))
    base = _load(base_path, (*above, path.resolve())).to_dict()
    ours = values.get("ours", {})
    if isinstance(ours, dict):
        # A reason goes with the value that it was given for.
        ours = {key: why for key, why in base["ours"].items() if key not in values} | ours
    return {**base, **values, "ours": ours}

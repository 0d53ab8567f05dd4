"""A tuning recipe: every number of a training run, as data.

Recipes are YAML files under ``training/recipes``. Unknown keys are errors; keys under ``ours`` name the
values that are not a paper's, each with its reason, and are printed on the model card.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from brain_tuning.errors import RecipeError
from brain_tuning.timing import WindowPlan
from brain_tuning.timing.delays import check_delays

SELECTIONS = ("last", "head", "ridge")
CONTROLS = ("none", "shuffled_stories")
SCHEDULES = ("constant", "linear")


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
        backbone_dropout: keep the backbone's own dropout, LayerDrop and SpecAugment.
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
        object.__setattr__(self, "delays_trs", tuple(self.delays_trs))
        check_delays(self.delays_trs)
        WindowPlan(self.context_s, self.stride_s, self.read)
        from brain_tuning.models.losses import LOSSES

        for key, known in (
            ("select", SELECTIONS),
            ("control", CONTROLS),
            ("schedule", SCHEDULES),
            ("mixed_precision", ("no", "bf16")),
            ("loss", tuple(LOSSES)),
        ):
            if getattr(self, key) not in known:
                raise RecipeError(
                    f"{key}: {getattr(self, key)!r} is not known", where=self.name, expected=f"one of {', '.join(known)}"
                )
        for key, low in (
            ("layer_depth", 1e-9),
            ("learning_rate_adapter", 0.0),
            ("learning_rate_head", 0.0),
            ("block_trs", 2),
            ("blocks_per_step", 1),
            ("epochs", 1),
            ("bottleneck", 0),
            ("lanczos_lobes", 1),
            ("max_grad_norm", 0.0),
            ("warmup_share", 0.0),
        ):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < low:
                raise RecipeError(
                    f"{key}: {value!r} is out of range", where=self.name, expected=f"a number of at least {low:g}"
                )
        if self.layer_depth > 1:
            raise RecipeError(f"layer_depth: {self.layer_depth} is out of range", where=self.name, expected="at most 1")
        strangers = sorted(set(self.ours) - {f.name for f in fields(self)})
        if strangers:
            raise RecipeError(f"ours: {strangers[0]!r} is not a key of the recipe", where=self.name)

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
        raise RecipeError("a recipe is a mapping with a name", where=where, expected="keys such as name, backbone, lora")
    known = [f.name for f in fields(Recipe)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            raise RecipeError(
                f"unknown key {key!r}",
                where=where,
                expected=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}",
            )
    try:
        return Recipe(**values)
    except TypeError as error:
        raise RecipeError(f"a value has the wrong type ({error})", where=where) from error


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Args:
        path: of a YAML file, or the bare name of a recipe that comes with the package (``brainwavlm``).

    Raises:
        RecipeError: no such file, not YAML, an unknown key, or a value out of range.
    """
    from brain_tuning.shared_files import shared_file

    path = Path(path)
    if not path.is_file() and path.suffix == "" and path.parent == Path("."):
        path = shared_file(f"training/recipes/{path.name}.yaml")
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError("there is no such recipe", where=path, remedy="see training/recipes/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe is not YAML ({error})", where=path) from error
    return parse_recipe(values, str(path))

"""Recipes: numbers as data, mistakes named, the shipped ones true to their papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from brain_tuning.errors import BrainTuningError, RecipeError
from brain_tuning.shared_files import shared_file
from brain_tuning.timing import WindowPlan
from brain_tuning.tuning.recipe import Recipe, load_recipe, parse_recipe

CONVOLUTION = {"channels": 8, "kernel_frames": 5, "stride_frames": 2}
SHIPPED = sorted(path.stem for path in shared_file("training/recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load_and_survive_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.source
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(recipe.to_dict()))
    assert load_recipe(copy) == recipe
    assert load_recipe(str(copy)) == recipe


def test_brainwavlm_is_the_paper() -> None:
    """Vattikonda et al. 2025: what follows from its values, which ``test_paper_values.py`` compares one by one."""
    recipe = load_recipe("brainwavlm")
    assert recipe.control == "none"
    assert recipe.layer(12) == 9
    assert {"backbone_dropout", "mixed_precision", "max_grad_norm"} <= set(recipe.ours)
    assert "2502.08866" in recipe.source
    assert WindowPlan(recipe.context_s, recipe.stride_s, recipe.read).redundancy == 16


def test_what_is_not_said_is_the_papers() -> None:
    """Defaults are the paper's, and what is live of the backbone's own dropout is visible (user-pains 6)."""
    default, paper = Recipe(name="x").to_dict(), load_recipe("brainwavlm").to_dict()
    ours = {"name", "source", "ours", *load_recipe("brainwavlm").ours}
    assert {key: value for key, value in default.items() if key not in ours} == {
        key: value for key, value in paper.items() if key not in ours
    }
    assert default["backbone_dropout"] is False


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nbotleneck: 50\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(
        f"unknown key 'botleneck', did you mean 'bottleneck'? [{path}]; expected some of name,"
    )
    with pytest.raises(RecipeError, match=r"unknown key 'rank' \[f, lora\]; expected some of r, lora_alpha"):
        parse_recipe({"name": "x", "lora": {"rank": 4}}, "f")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"epochs": 0}, "epochs: 0 is out of range [x]; expected a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs: 2.5 is out of range [x]; expected a whole number of at least 1"),
        ({"epochs": True}, "epochs: True is out of range"),
        ({"block_trs": 1}, "block_trs: 1 is out of range [x]; expected a whole number of at least 2"),
        ({"seed": -1}, "seed: -1 is out of range [x]; expected a whole number of at least 0"),
        (
            {"learning_rate_head": -1e-4},
            "learning_rate_head: -0.0001 is out of range [x]; expected a number from 0 to inf",
        ),
        ({"learning_rate_head": float("nan")}, "learning_rate_head: nan is out of range"),
        ({"layer_depth": 1.5}, "layer_depth: 1.5 is out of range [x]; expected a number from 1e-09 to 1"),
        ({"warmup_share": 1.1}, "warmup_share: 1.1 is out of range [x]; expected a number from 0 to 1"),
        ({"context_s": "4"}, "context_s: '4' is out of range [x]"),
        ({"stride_s": 0}, "stride_s: 0 is out of range [x]"),
        ({"read": "middle"}, "unknown read 'middle'"),
        ({"select": "best"}, "select: 'best' is not known [x]; expected one of last, head, ridge"),
        ({"loss": "cosine"}, "loss: 'cosine' is not known [x]; expected one of spatial_correlation, mse"),
        ({"mixed_precision": "fp16"}, "mixed_precision: 'fp16' is not known [x]; expected one of no, bf16"),
        ({"control": "placebo"}, "control: 'placebo' is not known"),
        ({"schedule": "cosine"}, "schedule: 'cosine' is not known"),
        ({"delays_trs": [1, 1]}, "a delay occurs twice: [1, 1]"),
        ({"delays_trs": 4}, "delays_trs: 4 is not a list [x]; expected delays in TRs, such as [1, 2, 3, 4]"),
        ({"delays_trs": [-1, 1]}, "delays_trs: (-1, 1) looks into the future [x]; expected delays of 0 or more"),
        ({"backbone_dropout": "no"}, "backbone_dropout: 'no' is neither true nor false"),
        ({"backbone": 3}, "backbone: 3 is not text"),
        ({"lora": [4]}, "lora: [4] is not a mapping"),
        ({"lora": {"r": 0, "lora_alpha": 4}}, "is out of range [x]; expected r of at least 1, lora_alpha above 0"),
        ({"lora": {"r": 4, "lora_alpha": 4, "lora_dropout": 1.0}}, "lora_dropout in [0, 1)"),
        ({"ours": {"sead": "why"}}, "ours: 'sead' is not a key of the recipe [x]"),
        ({"ours": ["seed"]}, "ours: ['seed'] is not a mapping [x]; expected keys with values"),
        ({"adapt_from_depth": 1.5}, "adapt_from_depth: 1.5 is out of range [x]; expected a number from 0 to 1"),
        ({"history_trs": -1}, "history_trs: -1 is out of range [x]; expected a whole number of TRs, or null"),
        ({"history_trs": 2.5}, "history_trs: 2.5 is out of range [x]; expected a whole number of TRs, or null"),
        ({"history_trs": True}, "history_trs: True is out of range"),
        (
            {"history_trs": 4, "read": "all"},
            "read: 'all' gives more than one feature a TR [x]; expected one of mean, first, last, convolution",
        ),
        ({"history_trs": 4, "read": "middle"}, "read: 'middle' gives more than one feature a TR"),
        ({"read": "convolution"}, "unknown read 'convolution'"),
        (
            {"history_trs": 4, "read": "convolution"},
            "convolution: None does not go with read [x]; expected read: convolution and its settings, or neither",
        ),
        ({"history_trs": 4, "read": "mean", "convolution": CONVOLUTION}, "does not go with read [x]"),
        ({"convolution": CONVOLUTION}, "does not go with read [x]"),
        (
            {"history_trs": 4, "read": "convolution", "convolution": {**CONVOLUTION, "channels": 0}},
            "is out of range [x]; expected whole numbers channels, kernel_frames, stride_frames",
        ),
        (
            {"history_trs": 4, "read": "convolution", "convolution": {"channels": 8}},
            "convolution: {'channels': 8} is out",
        ),
        ({"history_trs": 4, "read": "convolution", "convolution": {**CONVOLUTION, "bias": 1}}, "is out of range [x]"),
        ({"history_trs": 4, "read": "convolution", "convolution": 8}, "convolution: 8 is out of range [x]"),
        (
            {"normalise_features": 1},
            "normalise_features: 1 is neither true nor false [x]; expected true or false",
        ),
        ({"readout": "mine"}, "readout: 'mine' is not known [x]; expected one of own, shared_basis, shared"),
        (
            {"min_noise_ceiling": 1.2},
            "min_noise_ceiling: 1.2 is out of range [x]; expected a number from -1 to 1, or null",
        ),
        ({"min_noise_ceiling": "0.4"}, "min_noise_ceiling: '0.4' is out of range [x]"),
        ({"l2_penalty": -0.1}, "l2_penalty: -0.1 is out of range [x]; expected a number from 0 to inf"),
        ({"schedule": None}, "schedule: None is not known [x]; expected one of constant, linear, decay"),
        (
            {"schedule_head": "cosine"},
            "schedule_head: 'cosine' is not known [x]; expected one of constant, linear, decay",
        ),
        ({"decay_per_epoch": 0}, "decay_per_epoch: 0 is out of range [x]; expected a number from 1e-09 to 1"),
        ({"decay_floor": 2}, "decay_floor: 2 is out of range [x]; expected a number from 0 to 1"),
        ({"head_only_epochs": -1}, "head_only_epochs: -1 is out of range [x]; expected a whole number of at least 0"),
        (
            {"head_only_epochs": 3, "epochs": 3},
            "head_only_epochs: 3 leaves no epoch for the backbone [x]; expected less than 3 epochs",
        ),
        ({"order": "sorted"}, "order: 'sorted' is not known [x]; expected one of random, stories"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], text: str) -> None:
    with pytest.raises(BrainTuningError) as caught:
        parse_recipe({"name": "x", **values}, "f")
    assert text in str(caught.value)


def test_files_that_are_no_recipe_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"cannot be read \(No such file.*; expected a YAML file, or one of"
    ) as caught:
        load_recipe("brainwavln")
    assert {"brainwavlm", "demo"} < set(SHIPPED)
    assert str(caught.value).endswith(f"one of {', '.join(SHIPPED)}")
    with pytest.raises(RecipeError, match=r"cannot be read \(Is a directory\)"):
        load_recipe(tmp_path)
    path = tmp_path / "bad.yaml"
    path.write_text("name: [")
    with pytest.raises(RecipeError, match=r"the recipe is not YAML \(while parsing.*\) \[.*bad.yaml\]") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeError, match="the recipe is not YAML"):
        load_recipe(path)
    path.write_text("- 1\n- 2\n")
    with pytest.raises(RecipeError, match="a recipe is a mapping with a name"):
        load_recipe(path)
    path.write_text("name: x\nlora: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(RecipeError, match="the recipe is not YAML"):
        load_recipe(path)


def test_overrides_are_checked_and_none_changes_nothing() -> None:
    recipe = load_recipe("demo")
    assert recipe.changed(epochs=None, seed=None) == recipe
    assert recipe.changed(epochs=3).epochs == 3
    with pytest.raises(RecipeError, match="epochs: 0 is out of range"):
        recipe.changed(epochs=0)


@pytest.mark.parametrize(
    ("depth", "n_layers", "layer"), [(0.75, 12, 9), (0.75, 4, 3), (0.01, 12, 1), (1.0, 24, 24), (0.5, 3, 2)]
)
def test_depth_is_a_share_of_the_layers(depth: float, n_layers: int, layer: int) -> None:
    assert Recipe(name="x", layer_depth=depth).layer(n_layers) == layer


def test_the_linear_schedule_step_by_step() -> None:
    recipe = Recipe(name="x", schedule="linear", warmup_share=0.2)
    factors = [recipe.learning_rate_factors(step, 10)[0] for step in range(10)]
    np.testing.assert_allclose(factors, [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    no_warmup = Recipe(name="x", schedule="linear")
    np.testing.assert_allclose([no_warmup.learning_rate_factors(step, 4)[0] for step in range(4)], [1, 0.75, 0.5, 0.25])
    rising = Recipe(name="x", schedule="linear", warmup_share=1.0)
    np.testing.assert_allclose([rising.learning_rate_factors(step, 3)[0] for step in range(3)], [0.25, 0.5, 0.75])
    constant = Recipe(name="x")
    assert {constant.learning_rate_factors(step, 10)[0] for step in range(10)} == {1.0}


@pytest.mark.parametrize(
    ("depth", "n_layers", "first"), [(0.0, 12, 0), (0.5, 12, 6), (0.75, 12, 8), (1.0, 12, 8), (0.1, 6, 1), (0.9, 1, 0)]
)
def test_the_first_adapted_layer_lies_below_the_one_that_is_read(depth: float, n_layers: int, first: int) -> None:
    assert Recipe(name="x", layer_depth=0.75, adapt_from_depth=depth).first_adapted_layer(n_layers) == first


def test_the_decaying_schedule_epoch_by_epoch() -> None:
    """Moussa et al. 2025: the head's rate times max(0.8 ** epoch, 0.1)."""
    recipe = Recipe(name="x", schedule="decay", decay_per_epoch=0.8, decay_floor=0.5, epochs=5)
    factors = [recipe.learning_rate_factors(step, 15) for step in range(15)]
    expected = np.repeat([1, 0.8, 0.64, 0.512, 0.5], 3)
    np.testing.assert_allclose(factors, np.stack([expected, expected], axis=1))


def test_the_head_may_have_a_schedule_of_its_own() -> None:
    recipe = Recipe(name="x", schedule="linear", schedule_head="decay", decay_per_epoch=0.5, epochs=2)
    factors = [recipe.learning_rate_factors(step, 4) for step in range(4)]
    np.testing.assert_allclose(factors, [[1, 1], [0.75, 1], [0.5, 0.5], [0.25, 0.5]])
    other = Recipe(name="x", schedule="decay", schedule_head="constant", decay_per_epoch=0.5, epochs=2)
    assert [other.learning_rate_factors(step, 4) for step in range(4)] == [(1, 1), (1, 1), (0.5, 1), (0.5, 1)]


# A recipe that begins from another


def test_a_recipe_states_what_differs_from_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: brainwavlm\nname: mine\nepochs: 7\nlora: null\nours:\n  epochs: time\n")
    base, mine = load_recipe("brainwavlm"), load_recipe(path)
    differing = {key for key, value in mine.to_dict().items() if value != base.to_dict()[key]}
    assert differing == {"name", "epochs", "lora", "ours"}
    assert (mine.name, mine.epochs, mine.lora) == ("mine", 7, None)
    assert mine.ours["epochs"] == "time"
    assert mine.ours["mixed_precision"] == base.ours["mixed_precision"]
    # A reason goes with the value it was given for.
    assert "lora" in base.ours
    assert "lora" not in mine.ours


def test_a_recipe_may_begin_from_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nepochs: 3\nseed: 5\n")
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\nname: middle\nepochs: 4\n")
    (tmp_path / "top.yaml").write_text("extends: middle.yaml\nname: top\nblock_trs: 12\n")
    top = load_recipe(tmp_path / "top.yaml")
    assert (top.name, top.epochs, top.seed, top.block_trs) == ("top", 4, 5, 12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: brainwavln\nname: x\n", r"the recipe cannot be read \(No such file.*brainwavln"),
        ("extends: brainwavlm\nepochs: 3\n", r"a recipe is a mapping with a name \[.*mine.yaml\]"),
        ("extends: brainwavlm\nname: x\nbotleneck: 3\n", r"unknown key 'botleneck', did you mean 'bottleneck'\?"),
        ("extends: brainwavlm\nname: x\nepochs: 0\n", r"epochs: 0 is out of range \[x\]"),
        ("extends: brainwavlm\nname: x\nours: [epochs]\n", r"ours: \['epochs'\] is not a mapping"),
        ("extends: mine.yaml\nname: x\n", r"the recipe extends itself \[.*mine.yaml -> .*mine.yaml\]"),
        ("extends: [brainwavlm]\nname: x\n", r"extends: \['brainwavlm'\] is not text"),
    ],
)
def test_a_recipe_that_begins_from_nothing_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)

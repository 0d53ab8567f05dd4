"""What is written in the recipes, against what the papers and their released code say.

:data:`STATED` and :data:`OFF` are written down from the publications, not from the recipes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from brain_tuning.tuning.recipe import Recipe, load_recipe

_BRAINWAVLM: dict[str, Any] = {
    "backbone": "microsoft/wavlm-base-plus",
    "layer_depth": 9 / 12,
    "context_s": 3.75,
    "stride_s": 0.25,
    "read": "last",
    "lanczos_lobes": 3,
    "delays_trs": (1, 2, 3, 4),
    "normalise_features": True,
    "bottleneck": 100,
    "lora": {"r": 4, "lora_alpha": 4, "lora_dropout": 0.1, "target_modules": ["q_proj", "k_proj", "v_proj"]},
    "loss": "spatial_correlation",
    "learning_rate_adapter": 1e-4,
    "learning_rate_head": 1e-4,
    "schedule": "constant",
    "block_trs": 10,
    "blocks_per_step": 1,
    "epochs": 20,
    "select": "ridge",
    "seed": 42,
}

#: recipe -> what is known of its paper, from its text or released code
STATED: dict[str, dict[str, Any]] = {
    "brainwavlm": _BRAINWAVLM,
    "brainwavlm-full": {**_BRAINWAVLM, "lora": None},
    "refined-wav2vec2": {"history_trs": 6, "read": "convolution", "lora": None, "loss": "mse"},
    "brain-tuning-2025": {
        "backbone": "facebook/wav2vec2-base",
        "layer_depth": 1.0,
        "history_trs": 4,
        "read": "mean",
        "delays_trs": (0,),
        "normalise_features": False,
        "bottleneck": 0,
        "min_noise_ceiling": 0.4,
        "lora": None,
        "loss": "mse",
        "learning_rate_adapter": 5e-5,
        "learning_rate_head": 1e-4,
        "schedule": "linear",
        "warmup_share": 5 / 30,
        "schedule_head": "decay",
        "decay_per_epoch": 0.8,
        "decay_floor": 0.1,
        "order": "stories",
        "epochs": 30,
    },
    "multi-brain-tuning": {
        "bottleneck": 0,
        "readout": "shared",
        "lora": {
            "r": 8, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj"]
        },
        "loss": "mse",
        "learning_rate_adapter": 1e-4,
        "learning_rate_head": 1e-4,
        "schedule": "linear",
        "warmup_share": 0.1,
        "epochs": 30,
    },
}  # fmt: skip
#: TRs of one optimiser step, where it is the batch that is stated, and not how it is cut
BATCH_TRS = {"brain-tuning-2025": 128, "multi-brain-tuning": 128}
ARXIV = {
    "brainwavlm": "2502.08866",
    "brainwavlm-full": "2502.08866",
    "refined-wav2vec2": "2406.08266",
    "brain-tuning-2025": "2410.09230",
    "multi-brain-tuning": "2510.21520",
}
#: values with which a part that no paper mentions is not there
OFF: dict[str, Any] = {
    "adapt_from_depth": 0.0,
    "history_trs": None,
    "convolution": None,
    "readout": "own",
    "min_noise_ceiling": None,
    "l2_penalty": 0.0,
    "schedule_head": None,
    "warmup_share": 0.0,
    "decay_per_epoch": 1.0,
    "decay_floor": 0.0,
    "head_only_epochs": 0,
    "max_grad_norm": 0.0,
}
#: recipe -> keys whose value is the paper's, and whose meaning here differs from it, or that need a word
DEVIATIONS = {
    "brainwavlm": {"lora", "delays_trs", "lanczos_lobes", "normalise_features", "read"},
    "brainwavlm-full": {"lora", "delays_trs", "lanczos_lobes", "normalise_features", "read"},
    "refined-wav2vec2": {"lora"},
    "brain-tuning-2025": {"lora", "order", "read", "schedule"},
    "multi-brain-tuning": {"loss", "warmup_share"},
}
NAMES = list(STATED)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_paper_states_is_in_its_recipe_and_all_else_is_named_as_ours(name: str) -> None:
    recipe, stated = load_recipe(name), STATED[name]
    assert {key: getattr(recipe, key) for key in stated} == stated
    assert ARXIV[name] in recipe.source
    if name in BATCH_TRS:
        assert recipe.block_trs * recipe.blocks_per_step == BATCH_TRS[name]
    described = {"name", "source", "ours", "control"}
    if recipe.history_trs is not None:
        described |= {"context_s", "stride_s", "lanczos_lobes"}  # one window a TR: they play no part
    if name in BATCH_TRS:
        described |= {"blocks_per_step"}  # follows from block_trs
    free = {f.name for f in fields(Recipe)} - described - set(stated)
    unnamed = {key for key in free - set(recipe.ours) if key not in OFF or getattr(recipe, key) != OFF[key]}
    assert not unnamed
    assert set(recipe.ours) - free == DEVIATIONS[name]
    assert recipe.control == "none"
    assert all(len(reason) > 5 for reason in recipe.ours.values())

"""The code that a card shows runs on what is published, and gives the tuned model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_families
import torch
from card_contexts import (
    ADAPTERS_ONLY,
    FULL,
    ONE,
    python_blocks,
)
from model_builders import BUNDLED_NAME, story, tuned_model

import brain_tuning.hub.cards as cards
from brain_tuning.models.published import write

LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}


def _published(backbone: str, folder: Path, **options: Any) -> Path:
    model = tuned_model(backbone, adapters=("s1-ac", "s1-all") if options.get("lora", LORA) else ("s1-ac",), **options)
    model.set_adapter("s1-ac")
    return write(model, folder)


FAMILIES = ["wavlm", "wav2vec2", "conformer-relative", "hubert", "whisper", "speecht5"]


@pytest.mark.parametrize("kind", ["root", "adapters-only", "full", *FAMILIES])
def test_the_code_of_a_card_runs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Python of a rendered card, against a repository of this kind; both ways give the same tuned encoder."""
    family = tiny_families.CONFIGS[kind if kind in FAMILIES else "wavlm"]().model_type
    base = str(tiny_families.save(kind, tmp_path / "base")) if kind in FAMILIES else BUNDLED_NAME
    folder = tmp_path / "repository"
    settings: dict[str, Any] = {"lora": None} if kind == "full" else {"lora": LORA}
    _published(base, folder, **settings)
    if kind == "adapters-only":
        for name in ("config.json", "model.safetensors"):
            (folder / name).unlink()
    context = dataclasses.replace(
        {"full": FULL, "adapters-only": ADAPTERS_ONLY}.get(kind, ONE),
        repo_id=str(folder), adapters=("s1-ac", "s1-all"), base_model=base, family=family, figures=(), rerun=None,
    )  # fmt: skip
    if base == BUNDLED_NAME:
        from brain_tuning.models.backbones import bundled_revision

        context = dataclasses.replace(context, base_revision=bundled_revision(base))
    blocks = python_blocks(cards.render_model_card(dataclasses.replace(context, results=(), low_level=())))
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    soundfile.write("story.wav", story(8.0), 16_000)
    names: dict[str, Any] = {}
    encoders = []
    for block in blocks:
        exec(compile(block, "<card>", "exec"), names)
        if "encoder" in names:
            encoders.append(names.pop("encoder"))
    assert names["bold"].shape == (5, 5)  # of 8 s, in TRs of the model: 1.5 s
    assert np.isfinite(names["bold"]).all()
    if kind == "adapters-only":
        encoders.append(huggingface_auto_model("tuned-encoder"))
        with pytest.raises((OSError, ValueError)):
            huggingface_auto_model(str(folder))
    if family not in ("whisper", "speecht5"):
        heard = torch.from_numpy(story(1.0))[None]
        # Of PeftModel the outputs are those of the model in it.
        outputs = [one.eval()(heard, output_hidden_states=True).hidden_states[3] for one in encoders]
        assert len(outputs) == {"full": 1, "wav2vec2": 3, "hubert": 3}.get(kind, 2)
        for other in outputs[1:]:
            torch.testing.assert_close(other, outputs[0], atol=2e-5, rtol=1e-4)


def huggingface_auto_model(name: str) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(name)

"""Small folders in the published layout, with real tensors, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

BASE_MODEL = "microsoft/wavlm-base-plus"
BASE_REVISION = "4c66d4806a428f2e922ccfa1a962776e232d487b"
N_VOXELS = 7
CARD = f"""---
language: en
license: cc-by-4.0
library_name: transformers
pipeline_tag: feature-extraction
tags:
- brain-tuning
- fmri
base_model: {BASE_MODEL}
base_model_relation: finetune
model-index:
- name: brainwavlm-ac
  results:
  - task:
      type: feature-extraction
    dataset:
      name: Lebel 2023
      type: ds003020
      config: s1-ac
    metrics:
    - type: pearsonr
      value: 0.21
---

# brainwavlm-ac

![layers](figures/layers.png)
"""
RESULTS = """- dataset:
    id: lab/stories
    task_id: s1-ac
  value: 0.21
  notes: untuned 0.17
"""


def write_json(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def write_layout(folder: Path, *, adapters: tuple[str, ...] = ("s1-ac",), backbone: bool = True, seed: int = 0) -> Path:
    """Write a folder that passes every check; the first adapter is the default one."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    base = {"base_model_name_or_path": BASE_MODEL, "base_model_revision": BASE_REVISION}
    described = {
        name: {"subject": name.split("-")[0], "roi": name.split("-")[1], "n_voxels": N_VOXELS} for name in adapters
    }
    encoding = {"model_type": "brainwavlm", "speech_config": {"model_type": "wavlm"}, **base}
    lora = {"r": 2, "target_modules": ["q_proj"]}
    more = {"lora": lora, "adapters": described, "default_adapter": adapters[0]}
    write_json(folder / "encoding" / "config.json", {**encoding, **more})
    if backbone:
        write_json(folder / "config.json", {"model_type": "wavlm", "architectures": ["WavLMModel"]})
        write_json(folder / "preprocessor_config.json", {"sampling_rate": 16000, "do_normalize": True})
        weights = {"encoder.weight": rng.normal(size=(40, 50)).astype(np.float32)}
        save_file({**weights, "steps": np.arange(3)}, folder / "model.safetensors")
    for name in adapters:
        place = folder / "adapters" / name
        said = {"peft_type": "LORA", "base_model_name_or_path": BASE_MODEL, "revision": BASE_REVISION}
        write_json(place / "adapter_config.json", said)
        lora_tensors = {"q_proj.lora_A.weight": rng.normal(size=(2, 50)).astype(np.float32)}
        save_file(lora_tensors, place / "adapter_model.safetensors")
        save_file({"readout": rng.normal(size=(N_VOXELS, 4)).astype(np.float16)}, place / "head.safetensors")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    write_json(folder / "metrics.json", {"pearsonr": 0.21, "n_unscored": 0, "normalised": None})
    (folder / ".eval_results").mkdir(exist_ok=True)
    (folder / ".eval_results" / "s1-ac.yaml").write_text(RESULTS, encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "layers.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(64)))
    return folder


def read_folder(folder: Path) -> dict[str, bytes]:
    """Contents of all files of a folder by relative name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

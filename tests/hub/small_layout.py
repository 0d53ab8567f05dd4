"""Small folders in the published layout, with real tensors, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers import WavLMConfig

from brain_tuning.models import BrainWavLMConfig
from brain_tuning.models.backbones import empty_backbone
from brain_tuning.models.published import ADAPTERS_ONLY
from brain_tuning.models.published_shapes import Shapes, published_shapes, unallocated
from brain_tuning.models.published_targets import target_expression

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


def small_config(adapters: tuple[str, ...]) -> BrainWavLMConfig:
    """Of a WavLM of two layers, with a head of ``N_VOXELS`` for each adapter, the first of which is the default."""
    speech_config = WavLMConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        conv_dim=[4] * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_buckets=8,
    )
    return BrainWavLMConfig(
        speech_config=speech_config,
        base_model_name_or_path=BASE_MODEL,
        base_model_revision=BASE_REVISION,
        layer=2,
        bottleneck=3,
        delays_trs=[1, 2],
        lora={"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj"]},
        adapters={
            name: {"n_voxels": N_VOXELS, "subject": name.split("-")[0], "roi": name.split("-")[1]} for name in adapters
        },
        default_adapter=adapters[0],
        architectures=["BrainWavLMForFMRIEncoding"],
    )


def write_tensors(path: Path, shapes: Shapes, seed: int, dtype: type = np.float32) -> None:
    """A safetensors file of normal values; the two tensors of a head that hold indices and counts hold zeros."""
    rng = np.random.default_rng(seed)
    counts = {"voxels": np.int32, "norm.n_blocks": np.int64}
    tensors = {
        key: np.zeros(shape, counts[key]) if key in counts else np.asarray(rng.normal(size=shape), dtype)
        for key, shape in shapes.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def write_layout(folder: Path, *, adapters: tuple[str, ...] = ("s1-ac",), backbone: bool = True, seed: int = 0) -> Path:
    """Write a folder that passes every check; the first adapter is the default one."""
    folder.mkdir(parents=True, exist_ok=True)
    config = small_config(adapters)
    speech_config = config.speech_config
    assert isinstance(speech_config, WavLMConfig)
    write_json(folder / "encoding" / "config.json", json.loads(config.to_json_string(use_diff=False)))
    for name, shapes in published_shapes(config, adapters_only=not backbone).items():
        is_head = name.endswith("head.safetensors")
        write_tensors(folder / name, shapes, seed, np.float16 if is_head else np.float32)
    if backbone:
        root = json.loads(speech_config.to_json_string(use_diff=False))
        write_json(folder / "config.json", {**root, "architectures": ["WavLMModel"]})
        write_json(folder / "preprocessor_config.json", {"sampling_rate": 16000, "do_normalize": True})
    else:
        write_json(folder / "config.json", {"model_type": ADAPTERS_ONLY})
    with unallocated():
        targets = target_expression(empty_backbone(speech_config), ["q_proj"], config.adapted_layers)
    for name in adapters:
        said = {"peft_type": "LORA", "base_model_name_or_path": BASE_MODEL, "revision": BASE_REVISION}
        more = {"r": 2, "lora_alpha": 4, "target_modules": targets}
        write_json(folder / "adapters" / name / "adapter_config.json", {**said, **more})
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

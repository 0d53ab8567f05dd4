"""The table of families: the only one that asks for the family, and what it says without a model being run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from model_builders import waves
from tiny_families import CONFIGS, save, whole
from transformers import WavLMConfig, WhisperFeatureExtractor

from brain_tuning.errors import AdapterError, BackboneError
from brain_tuning.models import BrainWavLMForFMRIEncoding, families
from brain_tuning.models.backbones import expects_normalised_input
from brain_tuning.models.families import ROLES, family_named, family_of, quiet_config
from brain_tuning.models.wavlm_attention import ProjectedWavLMAttention
from brain_tuning.models.whisper_mel import log_mel

KINDS = list(CONFIGS)
LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": list(ROLES)}


def test_whispers_spectrogram_is_that_of_its_feature_extractor() -> None:
    windows = waves(3, 16_000)
    for n_mels in (80, 128):
        extractor = WhisperFeatureExtractor(feature_size=n_mels)
        expected = extractor(list(windows.numpy()), sampling_rate=16_000, padding=False, return_tensors="pt")
        torch.testing.assert_close(log_mel(windows, n_mels), expected.input_features, rtol=1e-5, atol=2e-5)


def test_nothing_but_the_table_asks_for_the_family() -> None:
    """In no condition anywhere else is there a family's name; its own attention class apart."""
    package = Path(families.__file__).parents[1]
    named = re.compile("wavlm|wav2vec|hubert|whisper|speecht5|conformer", re.IGNORECASE)
    asked = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.If() | ast.IfExp() | ast.While() | ast.Assert():
                    conditions: list[ast.AST] = [node.test]
                case ast.Match():
                    conditions = [node.subject, *(case.pattern for case in node.cases)]
                case ast.comprehension():
                    conditions = list(node.ifs)
                case _:
                    conditions = [node] if isinstance(node, ast.Compare) else []
            words = [word for condition in conditions for part in ast.walk(condition) for word in _words(part)]
            if any(named.search(word) for word in words):
                asked.add(str(file.relative_to(package)))
    assert asked == {"models/wavlm_attention.py"}


def _words(node: ast.AST) -> list[str]:
    """What one node of a syntax tree says in letters."""
    return [value for _, value in ast.iter_fields(node) if isinstance(value, str)]


def test_the_attention_of_other_instances_stays_as_it_is() -> None:
    ours, other = whole("wavlm"), whole("wavlm")
    names = list(ours.state_dict())
    family_of(ours.config).prepare(ours)
    assert type(ours.encoder.layers[0].attention) is ProjectedWavLMAttention
    assert type(other.encoder.layers[0].attention).__name__ == "WavLMAttention"
    assert list(ours.state_dict()) == names


def test_quiet_config_is_a_copy() -> None:
    config = WavLMConfig(layerdrop=0.3, mask_time_prob=0.2)
    quiet = quiet_config(config)
    assert config.layerdrop == 0.3
    assert config.hidden_dropout == 0.1
    assert quiet.layerdrop == 0.0
    # The masking vector stays a part of the model, or its weights would not fit.
    assert quiet.mask_time_prob == 0.2


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "clip"])
def test_other_models_are_refused_by_name(model_type: str) -> None:
    expected = (
        rf"type '{model_type}' cannot be brain-tuned: it is not a speech encoder.*\[here\]; expected one of wavlm"
    )
    with pytest.raises(BackboneError, match=expected):
        family_named(model_type, where="here")


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_preprocessor_config_the_table_says_how_input_is_normalised(kind: str, tmp_path: Path) -> None:
    """As pre-trained: WavLM large and all of wav2vec 2.0 and HuBERT heard normalised audio, WavLM base+ did not."""
    folder = save(kind, tmp_path / kind)
    (folder / "preprocessor_config.json").unlink()
    assert expects_normalised_input(str(folder)) is (kind not in ("wavlm", "whisper", "speecht5"))


def test_targets_go_by_roles_or_by_the_familys_own_names(tmp_path: Path) -> None:
    conformer = save("conformer-rotary", tmp_path / "conformer")
    for names in (["q_proj", "output_dense"], ["linear_q", "output_dense"]):
        model = BrainWavLMForFMRIEncoding.from_backbone(str(conformer), layer=2)
        model.add_adapter("a", 3, lora={**LORA, "target_modules": names})
        assert model.config.lora["target_modules"] == ["linear_q", "output_dense"]
    model = BrainWavLMForFMRIEncoding.from_backbone(str(save("whisper", tmp_path / "whisper")), layer=2)
    with pytest.raises(AdapterError, match=r"LoRA cannot go to 'conv1' of a whisper backbone; expected some of .*fc1"):
        model.add_adapter("a", 3, lora={**LORA, "target_modules": ["conv1"]})

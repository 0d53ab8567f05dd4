"""What ``import brain_tuning`` does to a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
HEAVY = ("datasets", "h5py", "nibabel", "nilearn", "matplotlib", "evaluate")
CODE = """
import json, sys
import brain_tuning
told = {"heavy": sorted(set(sys.argv[1:]) & set(sys.modules))}
told["of ours"] = sorted({name.split(".")[1] for name in sys.modules if name.startswith("brain_tuning.")})
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("brainwavlm")
config.speech_config.num_hidden_layers = config.layer = 1
told["config"] = type(config).__name__
told["model"] = type(AutoModel.from_config(config)).__name__
told["lazy"] = {name: getattr(brain_tuning, name).__module__ for name in brain_tuning.__all__ if name != "__version__"}
told["listed"] = set(brain_tuning.__all__) <= set(dir(brain_tuning))
try:
    brain_tuning.nonsense
except AttributeError as error:
    told["unknown"] = str(error)
print(json.dumps(told))
"""


def test_importing_registers_the_auto_classes_and_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *HEAVY],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["heavy"] == []
    assert told["of ours"] == ["atomic", "errors", "models", "timing"]
    assert told["config"] == "BrainWavLMConfig"
    assert told["model"] == "BrainWavLMForFMRIEncoding"
    assert told["lazy"]["open_corpus"].startswith("brain_tuning.corpus")
    assert told["lazy"]["load_adapter"] == "brain_tuning.models.published_adapters"
    assert told["listed"]
    assert told["unknown"] == "module 'brain_tuning' has no attribute 'nonsense'"

"""Features shared out among true processes of Accelerate, each of which computes its own stories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from story_corpus import corpus_of, noise
from tiny_runs import BACKBONE, in_subprocess

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import StoryInput
from brain_tuning.features.story import feature_cache, layer_features
from brain_tuning.timing import WindowPlan

LAYERS = (0, 2)
TIMES_S = np.arange(6) * 1.49 + 0.745
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from accelerate import Accelerator
from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import open_corpus
from brain_tuning.features.story import extract, feature_cache, layer_features
from brain_tuning.timing import WindowPlan

folder, backbone = Path(sys.argv[1]), sys.argv[2]
state, computed = Accelerator(), []  # PartialState alone does not see processes without GPUs
model = BrainWavLMForFMRIEncoding.from_backbone(backbone, layer=2).eval()
sources = layer_features(
    model, open_corpus(folder / "corpus"), [0, 2], computed.append, plan=WindowPlan(0.5, 1.0, "all"),
    cache=feature_cache(folder / "cache"),
)
times_s = np.arange(6) * 1.49 + 0.745
extract([sources[0]], [(story, times_s) for story in "abc"], rank=state.process_index, world=state.num_processes)
(folder / f"{state.process_index}-of-{state.num_processes}.json").write_text(json.dumps(computed))
"""


def test_two_processes_of_accelerate_compute_what_one_would(tmp_path: Path) -> None:
    """Launched otherwise, each would be the only one and say nothing: hence the count in the files' names."""
    corpus = corpus_of(tmp_path / "corpus", [StoryInput(name, noise(9, k)) for k, name in enumerate("abc")])
    (tmp_path / "program.py").write_text(PROGRAM)
    two = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    quiet = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    program = [str(tmp_path / "program.py"), str(tmp_path), BACKBONE]
    child = in_subprocess(["-m", "accelerate.commands.launch", *two, *quiet, *program], ACCELERATE_USE_CPU="true")
    err = child.communicate(timeout=300)[1]
    assert child.returncode == 0, err
    shares = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert shares == {"0-of-2.json": ["a", "c"], "1-of-2.json": ["b"]}
    model = BrainWavLMForFMRIEncoding.from_backbone(BACKBONE, layer=2).eval()
    plan, computed = WindowPlan(0.5, 1.0, "all"), list[str]()
    cache = feature_cache(tmp_path / "cache")
    shared = layer_features(model, corpus, LAYERS, computed.append, plan=plan, cache=cache)
    alone = layer_features(model, corpus, LAYERS, plan=plan)
    for layer in LAYERS:
        for story in "abc":
            values, seen = shared[layer](story, TIMES_S)
            expected, heard = alone[layer](story, TIMES_S)
            np.testing.assert_allclose(values, expected, atol=1e-5)
            np.testing.assert_array_equal(seen, heard)
    assert computed == []

"""What identifies the weights that an evaluation reads."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from tiny_runs import BACKBONE

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.analysis.candidates import weights_identity
from brain_tuning.analysis.evaluation import evaluate_models
from brain_tuning.analysis.job import EvaluationJob
from brain_tuning.corpus import Corpus
from brain_tuning.models.published_gather import gather

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}


def tuned(name: str, *, seed: int = 0, alpha: int = 4) -> BrainWavLMForFMRIEncoding:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BrainWavLMForFMRIEncoding.from_backbone(BACKBONE, layer=1, bottleneck=4)
        model.add_adapter(name, 3, lora={**LORA, "lora_alpha": alpha}, subject=name.partition("-")[0], roi="AC")
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_()
    return model.eval()


def lora_of(model: BrainWavLMForFMRIEncoding, name: str) -> torch.nn.Parameter:
    return next(p for key, p in model.backbone.named_parameters() if f".lora_B.{name}." in key)


def test_it_is_of_the_weights_that_are_read_and_of_all_of_them() -> None:
    model = tuned("s1-ac")
    before = weights_identity(model)
    assert weights_identity(tuned("s1-ac")) == before
    assert weights_identity(tuned("s1-ac", seed=1)) != before
    assert weights_identity(tuned("s1-ac", alpha=8)) != before, "how loudly an adapter is heard is in no tensor"
    layer = model.backbone.state_dict()
    above, below = (
        next(key for key in layer if f"layers.{index}." in key and key.endswith("bias")) for index in (1, 0)
    )
    with torch.no_grad():
        layer[above].add_(1.0)
        assert weights_identity(model) == before
        layer[below].add_(1.0)
        assert weights_identity(model) != before


def test_an_adapter_is_the_same_alone_and_among_others() -> None:
    models = [tuned("s1-ac"), tuned("s2-ac", seed=1)]
    alone = [weights_identity(model) for model in models]
    assert alone[0] != alone[1]
    both = gather(models)
    together = []
    for name in ("s1-ac", "s2-ac"):
        both.set_adapter(name)
        together.append(weights_identity(both))
    assert together == alone
    with torch.no_grad():
        lora_of(both, "s1-ac").add_(1.0)
        assert weights_identity(both) == alone[1]
        lora_of(both, "s2-ac").add_(1.0)
        assert weights_identity(both) != alone[1]


@pytest.mark.parametrize("layers", [None, (0, 2)])
def test_results_say_which_weights_were_evaluated_and_when(
    corpus: Corpus, tuned_run: Path, tmp_path: Path, layers: tuple[int, ...] | None
) -> None:
    days = [datetime.now(timezone.utc).date().isoformat()]
    job = EvaluationJob(str(corpus.path), "s1", (str(tuned_run),), tmp_path / "results", layers=layers)
    results = evaluate_models(job)
    days.append(datetime.now(timezone.utc).date().isoformat())
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")
    assert results["models"]["tuned-AC"]["identity"] == weights_identity(model)
    assert results["models"]["untuned"]["identity"] != weights_identity(model)
    assert results["date"] in days

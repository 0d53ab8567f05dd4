"""What a plan says against what a run then takes."""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import BACKBONE, in_subprocess, job_for, small_recipe

from brain_tuning.cli import main
from brain_tuning.corpus import Corpus, Run
from brain_tuning.encoding.budget import ridge_cost
from brain_tuning.models import whisper_mel
from brain_tuning.models.frozen_cache import FrozenCache
from brain_tuning.tuning import checkpoint
from brain_tuning.tuning.data import BlockDataset
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model, tune, tuned_voxels
from brain_tuning.tuning.memory import step_memory
from brain_tuning.tuning.plan import (
    Plan,
    model_of_shapes,
    outline_of,
    outline_without_corpus,
    plan,
)

sys.path.append(str(Path(__file__).parents[1] / "models"))

import tiny_families

CPU = torch.device("cpu")
#: some kernels make their small results in another type than torch says of them; it matters in layers 32 wide
TOLERANCE = 0.02
CONVOLUTION = {"channels": 8, "kernel_frames": 3, "stride_frames": 2}


def planned(job: TuningJob) -> Plan:
    return plan(job, outline_of(job), CPU)


def built(corpus: Corpus, job: TuningJob) -> tuple[Any, BlockDataset]:
    """The model and the data that a job begins with."""
    torch.manual_seed(job.recipe.seed)
    runs = {subject: corpus.runs(subject, "train") for subject in job.subjects}
    voxels = {s: tuned_voxels(job.recipe, corpus, s, job.roi) for s in job.subjects}
    model = build_model(job.recipe, job, voxels, tr_s=runs[job.subjects[0]][0].tr_s)
    data = BlockDataset(corpus, runs, voxels, model.config, block_trs=job.recipe.block_trs, seed=job.recipe.seed)
    return model, data


def size(path: Path) -> int:
    return path.stat().st_size


# The counter


# The plan's step against a real one


def full_and_lora(kind: str) -> list[dict[str, Any] | None]:
    return [small_recipe().lora, None] if kind == "wavlm" else [small_recipe().lora]


@pytest.mark.parametrize("kind", ["wavlm", "conformer-rotary", "whisper", "speecht5"])
def test_a_step_without_data_takes_what_a_real_one_takes(kind: str, corpus: Corpus, tmp_path: Path) -> None:
    backbone = tiny_families.save(kind, tmp_path / "backbone")
    for lora in full_and_lora(kind):
        job = job_for(corpus, tmp_path / "run", backbone=str(backbone), layer_depth=0.7, lora=lora, max_grad_norm=1.0)
        for (bf16, checkpointing), expected in planned(job).steps.items():
            model, data = built(corpus, replace(job, gradient_checkpointing=checkpointing))
            largest = max(data, key=lambda batch: sum(windows.numel() for windows in batch["input_values"]))
            largest["frame_to_tr"] = largest["frame_to_tr"].to_dense()  # sparse tensors do not count
            optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
            found = step_memory(
                model, largest, optimiser, loss=job.recipe.loss, bf16=bf16, max_grad_norm=job.recipe.max_grad_norm
            )
            assert found.activations > 0
            for part in fields(found):
                assert getattr(expected, part.name) == pytest.approx(getattr(found, part.name), rel=TOLERANCE), (
                    part.name
                )


def test_several_subjects_a_ceiling_and_dropout_are_planned(corpus: Corpus, tmp_path: Path) -> None:
    alone = planned(job_for(corpus, tmp_path / "run", loss="ceiling_weighted", backbone_dropout=True))
    job = job_for(corpus, tmp_path / "run", loss="ceiling_weighted", backbone_dropout=True, blocks_per_step=2)
    together = planned(replace(job, subject=("s1", "s2")))
    assert set(together.n_voxels) == {"s1", "s2"}
    for variant, step in together.steps.items():
        assert step.readout > alone.steps[variant].readout
        # The gradients of the block before are there while the next one is computed.
        assert step.forward > alone.steps[variant].forward + step.gradients / 2
    assert together.adapter == 2 * alone.adapter
    assert together.heads == pytest.approx(2 * alone.heads, rel=0.5)


def test_the_planned_model_is_the_one_that_is_tuned(corpus: Corpus, tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {}, {"lora": None, "adapt_from_depth": 0.3, "layer_depth": 1.0}, {"history_trs": 1, "read": "mean"},
        {"history_trs": 1, "read": "convolution", "convolution": CONVOLUTION},
    ]  # fmt: skip
    for values in variants:
        for subjects in ("s1", ("s1", "s2")):
            job = replace(job_for(corpus, tmp_path / "run", **values), subject=subjects)
            outline = outline_of(job)
            shapes, (model, _) = model_of_shapes(job, outline.n_voxels, tr_s=outline.tr_s), built(corpus, job)
            described = [
                [(key, p.shape, p.dtype, p.requires_grad) for key, p in each.named_parameters()]
                + [(key, b.shape, b.dtype) for key, b in each.named_buffers()]
                for each in (shapes, model)
            ]
            assert described[0] == described[1]
            told = [{k: v for k, v in each.config.to_dict().items() if k != "adapters"} for each in (shapes, model)]
            for each in told:  # what only the weights' repository says
                del each["base_model_revision"], each["normalise_input"], each["speech_config"]["_name_or_path"]
            assert told[0] == told[1]


def test_nothing_without_data_outlives_the_plan(tmp_path: Path) -> None:
    """Whisper's mel filters are made once a process."""
    backbone = tiny_families.save("whisper", tmp_path / "backbone")
    whisper_mel._filters.cache_clear()
    job = TuningJob(small_recipe(backbone=str(backbone), layer_depth=0.5), "", ("s1",), "all", tmp_path)
    plan(job, outline_without_corpus(("s1",), 10, tr_s=2.0, hours=0.1), CPU)
    assert whisper_mel.log_mel(torch.randn(1, 4000), 80).isfinite().all()


def test_the_plan_needs_no_weights(tmp_path: Path) -> None:
    backbone = tiny_families.save("wavlm", tmp_path / "backbone")
    (backbone / "model.safetensors").unlink()
    job = TuningJob(small_recipe(backbone=str(backbone)), "", ("s1",), "all", tmp_path)
    assert plan(job, outline_without_corpus(("s1",), 10, tr_s=2.0, hours=0.1), CPU).n_trained > 0


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has mapped is read from Linux")
def test_the_checkpoint_of_the_backbone_does_not_stay_in_memory(corpus: Corpus, tmp_path: Path) -> None:
    """It would be a second copy of the weights, which no plan has."""
    backbone = tiny_families.save("wavlm", tmp_path / "backbone")
    gc.disable()
    try:
        model, _ = built(corpus, job_for(corpus, tmp_path / "run", backbone=str(backbone)))
        assert str(backbone / "model.safetensors") not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()
    assert model.backbone.config.model_type == "wavlm"


# Everything else against a run


def test_the_files_and_numbers_of_a_run_are_those_of_its_plan(corpus: Corpus, tmp_path: Path) -> None:
    job = job_for(corpus, tmp_path / "run", epochs=1, mixed_precision="no", select="head")
    made = planned(job)
    cache = FrozenCache(2**30)
    model = tune(job, cache=cache, progress_bar=False)
    described = json.loads((job.output / "run.json").read_text())
    assert (made.n_blocks, made.n_trained) == (described["n_blocks_per_epoch"], described["n_trained_parameters"])
    assert made.n_steps == described["finished"]["steps"]
    place = checkpoint.latest(job.output / "checkpoints")
    assert place is not None
    header = 20_000  # names and shapes
    written = size(place / "tuned.safetensors") + size(place / "optimiser.safetensors")
    assert 0 <= written - made.checkpoint < header
    assert 0 <= size(job.output / "checkpoints" / "best.safetensors") - made.best < header
    published = built(corpus, job)[0].from_pretrained(model).save_published(tmp_path / "published")
    (adapter,) = (published / "adapters").iterdir()
    assert 0 <= size(adapter / "adapter_model.safetensors") - made.adapter < header
    assert 0 <= size(adapter / "head.safetensors") - made.heads < header


@pytest.mark.parametrize(
    "values", [{}, {"layer_depth": 1.0, "adapt_from_depth": 0.5}, {"history_trs": 1, "read": "mean"}]
)
def test_an_epoch_fills_the_cache_with_what_was_planned(corpus: Corpus, tmp_path: Path, values: dict[str, Any]) -> None:
    job = job_for(corpus, tmp_path / "run", **values)
    model, data = built(corpus, job)
    model.frozen_cache = FrozenCache(2**30)
    with torch.no_grad():
        for batch in data:
            model.train()(**batch)
    made = planned(job)
    assert made.frozen == model.frozen_cache.n_bytes
    assert made.responses == sum(bold.nbytes for bold in data.bold.values())
    computed_s = sum(windows.numel() for batch in data for windows in batch["input_values"]) / 16_000
    assert made.redundancy == pytest.approx(computed_s / (len(data) * 8 * made.tr_s))
    most = max(sum(windows.numel() for windows in batch["input_values"]) for batch in data)
    assert sum(n * seconds for n, seconds in made.windows) == pytest.approx(most / 16_000)


def test_without_a_corpus_stories_of_ten_minutes_are_assumed(tmp_path: Path) -> None:
    outline = outline_without_corpus(("a", "b"), 70, tr_s=1.5, hours=0.25)
    assert outline.n_samples_of == {"story000": 9_600_000, "story001": 4_800_000}
    assert outline.runs["b"][1] == Run("b", "story001", 0, 0, "train", 1.5, 0.0, 200, 0)
    assert outline.n_voxels == {"a": 70, "b": 70}
    job = TuningJob(small_recipe(block_trs=10, delays_trs=(1,)), "", ("a", "b"), "all", tmp_path)
    made = plan(job, outline, CPU)
    # The last TR is over only when the story is.
    assert made.n_blocks == 399 // 10 + 199 // 10
    assert made.responses == 16 * 2 * 2 * 70
    assert (made.plan_redundancy, made.future_s, made.filter_reach_s) == (1.25, 4.0, 1.5)


# The command

WHAT_IS_NEEDED = "expected --corpus with --subject, or --voxels"


def test_the_command_prints_the_peak_of_the_variant_that_was_asked_for(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["plan", "--recipe", "demo", "--gradient-checkpointing", "--mixed-precision", "bf16"]
    assert main([*common, "--corpus", str(corpus.path), "--subject", "s1", "--block-trs", "8", "--roi", "AC"]) == 0
    lines = {line[:18].strip(): line[18:] for line in capsys.readouterr().out.splitlines()}
    assert lines["recipe"] == f"demo on {BACKBONE}, AC: s1 60 voxels"
    assert "bf16 checkpointed *" in lines["a step, cpu"]
    assert lines["a step, cpu"].count("*") == 1
    assert lines["peak"].count("MiB") == 4
    assert main([*common, "--voxels", "95556", "--subjects-n", "2", "--hours", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "s1 95,556 voxels, s2 95,556 voxels" in out
    assert "0.2 h of stories" in out
    ridges = [line for line in out.splitlines() if line.startswith(("s1 ", "s2 "))]
    assert len(ridges) == 2
    assert "360 TRs x 512 features x 95,556 voxels: " in ridges[1]
    assert " of memory beside the features" in ridges[1]


def test_an_alignment_grows_with_voxels_and_not_with_the_region(corpus: Corpus, tmp_path: Path) -> None:
    """The ridge predicts the whole cortex, whichever region is tuned on."""
    made = planned(job_for(corpus, tmp_path / "run", roi="AC"))
    (ridge,) = made.ridges.values()
    n_trs = sum(run.n_trs for run in corpus.runs("s1", "train"))
    assert (ridge.n_trs, ridge.n_features, ridge.n_voxels) == (n_trs, 2 * 128, corpus.n_voxels("s1"))
    assert ridge.cost == ridge_cost(n_trs, 256, corpus.n_voxels("s1"))
    job = TuningJob(small_recipe(block_trs=10), "", ("s1",), "all", tmp_path)
    flops = [
        plan(job, outline_without_corpus(("s1",), n, tr_s=2.0, hours=0.5), CPU).ridges["s1"].cost.product_flops
        for n in (10_000, 20_000, 30_000)
    ]
    assert flops[2] - flops[1] == pytest.approx(flops[1] - flops[0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], WHAT_IS_NEEDED),
        (["--corpus", "c"], WHAT_IS_NEEDED),
        (["--voxels", "3", "--subject", "s1"], WHAT_IS_NEEDED),
        (["--voxels", "0"], "--voxels is 0; expected more than 0"),
        (["--voxels", "9", "--tr-s", "-1"], "--tr-s is -1.0; expected more than 0"),
        (["--corpus", "nowhere", "--subject", "s1"], "no such corpus"),
        (["--voxels", "9", "--block-trs", "400"], "a run has 299 TRs while the story is heard"),
    ],
)
def test_what_cannot_be_planned_is_refused(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", "demo", *options]) == 2
    assert text in capsys.readouterr().err


# The truth, of the size that matters

TRUTH = """
import ctypes, gc, json, sys
from pathlib import Path
import numpy as np
import torch
from accelerate.utils import convert_outputs_to_fp32
from brain_tuning.tuning.data import BlockDataset
from brain_tuning.tuning.job import TuningJob
from brain_tuning.tuning.loop import build_model
from brain_tuning.tuning.plan import _Epoch, model_of_shapes, outline_without_corpus
from brain_tuning.tuning.recipe import Recipe

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key + ":"))

values, n_voxels, bf16, checkpointing = json.loads(sys.argv[1])
job = TuningJob(Recipe(**values), "", ("s1",), "all", Path("."))
outline = outline_without_corpus(("s1",), n_voxels, tr_s=2.0, hours=0.1)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS")
shapes = model_of_shapes(job, outline.n_voxels, tr_s=2.0)
epoch = _Epoch(outline.blocks(job.recipe, shapes.config))
batch = epoch.imagined_batch(outline.n_voxels, with_ceiling=False)
batch["input_values"] = [torch.randn(windows.shape) for windows in batch["input_values"]]
batch["labels"] = torch.randn(batch["labels"].shape)
batch["frame_to_tr"] = torch.from_numpy(epoch.largest_windows[1].toarray()).float().to_sparse()
batch["seen"] = torch.ones_like(batch["seen"])
model = shapes.to_empty(device="cpu")
for tensor in [*model.parameters(), *model.buffers()]:
    tensor.data.normal_(0, 0.02) if tensor.is_floating_point() else tensor.data.zero_()
if checkpointing:
    model.checkpoint_activations()
trained = [p for p in model.parameters() if p.requires_grad]
optimiser = torch.optim.Adam(trained)
forward = model.train().forward
if bf16:
    forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(forward))
for _ in range(2):
    Path("/proc/self/clear_refs").write_text("5")
    loss = forward(**batch, loss="spatial_correlation").loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    peak = status("VmHWM")
assert torch.isfinite(loss)
print(json.dumps(peak - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark of a process can be reset on Linux alone")
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("lora", [True, False])
def test_the_peak_of_a_process_is_within_15_percent_of_the_plan(bf16: bool, lora: bool, tmp_path: Path) -> None:
    """95,556 voxels on the shape of WavLM base+, which the acceptance names; 6 windows of 16 s."""
    from transformers import WavLMConfig

    WavLMConfig(num_buckets=320, max_bucket_distance=800).save_pretrained(tmp_path / "base-plus")
    values = {
        "name": "truth", "backbone": str(tmp_path / "base-plus"), "context_s": 14.0, "stride_s": 2.0, "read": "all",
        "block_trs": 3, "delays_trs": (1,), "lanczos_lobes": 1, "max_grad_norm": 1.0,
        **({} if lora else {"lora": None}),
    }  # fmt: skip
    job = TuningJob(small_recipe().__class__(**values), "", ("s1",), "all", tmp_path)
    made = plan(job, outline_without_corpus(("s1",), 95_556, tr_s=2.0, hours=0.1), CPU)
    # Freed memory goes back to the system at once, so that what is resident is what is alive.
    child = in_subprocess(["-c", TRUTH, json.dumps([values, 95_556, bf16, False])], MALLOC_MMAP_THRESHOLD_=str(2**20))
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert made.steps[bf16, False].peak == pytest.approx(json.loads(out), rel=0.15)

"""Which epoch is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import job_for, metrics, small_recipe

from brain_tuning import BrainWavLMForFMRIEncoding
from brain_tuning.corpus import Corpus, Run, RunInput, StoryInput, SubjectInput, open_corpus, write_corpus
from brain_tuning.encoding.design import design_matrix
from brain_tuning.encoding.folds import story_folds
from brain_tuning.encoding.ridge import ridge_cv
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import CorpusError, EncodingError
from brain_tuning.tuning import loop
from brain_tuning.tuning.checkpoint import tuned_state
from brain_tuning.tuning.loop import tune
from brain_tuning.tuning.selection import check_selection, validation_score


def of_s1(corpus: Corpus) -> tuple[dict[str, dict[str, list[Run]]], dict[str, np.ndarray]]:
    """Runs and voxels of auditory cortex of s1, as they are scored."""
    return {"s1": {s: corpus.runs("s1", s) for s in ("train", "validation")}}, {"s1": corpus.region("s1", "AC")}


@pytest.mark.parametrize(
    ("how", "settings"),
    [
        ("head", {}),
        # Twice too large a rate: the second epoch is worse than the first.
        ("head", {"learning_rate_head": 0.3, "learning_rate_adapter": 0.3}),
        ("ridge", {}),
    ],
)
def test_the_best_epochs_weights_are_kept(corpus: Corpus, tmp_path: Path, how: str, settings: dict) -> None:
    job = job_for(corpus, tmp_path / "run", select=how, **settings)
    model = BrainWavLMForFMRIEncoding.from_pretrained(tune(job))
    found = metrics(job.output, "validation")
    assert [line["epoch"] for line in found] == [0, 1]
    assert [line["step"] for line in found] == [4, 8]
    best = max(found, key=lambda line: line["r"])
    finished = json.loads((job.output / "run.json").read_text())["finished"]
    assert finished["kept_epoch"] == best["epoch"]
    assert finished["validation_r"] == best["r"]
    kept = tuned_state(model)
    for line in found:
        there = load_file(job.output / "checkpoints" / f"step-{line['step']:08d}" / "tuned.safetensors")
        same = all(torch.equal(value, kept[key]) for key, value in there.items())
        assert same == (line["epoch"] == best["epoch"])
    again = validation_score(how, model, corpus, *of_s1(corpus))
    assert again == pytest.approx(best["r"], abs=1e-6)


def test_the_last_epoch_is_kept_without_looking(corpus: Corpus, tuned_run: Path) -> None:
    assert metrics(tuned_run, "validation") == []
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")
    last = load_file(tuned_run / "checkpoints" / "step-00000008" / "tuned.safetensors")
    assert all(torch.equal(value, last[key]) for key, value in tuned_state(model).items())


def test_the_head_is_scored_by_its_own_predictions(corpus: Corpus, tuned_run: Path) -> None:
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model")
    (run,) = corpus.runs("s1", "validation")
    voxels = corpus.region("s1", "AC")
    predicted = model.predict(corpus.audio(run.story), run.tr_times_s)
    measured = corpus.bold(run, voxels)
    expected = [np.corrcoef(predicted[:, k], measured[:, k])[0, 1] for k in range(len(voxels))]
    score = validation_score("head", model, corpus, *of_s1(corpus))
    assert score == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_ridge_is_fitted_on_training_stories_only(corpus: Corpus, tuned_run: Path) -> None:
    model = BrainWavLMForFMRIEncoding.from_pretrained(tuned_run / "model").eval()
    train, validation = (corpus.runs("s1", split) for split in ("train", "validation"))
    voxels = corpus.region("s1", "AC")
    features = {
        run.story: (lambda times, run=run: model.story_features(corpus.audio(run.story), times))
        for run in train + validation
    }
    x = design_matrix(lambda story, times: features[story](times), train, (1, 2))
    y = np.concatenate([zscore(corpus.bold(run, voxels)) for run in train])
    folds = story_folds([run.story for run in train], [run.n_trs for run in train])
    prediction = ridge_cv(x, y, folds).predict(
        design_matrix(lambda story, times: features[story](times), validation, (1, 2))
    )
    expected = pearson_r(prediction, corpus.bold(validation[0], voxels)).mean()
    score = validation_score("ridge", model, corpus, *of_s1(corpus))
    assert score == pytest.approx(expected, abs=1e-6)


def test_one_training_story_is_cut_into_blocks(tmp_path: Path) -> None:
    """Data sets of a single story, cut into pieces of different splits, can be tuned with select: ridge too."""
    rng = np.random.default_rng(0)
    story = StoryInput("only", (rng.standard_normal(16_000 * 200) / 10).astype(np.float32))
    bold = rng.standard_normal((100, 12))
    pieces = [("train", 0, 70), ("validation", 70, 85), ("test", 85, 100)]
    runs = [
        RunInput("only", k, 0, split, 2.0, 2.0 * begin, bold[begin:end]) for k, (split, begin, end) in enumerate(pieces)
    ]
    made = open_corpus(
        write_corpus(
            tmp_path / "corpus",
            name="x",
            source="x",
            licence="x",
            stories=[story],
            subjects=[SubjectInput("s1", 12, runs)],
        )
    )
    tune(job_for(made, tmp_path / "run", roi="all", select="ridge", epochs=1, block_trs=35))
    (line,) = metrics(tmp_path / "run", "validation")
    assert -1 <= line["r"] <= 1


def test_a_score_that_cannot_be_taken_stops_the_run(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "validation_score", lambda *_: float("nan"))
    with pytest.raises(EncodingError, match=r"validation score of epoch 0 is nan \[subject s1, region AC\]"):
        tune(job_for(corpus, tmp_path / "run", select="head"))


def test_a_validation_story_is_needed_unless_the_last_is_kept(corpus: Corpus) -> None:
    check_selection("last", [], corpus)
    for how in ("head", "ridge"):
        with pytest.raises(
            CorpusError, match=rf"select: {how} needs a validation story \[.*simulated\]; remedy: mark a story"
        ):
            check_selection(how, [], corpus)
    assert small_recipe().select == "last"

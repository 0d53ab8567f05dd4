"""The demo: a small twin of it here, the real one (gain, control, noise) marked slow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the demo needs the extra 'demo'")

from brain_tuning.corpus.simulator.simulate import Simulation
from brain_tuning.demo import run_demo
from brain_tuning.hub.layout import check_layout
from brain_tuning.tuning.recipe import load_recipe

SMALL = Simulation(n_subjects=1, n_train_stories=2, story_s=60, test_story_s=60, n_repeats=3)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo")
    run_demo(output, simulation=SMALL, recipe=load_recipe("demo").changed(epochs=1), control=True)
    return output


def test_summary_has_a_row_for_each_region_and_model(demo: Path) -> None:
    rows = json.loads((demo / "summary.json").read_text())["rows"]
    regions = {row["region"] for row in rows}
    assert {row["model"] for row in rows} == {"untuned", "tuned-all", "tuned-AC", "tuned-control"}
    assert len(rows) == 4 * len(regions)
    assert all(
        any(kind in name for kind in ("auditory", "phonetic", "semantic", "word-rate", "noise")) for name in regions
    )
    assert {"subject", "region", "model", "r", "r_normalised", "ceiling", "n_voxels", "truth"} <= set(rows[0])


def test_published_folders_have_the_layout_and_load_tuned(demo: Path) -> None:
    assert sorted(path.name for path in (demo / "hub").iterdir()) == ["brainwavlm-s1-ac", "brainwavlm-s1-all"]
    for folder in (demo / "hub").iterdir():
        report = check_layout(folder)
        assert report.has_backbone
        assert str(demo) not in (folder / "README.md").read_text()
    loaded = json.loads((demo / "summary.json").read_text())["loaded_back"]
    assert all(found["from_adapter"] < 1e-5 < found["from_base"] for found in loaded.values())


def test_report_is_one_file_that_says_simulated(demo: Path) -> None:
    text = (demo / "report.html").read_text()
    assert "Simulated" in text
    assert 'src="http' not in text


def test_running_it_again_tunes_nothing_anew(demo: Path) -> None:
    before = (demo / "tune" / "s1-all" / "run.json").stat().st_mtime_ns
    first = json.loads((demo / "summary.json").read_text())["rows"]
    again = run_demo(demo, simulation=SMALL, recipe=load_recipe("demo").changed(epochs=1), control=True)["rows"]
    assert (demo / "tune" / "s1-all" / "run.json").stat().st_mtime_ns == before
    assert again == first


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tuning_gains_on_meaning_and_the_control_does_not(tmp_path: Path, seed: int) -> None:
    rows = run_demo(tmp_path, seed=seed, control=True)["rows"]

    def mean_r(model: str, kind: str) -> float:
        chosen = [row for row in rows if row["model"] == model and kind in row["region"]]
        return float(np.average([row["r"] for row in chosen], weights=[row["n_voxels"] for row in chosen]))

    untuned = mean_r("untuned", "semantic")
    assert mean_r("tuned-all", "semantic") > 1.10 * untuned
    assert mean_r("tuned-control", "semantic") < 1.02 * untuned
    for row in rows:
        if row["region"] == "noise":
            assert abs(row["r"]) < 0.02, row

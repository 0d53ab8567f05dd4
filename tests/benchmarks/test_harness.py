"""Small twins of the benchmarks, and the harness that decides what may be printed. No assertion on real time."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    adapter_switch,
    corpus_read,
    epoch_cached,
    features_story,
    gpu_features_story,
    gpu_multi_subject,
    gpu_tuning_step,
    gpu_wavlm_forward,
    harness,
    lanczos,
    machine,
    memory,
    metric,
    multi_subject,
    query_search,
    ridge_cv,
    run,
    speech_models,
    superb_frozen,
    table,
    tuning_step,
    wavlm_forward,
)
from benchmarks.harness import Case, DisagreementError, Goal, Result, Side, Work, run_case
from benchmarks.memory import Peak
from brain_tuning.errors import BrainTuningError

CHECKOUT = Path(__file__).resolve().parents[2]
TINY: dict[ModuleType, Any] = {
    lanczos: lanczos.Sizes(n_frames=200, width=8, n_trs=20),
    corpus_read: corpus_read.Sizes(n_runs=3, run_trs=20, n_voxels=60, window_trs=5, n_windows=4),
    metric: metric.Sizes(n_trs=20, n_voxels=50),
    adapter_switch: adapter_switch.Sizes(width=32, n_layers=2, conv_width=16, layer=1, n_voxels=6),
    wavlm_forward: wavlm_forward.Sizes(seconds=1, width=32, n_layers=2, conv_width=16),
    features_story: features_story.Sizes(seconds=20, n_timed=1, width=64, n_layers=2),
    tuning_step: tuning_step.Sizes(seconds=4, width=64, n_layers=2, layer=1, n_voxels=20),
    multi_subject: multi_subject.Sizes(n_subjects=2, n_trs=2, context_s=1, width=64, n_layers=2, n_voxels=20),
    gpu_wavlm_forward: gpu_wavlm_forward.Sizes(seconds=1, width=32, n_layers=2, conv_width=16),
    gpu_features_story: gpu_features_story.Sizes(seconds=18, n_timed=1, width=64, n_layers=2),
    gpu_tuning_step: gpu_tuning_step.Sizes(seconds=4, n_clips=2, width=64, n_layers=2, layer=1, n_voxels=20),
    gpu_multi_subject: gpu_multi_subject.Sizes(n_subjects=2, n_trs=2, context_s=1, width=64, n_layers=2, n_voxels=20),
    epoch_cached: epoch_cached.Sizes(n_trs=2, context_s=1, width=64, n_layers=2, n_voxels=20),
    superb_frozen: superb_frozen.Sizes(n_utterances=6, seconds=1, width=64, n_layers=2, batch_size=3),
    query_search: query_search.Sizes(n_queries=2, n_documents=3, query_frames=9, document_frames=20, width=8),
    ridge_cv: ridge_cv.Sizes(n_trs=240, n_features=24, n_voxels=200, n_many_voxels=30, voxels_a_fit=8),
}


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rates from samples too short to be good, but over at once."""
    monkeypatch.setitem(machine._SIDE, "cpu", 32)
    monkeypatch.setitem(machine._COPIED_BYTES, "cpu", 1 << 12)


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(harness, "perf_counter", made)
    return made


@dataclasses.dataclass(frozen=True)
class FakeSizes:
    n: int = 1


def fake(ours: Side, peer: Side, *, goal: Goal | None = None, work: Work | None = None, apart: float = 0.0) -> Any:
    """A benchmark module with one case whose results are ``apart``."""
    case = Case(ours, peer, goal or Goal(2.0), work or Work(), lambda a, b: {"value": apart}, {"value": 1e-3})
    return SimpleNamespace(
        __name__="benchmarks.fake", Sizes=FakeSizes, FULL=FakeSizes(9), DEVICES=("cpu",),
        CASES={"only": lambda sizes, folder, device: case},
    )  # fmt: skip


def result_of(benchmark: Any, folder: Path, **options: Any) -> Result:
    return run_case(benchmark, "only", FakeSizes(), folder, **{"repeats": 3, "memory": False, **options})


@pytest.mark.parametrize(("benchmark", "case"), [(b, case) for b in TINY for case in b.CASES])
def test_a_small_twin_runs_and_agrees(benchmark: Any, case: str, tmp_path: Path) -> None:
    result = run_case(benchmark, case, TINY[benchmark], tmp_path, repeats=2, sample_s=0.0, memory=False)
    assert result.name == f"{benchmark.__name__.removeprefix('benchmarks.')}/{case}"
    assert len(result.ratios) == 2
    assert math.isfinite(result.ratio)
    assert result.ratio > 0
    assert set(result.differences) == set(result.tolerances)
    assert all(result.differences[key] <= limit for key, limit in result.tolerances.items())
    assert json.loads(json.dumps(result.as_json()))["sizes"] == dataclasses.asdict(TINY[benchmark])
    # Fresh processes build the case from the files that are there.
    again = benchmark.CASES[case](TINY[benchmark], tmp_path, "cpu")
    assert again.goal == result.goal


def test_the_gpus_benchmarks_are_the_first_four_at_base_plus_in_bfloat16(tmp_path: Path) -> None:
    """On a CPU here, which computes them as well; their sizes are the goals', and nothing smaller comes by default."""
    for benchmark in (gpu_wavlm_forward, gpu_features_story, gpu_tuning_step, gpu_multi_subject):
        assert benchmark.DEVICES == ("cuda",)
        assert benchmark.Sizes() == benchmark.FULL
        assert (benchmark.FULL.width, benchmark.FULL.n_layers) == (768, 12)
        (case,) = (build(TINY[benchmark], tmp_path, "cpu") for build in benchmark.CASES.values())
        assert case.work.bf16
        assert case.work.flops > 0
        assert case.work.audio_s > 0
    assert gpu_tuning_step.FULL.n_voxels == gpu_multi_subject.FULL.n_voxels == 95_556


def test_tunings_goal_on_a_gpu_is_a_share_of_its_own_rate(tmp_path: Path) -> None:
    case = gpu_tuning_step.build(TINY[gpu_tuning_step], tmp_path, "cpu")
    assert case.goal == Goal(2.5, memory_share=0.25, rate_share=0.4)
    assert case.work.audio_s == 8


def test_a_step_counts_the_products_that_it_makes() -> None:
    """Against torch's own counter, of a chain that is frozen below a head: forward, and each part's own backward."""
    width, n_frames, n_trs, n_voxels = 16, 100, 4, 30
    frozen = torch.nn.Sequential(*[torch.nn.Linear(width, width, bias=False) for _ in range(12)])
    frozen.requires_grad_(False)
    head = torch.nn.Sequential(torch.nn.Linear(4 * width, 100, bias=False), torch.nn.Linear(100, n_voxels, bias=False))
    hidden = torch.randn(n_frames, width, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        attended = frozen(hidden) + torch.softmax(hidden @ hidden.detach().T, 1) @ hidden.detach()
        head(attended.view(-1)[: n_trs * 4 * width].view(n_trs, 4 * width)).sum().backward()
    windows = [torch.empty(1, n_frames * 320)]
    stated = speech_models.step_flops(windows, width=width, n_layers=1, n_trs=n_trs, n_voxels=n_voxels)
    assert stated == counter.get_total_flops()


def test_products_in_bfloat16_are_held_against_the_rate_of_these(clock: Clock, tmp_path: Path) -> None:
    sides = Side("a", lambda: clock.spend(2.0)), Side("b", lambda: clock.spend(8.0))
    work = Work(flops=12.0, bf16=True, audio_s=16.0)
    rates = machine.Rates(gemm_float32=10.0, gemm_bfloat16=60.0, copy=4.0)
    result = dataclasses.replace(result_of(fake(*sides, work=work), tmp_path), rates=rates)
    assert result.rate_share == 0.1
    assert result.audio_rates == (8.0, 2.0)
    assert result.as_json()["audio_rates"] == (8.0, 2.0)
    cells = [cell.strip() for cell in table.render([result]).splitlines()[2].split("|")]
    assert cells[-2:] == ["0.1 of bf16 GEMM", "8 / 2"]
    in_float32 = dataclasses.replace(result, work=Work(flops=12.0))
    assert in_float32.rate_share == 0.6
    assert in_float32.audio_rates is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmarks_are_left_out_and_asking_for_it_is_an_error(tmp_path: Path, capsys) -> None:
    assert run.main(["gpu_tuning_step", "--output", str(tmp_path)]) == 0
    assert "gpu_tuning_step/later_epochs: left out, torch sees no GPU" in capsys.readouterr().err
    assert run.main(["tuning_step", "--device", "cuda", "--output", str(tmp_path)]) == 2
    assert "torch sees no GPU [--device cuda]; expected a CUDA device" in capsys.readouterr().err


def test_every_module_of_the_folder_is_run_and_says_what_it_compares() -> None:
    written = {path.stem for path in (CHECKOUT / "benchmarks").glob("*.py") if "\nCASES" in path.read_text()}
    assert written == set(run.BENCHMARKS)
    assert {module.__name__ for module in TINY} == {f"benchmarks.{name}" for name in run.BENCHMARKS}
    for benchmark, _ in run.chosen([]):
        text = str(benchmark.__doc__)
        assert all(word in text for word in ("Workload: ", "Peer", "Goal")), benchmark.__name__
        assert isinstance(benchmark.FULL, benchmark.Sizes)
        # They travel to a fresh process as JSON.
        assert all(isinstance(value, int) for value in dataclasses.asdict(benchmark.FULL).values())


def test_programs_take_turns_and_ratios_are_taken_pair_by_pair(clock: Clock, tmp_path: Path) -> None:
    """A machine that becomes ten times slower half-way leaves every ratio as it is."""
    log: list[str] = []
    slower = iter([1.0] * 6 + [10.0] * 20)

    def program(name: str, seconds: float) -> Callable[[], None]:
        def work() -> None:
            log.append(name)
            clock.spend(seconds * next(slower))

        return work

    result = result_of(fake(Side("a", program("a", 1.0)), Side("b", program("b", 3.0))), tmp_path, repeats=5)
    assert log == ["a", "b", "a", "b"] + ["a", "b"] * 5  # agreement, length of a call, then the pairs
    assert result.ratios == [3.0] * 5
    assert result.ours_s == [1.0, 10.0, 10.0, 10.0, 10.0]


def test_the_ratio_is_the_median_of_the_pairs(clock: Clock, tmp_path: Path) -> None:
    """Which the ratio of the two medians, 5, is not."""
    ours, peer = iter([1.0, 1.0, 1.0, 10.0, 2.0]), iter([4.0, 4.0, 4.0, 20.0, 10.0])
    sides = Side("a", lambda: clock.spend(next(ours))), Side("b", lambda: clock.spend(next(peer)))
    result = result_of(fake(*sides), tmp_path)
    assert result.ratios == [4.0, 2.0, 5.0]
    assert result.ratio == 4.0
    assert "| 4x    | 2x to 5x |" in table.render([result])


def test_preparing_a_run_is_not_timed_and_short_calls_are_repeated(clock: Clock, tmp_path: Path) -> None:
    counted = {"before": 0, "run": 0}

    def before() -> None:
        counted["before"] += 1
        clock.spend(100.0)

    def ours() -> None:
        counted["run"] += 1
        clock.spend(2**-7)

    result = result_of(fake(Side("a", ours, before), Side("b", lambda: clock.spend(5.0))), tmp_path, sample_s=0.25)
    assert (result.ours_calls, result.peer_calls) == (32, 1)
    assert counted == {"before": 2 + 3 * 32, "run": 2 + 3 * 32}
    assert result.ours_s == [2**-7] * 3


def test_a_part_of_the_work_is_scaled_up_and_labelled(clock: Clock, tmp_path: Path) -> None:
    part = Side("hours", lambda: clock.spend(3.0), share=0.125)
    result = result_of(fake(Side("a", lambda: clock.spend(2.0)), part), tmp_path)
    assert result.peer_s == [24.0] * 3
    assert result.ratio == 12.0
    assert "a against hours (timed on 0.12 of the work)" in table.render([result])


@pytest.mark.parametrize("apart", [0.5, math.nan])
def test_no_ratio_for_results_that_differ(apart: float, tmp_path: Path) -> None:
    nothing = Side("fast", lambda: None)
    with pytest.raises(DisagreementError, match=rf"fast and slow differ by {apart} in value \[fake/only\]"):
        result_of(fake(nothing, Side("slow", lambda: None), apart=apart), tmp_path)


def test_a_difference_that_is_not_reported_is_a_disagreement() -> None:
    side = Side("a", lambda: None)
    case = Case(side, side, Goal(1.0), Work(), lambda a, b: {}, {"value": 1.0})
    with pytest.raises(DisagreementError, match="differ by nan in value"):
        harness.check_agreement("x", case, None, None)


@pytest.fixture
def only_fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Lets the command line run one given benchmark and no other."""

    def put(benchmark: Any) -> None:
        monkeypatch.setitem(sys.modules, "benchmarks.fake", benchmark)
        monkeypatch.setattr(run, "BENCHMARKS", ("fake",))

    return put


def test_the_command_prints_a_table_and_writes_json(only_fake, clock, tmp_path, capsys) -> None:
    only_fake(fake(Side("new", lambda: clock.spend(1.0)), Side("old", lambda: clock.spend(8.0))))
    assert run.main(["--no-memory", "--repeats", "2", "--output", str(tmp_path), "--full"]) == 0
    printed = capsys.readouterr().out
    assert "fake/only | 1 s  | 8 s  | 8x    | 8x to 8x | >= 2x | yes" in printed
    assert "fake/only: new against old; 2 pairs; agreed to 0 in value (at most 0.001)" in printed
    (file,) = tmp_path.glob("*.json")
    document = json.loads(file.read_text())
    assert (document["results"][0]["ratio"], document["results"][0]["sizes"]) == (8.0, {"n": 9})
    assert document["versions"]["torch"]
    assert not document["refused"]


def test_the_command_refuses_a_ratio_of_results_that_differ(only_fake, tmp_path, capsys) -> None:
    only_fake(fake(Side("new", lambda: None), Side("old", lambda: None), apart=1.0))
    assert run.main(["--no-memory", "--output", str(tmp_path)]) == run.EXIT_DISAGREEMENT
    printed = capsys.readouterr().out
    assert "NO RATIO: new and old differ by 1 in value" in printed
    assert "fake/only |" not in printed
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["results"] == []


def test_benchmarks_are_chosen_by_name_or_case() -> None:
    def names(*asked: str) -> list[str]:
        return [f"{benchmark.__name__}/{case}" for benchmark, case in run.chosen(asked)]

    assert names("lanczos") == ["benchmarks.lanczos/story"]
    assert names("ridge_cv/field", "lanczos/story") == ["benchmarks.lanczos/story", "benchmarks.ridge_cv/field"]
    assert {name.split("/")[0].split(".")[1] for name in names()} == set(run.BENCHMARKS)
    with pytest.raises(BrainTuningError, match=r"no such benchmark \[lancsoz\]; expected one of lanczos"):
        names("lancsoz")


def test_sizes_are_changed_by_name(capsys) -> None:
    assert run.sizes_of(lanczos, full=False, changed={"width": 5, "n_voxels": 3}) == lanczos.Sizes(width=5)
    assert run.sizes_of(corpus_read, full=True, changed={}) == corpus_read.FULL
    assert run.main(["lanczos", "--size", "n_voxels=5"]) == 2
    assert "expected KEY=NUMBER with one of n_frames, n_trs, width" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["lanczos", "--repeats", "0"])


def test_goals_of_memory_and_rate_are_checked(clock: Clock, tmp_path: Path) -> None:
    goal = Goal(2.0, memory_share=0.25, resident_bytes=100.0, rate_share=0.6)
    sides = Side("a", lambda: clock.spend(1.0)), Side("b", lambda: clock.spend(1.5))
    measured = result_of(fake(*sides, goal=goal, work=Work(flops=1e-6)), tmp_path)
    assert measured.missed() == ["time", "memory share", "memory", "rate"]
    rates = machine.Rates(gemm_float32=10.0, gemm_bfloat16=1.0, copy=4.0)
    good = dataclasses.replace
    reached = good(
        measured, peer_s=[2.0] * 3, ours_peak=Peak(25, 100), peer_peak=Peak(100, 1), work=Work(flops=6.0), rates=rates
    )  # fmt: skip
    assert reached.missed() == []
    assert (reached.memory_share, reached.rate_share) == (0.25, 0.6)
    assert good(reached, work=Work(bytes=3.0)).rate_share == 0.75
    assert good(reached, ours_peak=Peak(26, 101)).missed() == ["memory share", "memory"]
    assert good(reached, work=Work(flops=5.0)).missed() == ["rate"]
    line = table.render([reached]).splitlines()[2]
    assert "| 2x    | 2x to 2x | >= 2x, memory <= 0.25x, < 9.54e-05 MiB, >= 60% of rate | yes " in line
    assert line.rstrip(" |-").endswith("| 0.6 of GEMM")


def test_memory_is_the_growth_while_a_side_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB held while preparing, then freed; 48 MiB taken and freed by ours, 16 MiB returned by the peer."""
    (tmp_path / "allocating.py").write_text(
        "from dataclasses import dataclass\n"
        "from types import SimpleNamespace\n"
        "@dataclass(frozen=True)\n"
        "class Sizes:\n"
        "    mib: int\n"
        "def ours(sizes):\n"
        "    held = b'x' * (3 * sizes.mib << 20)\n"
        "    return len(held)\n"
        "def build(sizes, folder, device):\n"
        "    b'x' * (4 * sizes.mib << 20)\n"
        "    build.kept = b'x' * (2 * sizes.mib << 20)\n"
        "    sides = {'ours': lambda: ours(sizes), 'peer': lambda: b'x' * (sizes.mib << 20)}\n"
        "    return SimpleNamespace(**{n: SimpleNamespace(run=r, before=None) for n, r in sides.items()})\n"
        "CASES = {'only': build}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    import allocating  # type: ignore[import-not-found]

    growth = {}
    for side in ("ours", "peer"):
        peak = memory.peak_in_fresh_process(allocating, "only", side, allocating.Sizes(16), tmp_path, "cpu")
        assert peak.resident > peak.growth + (32 << 20)  # with what was prepared
        growth[side] = peak.growth / (1 << 20)
    assert 47 < growth["ours"] < 52
    assert 15 < growth["peer"] < 20


def test_the_machine_has_rates() -> None:
    measured = machine.Machine("cpu")
    for _ in range(3):
        measured.sample()
    assert all(value > 0 and math.isfinite(value) for value in dataclasses.astuple(measured.rates()))


def test_ridge_counts_the_products_that_it_makes(tmp_path: Path) -> None:
    """Against torch's own counter: the share of the machine's rate is not talked up."""
    sizes = ridge_cv.Sizes(n_trs=500, n_features=100, n_voxels=300, n_penalties=15)
    problem = ridge_cv._problem(sizes, tmp_path, sizes.n_voxels)
    with FlopCounterMode(display=False) as counter:
        ridge_cv.fit_ours(problem, "cpu")
    grams = 2 * 2 * sizes.n_trs * sizes.n_features**2  # summed in place, which torch does not count
    stated = ridge_cv.product_flops(sizes, sizes.n_voxels)
    assert stated == pytest.approx(counter.get_total_flops() + grams, rel=0.01)


def test_ridge_responses_ask_for_different_penalties(tmp_path: Path) -> None:
    """Else the programs would agree on the penalty whatever they do."""
    fitted = ridge_cv.fit_field(ridge_cv._problem(TINY[ridge_cv], tmp_path, 200))
    assert len(set(fitted.penalty)) >= 3
    assert torch.from_numpy(fitted.score).isfinite().all()

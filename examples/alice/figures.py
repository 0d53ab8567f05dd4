"""Tables and figures of docs/alice.md from the results of ``brain-tuning align``.

    python examples/alice/figures.py DATA ALIGN OUTPUT

ALIGN holds one folder a subject with its ``results.json``; OUTPUT gets ``alice-timing.png`` and
``alice-regions.png``. The tables are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prepare import GROUP, is_alive, leave_one_out_isc, read_people
from published import lag_scan, published_r, regressors, word_times_s
from scipy.stats import spearmanr

from brain_tuning.errors import CorpusError
from brain_tuning.report.images import report_style, save_figure
from brain_tuning.report.palette import COLOURS, INK
from brain_tuning.terminal import run_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENVELOPE, WORD_RATE, BOTH = "envelope", "word-rate", "envelope+word-rate"
#: model -> region -> value
Scores = Mapping[str, Mapping[str, float]]


def read_results(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """r of every subject, model and region, NaN where there is none.

    Args:
        folder: with one folder a subject, as ``brain-tuning align`` writes them.

    Raises:
        CorpusError: there is no result of the group.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for file in sorted(folder.glob("*/results.json")):
        rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
        for row in rows:
            r = np.nan if row["r"] is None else row["r"]
            found.setdefault(file.parent.name, {}).setdefault(row["model"], {})[row["region"]] = r
            ceiling = np.nan if row["ceiling"] is None else row["ceiling"]
            found[file.parent.name].setdefault("ceiling", {})[row["region"]] = ceiling
    if GROUP not in found:
        raise CorpusError("there is no result of the group", where=folder / GROUP / "results.json")
    return found


def rank_correlation(ours: Mapping[str, float], theirs: Mapping[str, float], spheres: str) -> float:
    """Spearman correlation of the order of the six regions at one size of sphere, e.g. ``10mm``."""
    names = [name for name in theirs if name.endswith(spheres)]
    return float(spearmanr([ours[name] for name in names], [theirs[name] for name in names]).statistic)


def timing_figure(data: Path) -> Figure:
    """The published word rate against convolved words sampled at ``20 + 2 i + lag`` s."""
    lags_s = np.arange(-2, 2.001, 0.05)
    course = regressors(data)["word rate"]
    with report_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        panel = figure.subplots()
        for colour, (moment, times_s) in zip(COLOURS, word_times_s(data).items(), strict=False):
            panel.plot(lags_s, lag_scan(times_s, course, lags_s), color=colour, label=f"words at their {moment}")
        panel.axvline(0, color=INK, lw=0.8, ls="--")
        panel.set(xlabel="Lag d (s): row i at 20 + 2 i + d", ylabel="r with the published word rate")
        panel.set_title("Where a row of the recordings lies in time", loc="left")
        panel.legend(loc="lower center")
        return figure


def regions_figure(results: Mapping[str, Scores], theirs: Scores) -> Figure:
    """Group and people by region, with the ceiling and the published regressors' own correlations."""
    with report_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 7.2), layout="constrained")
        panels = figure.subplots(2, 1, sharey=True)
        for panel, spheres in zip(panels, ("10mm", "6mm"), strict=True):
            names = [name for name in theirs["word rate"] if name.endswith(spheres)]
            _draw_spheres(panel, names, results, theirs)
            panel.set_title(f"Spheres of {spheres.removesuffix('mm')} mm", loc="left")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.suptitle("Alice: 5 contiguous blocks, each predicted from the others (surrogate audio)", size=12)
        return figure


def _draw_spheres(panel: Axes, names: list[str], results: Mapping[str, Scores], theirs: Scores) -> None:
    group = results[GROUP]
    people = [scores for subject, scores in results.items() if subject != GROUP]
    places = np.arange(len(names), dtype=float)
    for k, (model, colour) in enumerate(zip((ENVELOPE, WORD_RATE, BOTH), COLOURS, strict=False)):
        x = places + (k - 1) * 0.26
        heights = [group[model][name] for name in names]
        panel.bar(x, heights, 0.24, color=colour, alpha=0.55, label=f"group, {model}")
        values = np.array([[scores[model][name] for name in names] for scores in people if model in scores])
        if values.size:
            label = "each person" if k == 0 else None
            panel.plot(np.tile(x, len(values)), values.ravel(), ".", ms=4, color=INK, alpha=0.6, mew=0, label=label)
    for regressor, marker, x in (("sound power", "o", places - 0.26), ("word rate", "D", places)):
        r = [theirs[regressor][name] for name in names]
        panel.plot(x, r, marker, ms=7, mfc="none", mew=1.4, color=COLOURS[5], label=f"published {regressor}, in sample")
    ceiling = [group["ceiling"][name] for name in names]
    panel.hlines(ceiling, places - 0.4, places + 0.4, color=INK, lw=1.8, label="ceiling of the group")
    panel.axhline(0, color=INK, lw=0.8)
    panel.set_xticks(places, [name.partition("-")[0] for name in names])
    panel.set_ylabel("Pearson r")


def _print_tables(results: Mapping[str, Scores], theirs: Scores, isc: Mapping[str, float]) -> None:
    group = results[GROUP]
    models = [model for model in group if model != "ceiling"]
    people = [
        scores for subject, scores in results.items() if subject != GROUP and np.isfinite(scores[WORD_RATE]["all-6mm"])
    ]
    print(f"| region | {' | '.join(models)} | ceiling | people: envelope | people: word-rate | word-rate > 0 | ISC |")
    print(f"|---|{'---:|' * (len(models) + 5)}")
    for region in group[WORD_RATE]:
        cells = [f"{group[model][region]:.2f}" for model in [*models, "ceiling"]]
        by_person = {m: np.array([scores[m][region] for scores in people]) for m in (ENVELOPE, WORD_RATE)}
        cells += [f"{values.mean():.2f}" if values.size else "-" for values in by_person.values()]
        cells.append(f"{(by_person[WORD_RATE] > 0).sum()} of {len(people)}")
        cells.append(f"{isc[region]:.2f}" if region in isc else "")
        print(f"| {region} | {' | '.join(cells)} |")
    print("\nSpearman correlation of the order of six regions, 10 mm | 6 mm")
    for name, ours, reference in (
        ("word-rate with published word rate", group[WORD_RATE], theirs["word rate"]),
        ("envelope with published sound power", group[ENVELOPE], theirs["sound power"]),
        ("envelope with published word rate", group[ENVELOPE], theirs["word rate"]),
        ("word-rate with ISC", group[WORD_RATE], isc),
        ("envelope with ISC", group[ENVELOPE], isc),
    ):
        rho = [rank_correlation(ours, reference, spheres) for spheres in ("-10mm", "-6mm")]
        print(f"{name}: {rho[0]:.2f} | {rho[1]:.2f}")


def _draw_and_print(data: Path, align: Path, output: Path) -> None:
    people, columns = read_people(data)
    mean_isc = np.nanmean(list(leave_one_out_isc({n: b for n, b in people.items() if is_alive(b)}).values()), axis=0)
    isc = dict(zip(columns, mean_isc.tolist(), strict=True))
    theirs = {name: dict(zip(columns, r.tolist(), strict=True)) for name, r in published_r(data).items()}
    results = read_results(align)
    _print_tables(results, theirs, isc)
    output.mkdir(parents=True, exist_ok=True)
    print(save_figure(timing_figure(data), output / "alice-timing.png", dpi=120))
    print(save_figure(regions_figure(results, theirs), output / "alice-regions.png", dpi=110))


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, print and draw; returns the exit code."""
    parser = argparse.ArgumentParser(description="Tables and figures of docs/alice.md.")
    parser.add_argument("data", type=Path, help="folder with the three files of the recordings")
    parser.add_argument("align", type=Path, help="folder with one folder of results a subject")
    parser.add_argument("output", type=Path, help="folder for the figures")
    args = parser.parse_args(argv)
    return run_command(lambda: _draw_and_print(args.data, args.align, args.output))


if __name__ == "__main__":
    sys.exit(main())

"""Table and figures of docs/forrest.md.

    python examples/forrest/figures.py DATA ALIGN OUTPUT

ALIGN is the folder of ``brain-tuning align`` on the group; OUTPUT gets ``forrest-timing.png`` and
``forrest-loudness.png``. The table is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from effects import (
    LAGS_S,
    SPEECH,
    LoudnessEffect,
    design,
    lag_scan,
    loudness_effect,
    speech_boxcars,
    true_loudness_db,
)
from prepare import PEOPLE, leave_one_out_isc, parcel_name, read_people, stacked
from safetensors.numpy import load_file

from brain_tuning.encoding import fdr_bh, noise_ceiling, zscore
from brain_tuning.errors import CorpusError
from brain_tuning.report.images import report_style, save_figure
from brain_tuning.report.palette import COLOURS, GREY, INK
from brain_tuning.terminal import run_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def read_results(folder: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Rows and arrays by parcel of one evaluation.

    Args:
        folder: as ``brain-tuning align --permutations N`` wrote it.

    Raises:
        CorpusError: there is no such result.
    """
    results, arrays = folder / "results.json", folder / "voxels.safetensors"
    for path in (results, arrays):
        if not path.is_file():
            raise CorpusError("there is no result of the group", where=path, remedy="run brain-tuning align first")
    return json.loads(results.read_text())["rows"], load_file(arrays)


def table(rows: Sequence[dict[str, Any]], arrays: dict[str, np.ndarray], parcels: Sequence[int]) -> str:
    """One line a baseline: r by region with its p, the best parcel, and parcels found at FDR 0.05.

    Args:
        rows: of :func:`read_results`.
        arrays: ``r/<baseline>`` and ``p/<baseline>``, (n_parcels,) each.
        parcels: numbers of the parcels.
    """
    regions = list(dict.fromkeys(row["region"] for row in rows))
    found = {(row["model"], row["region"]): row for row in rows}
    lines = [f"| baseline | {' | '.join(regions)} | best parcel | p <= 0.05 | FDR 0.05 |"]
    lines.append(f"|---|{'---:|' * (len(regions) + 3)}")
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = [found[model, region] for region in regions]
        r, p = arrays[f"r/{model}"], arrays[f"p/{model}"]
        chance = ["p < 0.001" if cell["p"] < 0.001 else f"p {cell['p']:.3f}" for cell in cells]
        texts = [f"{cell['r']:.3f} ({p_text})" for cell, p_text in zip(cells, chance, strict=True)]
        texts.append(f"{parcel_name(parcels[int(r.argmax())])} {r.max():.2f}")
        lines.append(f"| {model} | {' | '.join(texts)} | {(p <= 0.05).sum()} | {fdr_bh(p).rejected.sum()} |")
    return "\n".join(lines)


def timing_figure(speech: np.ndarray, loudness: np.ndarray, isc: np.ndarray, parcels: Sequence[int]) -> Figure:
    """Scan over lags of two parcels, and inter-subject correlation by parcel.

    Args:
        speech: r of the speech boxcar by lag and parcel, (n_lags, n_parcels).
        loudness: the same of the true loudness.
        isc: correlation of each person with the mean of the others, (n_people, n_parcels).
        parcels: numbers of the parcels.
    """
    zero = int(np.flatnonzero(LAGS_S == 0)[0])
    with report_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        lags, people = figure.subplots(1, 2, width_ratios=(1, 1.15))
        for name, scan, colour in (("speech", speech, COLOURS[0]), ("true loudness", loudness, COLOURS[1])):
            best = int(scan[zero].argmax())
            lags.plot(LAGS_S, scan[:, best], color=colour, lw=1.8, label=f"{name}, {parcel_name(parcels[best])}")
            lags.plot(LAGS_S, np.median(scan, axis=1), color=colour, lw=1.2, ls=":", label=f"{name}, median parcel")
        lags.axvline(0, ymax=0.7, color=INK, lw=0.8, ls="--")
        lags.axhline(0, color=INK, lw=0.8)
        lags.set(xlabel="Lag d (s): row i at 2 i + 1 + d", ylabel="r with the group", ylim=(-0.1, 1.1))
        lags.set_xticks([-10, -5, 0, 5, 10])
        lags.set_title("Course x canonical response", loc="left")
        lags.legend(loc="upper left", fontsize=8.5)
        _draw_isc(people, isc)
        figure.suptitle("Forrest: where a row lies in time, and what people have in common", size=12)
        return figure


def _draw_isc(panel: Axes, isc: np.ndarray) -> None:
    order = np.argsort(isc.mean(axis=0))[::-1]
    rank = np.arange(1, len(order) + 1)
    label = "each person with the mean of the others"
    panel.plot(np.tile(rank, len(isc)), isc[:, order].ravel(), ".", ms=3, mew=0, color=GREY, alpha=0.6, label=label)
    panel.plot(rank, isc.mean(axis=0)[order], color=COLOURS[2], lw=2, label="mean over people")
    panel.axhline(0, color=INK, lw=0.8)
    panel.set(xlabel="Parcels, in order of the mean", ylabel="Pearson r")
    panel.set_title("Inter-subject correlation", loc="left")
    panel.legend(loc="upper right", fontsize=8.5, markerscale=3)


def loudness_figure(effect: LoudnessEffect, isc: np.ndarray, ceiling: np.ndarray) -> Figure:
    """r by parcel from the true loudness, in order of what bounds it from above.

    Args:
        effect: of the true loudness.
        isc: correlation of each person with the mean of the others, (n_people, n_parcels).
        ceiling: noise ceiling of the group, (n_parcels,).
    """
    significant = fdr_bh(effect.chance.p).rejected
    with report_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        group, people = figure.subplots(2, 1, sharex=True)
        order = np.argsort(isc.mean(axis=0))[::-1]
        rank = np.arange(1, len(order) + 1)
        r, found = effect.group_r[order], significant[order]
        group.plot(rank, ceiling[order], "_", ms=5, mew=1.4, color=INK, label="ceiling of the group")
        for chosen, colour, name in ((found, COLOURS[0], "found"), (~found, GREY, "not found")):
            label = f"r of the group, {name} ({chosen.sum()})"
            group.vlines(rank[chosen], 0, r[chosen], color=colour, lw=2, label=label)
        group.set_title("Mean of six people (found: on the last run, at FDR 0.05)", loc="left")
        values = effect.people_r[:, order]
        people.plot(rank, isc.mean(axis=0)[order], color=INK, lw=1.4, label="inter-subject correlation")
        people.vlines(
            rank, values.min(axis=0), values.max(axis=0), color=COLOURS[4], lw=1.2, alpha=0.6, label="r, worst to best"
        )
        people.plot(rank, values.mean(axis=0), ".", ms=5, mew=0, color=COLOURS[0], label="r, mean over people")
        people.set_title("Each person by itself", loc="left")
        people.set_xlabel("Parcels, in order of inter-subject correlation")
        for panel in (group, people):
            panel.axhline(0, color=INK, lw=0.8)
            panel.set_ylabel("Pearson r")
            panel.set_xlim(-1, len(order) + 2)
            panel.legend(loc="upper right", ncols=3, fontsize=8.5)
        group.set_ylim(top=1.12)
        figure.suptitle("Forrest: true loudness, each run predicted from the seven others", size=12)
        return figure


def _draw_and_print(data: Path, align: Path, output: Path) -> None:
    rows, arrays = read_results(align)
    people, parcels = read_people(data)
    print(table(rows, arrays, parcels))
    lengths = [len(run) for run in people[PEOPLE[0]]]
    bold = stacked(people)
    group, isc = zscore(bold.mean(axis=0), lengths), leave_one_out_isc(bold)
    loudness = true_loudness_db(data)
    boxcars = speech_boxcars(data, [len(course) for course in loudness], (SPEECH,))
    timing = timing_figure(lag_scan(boxcars, group, lengths), lag_scan(loudness, group, lengths), isc, parcels)
    by_parcel = loudness_figure(loudness_effect(design(loudness, lengths), bold, lengths), isc, noise_ceiling(bold))
    output.mkdir(parents=True, exist_ok=True)
    print(save_figure(timing, output / "forrest-timing.png", dpi=110))
    print(save_figure(by_parcel, output / "forrest-loudness.png", dpi=110))


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, print and draw; returns the exit code."""
    parser = argparse.ArgumentParser(description="Table and figures of docs/forrest.md.")
    parser.add_argument("data", type=Path, help="folder with the files of the recordings")
    parser.add_argument("align", type=Path, help="folder with the results of the group")
    parser.add_argument("output", type=Path, help="folder for the figures")
    args = parser.parse_args(argv)
    return run_command(lambda: _draw_and_print(args.data, args.align, args.output))


if __name__ == "__main__":
    sys.exit(main())

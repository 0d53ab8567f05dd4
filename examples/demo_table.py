"""Print a Markdown table of several demos: ``python examples/demo_table.py runs/demo-*/summary.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

KINDS = ("auditory", "phonetic", "semantic", "word-rate", "noise")


def mean_r(rows: list[dict], model: str, kind: str) -> float | None:
    """Mean correlation over the voxels of all regions of a kind and all subjects."""
    chosen = [row for row in rows if row["model"] == model and kind in row["region"]]
    n_voxels = sum(row["n_voxels"] for row in chosen)
    return sum(row["r"] * row["n_voxels"] for row in chosen) / n_voxels if n_voxels else None


def main(paths: list[str]) -> None:
    """One line a demo and kind of region."""
    models = ("untuned", "tuned-all", "tuned-AC", "tuned-control")
    print("| seed | regions | " + " | ".join(models) + " | gain of tuned-all |")
    print("|---" * (len(models) + 3) + "|")
    for path in paths:
        summary = json.loads(Path(path).read_text())
        for kind in KINDS:
            scores = [mean_r(summary["rows"], model, kind) for model in models]
            cells = ["" if score is None else f"{score:.3f}" for score in scores]
            untuned, tuned = scores[0], scores[1]
            gain = f"{100 * (tuned / untuned - 1):+.1f} %" if untuned and tuned and kind != "noise" else ""
            print(f"| {summary['seed']} | {kind} | " + " | ".join(cells) + f" | {gain} |")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Lay out the Alice recordings (Brennan et al. 2016, CC BY 4.0) for ``brain-tuning corpus folder``.

    python examples/alice/prepare.py DATA OUTPUT
    python examples/alice/prepare.py DATA OUTPUT --pieces

DATA holds ``alice_roi_timeseries.npz``, ``alice_ch1.TextGrid`` and ``alice_ch1_surrogate_tts.ogg``. OUTPUT gets
``corpus.yaml``, one table of responses a person, and links to the audio and the TextGrid. See docs/alice.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from brain_tuning.atomic import whole_file
from brain_tuning.corpus.ceiling import schoppe_ceiling
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.errors import CorpusError
from brain_tuning.terminal import run_command

RESPONSES, TEXTGRID, AUDIO = "alice_roi_timeseries.npz", "alice_ch1.TextGrid", "alice_ch1_surrogate_tts.ogg"
SPHERES_MM = (10, 6)
TR_S = 2.0
#: Ten volumes were dropped, so the first row's acquisition starts 20 s after the scan and the audio began
#: (docs/alice.md, "Where a row lies in time").
ONSET_S = 20.0
#: cut-off of the high-pass, as in the paper; in the shared series the slow drifts are still there
HIGH_PASS_S = 128.0
GROUP = "group"
#: The recording whole, for cross-validation, and cut, for tuning: (split, first row, rows). Cut, the ten rows
#: between validation and test are in no split, so that haemodynamics do not reach from one to the other.
WHOLE = (("train", 0, 362),)
PIECES = (("train", 0, 240), ("validation", 240, 40), ("test", 290, 72))
SOURCE = (
    "Brennan, Stabler, Van Wagenen, Luh, Hale 2016, Brain and Language 157-158, 81-94; "
    "daandouwe/Thesis @ ec54039, brain-data/syntax-in-rnng/alice_data_shared"
)


def high_pass(bold: np.ndarray, cutoff_s: float, tr_s: float = TR_S) -> np.ndarray:
    """Remove slow drifts: the residual of a regression on the discrete cosines slower than the cut-off.

    Args:
        bold: responses, (n_trs, n_voxels).
        cutoff_s: shortest period removed in s; 0 removes nothing.
        tr_s: time between two rows in s.

    Returns:
        Responses of mean 0, (n_trs, n_voxels); unchanged for a cut-off of 0.

    Source: the high-pass of SPM8, which Brennan et al. 2016 used.
    """
    if cutoff_s == 0:
        return bold
    n_trs = len(bold)
    order = np.arange(int(2 * n_trs * tr_s / cutoff_s) + 1)
    cosines = np.cos(np.pi * (2 * np.arange(n_trs)[:, None] + 1) * order / (2 * n_trs))
    return bold - cosines @ np.linalg.lstsq(cosines, bold, rcond=None)[0]


def read_people(data: Path, high_pass_s: float = HIGH_PASS_S) -> tuple[dict[str, np.ndarray], list[str]]:
    """Responses by person.

    Args:
        data: folder of the recordings.
        high_pass_s: cut-off of the high-pass in s, 0 for none.

    Returns:
        ``s<number>`` -> responses (362, 12), and the names of the columns, e.g. ``LATL-10mm``.

    Raises:
        CorpusError: a file is missing.
    """
    for name in (RESPONSES, TEXTGRID, AUDIO):
        if not (data / name).is_file():
            raise CorpusError("a file of the Alice recordings is missing", where=data / name)
    with np.load(data / RESPONSES, allow_pickle=False) as arrays:
        columns = [f"{roi}-{radius}mm" for radius in SPHERES_MM for roi in arrays["rois"]]
        bold = np.concatenate([arrays[f"roi_{radius}mm"] for radius in SPHERES_MM], axis=2)
        people = {f"s{name}": bold[k].astype(np.float64) for k, name in enumerate(arrays["subjects"])}
    return {name: high_pass(values, high_pass_s) for name, values in people.items()}, columns


def is_alive(bold: np.ndarray) -> bool:
    """Whether every column (n_trs, n_voxels) varies; person 33's are all zero."""
    return bool(np.isfinite(zscore(bold)).all())


def leave_one_out_isc(people: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Correlation of each person with the mean of the others, (n_voxels,) by person.

    Args:
        people: responses (n_trs, n_voxels) by person; those that do not vary get NaN and are in no mean.
    """
    normal = {name: zscore(bold) for name, bold in people.items() if is_alive(bold)}
    total = np.sum(list(normal.values()), axis=0)
    nothing = np.full(total.shape[1], np.nan)
    return {
        name: pearson_r((total - normal[name]) / (len(normal) - 1), normal[name]) if name in normal else nothing
        for name in people
    }


def prepare(
    data: Path, output: Path, high_pass_s: float = HIGH_PASS_S, runs: Sequence[tuple[str, int, int]] = WHOLE
) -> Path:
    """Write the folder that ``brain-tuning corpus folder`` reads.

    People whose responses do not vary are left out: a corpus takes no subject without a usable voxel.

    Args:
        data: folder of the recordings.
        output: folder to write; files of an earlier preparation are replaced.
        high_pass_s: cut-off of the high-pass in s, 0 for none.
        runs: (split, first row, rows) of each run.

    Returns:
        The path of ``corpus.yaml``.

    Raises:
        CorpusError: a file is missing.
    """
    everyone, columns = read_people(data, high_pass_s)
    people = {name: bold for name, bold in everyone.items() if is_alive(bold)}
    ceilings = {name: np.where(isc > 0, isc, np.nan) for name, isc in leave_one_out_isc(people).items()}
    normal = np.stack([zscore(bold) for bold in people.values()])
    responses = {GROUP: normal.mean(axis=0), **people}
    ceilings[GROUP] = schoppe_ceiling(normal)
    output.mkdir(parents=True, exist_ok=True)
    for name, bold in responses.items():
        with whole_file(output / f"{name}.csv") as path:
            np.savetxt(path, bold, "%.6g", ",", header=",".join(columns), comments="")
        with whole_file(output / f"{name}-ceiling.csv") as path:
            np.savetxt(path, ceilings[name][:, None], "%.6g", ",", header="ceiling", comments="")
    for name in (AUDIO, TEXTGRID):
        _link(data / name, output / name)
    description = _description(len(people), sorted(everyone.keys() - people), high_pass_s)
    description["subjects"] = {
        name: {
            "runs": [_run(name, *run) for run in runs],
            "regions": _regions(columns),
            "noise_ceiling": f"{name}-ceiling.csv",
        }
        for name in responses
    }
    with whole_file(output / "corpus.yaml") as path:
        path.write_text(yaml.safe_dump(description, sort_keys=False, width=110), encoding="utf-8")
    return output / "corpus.yaml"


def _link(source: Path, link: Path) -> None:
    link.unlink(missing_ok=True)
    try:
        os.symlink(source.resolve(), link)
    except OSError:  # a file system without links
        shutil.copyfile(source, link)


def _description(n_people: int, left_out: list[str], high_pass_s: float) -> dict[str, Any]:
    drifts = f"high-passed at 1/{high_pass_s:g} Hz" if high_pass_s else "with their slow drifts"
    return {
        "name": "alice",
        "source": SOURCE,
        "licence": "CC BY 4.0",
        "surrogate_audio": True,
        "notes": [
            "surrogate audio: a synthetic voice (espeak-ng) at the true times of the words, not what was heard",
            f"responses are means over spheres, {drifts}",
            f"{GROUP} is the mean over the {n_people} people, each z-scored; "
            f"left out, being constant: {', '.join(left_out)}",
            "ceiling of a person: correlation with the mean of the others, a bound from below; "
            f"of {GROUP}: Schoppe et al. 2016 with people as repeats",
        ],
        "tr_s": TR_S,
        "onset_s": ONSET_S,
        "stories": {"alice_ch1": {"audio": AUDIO, "textgrid": TEXTGRID}},
    }


def _run(name: str, split: str, first_tr: int, n_trs: int) -> dict[str, Any]:
    return {
        "story": "alice_ch1", "split": split, "responses": f"{name}.csv", "first_tr": first_tr, "n_trs": n_trs
    }  # fmt: skip


def _regions(columns: list[str]) -> dict[str, list[str]]:
    """Each sphere by itself, and the six of one size together."""
    together = {f"all-{radius}mm": [c for c in columns if c.endswith(f"-{radius}mm")] for radius in SPHERES_MM}
    return {**{column: [column] for column in columns}, **together}


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and prepare; returns the exit code."""
    parser = argparse.ArgumentParser(description="Lay out the Alice recordings for `brain-tuning corpus folder`.")
    parser.add_argument("data", type=Path, help="folder with the three files of the recordings")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument(
        "--high-pass-s", type=float, default=HIGH_PASS_S, help="cut-off in s (default: 128); 0 keeps drifts"
    )
    parser.add_argument(
        "--pieces", action="store_true", help="cut the recording into train, validation and test, for tuning"
    )
    args = parser.parse_args(argv)
    runs = PIECES if args.pieces else WHOLE
    return run_command(lambda: print(f"prepared: {prepare(args.data, args.output, args.high_pass_s, runs)}"))


if __name__ == "__main__":
    sys.exit(main())

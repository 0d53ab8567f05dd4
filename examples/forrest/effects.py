"""What the true soundtrack and the true speech times say about the studyforrest movie recordings.

    python examples/forrest/effects.py DATA

Inter-subject correlation, a scan over lags, and the recordings predicted from the loudness of the TRUE soundtrack, one
run left out at a time: what results on the surrogate audio are held against. See docs/forrest.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prepare import (
    GROUP,
    PEOPLE,
    RUNS,
    SPOKEN,
    TR_S,
    audio_file,
    leave_one_out_isc,
    parcel_name,
    present,
    read_people,
    read_sentences,
    stacked,
)
from scipy.ndimage import uniform_filter1d
from scipy.stats import gamma

from brain_tuning.corpus.audio import read_audio
from brain_tuning.corpus.schema import SAMPLING_RATE_HZ
from brain_tuning.encoding import (
    PermutationTest,
    SignFlipTest,
    block_permutation_p,
    bootstrap_interval,
    fdr_bh,
    noise_ceiling,
    pearson_r,
    pearson_r_by_run,
    ridge_cv,
    sign_flip_p,
    story_folds,
    zscore,
)
from brain_tuning.errors import CorpusError
from brain_tuning.terminal import run_command
from brain_tuning.timing import fir_delays, lanczos_matrix

LOUDNESS = "avmovie_audio_rms_25hz.npz"
#: length of a frame of the published loudness
FRAME_S = 0.04
#: what is more than this below a run's loudest frame counts as silence
RANGE_DB = 80.0
DELAYS_TRS = (1, 2, 3, 4)
LAGS_S = np.round(np.arange(-10, 10.01, 0.5), 1)
N_PERMUTATIONS = 10_000
#: rows that are shuffled as one: what ``block_length`` asks for in these data
BLOCK_TRS = 25
SPEECH = "speech"


@dataclass(frozen=True, eq=False)
class LoudnessEffect:
    """How well the true loudness predicts runs it was not fitted on.

    Args:
        group_r: Pearson r of the group over all runs, (n_parcels,).
        run_r: Pearson r of the group in each run, (n_runs, n_parcels).
        people_r: Pearson r of each person over all runs, (n_people, n_parcels).
        chance: test of the group's r in the last run, which no other prediction has seen, against shuffled blocks.
        flips: test of the mean of ``people_r``, people as clusters; the last column is the mean over parcels.
    """

    group_r: np.ndarray
    run_r: np.ndarray
    people_r: np.ndarray
    chance: PermutationTest
    flips: SignFlipTest


def row_centres_s(n_trs: int) -> np.ndarray:
    """Middle of each row in s from the run's onset, (n_trs,)."""
    return (np.arange(n_trs) + 0.5) * TR_S


def frame_centres_s(n_frames: int) -> np.ndarray:
    """Middle of each frame of the loudness in s from the run's onset, (n_frames,)."""
    return (np.arange(n_frames) + 0.5) * FRAME_S


def true_loudness_db(data: Path) -> list[np.ndarray]:
    """Loudness of the film's soundtrack, dB above silence (0 to :data:`RANGE_DB`), (n_frames,) a run.

    Raises:
        CorpusError: the file is missing, or a run is silent throughout.
    """
    path = present(data / LOUDNESS)
    with np.load(path, allow_pickle=False) as arrays:
        return [decibels(arrays[f"run{run}"][:, 0], f"{path}, run{run}") for run in RUNS]


def decibels(rms: np.ndarray, where: str) -> np.ndarray:
    """``20 log10(rms / greatest rms) + RANGE_DB``, not below 0, (n_frames,).

    Raises:
        CorpusError: there is no sound in it.
    """
    if not rms.max() > 0:
        raise CorpusError("there is no sound in a run's loudness", where=where, expected="a value above 0")
    share = rms.astype(np.float64) / rms.max()
    return 20 * np.log10(np.maximum(share, 10 ** (-RANGE_DB / 20))) + RANGE_DB


def surrogate_loudness_db(data: Path, run: int) -> np.ndarray:
    """Loudness of a run's surrogate audio, measured as that of the soundtrack was, (n_frames,)."""
    path = present(data / audio_file(run))
    audio, length = read_audio(path, False), round(FRAME_S * SAMPLING_RATE_HZ)
    frames = audio[: len(audio) // length * length].reshape(-1, length).astype(np.float64)
    return decibels(np.sqrt(np.mean(np.square(frames), axis=1)), str(path))


def speech_boxcars(data: Path, n_frames: Sequence[int], kinds: Sequence[str] = (SPEECH,)) -> list[np.ndarray]:
    """1 while somebody speaks, else 0, (n_frames,) a run.

    Args:
        data: folder of the recordings.
        n_frames: frames of each run.
        kinds: annotators' kinds of sentences that count.
    """
    courses = []
    for run, n in zip(RUNS, n_frames, strict=True):
        times_s, course = frame_centres_s(n), np.zeros(n)
        for sentence in read_sentences(data, run, kinds):
            course[(times_s >= sentence.start_s) & (times_s < sentence.end_s)] = 1.0
        courses.append(course)
    return courses


def haemodynamic_response() -> np.ndarray:
    """The canonical response at steps of ``FRAME_S`` over 32 s, (n_steps,).

    ``Gamma(t; 6) - Gamma(t; 16) / 6``

    Source: Friston et al. 1998; the default of SPM.
    """
    times_s = np.arange(0, 32, FRAME_S)
    return np.asarray(gamma.pdf(times_s, 6) - gamma.pdf(times_s, 16) / 6)


def lag_scan(
    courses: Sequence[np.ndarray], bold: np.ndarray, lengths: Sequence[int], lags_s: np.ndarray = LAGS_S
) -> np.ndarray:
    """Correlation of responses with convolved courses sampled at the middle of each row plus a lag.

    Args:
        courses: (n_frames,) a run, 0 where there is nothing, as before the run.
        bold: responses, runs one below the other, (n_trs, n_parcels).
        lengths: rows of each run.
        lags_s: lags to try in s, (n_lags,).

    Returns:
        Pearson r (n_lags, n_parcels).
    """
    convolved = [np.convolve(course, haemodynamic_response())[: len(course)] for course in courses]
    found = []
    for lag_s in lags_s:
        sampled = [
            np.interp(row_centres_s(n) + lag_s, frame_centres_s(len(course)), course)
            for course, n in zip(convolved, lengths, strict=True)
        ]
        regressor = zscore(np.concatenate(sampled)[:, None], lengths)
        found.append(pearson_r(np.repeat(regressor, bold.shape[1], axis=1), bold))
    return np.stack(found)


def at_rows(course: np.ndarray, n_trs: int) -> np.ndarray:
    """A course (n_frames,) at the rows of its run by a Lanczos filter, z-scored, (n_trs, 1)."""
    matrix = lanczos_matrix(frame_centres_s(len(course)), row_centres_s(n_trs), normalise=True)
    return zscore(matrix @ course[:, None])


def design(courses: Sequence[np.ndarray], lengths: Sequence[int], delays_trs: Sequence[int] = DELAYS_TRS) -> np.ndarray:
    """Courses at the rows, z-scored and delayed within the run.

    Args:
        courses: (n_frames,) a run.
        lengths: rows of each run.
        delays_trs: FIR delays in rows.

    Returns:
        (sum of n_trs, number of delays).
    """
    parts = [fir_delays(at_rows(course, n), delays_trs) for course, n in zip(courses, lengths, strict=True)]
    return np.concatenate(parts)


def leave_one_run_out(features: np.ndarray, bold: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Each run predicted by a ridge on the others; penalties are chosen by leaving out one of those in turn.

    Args:
        features: (n_trs, n_features), runs one below the other.
        bold: responses (n_trs, n_parcels), each run z-scored.
        lengths: rows of each run.

    Returns:
        Predicted responses (n_trs, n_parcels), z-scored within the run: penalties differ between runs, and no run
        shall count for more because its own is small.
    """
    names = [str(k) for k in range(len(lengths))]
    prediction = np.full(bold.shape, np.nan)
    for fold in story_folds(names, lengths):
        others = [k for k, name in enumerate(names) if name != fold.name]
        inner = story_folds([names[k] for k in others], [lengths[k] for k in others])
        fit = ridge_cv(features[fold.train], bold[fold.train], inner)
        prediction[fold.held_out] = zscore(fit.predict(features[fold.held_out]))
    return prediction


def loudness_effect(
    features: np.ndarray, bold: np.ndarray, lengths: Sequence[int], n_permutations: int = N_PERMUTATIONS
) -> LoudnessEffect:
    """Predict the group and each person from features, one run left out at a time, and test it.

    Args:
        features: (n_trs, n_features), runs one below the other.
        bold: responses of people, each run z-scored, (n_people, n_trs, n_parcels).
        lengths: rows of each run.
        n_permutations: orders of blocks of rows of the last run.

    Predictions of runs that also helped to predict one another have no valid permutation test (docs/statistics.md), so
    that the last run is tested alone: its prediction comes from runs that are not tested.
    """
    group = zscore(bold.mean(axis=0), lengths)
    prediction = leave_one_run_out(features, group, lengths)
    tested = slice(sum(lengths[:-1]), sum(lengths))
    people_r = np.stack([pearson_r(leave_one_run_out(features, own, lengths), own) for own in bold])
    return LoudnessEffect(
        group_r=pearson_r(prediction, group),
        run_r=pearson_r_by_run(prediction, group, lengths),
        people_r=people_r,
        chance=block_permutation_p(
            prediction[tested],
            group[tested],
            lengths[-1:],
            block_trs=BLOCK_TRS,
            n_permutations=n_permutations,
        ),
        flips=sign_flip_p(np.column_stack([people_r, people_r.mean(axis=1)]), tail="greater"),
    )


def _print_isc(bold: np.ndarray, lengths: Sequence[int], parcels: Sequence[int]) -> None:
    borders = np.cumsum(lengths)[:-1]
    half_mean = pearson_r(bold[::2].mean(axis=0), bold[1::2].mean(axis=0))
    rows = {"leave one out, mean over people": leave_one_out_isc(bold).mean(axis=0)}
    for width in (3, 5):
        smooth = [uniform_filter1d(run, width, axis=1) for run in np.split(bold, borders, axis=1)]
        rows[f"the same, running mean of {width} rows"] = leave_one_out_isc(np.concatenate(smooth, axis=1)).mean(axis=0)
    rows["leave one out, best person"] = leave_one_out_isc(bold).max(axis=0)
    rows["three people against three"] = half_mean
    rows["ceiling of the group (Schoppe)"] = noise_ceiling(bold)
    print("| inter-subject correlation | highest | parcel | median |\n|---|---:|---|---:|")
    for name, r in rows.items():
        best = int(np.nanargmax(r))
        print(f"| {name} | {r[best]:.2f} | {parcel_name(parcels[best])} | {np.nanmedian(r):.2f} |")
    print(f"parcels without a ceiling: {int(np.isnan(noise_ceiling(bold)).sum())}")


def _print_lags(name: str, scan: np.ndarray, parcels: Sequence[int]) -> None:
    zero = int(np.flatnonzero(LAGS_S == 0)[0])
    lag, best = (int(k) for k in np.unravel_index(scan.argmax(), scan.shape))
    at_zero = int(scan[zero].argmax())
    print(
        f"| {name} | {scan[zero, at_zero]:.2f} | {parcel_name(parcels[at_zero])} | "
        f"{LAGS_S[lag]:+.1f} | {scan[lag, best]:.3f} | {parcel_name(parcels[best])} | "
        f"{', '.join(f'{scan[zero + steps, at_zero]:.2f}' for steps in (-4, -2, 0, 2, 4))} |"
    )


def _print_effect(effect: LoudnessEffect, isc: np.ndarray, ceiling: np.ndarray, parcels: Sequence[int]) -> None:
    best = int(effect.group_r.argmax())
    test, by_chance, by_people = effect.chance, fdr_bh(effect.chance.p), fdr_bh(effect.flips.p[:-1])
    print(f"group: best {parcel_name(parcels[best])} r {effect.group_r[best]:.3f}, ", end="")
    print(f"median {np.median(effect.group_r):.3f}, mean {effect.group_r.mean():.3f}")
    for parcel in np.argsort(effect.group_r)[::-1][:8]:
        own = effect.people_r[:, parcel]
        print(
            f"  {parcel_name(parcels[parcel])}: group {effect.group_r[parcel]:.2f}, "
            f"people {own.mean():.2f} ({own.min():.2f} to {own.max():.2f}), "
            f"runs {effect.run_r[:, parcel].min():.2f} to {effect.run_r[:, parcel].max():.2f}"
        )
    print(f"run {RUNS[-1]} alone, blocks shuffled ({test.n_permutations}): ", end="")
    print(f"{(test.p <= 0.05).sum()} parcels at p <= 0.05, ", end="")
    print(f"{by_chance.rejected.sum()} at FDR 0.05, {(test.p_max <= 0.05).sum()} at p_max <= 0.05")
    print(f"sign flips over {effect.flips.n_clusters} people (smallest p {effect.flips.smallest_p:.4f}): ", end="")
    flipped = effect.flips.p[:-1]
    print(
        f"{(flipped <= 0.05).sum()} parcels at p <= 0.05, {(flipped == flipped.min()).sum()} at the smallest, ", end=""
    )
    print(f"{by_people.rejected.sum()} at FDR 0.05")
    print(f"{(effect.group_r > ceiling).sum()} parcels where the group's r is above its ceiling")
    print(f"{(effect.people_r.mean(axis=0) > isc).sum()} parcels where people's mean r is above their mean ISC")
    print(f"mean over parcels and people {effect.flips.mean[-1]:.3f}, p {effect.flips.p[-1]:.4f}")
    for name, values in (("best parcel", effect.run_r[:, best]), ("mean over parcels", effect.run_r.mean(axis=1))):
        interval = bootstrap_interval(values)
        print(f"{name}, mean over runs {interval.estimate:.3f} (95 % {interval.low:.3f} to {interval.high:.3f})")
    last = effect.run_r[-1]
    print(
        f"{GROUP}, run {RUNS[-1]} alone: mean {last.mean():.3f}, best {parcel_name(parcels[int(last.argmax())])} ",
        end="",
    )
    print(f"{last.max():.3f}")


def _print_all(data: Path) -> None:
    people, parcels = read_people(data)
    lengths = [len(run) for run in people[PEOPLE[0]]]
    bold = stacked(people)
    group = zscore(bold.mean(axis=0), lengths)
    loudness = true_loudness_db(data)
    print(f"{len(people)} people, {sum(lengths)} rows in {len(lengths)} runs, {len(parcels)} common parcels\n")
    _print_isc(bold, lengths, parcels)
    print("\n| course x canonical response | r at lag 0 | parcel | best lag (s) | r there | parcel | r at -2 to 2 s |")
    print("|---|---:|---|---:|---:|---|---|")
    n_frames = [len(course) for course in loudness]
    for kinds in ((SPEECH,), SPOKEN):
        _print_lags(" + ".join(kinds), lag_scan(speech_boxcars(data, n_frames, kinds), group, lengths), parcels)
    _print_lags("true loudness (dB)", lag_scan(loudness, group, lengths), parcels)
    surrogate = [
        pearson_r(at_rows(surrogate_loudness_db(data, run), n), at_rows(course, n))[0]
        for run, n, course in zip(RUNS, lengths, loudness, strict=True)
    ]
    print(f"\nLoudness of the surrogate audio against the true one, by run: r {min(surrogate):.3f} to ", end="")
    print(f"{max(surrogate):.3f}")
    print("\nTrue loudness, one run left out at a time")
    isc = leave_one_out_isc(bold).mean(axis=0)
    _print_effect(loudness_effect(design(loudness, lengths), bold, lengths), isc, noise_ceiling(bold), parcels)
    choices = {
        "amplitude instead of dB": design([10 ** (course / 20) for course in loudness], lengths),
        "delays of 2 to 10 s": design(loudness, lengths, (1, 2, 3, 4, 5)),
    }
    for name, features in choices.items():
        r = pearson_r(leave_one_run_out(features, group, lengths), group)
        print(f"group, {name}: best {parcel_name(parcels[int(r.argmax())])} r {r.max():.3f}, mean {r.mean():.3f}")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and print; returns the exit code."""
    parser = argparse.ArgumentParser(description="What true sound and speech predict in the movie recordings.")
    parser.add_argument("data", type=Path, help="folder with the files of the recordings")
    args = parser.parse_args(argv)
    return run_command(lambda: _print_all(args.data))


if __name__ == "__main__":
    sys.exit(main())

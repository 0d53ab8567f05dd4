"""What the published regressors say about the Alice recordings: timing, effects and order of regions.

    python examples/alice/published.py DATA

Nothing here uses audio or a model: it is what the pipeline's results are held against. See docs/alice.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from prepare import HIGH_PASS_S, RESPONSES, TEXTGRID, TR_S, high_pass, is_alive, leave_one_out_isc, read_people
from scipy.stats import gamma

from brain_tuning.corpus.textgrid import words_and_phones
from brain_tuning.encoding.scores import pearson_r, zscore
from brain_tuning.terminal import run_command

#: time between two steps of the convolved word rate
STEP_S = 0.01
DROPPED_VOLUMES = 10
MOMENTS = ("start", "middle", "end")


def haemodynamic_response() -> np.ndarray:
    """The canonical response at steps of ``STEP_S`` over 32 s, (n_steps,).

    ``Gamma(t; 6) - Gamma(t; 16) / 6``

    Source: Friston et al. 1998; the default of SPM.
    """
    times_s = np.arange(0, 32, STEP_S)
    return np.asarray(gamma.pdf(times_s, 6) - gamma.pdf(times_s, 16) / 6)


def lag_scan(events_s: np.ndarray, regressor: np.ndarray, lags_s: np.ndarray) -> np.ndarray:
    """Correlation of a published regressor with convolved events sampled at ``20 + 2 i + lag`` s.

    Args:
        events_s: times of the words in s from the audio's onset, (n_words,).
        regressor: one value a row of the responses, (n_trs,).
        lags_s: lags to try in s, (n_lags,).

    Returns:
        Pearson r, (n_lags,).
    """
    rows_s = DROPPED_VOLUMES * TR_S + np.arange(len(regressor)) * TR_S
    n_steps = int((rows_s[-1] + lags_s.max() + 40) / STEP_S)
    impulses = np.bincount((events_s / STEP_S).astype(int), minlength=n_steps).astype(float)
    course = np.convolve(impulses, haemodynamic_response())[:n_steps]
    sampled = np.stack([np.interp(rows_s + lag, np.arange(n_steps) * STEP_S, course) for lag in lags_s], axis=1)
    return pearson_r(sampled, np.repeat(regressor[:, None], len(lags_s), axis=1))


def word_times_s(data: Path) -> dict[str, np.ndarray]:
    """Start, middle and end of each word of the TextGrid in s, (n_words,) each."""
    words, _ = words_and_phones(data / TEXTGRID)
    starts, ends = np.array([(word.start_s, word.end_s) for word in words]).T
    return dict(zip(MOMENTS, (starts, (starts + ends) / 2, ends), strict=True))


def regressors(data: Path) -> dict[str, np.ndarray]:
    """Published word rate (of the participants' files and of the generic ones) and sound power, (362,) each."""
    with np.load(data / RESPONSES, allow_pickle=False) as arrays:
        generic = dict(zip(arrays["generic_names"].tolist(), arrays["generic_predictors"].T, strict=True))
        # Those of different people differ by rounding only.
        found = {
            "word rate": arrays["rate"][0],
            "generic word rate": generic["rate_conv"][DROPPED_VOLUMES:],
            "sound power": arrays["sndpwr"][0],
        }
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def group_mean(data: Path) -> np.ndarray:
    """Mean over people of z-scored, high-passed responses, those of no variance left out, (362, 12)."""
    people, _ = read_people(data)
    return zscore(np.mean([zscore(bold) for bold in people.values() if is_alive(bold)], axis=0))


def published_r(data: Path) -> dict[str, np.ndarray]:
    """Correlation of each published regressor with the group mean, both high-passed, (12,) by regressor."""
    group = group_mean(data)
    return {
        name: pearson_r(np.repeat(high_pass(values[:, None], HIGH_PASS_S), group.shape[1], axis=1), group)
        for name, values in regressors(data).items()
    }


def common_part(data: Path) -> tuple[float, float, np.ndarray]:
    """What a loss that subtracts the mean over spheres at each row leaves out of the group's responses.

    Returns:
        Share of the variance in that mean, correlation of the published word rate with it, and with what is left
        of each sphere, (12,).
    """
    group = group_mean(data)
    common = group.mean(axis=1, keepdims=True)
    rate = regressors(data)["word rate"][:, None]
    left = pearson_r(np.repeat(rate, group.shape[1], axis=1), group - common)
    return float(common.var()), float(pearson_r(rate, common)[0]), left


def _print_all(data: Path) -> None:
    lags_s = np.round(np.arange(-2, 2.001, 0.05), 2)
    courses = regressors(data)
    print("Lag of the published word rate (s) | best | r there | r at -1, 0, +1 s")
    for name in ("word rate", "generic word rate"):
        for moment, events_s in word_times_s(data).items():
            r = lag_scan(events_s, courses[name], lags_s)
            at = ", ".join(f"{r[np.flatnonzero(lags_s == lag)[0]]:.3f}" for lag in (-1.0, 0.0, 1.0))
            print(f"{name}, words at their {moment}: {lags_s[r.argmax()]:+.2f} | {r.max():.3f} | {at}")
    for high_pass_s in (128.0, 0.0):
        people, columns = read_people(data, high_pass_s)
        isc = np.nanmean(list(leave_one_out_isc(people).values()), axis=0)
        print(f"\nMean leave-one-out inter-subject correlation, high-pass at {high_pass_s:g} s (0: none)")
        print("  ".join(f"{column} {value:.3f}" for column, value in zip(columns, isc, strict=True)))
    print("\nPublished regressors against the group mean, both high-passed")
    for name, values in published_r(data).items():
        print(f"{name}: " + "  ".join(f"{c} {v:.3f}" for c, v in zip(columns, values, strict=True)))
    share, r_common, r_left = common_part(data)
    print(
        f"\nMean over the spheres of the group: {share:.2f} of the variance, r with published word rate {r_common:.2f}"
    )
    print(f"What is left of each sphere: r {r_left.min():.2f} to {r_left.max():.2f}")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and print; returns the exit code."""
    parser = argparse.ArgumentParser(description="Timing and effects of the published Alice regressors.")
    parser.add_argument("data", type=Path, help="folder with the three files of the recordings")
    args = parser.parse_args(argv)
    return run_command(lambda: _print_all(args.data))


if __name__ == "__main__":
    sys.exit(main())

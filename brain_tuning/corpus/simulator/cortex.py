"""Simulated subjects: which voxel listens to what, how well, and the BOLD that follows.

Voxel v of subject s responds with ``signal + noise``, where the signal is a unit-variance mixture of its
region's drivers and the noise is AR(1), scaled so that the signal is a known share of the variance of
a single listening. The best correlation any model can reach with the mean of R listenings is then
``sqrt(share / (share + (1 - share) / R))``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

#: region -> (driver group, voxels in each hemisphere)
LAYOUT: dict[str, tuple[str, int]] = {
    "auditory": ("acoustic", 30),
    "phonetic-belt": ("phonetic", 24),
    "semantic-temporal": ("semantic", 60),
    "semantic-inferior-frontal": ("semantic", 48),
    "semantic-angular": ("semantic", 48),
    "word-rate": ("word_rate", 12),
    "noise": ("", 160),
}
HEMISPHERES = ("left", "right")

#: signal's share of the variance of one listening: uniform between these
SIGNAL_SHARE = (0.4, 0.7)
#: share of a voxel's mixing weights that all subjects have in common
COMMON_SHARE = 0.7
AR1 = 0.3
N_NAN, N_CONSTANT = 3, 2
#: BOLD units of a stored voxel: mean, standard deviation
BASELINE, SCALE = 100.0, 4.0


@dataclass(frozen=True, eq=False)
class Subject:
    """One simulated subject.

    Args:
        name: identifier.
        region_of: region of each voxel, (n_voxels,).
        hemisphere_of: hemisphere of each voxel, (n_voxels,).
        weights: driver group -> mixing weights (n_drivers, n_voxels), zero for voxels that do not listen to it.
        signal_share: signal's share of single-listening variance, (n_voxels,), 0 for noise voxels.
        nan_voxels, constant_voxels: indices of defective voxels (all of them noise voxels).
    """

    name: str
    region_of: np.ndarray
    hemisphere_of: np.ndarray
    weights: dict[str, np.ndarray]
    signal_share: np.ndarray
    nan_voxels: np.ndarray
    constant_voxels: np.ndarray

    @property
    def n_voxels(self) -> int:
        return len(self.region_of)

    def ceiling(self, n_repeats: int) -> np.ndarray:
        """Best possible correlation with the mean of ``n_repeats`` listenings, (n_voxels,); 0 for noise."""
        noise = (1 - self.signal_share) / n_repeats
        return np.sqrt(self.signal_share / (self.signal_share + noise))

    def regions(self) -> dict[str, np.ndarray]:
        """Voxel indices by region: each of :data:`LAYOUT`, auditory cortex by side, AC and the hemispheres."""
        found = {}
        for name in LAYOUT:
            inside = self.region_of == name
            if name == "auditory":
                for side in HEMISPHERES:
                    found[f"auditory-{side}"] = np.flatnonzero(inside & (self.hemisphere_of == side))
            else:
                found[name] = np.flatnonzero(inside)
        found["AC"] = np.flatnonzero(self.region_of == "auditory")
        for side in HEMISPHERES:
            found[side] = np.flatnonzero(self.hemisphere_of == side)
        return found

    def region_kinds(self) -> dict[str, str]:
        """``functional`` for what the simulator plants, ``selection`` for AC and hemispheres."""
        return {name: "selection" if name in ("AC", *HEMISPHERES) else "functional" for name in self.regions()}


def make_subject(name: str, *, seed: int, index: int, widths: dict[str, int]) -> Subject:
    """Draw a subject's cortex.

    Args:
        name: identifier.
        seed: of the simulation; it alone fixes what subjects have in common.
        index: of the subject.
        widths: number of drivers in each group.
    """
    region_of = np.array([r for _ in HEMISPHERES for r, (_, n) in LAYOUT.items() for _ in range(n)])
    hemisphere_of = np.repeat(HEMISPHERES, len(region_of) // len(HEMISPHERES))
    common_rng, own_rng = np.random.default_rng([seed, 2]), np.random.default_rng([seed, 3, index])
    n = len(region_of)
    weights = {}
    for group, width in widths.items():
        listens = np.isin(region_of, [r for r, (g, _) in LAYOUT.items() if g == group])
        common, own = common_rng.standard_normal((width, n)), own_rng.standard_normal((width, n))
        weights[group] = (np.sqrt(COMMON_SHARE) * common + np.sqrt(1 - COMMON_SHARE) * own) * listens
    noise = np.flatnonzero(region_of == "noise")
    defective = own_rng.choice(noise, N_NAN + N_CONSTANT, replace=False)
    share = own_rng.uniform(*SIGNAL_SHARE, n) * (region_of != "noise")
    return Subject(
        name, region_of, hemisphere_of, weights, share, np.sort(defective[:N_NAN]), np.sort(defective[N_NAN:])
    )


def scale_of_drivers(drivers: list[dict[str, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each driver over all stories: group -> ((width,), (width,))."""
    scales = {}
    for group in drivers[0]:
        stacked = np.concatenate([story[group] for story in drivers])
        scales[group] = stacked.mean(0), stacked.std(0) + 1e-9
    return scales


def clean_signal(
    subject: Subject,
    drivers: dict[str, np.ndarray],
    scales: dict[str, tuple[np.ndarray, np.ndarray]],
    gains: np.ndarray,
) -> np.ndarray:
    """Noise-free response to one story, times the gains, (n_trs, n_voxels)."""
    n_trs = len(next(iter(drivers.values())))
    signal = np.zeros((n_trs, subject.n_voxels))
    for group, course in drivers.items():
        mean, std = scales[group]
        signal += (course - mean) / std @ subject.weights[group]
    return signal * gains


def signal_gains(
    subject: Subject,
    drivers: list[dict[str, np.ndarray]],
    scales: dict[str, tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Factor that gives each voxel's signal unit variance within the stories, (n_voxels,).

    What differs between stories, such as a voice's loudness or rate, is not counted: every analysis
    standardises within the run, and could not reach the ceiling if it were.
    """
    ones = np.ones(subject.n_voxels)
    signals = [clean_signal(subject, story, scales, ones) for story in drivers]
    spread = np.concatenate([signal - signal.mean(0) for signal in signals]).std(0)
    return np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0.0)


def listen(subject: Subject, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One listening: signal plus AR(1) noise, in BOLD units, with the defective voxels, (n_trs, n_voxels)."""
    white = rng.standard_normal((len(signal) + 50, subject.n_voxels)) * np.sqrt(1 - AR1**2)
    noise = lfilter([1.0], [1.0, -AR1], white, axis=0)[50:]
    share = subject.signal_share
    bold = BASELINE + SCALE * (np.sqrt(share) * signal + np.sqrt(1 - share) * noise)
    bold[:, subject.nan_voxels] = np.nan
    bold[:, subject.constant_voxels] = BASELINE
    return bold

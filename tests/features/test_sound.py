"""Features of the sound: envelope, levels in decibels, mel spectrum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT, get_window
from story_corpus import RATE, noise

from brain_tuning.features.courses import RATE_HZ
from brain_tuning.features.sound import band_centres_hz, decibels, envelope, log_envelope, mel_bank, mel_spectrum


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_the_envelope_of_a_modulated_tone_is_its_modulation() -> None:
    t = np.arange(4 * RATE) / RATE
    modulation = 1 + 0.5 * np.sin(2 * np.pi * 3 * t)
    found = envelope((modulation * np.sin(2 * np.pi * 1000 * t)).astype(np.float32))
    assert len(found) == 4 * RATE_HZ
    inside = slice(RATE_HZ // 4, -RATE_HZ // 4)  # the filter settles
    np.testing.assert_allclose(found[inside], modulation[:: RATE // RATE_HZ][inside], atol=0.01)


def test_decibels_count_from_80_below_the_greatest() -> None:
    found = decibels(np.array([[0.0, 1e-12], [3e-6, 3e-10], [3e-2, 3.0]]))
    np.testing.assert_allclose(found, [[0, 0], [20, 0], [60, 80]], atol=1e-9)
    assert not decibels(np.zeros((3, 2))).any()


def test_the_log_envelope_falls_20_db_where_the_amplitude_falls_tenfold() -> None:
    audio = np.concatenate([tone(1000), 0.1 * tone(1000), np.zeros(RATE, np.float32)])
    found = log_envelope(audio)
    loud, soft, silent = (found[k * RATE_HZ + 10 : (k + 1) * RATE_HZ - 10] for k in range(3))
    assert loud.mean() - soft.mean() == pytest.approx(20.0, abs=0.01)
    assert not silent.any()  # to its end: the loud start does not ring into it, though the transform is periodic
    assert loud.min() > 75
    assert found.max() == 80.0


@pytest.mark.parametrize("level", [log_envelope, mel_spectrum])
def test_levels_do_not_depend_on_the_gain_of_the_recording(level) -> None:  # type: ignore[no-untyped-def]
    audio = noise(2) * np.linspace(0, 1, 2 * RATE, dtype=np.float32)
    np.testing.assert_allclose(level(np.float32(0.01) * audio), level(audio), atol=1e-3)
    assert not level(np.zeros(RATE, np.float32)).any()


@pytest.mark.parametrize("band", [2, 20, 40, 60, 79])
def test_a_tone_is_loudest_in_its_own_band(band: int) -> None:
    found = mel_spectrum(tone(band_centres_hz()[band]))
    assert (found[2:-2].argmax(axis=1) == band).all()


def test_the_spectrum_is_the_short_time_fourier_transform_in_bands() -> None:
    """scipy's, on the same grid: step k is centred at (k + 1/2) / 50 s, and silence lies beyond either end."""
    audio = noise(1.0)[:-100]
    window = get_window("hann", 640)
    transform = ShortTimeFFT(window, hop=320, fs=RATE, mfft=640)
    ahead = np.pad(audio.astype(float), (160, 0))  # step 0 is centred where scipy's slice 1 is: at 320 samples
    power = transform.spectrogram(ahead, p0=1, p1=51).T
    assert mel_spectrum(audio).shape == (50, 80)
    np.testing.assert_allclose(mel_spectrum(audio), decibels(power @ mel_bank()), atol=1e-3)


def test_bands_are_triangles_of_equal_area_with_their_peaks_at_the_centres() -> None:
    bank, centres = mel_bank(), band_centres_hz()
    assert bank.shape == (321, 80)
    assert (bank.max(axis=0) > 0).all()
    hz = np.arange(321) * 25.0
    wide = slice(40, 80)  # the lowest bands are only a few bins wide
    np.testing.assert_allclose(bank[:, wide].sum(axis=0) * 25.0, 1.0, atol=0.03)
    np.testing.assert_allclose(hz[bank[:, wide].argmax(axis=0)], centres[wide], atol=13)
    # Slaney's scale: even in Hz below 1 kHz, even in ratio above.
    below, above = centres[centres < 1000], centres[centres > 1050]
    np.testing.assert_allclose(np.diff(below), np.diff(below)[0])
    np.testing.assert_allclose(above[1:] / above[:-1], above[1] / above[0])

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from brain_tuning.corpus.audio import decode_flac, encode_flac, read_audio
from brain_tuning.errors import AudioError

PCM = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
FLAC = encode_flac((PCM / 32768).astype(np.float32))


def test_a_16_bit_file_is_kept_exactly(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", PCM, 16_000)
    audio = read_audio(tmp_path / "s.wav")
    assert audio.dtype == np.float32
    np.testing.assert_array_equal(decode_flac(encode_flac(audio)), audio)
    np.testing.assert_array_equal(audio * 32768, PCM)


def test_beyond_full_scale_is_clipped_not_wrapped() -> None:
    decoded = decode_flac(encode_flac(np.array([1.5, 1.0, -1.0, -1.5], np.float32)))
    np.testing.assert_array_equal(decoded, np.array([32767, 32767, -32768, -32768]) / 32768)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5000), st.integers(0, 5000))
def test_a_slice_equals_that_slice_of_the_whole(one: int, other: int) -> None:
    start, stop = min(one, other), max(one, other)
    np.testing.assert_array_equal(decode_flac(FLAC, start, stop) * 32768, PCM[start:stop])


def test_48_khz_stereo_is_refused_with_both_remedies(tmp_path: Path) -> None:
    path = tmp_path / "s.wav"
    soundfile.write(path, np.zeros((480, 2)), 48_000)
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    text = str(caught.value)
    assert text.startswith(f"audio is 48000 Hz with 2 channel(s) [{path}]; expected 16000 Hz, 1 channel")
    assert "--convert-audio" in text
    assert "ffmpeg -i s.wav -ac 1 -ar 16000 s.16k.wav" in text


@pytest.mark.parametrize(("rate_hz", "up", "down"), [(48_000, 1, 3), (44_100, 160, 441), (8_000, 2, 1)])
def test_conversion_is_the_mean_over_channels_resampled(tmp_path: Path, rate_hz: int, up: int, down: int) -> None:
    stereo = np.random.default_rng(1).uniform(-0.5, 0.5, (rate_hz // 10, 2))
    soundfile.write(tmp_path / "s.wav", stereo, rate_hz, subtype="DOUBLE")
    expected = resample_poly(stereo.mean(axis=1), up, down)
    np.testing.assert_allclose(read_audio(tmp_path / "s.wav", convert=True), expected, atol=1e-6)


def test_files_that_hold_no_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"no such audio file.*none.wav"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(AudioError, match=r"audio cannot be read.*text.wav.*fetch the file again"):
        read_audio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(AudioError, match="audio is empty"):
        read_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, np.inf]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="2 audio samples are NaN or infinite"):
        read_audio(tmp_path / "nan.wav")


def test_stored_audio_that_is_damaged() -> None:
    with pytest.raises(AudioError, match=r"cannot be decoded.*write the corpus again"):
        decode_flac(b"fLaC and nothing else")
    with pytest.raises(AudioError, match="samples 0 to 5001 asked for; expected 0 to 5000"):
        decode_flac(FLAC, 0, 5001)


def test_a_real_ogg_is_read() -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / "fmri_alice" / "alice_ch1_surrogate_tts.ogg"
    if not path.is_file():
        pytest.skip("the Alice data are not beside the checkout")
    assert read_audio(path).shape == (round(soundfile.info(path).duration * 16_000),)

"""Story audio: mono, 16 kHz, float32 in memory and 16-bit FLAC on disk.

soundfile reads and writes it all; neither torchaudio nor torchcodec is needed. A file at another rate
or with several channels is refused unless conversion is asked for, because a resampled story is a
changed stimulus and the user should know.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from brain_tuning.corpus.schema import SAMPLING_RATE_HZ
from brain_tuning.errors import AudioError
from brain_tuning.terminal import interrupts_held


def read_audio(path: str | Path, convert: bool = False) -> np.ndarray:
    """Read a story's audio file.

    Args:
        path: wav, flac, ogg or any other file that libsndfile reads.
        convert: average the channels and resample to 16 kHz where the file needs it.

    Returns:
        Waveform of shape (n_samples,), float32, mono, 16 kHz.

    Raises:
        AudioError: the file is missing, unreadable, empty, holds NaN, or has another rate or several
            channels while ``convert`` is False.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise AudioError("no such audio file", where=path)
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(
            f"audio cannot be read: {error}",
            where=path,
            expected="a wav, flac or ogg file",
            remedy="fetch the file again and play it once",
        ) from error
    n_samples, n_channels = samples.shape
    if n_samples == 0:
        raise AudioError("audio is empty", where=path, expected="at least one sample")
    if not np.isfinite(samples).all():
        n_bad = int((~np.isfinite(samples)).sum())
        raise AudioError(f"{n_bad} audio samples are NaN or infinite", where=path, expected="finite samples")
    if rate_hz != SAMPLING_RATE_HZ or n_channels != 1:
        if not convert:
            raise AudioError(
                f"audio is {rate_hz} Hz with {n_channels} channel(s)",
                where=path,
                expected=f"{SAMPLING_RATE_HZ} Hz, 1 channel",
                remedy="pass --convert-audio, or run: ffmpeg -i "
                f"{path.name} -ac 1 -ar {SAMPLING_RATE_HZ} {path.stem}.16k.wav",
            )
        return _converted(samples, rate_hz)
    return samples[:, 0]


def _converted(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    from scipy.signal import resample_poly

    mono = samples.mean(axis=1, dtype=np.float64)
    common = np.gcd(SAMPLING_RATE_HZ, rate_hz)
    resampled = resample_poly(mono, SAMPLING_RATE_HZ // common, rate_hz // common)
    return resampled.astype(np.float32)


def encode_flac(audio: np.ndarray) -> bytes:
    """Encode a waveform as 16-bit mono FLAC at 16 kHz.

    Samples that came from a 16-bit file are kept exactly: ``round(x * 32768)`` undoes libsndfile's
    scaling. Samples beyond full scale are clipped, as in every 16-bit format.

    Args:
        audio: waveform of shape (n_samples,), floating point in [-1, 1].

    Returns:
        The FLAC file's bytes.
    """
    import soundfile

    pcm = np.clip(np.rint(np.asarray(audio, dtype=np.float64) * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    with interrupts_held():
        soundfile.write(buffer, pcm, SAMPLING_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes | memoryview, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Decode part of an encoded story.

    Args:
        data: bytes of a FLAC file as :func:`encode_flac` makes them.
        start: first sample.
        stop: sample after the last one; None decodes to the end.

    Returns:
        Waveform of shape (stop - start,), float32.

    Raises:
        AudioError: the bytes are no FLAC file at 16 kHz mono, or end before ``stop``.
    """
    import soundfile

    try:
        with interrupts_held(), soundfile.SoundFile(io.BytesIO(data)) as file:
            if (file.samplerate, file.channels) != (SAMPLING_RATE_HZ, 1):
                raise AudioError(
                    f"stored audio is {file.samplerate} Hz with {file.channels} channel(s)",
                    expected=f"{SAMPLING_RATE_HZ} Hz, 1 channel",
                )
            stop = file.frames if stop is None else stop
            if not 0 <= start <= stop <= file.frames:
                raise AudioError(f"samples {start} to {stop} asked for", expected=f"0 to {file.frames}")
            file.seek(start)
            samples = file.read(stop - start, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"stored audio cannot be decoded: {error}", remedy="write the corpus again") from error
    if len(samples) != stop - start:
        raise AudioError(
            f"stored audio ends after {start + len(samples)} samples",
            expected=f"{stop} samples",
            remedy="write the corpus again",
        )
    return samples

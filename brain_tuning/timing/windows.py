"""Cutting a story into windows, and knowing when each of their frames happened.

A :class:`WindowPlan` slides a window of ``context_s + stride_s`` seconds over a story in steps of
``stride_s`` and keeps the frames of the last ``stride_s`` seconds only, so every kept frame has heard
at least ``context_s`` of the past and at most ``stride_s`` of the future. At the story's start, where
that much past does not exist, windows are shorter rather than padded: backbones whose normalisation
spans time give other features when silence is appended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from brain_tuning.errors import TimingError

from .runs import repetition_time

READS = ("all", "last", "first", "mean")


@dataclass(frozen=True)
class FrameGrid:
    """Where a speech encoder's frames lie in its input.

    Args:
        sampling_rate_hz: of the input.
        hop_samples: distance of successive frames.
        field_samples: receptive field of one frame, in samples.
        padding_samples: what the encoder itself adds before and after its input (Whisper's spectrogram does).
        shortest_samples: input shorter than this gives no frame, whatever the padding.
        longest_samples: the encoder has no positions for more input; None if it takes any length.
    """

    sampling_rate_hz: int
    hop_samples: int
    field_samples: int
    padding_samples: tuple[int, int] = (0, 0)
    shortest_samples: int = 0
    longest_samples: int | None = None

    def n_frames(self, n_samples: int) -> int:
        """Number of frames that ``n_samples`` of input give."""
        if n_samples < self.shortest_samples:
            return 0
        return max(0, (n_samples + sum(self.padding_samples) - self.field_samples) // self.hop_samples + 1)

    @property
    def first_centre_samples(self) -> float:
        """Centre of the first frame, in samples from the input's start."""
        return self.field_samples / 2 - self.padding_samples[0]

    def centres_s(self, n_frames: int) -> np.ndarray:
        """Centre of each frame, seconds from the window's start, shape (n_frames,)."""
        return (np.arange(n_frames) * self.hop_samples + self.first_centre_samples) / self.sampling_rate_hz

    def check_length(self, n_samples: int, parts: str = "context_s + stride_s", to_shorten: str = "context_s") -> None:
        """Raise TimingError if a window is longer than the encoder has positions for.

        Args:
            n_samples: of the window.
            parts, to_shorten: what of a recipe makes a window, and what of it to change, for the error.
        """
        if self.longest_samples is not None and n_samples > self.longest_samples:
            raise TimingError(
                f"windows of {n_samples / self.sampling_rate_hz:g} s are too long for this encoder",
                expected=f"{parts} of at most {self.longest_samples / self.sampling_rate_hz:g} s",
                remedy=f"shorten {to_shorten} in the recipe",
            )


@dataclass(frozen=True)
class WindowGroup:
    """Windows of one length, in time order.

    Args:
        starts: first sample of each window in the story, shape (n_windows,).
        n_samples: length of every window, in samples.
        first_frame: first kept frame of every window; all later ones are kept.
        times_s: time stamps of what is read, seconds from the story's start,
            shape (n_windows, n_read): each kept frame's centre when all are read, else the window's end.
    """

    starts: np.ndarray
    n_samples: int
    first_frame: int
    times_s: np.ndarray

    def cut(self, audio: np.ndarray) -> np.ndarray:
        """Copies of the windows out of ``audio`` (n_story_samples,), shape (n_windows, n_samples)."""
        return np.stack([audio[start : start + self.n_samples] for start in self.starts])


@dataclass(frozen=True)
class WindowPlan:
    """How a story is cut into windows, and which frames of each are read.

    Args:
        context_s: seconds of past that every kept frame has heard at least.
        stride_s: seconds from one window to the next; only frames of the last ``stride_s`` are kept.
        read: ``"all"`` kept frames, the ``"first"`` or ``"last"`` of them, or their ``"mean"``.

    Raises:
        TimingError: a length is negative, zero or not finite, or ``read`` is none of these.
    """

    context_s: float
    stride_s: float
    read: str = "all"

    def __post_init__(self) -> None:
        if not (0 <= self.context_s < math.inf and 0 < self.stride_s < math.inf):
            raise TimingError(
                f"a window plan of context_s={self.context_s} and stride_s={self.stride_s} has no frames",
                expected="context_s >= 0 and stride_s > 0 (seconds)",
            )
        if self.read not in READS:
            raise TimingError(f"unknown read {self.read!r}", where="window plan", expected=f"one of {READS}")

    @property
    def redundancy(self) -> float:
        """How many times each second of audio is computed: (context + stride) / stride."""
        return (self.context_s + self.stride_s) / self.stride_s

    @property
    def future_s(self) -> float:
        """The most future audio, in seconds, that a read value can have heard beyond its time stamp."""
        return self.stride_s if self.read == "all" else 0.0

    def check(self, grid: FrameGrid) -> None:
        """Raise unless an encoder can hear these windows.

        Raises:
            TimingError: they are longer than it takes, or their last stride holds none of its frames.
        """
        rate = grid.sampling_rate_hz
        stride, context = round(self.stride_s * rate), round(self.context_s * rate)
        grid.check_length(context + stride)
        if grid.n_frames(context + stride) <= _first_kept(context, grid):
            raise TimingError(
                f"no frame lies in the last stride_s={self.stride_s} of a window",
                expected=f"{(grid.field_samples + grid.hop_samples) / rate} s or more, which always holds one",
            )

    def groups(
        self, n_story_samples: int, grid: FrameGrid, *, start_s: float = 0.0, stop_s: float | None = None
    ) -> list[WindowGroup]:
        """Windows whose kept span meets [start_s, stop_s), grouped by length, in time order.

        Args:
            n_story_samples: length of the story.
            grid: frames of the encoder.
            start_s: seconds from the story's start.
            stop_s: seconds from the story's start; None is the story's end.

        Raises:
            TimingError: as :meth:`check`, or the story is shorter than one frame.
        """
        self.check(grid)
        rate = grid.sampling_rate_hz
        stride, context = round(self.stride_s * rate), round(self.context_s * rate)
        _check_story(n_story_samples, grid)
        n_strides = -(-n_story_samples // stride)
        first = max(0, int(np.floor(start_s * rate / stride)))
        last = n_strides if stop_s is None else min(n_strides, int(np.ceil(stop_s * rate / stride)))
        groups: dict[tuple[int, int], list[int]] = {}
        for index in range(first, last):
            kept, end = index * stride, min((index + 1) * stride, n_story_samples)
            start = max(0, kept - context)
            if grid.n_frames(end - start) > _first_kept(kept - start, grid):
                groups.setdefault((end - start, kept - start), []).append(start)
        return [
            self._group(np.array(starts), n_samples, _first_kept(skip, grid), grid)
            for (n_samples, skip), starts in groups.items()
        ]

    def _group(self, starts: np.ndarray, n_samples: int, first_frame: int, grid: FrameGrid) -> WindowGroup:
        begin_s = starts[:, None] / grid.sampling_rate_hz
        if self.read == "all":
            times_s = begin_s + grid.centres_s(grid.n_frames(n_samples))[None, first_frame:]
        else:
            times_s = begin_s + n_samples / grid.sampling_rate_hz
        return WindowGroup(starts, n_samples, first_frame, times_s)


def _first_kept(skip_samples: int, grid: FrameGrid) -> int:
    """First frame whose centre lies at or after ``skip_samples``."""
    return max(0, int(np.ceil((skip_samples - grid.first_centre_samples) / grid.hop_samples)))


def _check_story(n_story_samples: int, grid: FrameGrid) -> None:
    if grid.n_frames(n_story_samples) == 0:
        least = max(grid.shortest_samples, grid.field_samples - sum(grid.padding_samples))
        raise TimingError(f"the audio has {n_story_samples} samples", expected=f"at least {least}, one frame")


def history_windows(
    n_story_samples: int, grid: FrameGrid, tr_times_s: np.ndarray, *, history_trs: int
) -> tuple[list[WindowGroup], list[np.ndarray]]:
    """One window a TR: its own audio and that of the ``history_trs`` before it, grouped by length.

    At the story's start and end windows are shorter, never padded; a TR that no frame reaches has none.

    Args:
        n_story_samples: length of the story.
        grid: frames of the encoder.
        tr_times_s: middle of each TR, seconds from the story's start, evenly spaced, (n_trs,).
        history_trs: whole TRs of audio before the TR's own.

    Returns:
        Groups of windows, all of whose frames are kept, and for each group the indices of its TRs.

    Raises:
        TimingError: the windows are longer than the encoder takes, the story is shorter than one frame, or there are
            fewer than two TRs or TRs that are not evenly spaced.

    Source: Li et al. 2024 (n = 6); Moussa et al. 2025 (n = 4).
    """
    rate = grid.sampling_rate_hz
    tr_times_s, tr_s = np.asarray(tr_times_s, dtype=np.float64), repetition_time(tr_times_s)
    n_samples = round((history_trs + 1) * tr_s * rate)
    grid.check_length(n_samples, "history_trs + 1 TRs", "history_trs")
    _check_story(n_story_samples, grid)
    members: dict[int, list[tuple[int, int]]] = {}
    for index, end_s in enumerate(tr_times_s + tr_s / 2):
        end = round(end_s * rate)
        start, stop = max(0, end - n_samples), min(end, n_story_samples)
        # A TR hears something only if its own audio, not just its history, meets the story.
        if grid.n_frames(stop - start) > 0 and end - round(tr_s * rate) < n_story_samples:
            members.setdefault(stop - start, []).append((index, start))
    groups = [
        WindowGroup(
            starts=np.array([start for _, start in found]),
            n_samples=length,
            first_frame=0,
            times_s=tr_times_s[[index for index, _ in found], None],
        )
        for length, found in members.items()
    ]
    return groups, [np.array([index for index, _ in found]) for found in members.values()]

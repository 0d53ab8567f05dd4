from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WavLMConfig, WavLMModel

from brain_tuning.errors import TimingError
from brain_tuning.models.families import frame_grid
from brain_tuning.timing import FrameGrid, WindowPlan
from brain_tuning.timing.windows import history_windows

RATE, HOP, FIELD = 16_000, 320, 400
GRID = FrameGrid(RATE, HOP, FIELD)

PLANS = st.builds(
    lambda context, stride: (context / RATE, stride / RATE),
    st.one_of(st.just(0), st.integers(0, 3 * RATE)),
    st.integers(FIELD + HOP, RATE),
)
STORIES = st.integers(FIELD, 6 * RATE)


def frames_of(window: np.ndarray) -> np.ndarray:
    """An encoder whose frame is the mean of the samples in its receptive field."""
    return np.lib.stride_tricks.sliding_window_view(window, FIELD)[::HOP].mean(axis=1)


@settings(deadline=None, max_examples=60)
@given(PLANS, STORIES)
def test_time_stamps_are_where_the_frames_of_the_windows_are(plan: tuple[float, float], n_samples: int) -> None:
    """The audio is its own sample number, so a frame's value says when it happened."""
    audio = np.arange(n_samples, dtype=np.float64)
    for group in WindowPlan(*plan).groups(n_samples, GRID):
        windows = group.cut(audio)
        assert windows.shape == (len(group.starts), group.n_samples)
        middle = np.stack([frames_of(window)[group.first_frame :] for window in windows])
        np.testing.assert_allclose(group.times_s * RATE, middle + 0.5, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(PLANS, STORIES)
def test_every_kept_frame_has_its_past_and_little_future(plan: tuple[float, float], n_samples: int) -> None:
    context_s, stride_s = plan
    for group in WindowPlan(context_s, stride_s).groups(n_samples, GRID):
        begin_s = group.starts[:, None] / RATE
        end_s = begin_s + group.n_samples / RATE
        # What is not there cannot be heard: a window from the story's start has all the past there is.
        past_s = np.where(begin_s == 0, np.inf, group.times_s - begin_s)
        assert past_s.min() >= context_s - 1e-9
        assert (end_s - group.times_s).max() <= stride_s + 1e-9
        assert end_s.max() <= n_samples / RATE + 1e-9
        assert group.starts.min() >= 0


@settings(deadline=None, max_examples=60)
@given(PLANS, STORIES)
def test_the_whole_story_is_covered_once_and_in_order(plan: tuple[float, float], n_samples: int) -> None:
    groups = WindowPlan(*plan).groups(n_samples, GRID)
    stamps = np.concatenate([group.times_s.ravel() for group in groups]) * RATE
    assert np.diff(stamps).min(initial=1) > 0
    assert stamps[0] == FIELD / 2
    # No frame of a window reaches beyond its end, and the first kept one starts within a hop.
    assert np.diff(stamps).max(initial=0) < FIELD / 2 + 2 * HOP
    assert n_samples - stamps[-1] < FIELD + 2 * HOP


@settings(deadline=None, max_examples=60)
@given(PLANS, STORIES, st.floats(0, 6), st.floats(0, 3), st.sampled_from(["all", "first", "last", "mean"]))
def test_a_part_of_the_story_gets_the_windows_of_the_whole(
    plan: tuple[float, float], n_samples: int, start_s: float, length_s: float, read: str
) -> None:
    plans = WindowPlan(*plan, read)

    def stamps_and_windows(**part: float) -> dict[float, tuple[int, int, int]]:
        return {
            float(stamp): (int(start), group.n_samples, group.first_frame)
            for group in plans.groups(n_samples, GRID, **part)
            for start, stamps in zip(group.starts, group.times_s, strict=True)
            for stamp in stamps
        }

    whole, stop_s = stamps_and_windows(), start_s + length_s
    part = stamps_and_windows(start_s=start_s, stop_s=stop_s)
    wanted = {t: window for t, window in whole.items() if start_s < t < stop_s}
    assert wanted.items() <= part.items() <= whole.items()


@pytest.mark.parametrize("read", ["first", "last", "mean"])
def test_other_reads_give_one_value_a_window_stamped_with_its_end(read: str) -> None:
    groups = WindowPlan(1.0, 0.25, read).groups(3 * RATE, GRID)
    stamps = np.concatenate([group.times_s for group in groups])
    np.testing.assert_allclose(stamps, np.arange(1, 13)[:, None] * 0.25)


def test_the_first_windows_are_shorter_and_not_padded() -> None:
    """user-pains 4: padding changes the features of group-norm backbones."""
    groups = WindowPlan(1.0, 0.5).groups(3 * RATE + 100, GRID)
    told = [(group.n_samples / RATE, group.starts.tolist()) for group in groups]
    assert told == [(0.5, [0]), (1.0, [0]), (1.5, [0, 8000, 16000, 24000])]
    # The last 100 samples hold no frame; 1,000 would be a window of their own, shorter at its end.
    assert [group.n_samples for group in WindowPlan(1.0, 0.5).groups(3 * RATE + 1000, GRID)][-1] == 17_000


def test_redundancy_and_future_of_the_plans_of_the_literature() -> None:
    field = WindowPlan(16.0, 0.1, "last")
    assert field.redundancy == pytest.approx(161.0)
    assert field.future_s == 0.0
    assert WindowPlan(14.0, 2.0, "all").redundancy == pytest.approx(8.0)
    assert WindowPlan(14.0, 2.0, "all").future_s == 2.0
    assert WindowPlan(0.0, 4.0).redundancy == 1.0


@pytest.mark.parametrize("lists", [((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)), ((10, 8, 4), (5, 4, 2))])
def test_the_grid_of_a_stem_counts_frames_as_transformers_does(lists: tuple[tuple[int, ...], ...]) -> None:
    kernel, stride = lists
    config = WavLMConfig(
        conv_kernel=list(kernel), conv_stride=list(stride), conv_dim=[4] * len(kernel), hidden_size=16,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
    )  # fmt: skip
    grid = frame_grid(config, RATE)
    model = WavLMModel(config)
    lengths = torch.arange(grid.field_samples, grid.field_samples + 3 * grid.hop_samples)
    counted = model._get_feat_extract_output_lengths(lengths)
    assert [grid.n_frames(int(n)) for n in lengths] == counted.tolist()
    assert grid.n_frames(grid.field_samples - 1) == 0


def test_a_wavlm_frame_hears_400_samples_around_its_centre() -> None:
    """Measured by the gradient of one frame; layer norm, because group norm lets every sample count."""
    config = WavLMConfig(
        conv_dim=[4] * 7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_conv_pos_embedding_groups=4, feat_extract_norm="layer", conv_bias=True,
    )  # fmt: skip
    torch.manual_seed(0)
    audio = torch.randn(1, 4000, requires_grad=True)
    WavLMModel(config).eval().feature_extractor(audio)[0, :, 5].square().sum().backward()
    heard = torch.nonzero(audio.grad[0]).ravel()
    grid = frame_grid(config, RATE)
    assert (grid.hop_samples, grid.field_samples) == (HOP, FIELD)
    assert (int(heard[0]), int(heard[-1])) == (5 * HOP, 5 * HOP + FIELD - 1)
    assert grid.centres_s(6)[5] * RATE == pytest.approx((5 * HOP + 5 * HOP + FIELD) / 2)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: WindowPlan(-1.0, 1.0), "context_s=-1.0 and stride_s=1.0 has no frames; expected context_s >= 0"),
        (lambda: WindowPlan(1.0, 0.0), "context_s=1.0 and stride_s=0.0 has no frames"),
        (lambda: WindowPlan(float("inf"), 1.0), "context_s=inf and stride_s=1.0 has no frames"),
        (lambda: WindowPlan(1.0, float("nan")), "context_s=1.0 and stride_s=nan has no frames"),
        (lambda: WindowPlan(float("nan"), 1.0), "context_s=nan"),
        (lambda: WindowPlan(1.0, 1.0, "middle"), "unknown read 'middle' [window plan]; expected one of ('all', 'last'"),
        (lambda: WindowPlan(1.0, 1.0).groups(399, GRID), "the audio has 399 samples; expected at least 400, one frame"),
        (lambda: WindowPlan(0.0, 0.02).groups(RATE, GRID), "no frame lies in the last stride_s=0.02 of a window"),
        (lambda: WindowPlan(1.0, 0.01).groups(RATE, GRID), "expected 0.045 s or more, which always holds one"),
    ],
)
def test_errors_say_what_is_wrong(make: object, text: str) -> None:
    with pytest.raises(TimingError) as caught:
        make()  # type: ignore[operator]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


# One window a TR

TR_S = 2.0


def middles(n_trs: int, tr_s: float = TR_S, onset_s: float = 0.0) -> np.ndarray:
    return onset_s + (np.arange(n_trs) + 0.5) * tr_s


def spans(n_samples: int, times: np.ndarray, history_trs: int, grid: FrameGrid = GRID) -> dict[int, tuple[int, int]]:
    """First sample of each TR's window and the one after its last, by index of the TR."""
    groups, members = history_windows(n_samples, grid, times, history_trs=history_trs)
    found = {}
    for group, indices in zip(groups, members, strict=True):
        assert group.first_frame == 0
        assert len(group.starts) == len(indices)
        np.testing.assert_array_equal(group.times_s, times[indices][:, None])
        for index, start in zip(indices, group.starts, strict=True):
            assert int(index) not in found
            found[int(index)] = (int(start), int(start) + group.n_samples)
    return found


def test_a_window_is_the_tr_and_its_history() -> None:
    """Closed form of Moussa et al. 2025: 2 s and the four TRs before it, 10 s, from sample 32,000 x (k - 4)."""
    found = spans(40 * RATE, middles(20), 4)
    assert found == {k: (max(0, k - 4) * 32_000, (k + 1) * 32_000) for k in range(20)}
    groups, members = history_windows(40 * RATE, GRID, middles(20), history_trs=4)
    # One group for each length: at the story's start they grow, and nothing is padded.
    assert [group.n_samples for group in groups] == [32_000 * n for n in range(1, 6)]
    assert [indices.tolist() for indices in members] == [[0], [1], [2], [3], list(range(4, 20))]


def test_without_history_windows_are_the_trs_themselves() -> None:
    assert spans(10 * RATE, middles(5), 0) == {k: (k * 32_000, (k + 1) * 32_000) for k in range(5)}


def test_at_the_storys_end_windows_are_shorter_and_trs_after_it_have_none() -> None:
    # The story ends 0.5 s into TR 4; its last window holds what there is.
    found = spans(round(8.5 * RATE), middles(8), 1)
    assert found == {0: (0, 32_000), 1: (0, 64_000), 2: (32_000, 96_000), 3: (64_000, 128_000), 4: (96_000, 136_000)}
    # 8.0 s: TR 4 hears nothing of its own, though a history of it lies in the story.
    assert sorted(spans(8 * RATE, middles(8), 3)) == [0, 1, 2, 3]


def test_trs_before_the_story_have_no_window_and_one_that_overlaps_it_has_a_short_one() -> None:
    times = middles(6, onset_s=-5.0)
    assert spans(20 * RATE, times, 2) == {2: (0, 16_000), 3: (0, 48_000), 4: (0, 80_000), 5: (16_000, 112_000)}
    # 20 ms of audio hold no frame.
    assert sorted(spans(20 * RATE, middles(6, onset_s=-5.98), 2)) == [3, 4, 5]


@settings(deadline=None, max_examples=60)
@given(st.integers(FIELD, 30 * RATE), st.integers(2, 12), st.floats(0.7, 3.1), st.floats(-8, 8), st.integers(0, 7))
def test_windows_are_cut_as_by_hand_and_hear_no_future(
    n_samples: int, n_trs: int, tr_s: float, onset_s: float, history_trs: int
) -> None:
    times = middles(n_trs, tr_s, onset_s)
    found = spans(n_samples, times, history_trs)
    middle_s = (np.arange(n_samples) + 0.5) / RATE
    for index, time_s in enumerate(times):
        end_s, begin_s = time_s + tr_s / 2, time_s + tr_s / 2 - (history_trs + 1) * tr_s
        by_hand = np.flatnonzero((middle_s > begin_s) & (middle_s < end_s))
        own = np.flatnonzero((middle_s > time_s - tr_s / 2) & (middle_s < end_s))
        if index in found:
            start, stop = found[index]
            assert stop <= round(end_s * RATE)
            # A time that falls between two samples is rounded to one of them.
            assert abs(start - by_hand[0]) <= 1
            assert abs(stop - 1 - by_hand[-1]) <= 1
            assert GRID.n_frames(stop - start) > 0
        else:
            assert len(own) <= 1 or len(by_hand) <= FIELD


def test_cutting_gives_the_audio_of_the_span() -> None:
    audio = np.random.default_rng(0).standard_normal(9 * RATE)
    groups, members = history_windows(len(audio), GRID, middles(5), history_trs=2)
    for group, indices in zip(groups, members, strict=True):
        for window, index in zip(group.cut(audio), indices, strict=True):
            np.testing.assert_array_equal(window, audio[max(0, index - 2) * 32_000 : (index + 1) * 32_000])


def test_history_longer_than_the_encoder_takes_is_refused() -> None:
    short = FrameGrid(RATE, HOP, FIELD, longest_samples=8 * RATE)
    history_windows(20 * RATE, short, middles(5), history_trs=3)
    with pytest.raises(
        TimingError, match=r"windows of 10 s are too long .*history_trs \+ 1 TRs of at most 8 s; .*shorten history"
    ):
        history_windows(20 * RATE, short, middles(5), history_trs=4)
    with pytest.raises(TimingError, match="the audio has 399 samples; expected at least 400, one frame"):
        history_windows(399, GRID, middles(5), history_trs=1)


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 3.0, 9.0]])
def test_history_needs_an_even_grid_of_trs(times: list[float]) -> None:
    with pytest.raises(TimingError, match="evenly spaced"):
        history_windows(20 * RATE, GRID, np.array(times), history_trs=1)


# Encoders that pad their input themselves


def test_padding_moves_centres_and_adds_frames() -> None:
    """Frame k sees the samples from 320 k - 520 to 320 k + 519, those that there are."""
    padded = FrameGrid(RATE, 320, 1040, padding_samples=(520, 360), shortest_samples=400)
    assert padded.first_centre_samples == 0.0
    np.testing.assert_allclose(padded.centres_s(4) * RATE, [0, 320, 640, 960])
    assert [padded.n_frames(n) for n in (399, 400, 479, 480, 800, 16_000)] == [0, 1, 1, 2, 3, 50]
    stamps = np.concatenate([group.times_s.ravel() for group in WindowPlan(1.0, 0.5).groups(3 * RATE, padded)])
    np.testing.assert_allclose(stamps, np.arange(150) * 0.02, atol=1e-9)


def test_a_plan_longer_than_the_encoder_takes_is_refused() -> None:
    short = FrameGrid(RATE, HOP, FIELD, longest_samples=2 * RATE)
    WindowPlan(1.5, 0.5).groups(5 * RATE, short)
    with pytest.raises(TimingError) as caught:
        WindowPlan(2.0, 0.5).groups(5 * RATE, short)
    assert str(caught.value) == (
        "windows of 2.5 s are too long for this encoder; expected context_s + stride_s of at most 2 s; "
        "remedy: shorten context_s in the recipe"
    )
    padded = FrameGrid(RATE, 320, 1040, padding_samples=(520, 360), shortest_samples=400)
    with pytest.raises(TimingError, match="the audio has 399 samples; expected at least 400, one frame"):
        WindowPlan(1.0, 0.5).groups(399, padded)

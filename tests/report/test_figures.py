import math
from itertools import pairwise

import numpy as np
import pytest
from example_run import MODELS, N_NAN, REGIONS, curve, flat_map, result_rows

from brain_tuning.errors import BrainTuningError, MissingExtraError
from brain_tuning.report import Curve, FlatMap, flat_maps, gain_scatter, region_bars, training_curves
from brain_tuning.report.figures import MAX_REGIONS
from brain_tuning.report.results import models_of, twins_of


@pytest.fixture(scope="module")
def one_map():
    return flat_map("s1", 1)


@pytest.fixture(scope="module")
def map_figure(one_map):
    return flat_maps(one_map)


def clipped_texts(figure):
    figure.draw_without_rendering()
    page = figure.bbox
    texts = [text for text in figure.findobj(lambda part: hasattr(part, "get_text")) if text.get_text().strip()]
    assert texts
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible()]
    # tick labels beyond the limits of an axis are laid out but not drawn
    drawn = [(text, box) for text, box in boxes if not text.replace("\N{MINUS SIGN}", "").replace(".", "").isdigit()]
    return [
        text
        for text, box in drawn
        if box.x0 < page.x0 - 1 or box.y0 < page.y0 - 1 or box.x1 > page.x1 + 1 or box.y1 > page.y1 + 1
    ]


def test_every_bar_is_as_high_as_its_row_says(one_map):
    rows = result_rows(one_map) + result_rows(flat_map("s2", 2))
    figure = region_bars(rows)
    assert len(figure.axes) == 2
    drawn = {
        (subject, region, container.get_label()): bar.get_height()
        for subject, panel in zip(("s1", "s2"), figure.axes, strict=True)
        for container in panel.containers
        for region, bar in zip(REGIONS, container, strict=True)
    }
    assert drawn == {(row["subject"], row["region"], row["model"]): row["r"] for row in rows}


def test_bars_of_a_region_stand_side_by_side_around_its_name(one_map):
    panel = region_bars(result_rows(one_map)).axes[0]
    for k in range(len(REGIONS)):
        edges = [
            (container[k].get_x(), container[k].get_x() + container[k].get_width()) for container in panel.containers
        ]
        assert all(left[1] < right[0] for left, right in pairwise(edges))
        assert math.isclose((edges[0][0] + edges[-1][1]) / 2, panel.get_xticks()[k], abs_tol=1e-9)


def test_ceilings_and_true_ceilings_are_lines_at_their_values(one_map):
    rows = result_rows(one_map)
    panel = region_bars(rows).axes[0]
    estimated, true = (
        next(lines for lines in panel.collections if lines.get_label() == label)
        for label in ("noise ceiling (estimated)", "true ceiling")
    )
    untuned = [row for row in rows if row["model"] == "untuned"]
    heights = [segment[0, 1] for segment in estimated.get_segments()]
    assert heights == [row["ceiling"] for row in untuned if row["ceiling"] is not None]
    assert [segment[0, 1] for segment in true.get_segments()] == [row["truth"] for row in untuned]


def test_a_score_that_could_not_be_estimated_is_absent_and_said_so(one_map):
    """User pain 3: never 0."""
    rows = [
        dict(row, r=math.nan if row["model"] == "tuned-AC" else None) if row["region"] == "word-rate" else row
        for row in result_rows(one_map)
    ]
    panel = region_bars(rows).axes[0]
    assert "n/a: 3 scores could not be estimated" in panel.get_title("left")
    assert [text.get_text() for text in panel.texts] == ["n/a"] * 3
    place = list(REGIONS).index("word-rate")
    assert all(math.isnan(container[place].get_height()) for container in panel.containers)


def test_of_many_regions_those_with_the_highest_r_are_drawn_and_said_so():
    rows = [
        {"subject": "s1", "region": f"r{k}", "model": "untuned", "r": k / 100, "n_voxels": 5}
        for k in range(MAX_REGIONS + 6)
    ]
    panel = region_bars(rows).axes[0]
    assert panel.get_title("left") == f"Subject s1: the {MAX_REGIONS} of {MAX_REGIONS + 6} regions with the highest r"
    assert [label.get_text() for label in panel.get_xticklabels()] == [f"r{k}" for k in range(6, MAX_REGIONS + 6)]


def test_all_maps_of_r_share_one_colour_scale_and_all_changes_another(map_figure):
    dots = [c for panel in map_figure.axes for c in panel.collections if c.get_label() == "scored"]
    limits = [d.get_clim() for d in dots]
    n_models = len(MODELS)
    assert len(dots) == 2 * n_models - 1
    assert len(set(limits[:n_models])) == 1
    assert len(set(limits[n_models:])) == 1
    low, high = limits[n_models]
    assert low == -high


def test_the_mapped_values_are_r_and_the_change_of_r(map_figure, one_map):
    dots = [c for panel in map_figure.axes for c in panel.collections if c.get_label() == "scored"]
    untuned, tuned_all, tuned_ac = (one_map.values[m] for m in ("untuned", "tuned-all", "tuned-AC"))
    expected = [untuned, tuned_all, tuned_ac, tuned_all - untuned, tuned_ac - untuned]
    for drawn, values in zip(dots, expected, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), values[np.isfinite(values)])


def test_voxels_without_a_score_are_grey_and_counted(map_figure, one_map):
    """User pain 3: a NaN is counted, not repaired."""
    grey = [c for panel in map_figure.axes for c in panel.collections if c.get_label() == "not scored"]
    assert [len(dots.get_offsets()) for dots in grey] == [N_NAN] * 5
    titles = [panel.get_title() for panel in map_figure.axes if "mean" in panel.get_title()]
    assert len(titles) == 5
    assert all(f"{N_NAN} of {len(one_map.positions)} not scored" in title for title in titles)


def test_hemispheres_are_drawn_apart_and_keep_their_shape(map_figure, one_map):
    left = np.array(one_map.hemisphere) == "left"
    drawn = np.asarray(map_figure.axes[0].collections[0].get_offsets())
    assert drawn[left, 0].max() < drawn[~left, 0].min()
    for side in (left, ~left):
        shape = one_map.positions[side] - one_map.positions[side][0]
        np.testing.assert_allclose(drawn[side] - drawn[side][0], shape, atol=1e-9)


def test_regions_are_named_in_both_hemispheres_without_overlap(map_figure):
    key = next(panel for panel in map_figure.axes if panel.get_title().startswith("regions"))
    names = [text for text in key.texts if text.get_text() not in ("left", "right")]
    assert sorted(t.get_text().replace("\n", "") for t in names) == sorted(2 * list(REGIONS))
    boxes = [text.get_window_extent() for text in names]
    for a in range(len(boxes)):
        for b in range(a):
            across = min(boxes[a].x1, boxes[b].x1) - max(boxes[a].x0, boxes[b].x0)
            up = min(boxes[a].y1, boxes[b].y1) - max(boxes[a].y0, boxes[b].y0)
            assert across <= 0.5 or up <= 0.5, (names[a].get_text(), names[b].get_text())


def test_one_voxel_does_not_set_the_colour_scale(one_map):
    values = {"untuned": one_map.values["untuned"].copy()}
    values["untuned"][0] = 50.0
    figure = flat_maps(FlatMap("s1", one_map.positions, one_map.hemisphere, one_map.region, values))
    dots = next(c for c in figure.axes[0].collections if c.get_label() == "scored")
    assert dots.get_clim()[1] < 1


def test_a_map_of_one_hemisphere_is_drawn(one_map):
    left = np.array(one_map.hemisphere) == "left"
    half = FlatMap(
        "s1",
        one_map.positions[left],
        ["left"] * int(left.sum()),
        list(np.array(one_map.region)[left]),
        {"untuned": one_map.values["untuned"][left]},
    )
    assert "mean r" in flat_maps(half).axes[0].get_title()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((3, 3))}, r"shape \(3, 3\) \[flat map of s1\]; expected \(n_voxels, 2\)"),
        ({"positions": np.full((700, 2), np.nan)}, "700 voxels have no position"),
        ({"hemisphere": ["left"]}, "hemisphere has 1 entries .* expected 700, one a voxel"),
        ({"hemisphere": ["lh"] * 700}, "unknown hemisphere 'lh' .* expected left or right"),
        ({"values": {"untuned": np.zeros(4)}}, "values of 'untuned' has 4 entries"),
        ({"values": {}}, "there is no value to map"),
        ({"values": {"untuned": np.full(700, np.nan)}}, "no voxel has a score"),
    ],
)  # fmt: skip
def test_a_map_that_does_not_fit_together_is_named(one_map, change, message):
    parts = {
        name: getattr(one_map, name) for name in ("subject", "positions", "hemisphere", "region", "values")
    } | change
    with pytest.raises(BrainTuningError, match=message):
        flat_maps(FlatMap(**parts))


def test_the_gain_scatter_holds_every_scored_voxel_once(one_map):
    figure = gain_scatter(one_map)
    untuned = one_map.values["untuned"]
    for panel, model in zip(figure.axes, ("tuned-all", "tuned-AC"), strict=True):
        tuned = one_map.values[model]
        scored = np.isfinite(untuned)
        drawn = np.asarray(panel.collections[0].get_offsets())
        expected = np.stack([untuned[scored], tuned[scored]], 1)
        np.testing.assert_array_equal(drawn[np.lexsort(drawn.T)], expected[np.lexsort(expected.T)])
        note = panel.texts[0].get_text()
        n_up = int((tuned > untuned).sum())
        assert note.startswith(f"{n_up} of {int(scored.sum())} voxels above the diagonal")
        assert f"{N_NAN} not scored, not drawn" in note
        assert panel.get_xlim() == panel.get_ylim()


def test_the_gain_scatter_of_rows_has_a_dot_a_region(one_map):
    rows = result_rows(one_map)
    panel = gain_scatter(rows).axes[1]
    drawn = {tuple(point) for point in np.asarray(panel.collections[0].get_offsets()).tolist()}
    by_model = {m: [row["r"] for row in rows if row["model"] == m] for m in MODELS}
    assert drawn == set(zip(by_model["untuned"], by_model["tuned-AC"], strict=True))


def test_regions_have_the_same_colour_on_the_map_and_in_the_scatter(map_figure, one_map):
    key = next(panel for panel in map_figure.axes if panel.get_title().startswith("regions"))
    of_voxel = key.collections[1].get_facecolors()[:, :3]
    handles = gain_scatter(one_map).legends[0].legend_handles
    from matplotlib.colors import to_rgb

    legend = {handle.get_label(): to_rgb(handle.get_color()) for handle in handles}
    assert list(legend) == list(REGIONS)
    for region, colour in zip(one_map.region, of_voxel.tolist(), strict=True):
        assert tuple(colour) == legend[region]


def test_a_gain_without_untuned_scores_is_refused(one_map):
    rows = [row for row in result_rows(one_map) if row["model"] != "untuned"]
    with pytest.raises(BrainTuningError, match=r"a gain needs the untuned and a tuned model .* expected 'untuned'"):
        gain_scatter(rows)


def test_a_layer_is_compared_with_the_untuned_model_of_that_layer_and_a_baseline_with_none():
    def row(model, layer, tuned_on, r):
        return {"subject": "s1", "region": "AC", "model": model, "layer": layer, "tuned_on": tuned_on, "r": r}

    rows = [
        row("a@3", 3, "s1", 0.5),
        row("untuned@2", 2, None, 0.1),
        row("untuned@3", 3, None, 0.2),
        row("a@2", 2, "s1", 0.3),
        row("envelope", None, None, 0.4),
    ]
    assert twins_of(rows) == {"a@3": "untuned@3", "a@2": "untuned@2"}
    assert models_of(row["model"] for row in rows) == ["untuned@2", "untuned@3", "a@3", "a@2", "envelope"]
    panels = gain_scatter(rows).axes
    assert [panel.get_xlabel() for panel in panels] == ["untuned@3: Pearson r", "untuned@2: Pearson r"]
    dots = [panel.collections[0].get_offsets().tolist() for panel in panels]
    np.testing.assert_allclose(dots, [[[0.2, 0.5]], [[0.1, 0.3]]])
    assert twins_of([row for row in rows if row["tuned_on"] is None]) == {}


def test_an_expression_is_broken_before_its_operators():
    rows = [
        {"subject": "s1", "region": region, "model": "untuned", "r": 0.1}
        for region in ("left & (IFG | AG) - A1", "semantic-temporal", "late language")
    ]
    labels = [label.get_text() for label in region_bars(rows).axes[0].get_xticklabels()]
    assert labels == ["left\n& (IFG\n| AG)\n- A1", "semantic-\ntemporal", "late\nlanguage"]


def test_curves_show_every_loss_and_the_mean_around_each_step():
    one = curve("s1 tuned-AC", 0, n_steps=100)
    one.loss[50] = math.nan
    figure = training_curves([one])
    raw, smooth = figure.axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), one.loss)
    # a window of 5 steps: two before, two after; the NaN is left out, not counted as 0
    np.testing.assert_allclose(smooth.get_ydata()[10], np.mean(one.loss[8:13]))
    np.testing.assert_allclose(smooth.get_ydata()[51], np.mean([one.loss[k] for k in (49, 51, 52, 53)]))
    np.testing.assert_allclose(smooth.get_ydata()[0], np.mean(one.loss[:3]))


def test_the_best_validation_is_the_highest_r_or_the_lowest_loss():
    r = Curve("a", [1, 2, 3], [0.0, -0.1, -0.2], [(1, 0.1), (2, 0.3), (3, 0.2)])
    loss = Curve("b", [1, 2, 3], [0.0, -0.1, -0.2], [(1, -0.1), (2, -0.3), (3, -0.2)], "loss")
    _, of_r, of_loss = training_curves([r, loss]).axes
    assert of_r.get_ylabel() == "Pearson r (higher is better)"
    assert of_loss.get_ylabel() == "Loss: spatial correlation (lower is better)"
    assert [(*line.get_xdata(), *line.get_ydata()) for line in (of_r.lines[1], of_loss.lines[1])] == [
        (2, 0.3),
        (2, -0.3),
    ]


def test_a_loss_is_called_by_its_name_where_all_curves_have_one():
    mse = Curve("a", [1], [0.5], loss_name="mse")
    assert training_curves([mse]).axes[0].get_ylabel() == "Loss: mse (lower is better)"
    assert training_curves([mse, curve("b", 0)]).axes[0].get_ylabel() == "Loss (lower is better)"


def test_a_curve_with_missing_losses_is_named():
    with pytest.raises(BrainTuningError, match=r"a training curve has 3 steps and 2 losses \[s9\]"):
        training_curves([Curve("s9", [1, 2, 3], [0.0, 0.1])])


@pytest.mark.parametrize("draw", [training_curves, region_bars])
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(BrainTuningError, match="there is no"):
        draw([])


def test_two_rows_of_the_same_score_are_refused(one_map):
    rows = result_rows(one_map)
    with pytest.raises(BrainTuningError, match=r"two rows .* \[s1, auditory, untuned\].*average repetitions"):
        region_bars([*rows, rows[0]])


def test_no_label_is_cut_off(one_map, map_figure):
    rows = result_rows(one_map)
    for figure in (map_figure, region_bars(rows), gain_scatter(one_map), training_curves([curve("s1 tuned-AC", 0)])):
        assert clipped_texts(figure) == []


def test_names_are_never_read_as_formulas():
    formula = r"$\frac{$"
    rows = [{"subject": formula, "region": formula, "model": "untuned", "r": 0.1}]
    figure = region_bars(rows)
    figure.draw_without_rendering()
    assert figure.axes[0].get_xticklabels()[0].get_text() == formula


@pytest.mark.parametrize("draw", [training_curves, region_bars, gain_scatter, flat_maps])
def test_a_missing_matplotlib_is_answered_with_the_pip_line(draw, one_map, monkeypatch):
    """User pain 31: the extra that a message names exists."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    given = {training_curves: [curve("a", 0)], region_bars: result_rows(one_map)}.get(draw, one_map)
    with pytest.raises(MissingExtraError, match=r"matplotlib is not installed.*pip install 'brain-tuning\[report\]'"):
        draw(given)


def test_the_settings_of_matplotlib_are_left_as_they_were(one_map):
    import matplotlib

    before = dict(matplotlib.rcParams)
    region_bars(result_rows(one_map))
    assert dict(matplotlib.rcParams) == before

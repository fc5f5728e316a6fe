"""Centreline graphs of vessels whose course is known."""

import numpy as np
import pytest

from cmunet_monai.measurements import path_between, trace_centrelines
from cmunet_monai.measurements.centreline import path_length_px, smooth_line, without_flaws


def box(rows, columns, size=64):
    """Rows and columns are inclusive."""
    mask = np.zeros((size, size), dtype=bool)
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    return mask


def kinds(graph):
    return sorted(node.kind for node in graph.nodes)


@pytest.mark.parametrize(
    "mask", [np.zeros((9, 9), bool), np.ones((9, 9), bool), np.ones((1, 1), bool), box((5, 5), (7, 7))]
)
def test_empty_full_and_single_pixel_have_no_centreline(mask):
    assert trace_centrelines(mask).lines == ()


def test_a_disc_is_no_vessel():
    rows, columns = np.mgrid[:64, :64]
    assert trace_centrelines(np.hypot(rows - 32, columns - 30) < 14).lines == ()


def test_a_straight_vessel_is_one_line_along_its_middle():
    (line,) = (graph := trace_centrelines(box((18, 22), (10, 50)))).lines
    assert kinds(graph) == ["end", "end"]
    inner = line.points[5:-5]
    np.testing.assert_allclose(inner[:, 0], 20, atol=0.3)
    assert np.sort(line.points[[0, -1], 1]) == pytest.approx([10, 50], abs=3)  # within a radius of the tips


@pytest.mark.parametrize("angle_deg", [0, 20, 44, 45, 46, 70])
@pytest.mark.parametrize("width", [3, 4, 7.3, 10, 20])
def test_a_centreline_is_as_long_as_its_vessel_but_for_the_tips(draw, across, width, angle_deg):
    """Thinning of Zhang and Suen leaves half of a diagonal vessel."""
    (line,) = trace_centrelines(draw((across(angle_deg), width)) >= 0.5).lines
    assert 90 - width < path_length_px(line.points) < 90 + width


def test_a_line_one_pixel_wide_is_a_vessel():
    (line,) = trace_centrelines(box((20, 20), (10, 30))).lines
    assert path_length_px(line.points) == pytest.approx(20)


def test_points_lie_one_pixel_apart(draw, course):
    (line,) = trace_centrelines(draw((course((30, 20), (60, 60), (90, 100)), 7)) >= 0.5).lines
    steps = np.linalg.norm(np.diff(line.points, axis=0), axis=1)
    assert steps == pytest.approx(np.ones(len(steps)), abs=0.2)


def test_a_fork_has_three_segments_that_meet_in_one_branch_point(draw, course):
    trunk, left, right = course((10, 64), (60, 64)), course((60, 64), (110, 30)), course((60, 64), (110, 98))
    graph = trace_centrelines(draw((trunk, 9), (left, 7), (right, 7)) >= 0.5)
    assert len(graph.lines) == 3
    assert kinds(graph) == ["branch", "end", "end", "end"]
    (branch,) = (node for node in graph.nodes if node.kind == "branch")
    assert np.hypot(branch.row - 60, branch.column - 64) < 5
    for line in graph.lines:
        assert [graph.nodes[line.start].kind, graph.nodes[line.end].kind].count("branch") == 1


@pytest.mark.parametrize("angle_deg", [90, 75, 60])
def test_two_vessels_that_cross_are_four_segments_at_one_crossing(draw, across, angle_deg):
    graph = trace_centrelines(draw((across(10), 9), (across(10 + angle_deg), 9)) >= 0.5)
    assert len(graph.lines) == 4
    assert kinds(graph) == ["crossing", "end", "end", "end", "end"]
    (crossing,) = (node for node in graph.nodes if node.kind == "crossing")
    assert np.hypot(crossing.row - 63.3, crossing.column - 63.6) < 2


def test_a_bump_on_the_wall_is_no_branch():
    mask = box((20, 28), (5, 58))
    mask[17:20, 30:33] = True
    assert len(trace_centrelines(mask).lines) == 1


def test_a_side_branch_longer_than_the_vessel_is_wide_is_one():
    mask = box((20, 28), (5, 58))
    mask[5:20, 30:33] = True
    assert len(trace_centrelines(mask).lines) == 3


def test_a_blunt_end_does_not_fork():
    graph = trace_centrelines(box((20, 34), (5, 58)))
    assert len(graph.lines) == 1
    assert kinds(graph) == ["end", "end"]


def test_a_ring_is_one_closed_line_without_nodes():
    rows, columns = np.mgrid[:64, :64]
    graph = trace_centrelines(np.abs(np.hypot(rows - 32, columns - 31) - 20) < 3)
    (line,) = graph.lines
    assert graph.nodes == ()
    assert (line.start, line.end) == (None, None)
    np.testing.assert_array_equal(line.points[0], line.points[-1])
    np.testing.assert_allclose(np.hypot(*(line.points - [32, 31]).T), 20, atol=0.7)


def test_two_vessels_that_cross_twice_enclose_two_segments(draw, course):
    straight, bent = course((64, 8), (64, 120)), course((104, 8), (24, 64), (104, 120))
    graph = trace_centrelines(draw((straight, 7), (bent, 7)) >= 0.5)
    assert kinds(graph) == ["crossing", "crossing", "end", "end", "end", "end"]
    assert len(graph.lines) == 6


def test_a_vessel_that_leaves_the_image_is_followed_to_the_border():
    graph = trace_centrelines(box((20, 30), (0, 40)))
    assert kinds(graph) == ["border", "end"]
    (border,) = (node for node in graph.nodes if node.kind == "border")
    assert (border.row, border.column) == (25, 0)


def test_a_vessel_across_the_whole_image_has_two_borders(draw, course):
    graph = trace_centrelines(draw((course((-20, 30), (150, 90)), 10)) >= 0.5)
    assert kinds(graph) == ["border", "border"]


def test_the_longest_line_comes_first():
    graph = trace_centrelines(box((10, 14), (5, 20)) | box((40, 44), (5, 60)))
    assert [round(path_length_px(line.points)) > 30 for line in graph.lines] == [True, False]


def test_a_mask_is_not_modified():
    mask = box((18, 24), (0, 50))
    mask[20, 20] = False
    before = mask.copy()
    trace_centrelines(without_flaws(mask, cracks=True))
    np.testing.assert_array_equal(mask, before)


def test_small_holes_and_cracks_are_flaws_and_gaps_are_not():
    mask = box((20, 29), (5, 58))
    mask[24:26, 20] = False  # a hole of 2 pixels
    mask[20:28, 40:42] = False  # a crack 2 pixels wide
    whole = without_flaws(mask, cracks=True)
    assert whole[21:30, 5:59].all()  # a crack's mouth stays a notch of one pixel
    assert without_flaws(mask, cracks=False).sum() == mask.sum() + 2
    wide = box((20, 29), (5, 58))
    wide[20:30, 40:43] = False  # from wall to wall: two vessels
    np.testing.assert_array_equal(without_flaws(wide, cracks=True), wide)


def test_a_vessel_along_the_border_stays_apart_from_it():
    mask = box((2, 6), (0, 63))
    np.testing.assert_array_equal(without_flaws(mask, cracks=True), mask)


def test_smoothing_keeps_a_straight_line_and_its_ends():
    line = np.stack([np.linspace(3, 20, 30), np.linspace(5, 9, 30)], axis=1)
    np.testing.assert_allclose(smooth_line(line, 3), line, atol=1e-9)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("shape", [(1, 40), (2, 2), (40, 3), (32, 32)])
def test_any_mask_gives_lines_inside_the_image(density, shape):
    rng = np.random.default_rng(0)
    for _ in range(2):
        graph = trace_centrelines(rng.random(shape) < density)
        for line in graph.lines:
            assert (line.points >= -0.5).all()
            assert (line.points <= np.array(shape) - 0.5).all()
            assert (line.radius_px >= 0).all()


@pytest.fixture
def fork(draw, course):
    """A vessel along row 30 with a branch down from column 64; beside it another vessel, along row 115."""
    parts = ((course((30, 10), (30, 118)), 9), (course((30, 64), (95, 64)), 9), (course((115, 10), (115, 118)), 7))
    return trace_centrelines(draw(*parts) >= 0.5)


def test_the_way_between_two_points_goes_through_the_branch_point(fork):
    way = path_between(fork, (36, 20), (80, 60))
    assert way.points[0] == pytest.approx([30, 20], abs=1.5)
    assert way.points[-1] == pytest.approx([80, 64], abs=1.5)
    assert path_length_px(way.points) == pytest.approx(44 + 50, abs=6)  # the corner is rounded
    assert np.hypot(*(way.points - [30, 64]).T).min() < 4


def test_the_way_back_is_the_same(fork):
    way, back = path_between(fork, (30, 20), (30, 100)), path_between(fork, (30, 100), (30, 20))
    np.testing.assert_allclose(way.points, back.points[::-1], atol=1e-6)


@pytest.mark.parametrize(
    "first, last, said",
    [
        ((60, 20), (30, 100), r"within 20 px of a centreline, got \(60, 20\), 30\.\d px away"),
        ((30, 20), (115, 20), "connected vessels"),
        ((30, 20), (31, 20), "two places"),
    ],
)
def test_points_far_away_on_other_vessels_or_at_one_place_are_refused(fork, first, last, said):
    with pytest.raises(ValueError, match=said):
        path_between(fork, first, last)


def test_without_a_vessel_there_is_no_way():
    with pytest.raises(ValueError, match="without one"):
        path_between(trace_centrelines(np.zeros((9, 9), bool)), (1, 1), (5, 5))

"""Diameter profiles of vessels whose diameter is known at every place."""

import warnings

import numpy as np
import pytest

from cmunet_monai.measurements import Segment, measure_arteries


def only(levels, **options):
    (segment,) = measure_arteries(levels, **options).segments
    return segment


@pytest.mark.parametrize("angle_deg", [0, 20, 45, 70, 90, 155])
@pytest.mark.parametrize("width", [4.0, 7.3, 15.0, 30.0])
def test_a_straight_vessel_has_its_width_at_any_angle(draw, across, width, angle_deg):
    diameter_px = only(draw((across(angle_deg), width))).diameter_px
    np.testing.assert_allclose(diameter_px[~np.isnan(diameter_px)], width, atol=0.2)
    assert np.nanmean(diameter_px) == pytest.approx(width, abs=0.13)
    assert (~np.isnan(diameter_px)).sum() > 90 - 2 * width - 10


@pytest.mark.parametrize("angle_deg", [0, 20, 45, 70])
@pytest.mark.parametrize("width", [3.0, 4.0, 7.3, 15.0])
def test_a_binary_mask_gives_the_width_to_a_fraction_of_a_pixel(draw, across, width, angle_deg):
    segment = only(draw((across(angle_deg), width)) >= 0.5)
    assert segment.mean_diameter_px == pytest.approx(width, abs=0.5 if angle_deg % 45 == 0 else 0.1)
    # on the grid itself all steps of a wall fall together: half a pixel on either side
    assert np.nanmax(np.abs(segment.diameter_px - width)) < 1


@pytest.mark.parametrize("as_mask", [lambda m: m, lambda m: m.astype(np.uint8), lambda m: m.astype(np.float32)])
def test_a_mask_may_be_of_any_type(draw, across, as_mask):
    mask = draw((across(30), 9.0)) >= 0.5
    np.testing.assert_array_equal(only(as_mask(mask)).diameter_px, only(mask).diameter_px)


def test_a_taper_is_followed(draw, course):
    line = course((60, 14), (60, 114))
    segment = only(draw((line, np.linspace(14, 6, len(line)))))
    expected = 14 - 8 * (segment.points[:, 1] - 14) / 100
    measured = ~np.isnan(segment.diameter_px)
    # the wall slopes by 4 px in 100: the nearest course point is not straight across, which is worth less than 0.1 px
    np.testing.assert_allclose(segment.diameter_px[measured], expected[measured], atol=0.2)
    assert segment.mean_diameter_px == pytest.approx(10, abs=0.4)
    assert segment.minimum_diameter_px == pytest.approx(6, abs=0.6)


def test_a_bend_does_not_change_the_diameter(draw):
    angle = np.linspace(0.3, np.pi - 0.3, 600)
    arc = np.stack([100 - 40 * np.sin(angle), 64 - 40 * np.cos(angle)], axis=1)
    diameter_px = only(draw((arc, 10.0))).diameter_px
    np.testing.assert_allclose(diameter_px[~np.isnan(diameter_px)], 10, atol=0.15)


def test_walls_lie_where_they_are_drawn(draw, course):
    segment = only(draw((course((60.25, 14), (60.25, 114)), 9.0)))
    measured = ~np.isnan(segment.diameter_px)
    rows = np.sort(segment.walls[measured, :, 0], axis=1)
    np.testing.assert_allclose(rows, np.tile([60.25 - 4.5, 60.25 + 4.5], (len(rows), 1)), atol=0.1)
    apart = np.linalg.norm(segment.walls[measured, 0] - segment.walls[measured, 1], axis=1)
    np.testing.assert_allclose(apart, segment.diameter_px[measured])


def test_between_pixels_the_contour_is_where_the_probability_is_a_half(draw, course):
    """Probabilities 0.75 in the rows beside a core of 7 rows: the level of 0.5 lies a third of a pixel further out."""
    levels = np.zeros((40, 80))
    levels[17:24, 5:75] = 1.0
    levels[[16, 24], 5:75] = 0.75
    assert only(levels).mean_diameter_px == pytest.approx(7 + 1 + 2 / 3, abs=0.02)


def test_at_a_branch_point_there_is_no_diameter(draw, course):
    vessels = (course((30, 10), (30, 118)), 9.0), (course((30, 64), (110, 64)), 9.0)
    for segment in measure_arteries(draw(*vessels)).segments:
        away = np.hypot(*(segment.points - [30, 64]).T)
        assert np.isnan(segment.diameter_px[away < 3]).all()
        assert not segment.clear[away < 8].any()
        assert segment.clear.any()
        np.testing.assert_allclose(segment.diameter_px[segment.clear], 9, atol=0.5)


def test_where_the_normal_leaves_the_image_there_is_no_diameter(draw, course):
    """A vessel that leaves at 45 degrees: its lower wall is cut off before its upper one."""
    levels = draw((course((-10, 60), (80, 150)), 12.0))
    segment = only(levels)
    on_border = (segment.points < 2).any(axis=1) | (segment.points > 125).any(axis=1)
    assert on_border.any()
    assert np.isnan(segment.diameter_px[on_border]).all()
    assert segment.mean_diameter_px == pytest.approx(12, abs=0.2)
    assert {segment.starts_at, segment.ends_at} == {"border"}


def test_a_rounded_tip_is_not_measured(draw, across):
    segment = only(draw((across(25), 14.0)))
    assert segment.minimum_diameter_px > 13.5
    assert (segment.starts_at, segment.ends_at) == ("end", "end")


def test_a_ring_has_its_width_all_round():
    rows, columns = np.mgrid[:100, :100]
    segment = only(np.clip(4.5 - np.abs(np.hypot(rows - 50, columns - 49) - 30), 0, 1))
    assert (segment.starts_at, segment.ends_at) == ("loop", "loop")
    assert segment.length_px == pytest.approx(2 * np.pi * 30, rel=0.03)
    np.testing.assert_allclose(segment.diameter_px, 8, atol=0.3)
    assert segment.clear.all()


def test_a_binary_line_one_pixel_wide_has_no_diameter():
    mask = np.zeros((40, 40), dtype=bool)
    mask[20, 5:35] = True
    segment = only(mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan([segment.mean_diameter_px, segment.minimum_diameter_px]).all()
    assert segment.length_px == pytest.approx(29)


def test_the_spacing_turns_pixels_into_millimetres(draw, across):
    segment = only(draw((across(0), 10.0)), spacing_mm=0.25)
    assert segment.mean_diameter_mm == pytest.approx(2.5, abs=0.05)
    assert segment.minimum_diameter_mm == pytest.approx(0.25 * segment.minimum_diameter_px)
    assert segment.length_mm == pytest.approx(0.25 * segment.length_px)


def test_without_a_spacing_there_are_no_millimetres(draw, across):
    segment = only(draw((across(0), 10.0)))
    assert (segment.mean_diameter_mm, segment.minimum_diameter_mm, segment.length_mm) == (None, None, None)


def test_distances_run_along_the_points():
    points = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
    none = np.full(3, np.nan)
    segment = Segment(1, points, none, np.full((3, 2, 2), np.nan), np.ones(3, bool), "end", "end", None)
    np.testing.assert_allclose(segment.distance_px, [0, 5, 6])
    assert segment.length_px == 6

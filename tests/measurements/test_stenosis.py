"""Candidate narrowings in vessels whose narrowings are known."""

import numpy as np
import pytest

from cmunet_monai.measurements import find_narrowings, measure_arteries


def dip(line, percent, half_length_px, at=0.5):
    """(N,) share of the diameter that a bell-shaped narrowing leaves; its loss is 1/e of the largest at the length."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return 1 - percent / 100 * np.exp(-(((along - at * along[-1]) / half_length_px) ** 2))


def narrowings(levels, **options):
    return measure_arteries(levels, narrowings=True, **options).narrowings


@pytest.mark.parametrize("percent", [35, 50, 70])
@pytest.mark.parametrize("width, angle_deg", [(8, 30), (12, 0), (12, 75), (20, 45)])
def test_a_narrowing_of_known_degree_is_found_within_five_points(draw, across, width, angle_deg, percent):
    line = across(angle_deg, 110)
    (found,) = narrowings(draw((line, width * dip(line, percent, 10))))
    assert found.percent == pytest.approx(percent, abs=5)
    assert found.minimum_px == pytest.approx(width * (1 - percent / 100), abs=0.4)
    assert found.reference_px == pytest.approx(width, abs=0.05 * width)
    assert np.hypot(found.row - 63.3, found.column - 63.6) < 3
    # half of the loss remains up to sqrt(ln 2) half lengths on both sides
    assert found.length_px == pytest.approx(2 * np.sqrt(np.log(2)) * 10, abs=4)


def test_percent_follows_from_minimum_and_reference(draw, across):
    line = across(0, 110)
    (found,) = narrowings(draw((line, 12 * dip(line, 50, 10))))
    assert found.percent == pytest.approx(100 * (1 - found.minimum_px / found.reference_px))
    assert np.linalg.norm(found.walls[0] - found.walls[1]) == pytest.approx(found.minimum_px)


def test_a_binary_mask_shows_the_same_narrowing_within_ten_points(draw, across):
    line = across(20, 110)
    (found,) = narrowings(draw((line, 10 * dip(line, 50, 10))) >= 0.5)
    assert found.percent == pytest.approx(50, abs=10)


def test_in_a_vessel_that_tapers_the_reference_is_that_at_the_place(draw, across):
    line = across(0, 110)
    (found,) = narrowings(draw((line, np.linspace(18, 8, len(line)) * dip(line, 50, 8))))
    assert found.reference_px == pytest.approx(13, abs=0.8)  # half-way between both ends
    assert found.percent == pytest.approx(50, abs=6)


@pytest.mark.parametrize("ends_px", [(12, 12), (16, 6), (6, 16)])
def test_an_even_vessel_has_no_narrowing_be_it_straight_or_tapering(draw, across, ends_px):
    line = across(35, 110)
    levels = draw((line, np.linspace(*ends_px, len(line))))
    assert narrowings(levels) == ()
    assert narrowings(levels >= 0.5) == ()


def test_a_step_is_no_narrowing(draw, across):
    line = across(0, 110)
    assert narrowings(draw((line, np.where(np.arange(len(line)) < len(line) / 2, 16.0, 8.0)))) == ()


def test_a_narrowing_below_thirty_percent_is_listed_only_if_asked_for(draw, across):
    line = across(0, 110)
    (segment,) = measure_arteries(draw((line, 12 * dip(line, 20, 10)))).segments
    assert find_narrowings(segment) == ()
    (found,) = find_narrowings(segment, least_percent=10)
    assert found.percent == pytest.approx(20, abs=5)


@pytest.mark.parametrize("width, count", [(5.5, 0), (6.8, 1)])
def test_below_a_reference_of_six_pixels_there_is_no_narrowing(draw, across, width, count):
    line = across(0, 110)
    assert len(narrowings(draw((line, width * dip(line, 50, 10))))) == count


@pytest.mark.parametrize("angle_deg", [90, 70, 50, 30])
def test_a_crossing_is_no_narrowing(draw, across, angle_deg):
    levels = draw((across(10, 160), 11), (across(10 + angle_deg, 160), 8))
    assert narrowings(levels) == ()
    assert narrowings(levels >= 0.5) == ()


def test_a_side_branch_is_no_narrowing(draw, course):
    trunk, twig = course((40, 4), (40, 124)), course((40, 64), (120, 90))
    assert narrowings(draw((trunk, 12), (twig, 5))) == ()


def test_a_pointed_end_is_no_narrowing(draw, course):
    line = course((40, 14), (40, 114))
    assert narrowings(draw((line, np.clip(np.linspace(40, 1, len(line)), 1, 12)))) == ()


@pytest.mark.parametrize("at_px, count", [(50, 1), (13, 0)])
def test_a_narrowing_within_a_diameter_of_a_branch_is_left_out(draw, course, at_px, count):
    """Branch point at column 30; the narrowing lies so many pixels behind it."""
    trunk, branch = course((50, 4), (50, 126)), course((50, 30), (124, 10))
    narrow = 1 - 0.6 * np.exp(-(((trunk[:, 1] - 30 - at_px) / 6) ** 2))
    assert len(narrowings(draw((trunk, 14 * narrow), (branch, 10)))) == count


def test_a_crack_between_pieces_of_a_mask_is_no_narrowing(draw, across):
    mask = draw((across(0, 110), 14)) >= 0.5
    mask[:66, 60:63] = False  # three columns, all but the lowest 4 to 5 rows
    assert narrowings(mask) == ()


def test_two_narrowings_of_one_segment_are_both_found_the_severest_first(draw, across):
    line = across(0, 120)
    first, second = narrowings(draw((line, 10 * dip(line, 40, 7, at=0.25) * dip(line, 65, 7, at=0.75))))
    assert (first.percent, second.percent) == (pytest.approx(65, abs=6), pytest.approx(40, abs=6))
    assert first.column > second.column


def test_a_segment_too_short_for_a_reference_has_no_narrowing(draw, across):
    assert narrowings(draw((across(0, 25), 12))) == ()


def test_the_spacing_turns_pixels_into_millimetres(draw, across):
    line = across(0, 110)
    levels = draw((line, 12 * dip(line, 50, 10)))
    (found,), (without,) = narrowings(levels, spacing_mm=0.2), narrowings(levels)
    assert found.minimum_mm == pytest.approx(0.2 * found.minimum_px)
    assert found.reference_mm == pytest.approx(0.2 * found.reference_px)
    assert found.length_mm == pytest.approx(0.2 * found.length_px)
    assert (without.minimum_mm, without.reference_mm, without.length_mm) == (None, None, None)

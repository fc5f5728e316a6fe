"""Diameters against straight vessels of known width.

All skeleton points of a bar but those near its ends lie on one line, so that a mean over a bar of width w and length L,
whose skeleton has at least L - 2w points, is off by at most 2w points of at most w each: the tolerances below.
"""

import math

import pytest
import torch

from cmunet_monai.metrics import (
    compute_artery_diameter,
    compute_artery_diameter_difference,
    compute_pointwise_diameter_error,
)

SIZE, LENGTH = 440, 400


def box(rows, columns, size=SIZE):
    """Rows and columns are inclusive."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 1
    return mask


def bar(width, row=100):
    """A horizontal bar of odd width around `row`."""
    return box((row - width // 2, row + width // 2), (20, 20 + LENGTH - 1))


def tolerance(width):
    return 2 * width * width / (LENGTH - 2 * width)


@pytest.mark.parametrize("width", [3, 5, 9, 15])
def test_a_vessel_of_odd_width_has_that_diameter(width):
    assert compute_artery_diameter(bar(width)).item() == pytest.approx(width, abs=tolerance(width))


@pytest.mark.parametrize("width", [4, 6, 10])
def test_a_vessel_of_even_width_reads_one_pixel_less(width):
    mask = box((100, 100 + width - 1), (20, 20 + LENGTH - 1))
    assert compute_artery_diameter(mask).item() == pytest.approx(width - 1, abs=tolerance(width))


@pytest.mark.parametrize("mask", [box((9, 9), (9, 9), 20), box((9, 9), (5, 14), 20), torch.eye(20)[None, None]])
def test_a_pixel_and_a_line_one_pixel_wide_have_diameter_one(mask):
    assert compute_artery_diameter(mask).item() == 1.0


def test_the_spacing_turns_pixels_into_millimetres():
    masks = torch.cat([bar(5), bar(9)])
    pixels = compute_artery_diameter(masks)
    torch.testing.assert_close(compute_artery_diameter(masks, spacing_mm=0.3), 0.3 * pixels)
    expected = torch.stack([0.3 * pixels[0], 0.2 * pixels[1]])
    torch.testing.assert_close(compute_artery_diameter(masks, spacing_mm=[0.3, 0.2]), expected)


def test_border_pixels_do_not_count():
    assert compute_artery_diameter(box((8, 12), (0, 39), 40)) == compute_artery_diameter(box((8, 12), (1, 38), 40))
    assert compute_artery_diameter(torch.ones(1, 1, 20, 20)) == compute_artery_diameter(box((1, 18), (1, 18), 20))


def test_a_mask_is_not_modified():
    mask = torch.ones(1, 1, 20, 20)
    compute_artery_diameter(mask)
    assert mask.all()


@pytest.mark.parametrize("mask", [torch.zeros(1, 1, 20, 20), box((0, 0), (0, 19), 20), torch.ones(1, 1, 2, 2)])
def test_a_mask_without_inner_pixels_has_no_diameter(mask):
    assert math.isnan(compute_artery_diameter(mask).item())


@pytest.mark.parametrize("width_pred, width_ref", [(7, 3), (3, 7), (9, 9)])
def test_the_difference_of_two_widths_is_absolute(width_pred, width_ref):
    value = compute_artery_diameter_difference(bar(width_pred), bar(width_ref, row=300)).item()
    allowed = tolerance(width_pred) + tolerance(width_ref)
    assert value == pytest.approx(abs(width_pred - width_ref), abs=allowed)


EMPTY = torch.zeros(1, 1, SIZE, SIZE)


@pytest.mark.parametrize("y_pred, y", [(EMPTY, bar(5)), (bar(5), EMPTY), (EMPTY, EMPTY)])
def test_a_difference_to_an_empty_mask_is_undefined(y_pred, y):
    assert math.isnan(compute_artery_diameter_difference(y_pred, y).item())


def test_a_wrong_tree_of_the_right_width_shows_in_the_unmatched_share_only():
    y_pred, y = bar(5, row=300), bar(5, row=100)
    error, unmatched_share = compute_pointwise_diameter_error(y_pred, y)
    assert compute_artery_diameter_difference(y_pred, y).item() == 0.0
    assert math.isnan(error.item())
    assert unmatched_share.item() == 1.0


def test_a_mask_has_no_pointwise_error_against_itself():
    error, unmatched_share = compute_pointwise_diameter_error(bar(7), bar(7))
    assert (error.item(), unmatched_share.item()) == (0.0, 0.0)


def test_a_wider_vessel_on_the_same_course_differs_by_its_width_everywhere():
    error, unmatched_share = compute_pointwise_diameter_error(bar(7), bar(3), spacing_mm=0.5)
    assert error.item() == pytest.approx(0.5 * 4, abs=0.5 * (tolerance(7) + tolerance(3)))
    # at each end the wider bar's skeleton begins within 7 pixels
    assert unmatched_share.item() <= 2 * 7 / (LENGTH - 2 * 3)


@pytest.mark.parametrize("offset, expected", [(1, (0.0, 0.0)), (2, (math.nan, 1.0))])
def test_a_thin_centreline_one_pixel_off_is_matched_and_two_pixels_off_is_not(offset, expected):
    result = compute_pointwise_diameter_error(box((10 + offset,) * 2, (10, 29), 50), box((10, 10), (10, 29), 50))
    assert [value.item() for value in result] == pytest.approx(list(expected), nan_ok=True)


def test_a_centreline_within_the_local_radius_is_matched():
    # the radius of the 9-pixel vessel is 4.5: 4 pixels off is inside, 5 is outside, ends aside
    thin = [box((100 + offset,) * 2, (20, 419)) for offset in (4, 5)]
    inside, outside = (compute_pointwise_diameter_error(y_pred, bar(9))[1].item() for y_pred in thin)
    assert inside < 0.05
    assert outside > 0.95


def test_half_a_thin_vessel_leaves_the_other_half_unmatched():
    # of the reference's columns 10 to 29 the prediction holds 10 to 19; column 20 is one pixel from it, column 21 two
    error, unmatched_share = compute_pointwise_diameter_error(box((10, 10), (10, 19), 50), box((10, 10), (10, 29), 50))
    assert error.item() == 0.0
    assert unmatched_share.item() == pytest.approx(9 / 20)


def test_equally_near_centrelines_count_with_their_mean():
    # two pixels above the reference centreline runs a vessel 1 wide, two pixels below one 3 wide: mean 2, reference 5
    y_pred = torch.maximum(box((98, 98), (20, 419)), box((101, 103), (20, 419)))
    error, _ = compute_pointwise_diameter_error(y_pred, bar(5))
    assert error.item() == pytest.approx(3.0, abs=tolerance(5) + tolerance(3))


def test_an_empty_prediction_leaves_all_unmatched():
    error, unmatched_share = compute_pointwise_diameter_error(EMPTY, bar(5))
    assert math.isnan(error.item())
    assert unmatched_share.item() == 1.0


@pytest.mark.parametrize("y_pred", [EMPTY, bar(5)])
def test_an_empty_reference_has_neither_error_nor_share(y_pred):
    error, unmatched_share = compute_pointwise_diameter_error(y_pred, EMPTY)
    assert math.isnan(error.item())
    assert math.isnan(unmatched_share.item())

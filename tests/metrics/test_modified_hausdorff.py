"""Modified Hausdorff distance against hand-worked contours: a contour point lies half-way between two unlike pixels."""

import math

import pytest
import torch

from cmunet_monai.metrics import compute_modified_hausdorff


def box(rows, columns, size=40):
    """Rows and columns are inclusive."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 1
    return mask


def test_a_mask_is_at_no_distance_from_itself():
    assert compute_modified_hausdorff(box((5, 9), (5, 30)), box((5, 9), (5, 30))).item() == 0.0


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_shifting_a_vessel_that_crosses_the_frame_by_k_pixels_is_k_pixels(pixels):
    # both walls are open lines across the frame; with 8 pixels between them the other wall is never nearer
    y_pred = box((10 + pixels, 17 + pixels), (0, 39))
    assert compute_modified_hausdorff(y_pred, box((10, 17), (0, 39))).item() == pytest.approx(pixels)


def test_one_pixel_shift_of_a_closed_bar_is_one_pixel_but_for_its_ends():
    # A bar of 5 x 20 has 20 contour points above, 20 below and 5 at each end. Shifted down by one row: all 20 above are
    # one pixel off, so are 18 below; the outer two below are sqrt(1/2) from the shifted bar's last end points; at each
    # end 4 points coincide with shifted ones and the first is sqrt(1/2) from the shifted bar's outer point above.
    expected = (20 + 18 + 4 * math.sqrt(0.5)) / 50
    value = compute_modified_hausdorff(box((11, 15), (10, 29)), box((10, 14), (10, 29))).item()
    assert value == pytest.approx(expected)


def two_pixels():
    return box((10, 10), (10, 10)) + box((10, 10), (20, 20))


# The four points around (10, 20), seen from (10, 10.5), the nearest of those around (10, 10): two at sqrt(0.5^2 +
# 9.5^2), one at 9 and one at 10; the four points around (10, 10) are at 0.
TWO_TO_ONE = (2 * math.sqrt(0.25 + 9.5**2) + 9 + 10) / 8


@pytest.mark.parametrize("swapped", [False, True])
def test_the_larger_of_the_two_directions_counts(swapped):
    pair = (two_pixels(), box((10, 10), (10, 10)))
    y_pred, y = reversed(pair) if swapped else pair
    assert compute_modified_hausdorff(y_pred, y).item() == pytest.approx(TWO_TO_ONE)


def test_the_frame_edge_is_no_contour():
    # the only contours are the vertical lines at 4.5 and 6.5
    assert compute_modified_hausdorff(box((0, 39), (0, 4)), box((0, 39), (0, 6))).item() == pytest.approx(2.0)


def test_a_single_pixel_has_four_contour_points():
    # Moved by 3 columns, the distances to the nearest of the other's four points are 2 for the point at the near side,
    # 3 for the one at the far side, and sqrt(0.5^2 + 2.5^2), to the near side again, for those above and below.
    expected = (2 + 3 + 2 * math.sqrt(0.5**2 + 2.5**2)) / 4
    value = compute_modified_hausdorff(box((10, 10), (13, 13)), box((10, 10), (10, 10))).item()
    assert value == pytest.approx(expected)


EMPTY, FULL, BAR = torch.zeros(1, 1, 40, 40), torch.ones(1, 1, 40, 40), box((5, 9), (5, 30))


@pytest.mark.parametrize("y_pred, y", [(EMPTY, BAR), (BAR, EMPTY), (EMPTY, EMPTY), (FULL, BAR), (FULL, FULL)])
def test_a_mask_without_a_contour_is_undefined(y_pred, y):
    assert math.isnan(compute_modified_hausdorff(y_pred, y).item())


def test_the_spatial_axes_are_alike():
    y_pred, y = box((3, 9), (5, 30)), box((5, 8), (2, 38))
    straight, turned = compute_modified_hausdorff(y_pred, y), compute_modified_hausdorff(y_pred.mT, y.mT)
    assert straight.item() == pytest.approx(turned.item())


def test_one_spacing_scales_all_images_and_a_list_scales_each():
    y = torch.cat([box((10, 17), (0, 39))] * 2)
    y_pred = torch.cat([box((11, 18), (0, 39)), box((12, 19), (0, 39))])
    torch.testing.assert_close(compute_modified_hausdorff(y_pred, y, spacing_mm=0.5), torch.tensor([[0.5], [1.0]]))
    for spacing_mm in ([0.5, 0.25], torch.tensor([0.5, 0.25])):
        values = compute_modified_hausdorff(y_pred, y, spacing_mm=spacing_mm)
        torch.testing.assert_close(values, torch.tensor([[0.5], [0.5]]))


@pytest.mark.parametrize("spacing_mm", [0.0, -0.2, math.nan, math.inf])
def test_a_spacing_that_is_no_length_is_refused(spacing_mm):
    with pytest.raises(ValueError, match=r"`spacing_mm` must be positive and finite, got"):
        compute_modified_hausdorff(BAR, BAR, spacing_mm=spacing_mm)


def test_a_spacing_for_another_number_of_images_is_refused():
    with pytest.raises(ValueError, match=r"`spacing_mm` must be a number or \(1,\), got shape \(2,\)"):
        compute_modified_hausdorff(BAR, BAR, spacing_mm=[0.2, 0.2])

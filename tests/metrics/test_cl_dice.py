"""clDice against hand-worked lines: the skeleton of a line one pixel wide is the line."""

import math

import pytest
import torch

from cmunet_monai.metrics import compute_cl_dice


def line(row, first, last, height=40, width=60):
    mask = torch.zeros(1, 1, height, width)
    mask[..., row, first : last + 1] = 1
    return mask


def test_a_mask_agrees_with_itself():
    assert compute_cl_dice(line(10, 10, 29), line(10, 10, 29)).item() == 1.0


def test_half_of_a_line_is_two_thirds():
    # all of the prediction is right (1), half of the reference is found (1/2): 2 * 1 * 1/2 / (3/2)
    assert compute_cl_dice(line(10, 10, 19), line(10, 10, 29)).item() == pytest.approx(2 / 3)


def test_a_line_twice_as_long_is_two_thirds_too():
    assert compute_cl_dice(line(10, 10, 29), line(10, 10, 19)).item() == pytest.approx(2 / 3)


def test_parallel_lines_score_zero():
    assert compute_cl_dice(line(10, 10, 29), line(12, 10, 29)).item() == 0.0


def test_a_line_within_a_thick_reference_has_full_precision():
    reference = line(9, 10, 49) + line(10, 10, 49) + line(11, 10, 49)
    # 20 of the prediction's 20 pixels lie in the reference; of the reference's skeleton, which lies in row 10 but for
    # its ends (at most 3 pixels at each), between 17 and 23 of between 34 and 40 pixels lie in the prediction
    value = compute_cl_dice(line(10, 20, 39), reference).item()
    lowest, highest = 17 / 40, 23 / 34
    assert 2 * lowest / (1 + lowest) <= value <= 2 * highest / (1 + highest)


def test_a_single_pixel_is_its_own_skeleton():
    assert compute_cl_dice(line(10, 10, 10), line(10, 10, 10)).item() == 1.0


def test_an_empty_prediction_scores_zero():
    assert compute_cl_dice(torch.zeros(1, 1, 40, 60), line(10, 10, 29)).item() == 0.0


@pytest.mark.parametrize("y_pred", [torch.zeros(1, 1, 40, 60), line(10, 10, 29)])
def test_an_empty_reference_is_undefined(y_pred):
    assert math.isnan(compute_cl_dice(y_pred, torch.zeros(1, 1, 40, 60)).item())


def test_a_full_frame_agrees_with_itself():
    assert compute_cl_dice(torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16)).item() == 1.0


def test_every_image_and_class_has_its_own_value():
    one, half, other = line(10, 10, 29), line(10, 10, 19), line(30, 10, 29)
    background = torch.zeros_like(one)
    y = torch.cat([torch.cat([background, one, other], dim=1), torch.cat([background, other, background], dim=1)])
    y_pred = torch.cat([torch.cat([background, half, other], dim=1), torch.cat([background, one, one], dim=1)])
    values = compute_cl_dice(y_pred, y)
    torch.testing.assert_close(values, torch.tensor([[2 / 3, 1.0], [0.0, math.nan]]), equal_nan=True)


def test_the_background_counts_only_when_asked_for():
    y = torch.cat([line(10, 10, 29), line(20, 10, 29)], dim=1)
    y_pred = torch.cat([line(30, 10, 29), line(20, 10, 29)], dim=1)
    assert compute_cl_dice(y_pred, y).tolist() == [[1.0]]
    assert compute_cl_dice(y_pred, y, include_background=True).tolist() == [[0.0, 1.0]]

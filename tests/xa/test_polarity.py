"""Dark or bright lines."""

import numpy as np
import pytest

from cmunet_monai.xa.polarity import contrast_may_be_bright, line_polarity
from data_prep.synthetic import synthesize_frame


def crossing_lines(depth, corners=False):
    row, column = np.mgrid[:256, :256].astype(np.float32)
    frame = 60 + row * 0.5
    frame += depth * ((abs(row - column) < 3) | (abs(row + column - 256) < 3))
    if corners:
        frame[np.hypot(row - 128, column - 128) > 125] = 0
    return frame.astype(np.float32)


@pytest.mark.parametrize("corners", [False, True])
def test_dark_lines_are_positive_and_bright_ones_negative(corners):
    assert line_polarity(crossing_lines(-40, corners)) > 0.5
    assert line_polarity(crossing_lines(40, corners)) < -0.5


def test_inverting_a_frame_changes_the_sign_only():
    frame = crossing_lines(-40)
    assert line_polarity(-frame) == pytest.approx(-line_polarity(frame))


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (256, 256)])
def test_constant_frame_says_nothing(shape):
    assert line_polarity(np.full(shape, 7, np.float32)) == 0
    assert not contrast_may_be_bright(np.full((2, *shape), 7, np.float32))


def test_most_frames_of_a_run_decide():
    dark, bright = crossing_lines(-40), crossing_lines(40)
    assert not contrast_may_be_bright(np.stack([dark, dark, bright]))
    assert contrast_may_be_bright(np.stack([bright, dark, bright]))


def test_synthetic_angiograms_are_dark():
    for seed in range(5):
        frame = synthesize_frame(0, seed, 0).image.astype(np.float32)
        assert line_polarity(frame) > 0
        assert line_polarity(255 - frame) < 0

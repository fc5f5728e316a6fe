"""Corrections by clicks."""

import numpy as np
import pytest

from cmunet_monai.label.clicks import correct_mask


def scene():
    """(W, H) of 160: two dark vessels in a bright frame; the model sees the upper one and something that is none."""
    frame = np.full((160, 160), 200, np.uint8)
    frame[:, 40:46] = frame[:, 80:86] = 80
    probability = np.full((160, 160), 0.05, np.float32)
    probability[:, 40:46] = 0.95
    probability[60:100, 110:118] = 0.7
    probability[:, 80:86] = 0.2
    return frame, probability, (probability >= 0.5).astype(np.uint8)


def correct(on=(), off=(), **options):
    frame, probability, mask = scene()
    return mask, correct_mask(probability, mask, frame=frame, on=on, off=off, **options)


def test_without_clicks_nothing_changes():
    mask, corrected = correct()
    np.testing.assert_array_equal(corrected, mask)


def test_a_click_on_a_missed_vessel_adds_it_and_not_its_surroundings():
    mask, corrected = correct(on=[(80, 82)])
    assert corrected[70:91, 81:85].all()
    assert not corrected[70:91, 60:76].any()
    assert (corrected >= mask).all()


def test_a_click_off_the_vessel_removes_what_is_none():
    mask, corrected = correct(off=[(80, 114)])
    assert not corrected[72:89, 110:118].any()
    assert (corrected <= mask).all()
    assert corrected[:, 42].all(), "the other vessel stays"


def test_nothing_changes_farther_than_the_reach_from_every_click():
    rng = np.random.default_rng(0)
    probability = rng.random((160, 120)).astype(np.float32)
    mask = (probability > 0.5).astype(np.uint8)
    frame = rng.integers(0, 255, mask.shape).astype(np.uint8)
    on, off = [(30, 30), (140, 100)], [(80, 60), (0, 119)]
    corrected = correct_mask(probability, mask, frame=frame, on=on, off=off)
    columns, rows = np.nonzero(corrected != mask)
    nearest = np.min([np.hypot(columns - c, rows - r) for c, r in on + off], axis=0)
    assert columns.size
    assert nearest.max() <= 40


def test_every_click_is_obeyed_at_its_own_pixel():
    rng = np.random.default_rng(1)
    probability = rng.random((90, 70)).astype(np.float32)
    mask = (probability > 0.5).astype(np.uint8)
    on, off = [(10, 10), (0, 0), (89, 69)], [(12, 15), (50, 50)]
    corrected = correct_mask(probability, mask, frame=probability, on=on, off=off)
    assert all(corrected[point] == 1 for point in on)
    assert all(corrected[point] == 0 for point in off)


def test_inputs_stay_as_they_are_and_a_constant_frame_is_no_error():
    _, probability, mask = scene()
    before = probability.copy(), mask.copy()
    correct_mask(probability, mask, frame=np.zeros_like(mask), on=[(80, 82)], off=[])
    np.testing.assert_array_equal(probability, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_clicks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"must lie within \(160, 160\), got \(160, 0\)"):
        correct(on=[(160, 0)])
    with pytest.raises(ValueError, match="on or off the vessel, got both"):
        correct(on=[(3, 3)], off=[(3, 3)])

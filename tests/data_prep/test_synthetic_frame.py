import numpy as np
import pytest

from data_prep.synthetic import synthesize_frame
from data_prep.synthetic.scanner import LOOKS


def test_same_arguments_give_the_same_bytes():
    one, two = synthesize_frame(3, 1, 2, size=128), synthesize_frame(3, 1, 2, size=128)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.mask, two.mask)


@pytest.mark.parametrize("arguments", [(4, 1, 2), (3, 0, 2), (3, 1, 0)])
def test_another_seed_patient_or_frame_is_another_picture(arguments):
    one, other = synthesize_frame(3, 1, 2, size=64), synthesize_frame(*arguments, size=64)
    assert (one.image != other.image).mean() > 0.5
    assert (one.mask != other.mask).any()


def test_views_of_a_patient_come_from_one_xray_system():
    frames = [synthesize_frame(0, 2, frame, size=64) for frame in range(6)]
    assert len({frame.look for frame in frames}) == 1
    assert len({frame.view.primary_deg for frame in frames}) == 6


def test_both_arteries_and_every_look_appear():
    frames = [synthesize_frame(0, patient, 0, size=64) for patient in range(24)]
    assert {frame.side for frame in frames} == {"left", "right"}
    assert {frame.look for frame in frames} == {look.name for look in LOOKS}


@pytest.mark.parametrize("patient", range(8))
def test_image_and_mask_are_8_bit_and_the_mask_is_0_or_255(patient):
    frame = synthesize_frame(0, patient, 0, size=128)
    assert frame.image.shape == frame.mask.shape == (128, 128)
    assert frame.image.dtype == frame.mask.dtype == np.uint8
    assert set(np.unique(frame.mask)) == {0, 255}
    # Real frames have 1.8 to 5.6% (5th to 95th percentile).
    assert 0.005 < (frame.mask > 0).mean() < 0.12


def test_arteries_are_darker_than_what_is_beside_them():
    darker = []
    for patient in range(10):
        frame = synthesize_frame(1, patient, 0, size=192, min_calibre_mm=0)
        artery = frame.mask > 0
        near = np.zeros_like(artery)
        for down in range(-5, 6):
            for right in range(-5, 6):
                near |= np.roll(artery, (down, right), (0, 1))
        darker.append(np.median(frame.image[artery]) < np.median(frame.image[near & ~artery]))
    assert all(darker)


def test_calibre_threshold_changes_the_mask_only_and_only_shrinks_it():
    everything, usual, trunks = (synthesize_frame(2, 0, 0, min_calibre_mm=mm) for mm in (0, 1.2, 2.5))
    np.testing.assert_array_equal(everything.image, trunks.image)
    masks = [frame.mask > 0 for frame in (everything, usual, trunks)]
    assert (masks[1] <= masks[0]).all()
    assert (masks[2] <= masks[1]).all()
    assert masks[0].sum() > masks[1].sum() > masks[2].sum() > 0


@pytest.mark.parametrize("patient", range(3))
def test_mask_agrees_with_a_finer_one_at_the_shared_pixel_centres(patient):
    """With three times as many pixels, every third pixel has the coarse pixel's centre: no shift, no growth."""
    coarse, fine = synthesize_frame(0, patient, 1, size=100).mask, synthesize_frame(0, patient, 1, size=300).mask
    np.testing.assert_array_equal(coarse, fine[1::3, 1::3])


def test_picture_and_mask_lie_on_each_other():
    """The dark lumen fits the mask best where it lies, not shifted by a pixel in any direction."""
    found = []
    for patient in range(8):
        frame = synthesize_frame(5, patient, 0, size=256, min_calibre_mm=0)
        image = frame.image.astype(float)
        means = {
            (down, right): image[np.roll(frame.mask, (down, right), (0, 1)) > 0].mean()
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        }
        found.append(min(means, key=means.__getitem__))
    assert found.count((0, 0)) >= 7


def test_picture_is_the_same_scene_at_another_size():
    small, large = synthesize_frame(0, 4, 0, size=128), synthesize_frame(0, 4, 0, size=256)
    shrunk = large.image.astype(float).reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.image.ravel(), shrunk.ravel())[0, 1] > 0.95
    assert small.image.mean() == pytest.approx(shrunk.mean(), abs=2)


@pytest.mark.parametrize("patient", range(4))
def test_round_corners_are_dark_where_asked_for_and_nowhere_else(patient):
    dark, open_field = (synthesize_frame(0, patient, 0, size=128, round_corners=flag) for flag in (True, False))
    corners = np.s_[[0, 0, -1, -1], [0, -1, 0, -1]]
    middle = np.s_[56:72, 56:72]
    assert (dark.image[corners] < 40).all()
    assert dark.image[middle].mean() > 60
    np.testing.assert_array_equal(dark.mask, open_field.mask)
    shuttered = open_field.image[corners] < 40
    # Straight shutters may close a corner, but never leave a round field: then a side's middle is dark, too.
    sides = open_field.image[[0, -1, 64, 64], [64, 64, 0, -1]] < 40
    assert not shuttered.any() or sides.any()

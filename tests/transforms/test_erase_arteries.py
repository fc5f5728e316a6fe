import numpy as np
import pytest
import torch

from cmunet_monai.transforms import EraseArteriesd
from cmunet_monai.transforms.erase_arteries import artery_region, erase
from cmunet_monai.transforms.vessel_prior import dark_ridges, vessel_response
from data_prep.synthetic import synthesize_frame


def line_on_a_slope(depth=40.0):
    """A frame that brightens to the right, and the same with a dark vertical line of 5 px."""
    clean = np.tile(np.linspace(80, 160, 128, dtype=np.float32), (128, 1))
    frame = clean.copy()
    frame[10:118, 62:67] -= depth
    return clean, frame


def test_a_line_that_is_erased_gives_the_slope_behind_it():
    clean, frame = line_on_a_slope()
    region = np.zeros(frame.shape, bool)
    region[7:121, 59:70] = True
    erased = erase(frame, region)
    assert np.abs(erased - clean)[20:108, 55:74].max() < 2.5  # of the 40 grey levels that the line took away


def test_pixels_beyond_the_feather_stay_as_they_are():
    _, frame = line_on_a_slope()
    region = np.zeros(frame.shape, bool)
    region[40:60, 40:60] = True
    before = frame.copy()
    erased = erase(frame, region)
    assert np.array_equal(frame, before)
    away = np.ones(frame.shape, bool)
    away[30:70, 30:70] = False
    assert np.array_equal(erased[away], frame[away])


@pytest.mark.parametrize("everywhere", [False, True])
def test_nothing_or_everything_to_erase_leaves_the_frame(everywhere):
    _, frame = line_on_a_slope()
    assert np.array_equal(erase(frame, np.full(frame.shape, everywhere)), frame)


def test_the_grain_of_the_frame_goes_on_where_an_artery_was():
    rng = np.random.default_rng(0)
    frame = (100 + 3 * rng.standard_normal((128, 128))).astype(np.float32)
    region = np.zeros(frame.shape, bool)
    region[40:90, 60:70] = True
    inside = np.s_[44:86, 63:67]
    assert erase(frame, region)[inside].std() == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize("patient", range(6))
def test_an_erased_synthetic_frame_has_no_ridge_where_its_arteries_were(patient):
    frame = synthesize_frame(3, patient, 0, size=256, round_corners=False)
    image = frame.image.astype(np.float32)
    erased = erase(image, artery_region(vessel_response(image), share=0.12))
    artery = frame.mask > 0
    before, after = (ridges[artery].mean() / ridges[~artery].mean() for ridges in map(dark_ridges, (image, erased)))
    assert before > 3
    assert after - 1 < 0.15 * (before - 1)  # beyond what the rest of the frame responds with, next to nothing is left


def test_small_pieces_are_noise_and_large_ones_are_grown_by_the_margin():
    response = np.zeros((64, 64), np.float32)
    response[10:50, 20] = 1.0  # 40 px
    response[5:8, 50] = 1.0  # 3 px
    region = artery_region(response, share=0.1, least_px=40, margin_px=2)
    assert not region[:, 40:].any()
    assert region[30].nonzero()[0].tolist() == [18, 19, 20, 21, 22]


def test_the_dictionary_form_keeps_the_frame_and_adds_the_erased_one():
    _, frame = line_on_a_slope()
    row = {"image": torch.from_numpy(frame[None]), "prior": torch.from_numpy(vessel_response(frame)[None])}
    out = EraseArteriesd("image", share=0.1)(row)
    assert torch.equal(out["image"], row["image"])
    assert out["erased"].shape == (1, 128, 128)
    assert out["erased"][0, 64, 64] > row["image"][0, 64, 64] + 30


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match=r"`share` must be between 0 and 1"):
        EraseArteriesd("image", share=share)


def test_a_response_of_another_size_is_refused():
    row = {"image": torch.zeros(1, 8, 8), "prior": torch.zeros(1, 8, 9)}
    with pytest.raises(ValueError, match=r"`prior` must be \(8, 8\) as `image`, got \(8, 9\)"):
        EraseArteriesd("image")(row)

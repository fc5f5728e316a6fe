import logging

import numpy as np
import pytest
import torch
from scipy import ndimage

from cmunet_monai.transforms import VesselPriord, vessel_prior
from cmunet_monai.transforms.vessel_prior import dark_ridges, grow_vessels, inside_collimator, vessel_response


def striped(value, *, background=1.0, size=64):
    """A line of 3 columns, 30 to 32, all the way down."""
    image = np.full((size, size), background, np.float32)
    image[:, 30:33] = value
    return image


def noise(size=64, seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 2).astype(np.float32)


def frame(seed=0):
    return {"image": torch.from_numpy(noise(seed=seed)[None])}


def test_a_dark_line_has_its_ridge_on_the_line():
    response = vessel_response(striped(0.0))
    assert response.dtype == np.float32
    assert response[8:56].argmax(axis=1).tolist() == [31] * 48
    assert response[8:56, 31].min() > 0.9
    assert response[:, 50:].max() < 0.01


def test_a_bright_line_is_no_vessel():
    assert vessel_response(striped(2.0))[:, 30:33].max() == 0


def test_four_pixels_at_the_border_are_zero():
    response = vessel_response(noise())
    inner = np.zeros((64, 64), bool)
    inner[4:60, 4:60] = True
    assert response[~inner].max() == 0
    assert response[inner].max() == 1


def test_half_a_percent_of_the_pixels_are_at_one():
    # the percentile lies between values 4074 and 4075 of 0 .. 4095
    assert np.count_nonzero(vessel_response(noise()) == 1) == 21


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e7])
def test_a_constant_image_has_no_vessel(value):
    image = np.full((40, 40), value, np.float32)
    image[0, 0] = np.nextafter(image[0, 0], np.float32(np.inf))
    assert vessel_response(image).max() == 0


def test_scale_and_offset_of_the_image_do_not_matter():
    np.testing.assert_allclose(vessel_response(50 * noise() + 120), vessel_response(noise()), atol=1e-3)


def test_the_edge_of_the_field_is_no_ridge():
    rows, columns = np.mgrid[:64, :64]
    field = (rows - 31.5) ** 2 + (columns - 31.5) ** 2 < 30**2
    image = np.where(field, 1.0, -1.0) + 1e-3 * noise()
    assert dark_ridges(image).max() > 0.1
    assert dark_ridges(image, field).max() < 1e-3
    assert dark_ridges(image, field)[~field].max() == 0


@pytest.mark.parametrize("field", [np.zeros((64, 64), bool), np.eye(64, dtype=bool)])
def test_a_field_of_nothing_or_of_its_edge_alone_has_no_ridge(field):
    assert dark_ridges(noise(), field).max() == 0


def test_a_collimated_band_ends_where_the_frame_grows_bright():
    image = np.ones((64, 64), np.float32)
    image[:, :6] = 0.0
    inside = inside_collimator(image, np.ones((64, 64), bool))
    assert not inside[:, :6].any()
    assert inside[:, 6:].all()
    assert dark_ridges(image).max() == 0


def test_a_collimated_band_is_found_inside_padding():
    image, field = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
    image[16:48], field[16:48] = 1.0, True
    image[16:21] = -2.0
    inside = inside_collimator(image, field)
    assert not inside[:21].any()
    assert inside[21:48].all()


def test_vessels_and_slow_shading_are_no_collimator():
    field = np.ones((64, 64), bool)
    image = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))  # rises by 0.06 in 4 px, its deviation is 0.29
    image[:28, 3:6] -= 1.0  # a line along less than half of the side
    image[:, 20:23] -= 1.0  # a line further from the side than 1/8 of it
    assert inside_collimator(image, field).all()


def test_growing_keeps_what_is_connected_to_the_strongest_pixel():
    response = np.zeros((10, 10), np.float32)
    response[1:3, 1:3] = 5.0
    response[6, 6], response[7, 7], response[8, 7] = 9.0, 6.0, 6.0  # 6,6 and 7,7 touch at a corner
    assert list(zip(*np.nonzero(grow_vessels(response)), strict=True)) == [(6, 6), (7, 7), (8, 7)]


def test_growing_gives_one_piece_of_the_top_eight_percent():
    response = dark_ridges(noise())
    mask = grow_vessels(response)
    assert 0 < np.count_nonzero(mask) <= 0.08 * mask.size
    assert response[mask].min() >= np.sort(response.ravel())[-round(0.08 * mask.size)]
    assert ndimage.label(mask, structure=np.ones((3, 3)))[1] == 1
    assert mask[np.unravel_index(response.argmax(), mask.shape)]


def test_nothing_grows_from_an_empty_response():
    assert not grow_vessels(np.zeros((8, 8))).any()


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_out_of_range_is_named(share):
    with pytest.raises(ValueError, match=f"`share` must be between 0 and 1, got {share}"):
        grow_vessels(np.ones((8, 8)), share)
    with pytest.raises(ValueError, match=f"`grown_share` must be between 0 and 1, or None, got {share}"):
        VesselPriord("image", grown_share=share)


def test_the_prior_is_added_and_the_frame_stays():
    row = frame()
    before = row["image"].clone()
    added = VesselPriord("image")(row)
    assert set(row) == {"image"}
    assert added["image"] is row["image"]
    assert torch.equal(row["image"], before)
    assert added["prior"].dtype == torch.float32
    assert torch.equal(added["prior"], torch.from_numpy(vessel_response(noise()))[None])


def test_a_grown_prior_is_zeros_and_ones():
    prior = VesselPriord("image", "vessels", grown_share=0.08)(frame())["vessels"]
    assert torch.equal(prior[0] > 0, torch.from_numpy(grow_vessels(dark_ridges(noise()))))
    assert set(prior.unique().tolist()) == {0.0, 1.0}


def test_the_field_of_the_row_is_used():
    field = torch.zeros(1, 64, 64)
    field[..., 20:] = 1
    prior = VesselPriord("image", field_key="field")(frame() | {"field": field})["prior"]
    assert torch.equal(prior[0], torch.from_numpy(vessel_response(noise(), field[0].numpy() > 0)))
    assert prior[..., :24].max() == 0


def test_a_frame_is_filtered_once_for_all_that_share_a_folder(tmp_path, monkeypatch):
    first = VesselPriord("image", cache_dir=tmp_path)(frame())["prior"]
    VesselPriord("image", cache_dir=tmp_path)(frame(seed=1))
    VesselPriord("image", field_key="field", cache_dir=tmp_path)(frame() | {"field": torch.eye(64)[None]})
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr(vessel_prior, "dark_ridges", None)
    assert torch.equal(VesselPriord("image", cache_dir=tmp_path)(frame())["prior"], first)
    grown = VesselPriord("image", grown_share=0.08, cache_dir=tmp_path)(frame())["prior"]
    assert torch.equal(grown[0] > 0, torch.from_numpy(grow_vessels(dark_ridges(noise()))))


def test_a_damaged_file_of_the_cache_is_made_anew_with_a_warning(tmp_path, caplog):
    prior = VesselPriord("image", cache_dir=tmp_path)
    expected = prior(frame())["prior"]
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((2, 2), np.float32))
    for damage in (whole[:1000], b"", bytes(len(whole)), other.read_bytes()):
        path.write_bytes(damage)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert torch.equal(prior(frame())["prior"], expected)
        assert f"{path} is damaged and is made anew" in caplog.text
        assert path.read_bytes() == whole


def test_frames_and_fields_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"must be \(1, H, W\), got \(3, 8, 8\)"):
        VesselPriord("image")({"image": torch.zeros(3, 8, 8)})
    with pytest.raises(ValueError, match=r"`field` must be \(1, 8, 8\) as `image`, got \(1, 8, 9\)"):
        VesselPriord("image", field_key="field")({"image": torch.zeros(1, 8, 8), "field": torch.ones(1, 8, 9)})

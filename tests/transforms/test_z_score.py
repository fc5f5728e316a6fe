import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from cmunet_monai.transforms import UnsharpMask, ZScore, ZScored


def test_a_frame_gets_mean_zero_and_standard_deviation_one():
    # mean 5, deviations -3, -1, 1, 3: variance 20 / 4
    scaled = ZScore()(np.array([[[2, 4], [6, 8]]], np.uint8))
    assert scaled.dtype == np.float32
    assert np.allclose(scaled, np.array([[[-3, -1], [1, 3]]]) / np.sqrt(5), atol=1e-7)


def test_pixels_outside_the_field_do_not_count_and_become_zero():
    frame = torch.tensor([[[2.0, 4.0, 900.0]]])
    field = torch.tensor([[[True, True, False]]])
    assert ZScore()(frame, field).tolist() == [[[-1, 1, 0]]]
    assert ZScore()(frame, field.to(torch.uint8) * 255).tolist() == [[[-1, 1, 0]]]


def test_statistics_of_a_data_set_are_used_as_given():
    frame = np.array([[[100, 150, 0]]], np.uint8)
    assert ZScore(mean=100, std=50)(frame).tolist() == [[[0, 1, -2]]]
    assert ZScore(mean=100, std=50)(frame, np.array([[[1, 1, 0]]], bool)).tolist() == [[[0, 1, 0]]]


@pytest.mark.parametrize("value", [0, 1e-3, 1, 100, 65535])
def test_a_constant_frame_gives_zeros(value):
    frame = np.full((1, 40, 33), value, np.float32)
    assert not ZScore()(frame).any()
    assert not ZScore()(UnsharpMask()(frame)).any()  # whose rounding leaves differences of 1e-7


@pytest.mark.parametrize("scale", [1e-8, 1, 257, 1e6])
def test_scale_of_the_grey_levels_does_not_matter(scale):
    frame = np.random.default_rng(0).random((1, 20, 30))
    assert np.allclose(ZScore()((frame * scale).astype(np.float32)), ZScore()(frame), atol=1e-5)


def test_one_grey_level_of_sixteen_bits_is_seen():
    frame = np.full((1, 10, 10), 65534, np.uint16)
    frame[0, :5] = 65535
    assert np.allclose(ZScore()(frame)[0, [0, 9], 0], [1, -1])


def test_half_precision_does_not_overflow():
    frame = np.array([[[60000, 0]]], np.float16)
    assert ZScore()(frame).tolist() == [[[1, -1]]]
    assert ZScore(mean=-30000, std=30000)(frame).tolist() == [[[3, 1]]]  # 90000 is beyond float16


def test_a_field_without_a_valid_pixel_gives_zeros():
    frame, field = np.arange(6.0).reshape(1, 2, 3), np.zeros((1, 2, 3), bool)
    assert not ZScore()(frame, field).any()
    assert not ZScore(mean=1, std=2)(frame, field).any()


def test_one_field_serves_all_channels_and_they_share_mean_and_deviation():
    frame = np.array([[[0, 2, 50]], [[2, 4, 60]]], np.float32)  # mean 2, variance (4 + 0 + 0 + 4) / 4
    scaled = ZScore()(frame, np.array([[[True, True, False]]]))
    assert np.allclose(scaled, np.array([[[-2, 0, 0]], [[0, 2, 0]]]) / np.sqrt(2), atol=1e-7)


def test_row_keeps_its_kind_and_meta_data_and_inputs_stay():
    affine = torch.diag(torch.tensor([0.3, 0.2, 1, 1], dtype=torch.float64))
    image = MetaTensor(torch.arange(12.0).reshape(1, 3, 4), affine=affine, meta={"filename_or_obj": "x.png"})
    image.push_applied_operation({"class": "Resize"})
    field = torch.ones(1, 3, 4, dtype=torch.bool)
    field[0, 0, 0] = False
    row = {"image": image, "field": field}
    result = ZScored("image", field_key="field")(row)
    assert row["image"].tolist() == torch.arange(12.0).reshape(1, 3, 4).tolist()
    assert isinstance(result["image"], MetaTensor)
    assert result["image"].dtype == torch.float32
    assert torch.equal(result["image"].affine, affine)
    assert result["image"].applied_operations == [{"class": "Resize"}]
    inside = result["image"][field].double()
    assert inside.mean().item() == pytest.approx(0, abs=1e-6)
    assert inside.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    again = pickle.loads(pickle.dumps(ZScored("image", field_key="field")))(row)
    assert torch.equal(again["image"], result["image"])
    assert isinstance(ZScore()(np.ones((1, 2, 2))), np.ndarray)
    assert type(ZScore()(torch.ones(1, 2, 2))) is torch.Tensor


def test_wrong_inputs_and_settings_are_named():
    with pytest.raises(ValueError, match="given together or not at all, got 3 and None"):
        ZScored("image", mean=3)
    for std in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"`std` must be positive, got {std}"):
            ZScore(mean=0, std=std)
    with pytest.raises(ValueError, match=r"must be \(C, H, W\), got \(4, 5\)"):
        ZScore()(np.zeros((4, 5)))
    for shape in ((1, 5, 4), (4, 5), (2, 4, 5)):
        with pytest.raises(ValueError, match=r"`field` must be \(1, 4, 5\)"):
            ZScore()(np.zeros((2, 4, 5)), np.ones(shape, bool))
    with pytest.raises(KeyError, match=r"`field_key` 'field' is not in the row, which holds \['image'\]"):
        ZScored("image", field_key="field")({"image": np.zeros((1, 2, 2))})
    frame = MetaTensor(torch.full((1, 8, 8), torch.nan), meta={"filename_or_obj": "frames/x.png"})
    with pytest.raises(ValueError, match=r"frames/x\.png.* not finite"):
        ZScore()(frame)

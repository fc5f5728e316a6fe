import numpy as np
import pytest
import torch

from cmunet_monai.transforms import RandResizedCropd
from cmunet_monai.transforms.resized_crop import random_crop_box


def ramp(height=64, width=64):
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return torch.from_numpy((rows + 1000 * columns)[None])


def test_crops_have_the_asked_area_and_aspect():
    generator = np.random.RandomState(0)
    boxes = np.array([random_crop_box(512, 512, (0.2, 1.0), (3 / 4, 4 / 3), generator) for _ in range(500)])
    share = boxes[:, 2] * boxes[:, 3] / 512**2
    aspect = boxes[:, 3] / boxes[:, 2]
    assert 0.19 < share.min() < 0.25
    assert 0.9 < share.max() <= 1
    assert 0.74 < aspect.min() < aspect.max() < 1.35
    assert (boxes[:, 0] + boxes[:, 2] <= 512).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 512).all()


def test_a_frame_that_no_draw_fits_gives_its_largest_square():
    assert random_crop_box(10, 100, (1.0, 1.0), (1.0, 1.0), np.random.RandomState(0)) == (0, 45, 10, 10)


def test_a_crop_of_the_whole_frame_at_its_own_size_is_the_frame():
    crop = RandResizedCropd("image", size=64, area=(1, 1), aspect=(1, 1), flip_prob=0)
    assert torch.equal(crop({"image": ramp()})["image"], ramp())


def test_a_flip_is_along_the_first_axis():
    crop = RandResizedCropd("image", size=64, area=(1, 1), aspect=(1, 1), flip_prob=1)
    assert torch.equal(crop({"image": ramp()})["image"], ramp().flip(1))


def test_all_keys_are_cropped_and_flipped_alike():
    crop = RandResizedCropd(["image", "prior"], size=32)
    for seed in range(10):
        crop.set_random_state(seed)
        row = crop({"image": ramp(), "prior": ramp() + 1.0})
        torch.testing.assert_close(row["prior"], row["image"] + 1.0, atol=0.05, rtol=0)


def test_the_same_seed_gives_the_same_crop_and_the_frame_is_not_modified():
    frame = torch.randn(1, 64, 48)
    before = frame.clone()
    crops = []
    for _ in range(2):
        crop = RandResizedCropd("image", size=32)
        crop.set_random_state(3)
        crops.append(crop({"image": frame})["image"])
    assert torch.equal(*crops)
    assert crops[0].shape == (1, 32, 32)
    assert torch.equal(frame, before)


@pytest.mark.parametrize("images", [{"image": torch.zeros(64, 64)}, {"image": ramp(), "prior": ramp(64, 32)}])
def test_images_of_another_shape_are_named(images):
    with pytest.raises(ValueError, match=r"must be \(1, H, W\) of one size, got"):
        RandResizedCropd(list(images), size=32)(images)

import numpy as np
import pytest
import torch

from cmunet_monai.transforms import RandDeformd
from cmunet_monai.transforms.deform import deform

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal((33, 33)).astype(np.float32)


def test_without_a_move_the_image_stays():
    assert deform(NOISE) == pytest.approx(NOISE, abs=1e-5)


def test_a_shift_moves_the_content_and_zeros_come_in():
    moved = deform(NOISE, shift=(3, -2))
    assert moved[3:, :-2] == pytest.approx(NOISE[:-3, 2:], abs=1e-5)
    assert not moved[:3].any()
    assert not moved[:, -2:].any()


def test_a_quarter_turn_is_numpys():
    turned = deform(NOISE, rotation_rad=np.pi / 2)
    assert turned[1:-1, 1:-1] == pytest.approx(np.rot90(NOISE, -1)[1:-1, 1:-1], abs=1e-4) or turned[
        1:-1, 1:-1
    ] == pytest.approx(np.rot90(NOISE)[1:-1, 1:-1], abs=1e-4)


def test_a_scale_of_two_doubles_distances_from_the_middle():
    image = np.zeros((33, 33), np.float32)
    image[16, 20] = 1.0  # 4 px to the right of the middle
    assert np.unravel_index(deform(image, scale=2).argmax(), image.shape) == (16, 24)


def test_a_constant_bend_is_a_shift():
    bend = np.zeros((4, 4, 2))
    bend[..., 0] = 2.0  # content comes from 2 px further along the first axis
    assert deform(NOISE, bend=bend)[:-2] == pytest.approx(NOISE[2:], abs=1e-5)


def test_image_and_label_move_alike_and_the_label_stays_0_and_1():
    label = np.zeros((1, 64, 64), np.float32)
    label[0, 20:40, 28:36] = 1
    move = RandDeformd(["image", "label"], label_keys="label").set_random_state(0)
    for _ in range(5):
        row = move({"image": torch.from_numpy(label), "label": torch.from_numpy(label)})
        assert row["label"].unique().tolist() == [0, 1]
        assert torch.equal((row["image"] > 0.5).float(), row["label"])


def test_scales_shifts_and_turns_stay_within_their_ranges():
    move = RandDeformd("image", scale=(0.5, 2), rotation_deg=30, shift=0.1).set_random_state(0)
    draws = [move._draw((100, 200)) for _ in range(400)]
    scales = np.array([draw["scale"] for draw in draws])
    assert 0.5 <= scales.min() < 0.52
    assert 1.92 < scales.max() <= 2
    assert np.mean(scales < 1) == pytest.approx(0.5, abs=0.1)  # as often smaller as larger
    assert max(abs(draw["rotation_rad"]) for draw in draws) <= np.deg2rad(30)
    shifts = np.abs([draw["shift"] for draw in draws])
    assert (shifts <= [10, 20]).all()
    assert (shifts.max(axis=0) > [9.5, 19]).all()


def test_the_input_is_not_modified_and_prob_0_changes_nothing():
    image = torch.from_numpy(NOISE[None].copy())
    row = RandDeformd("image", prob=0)({"image": image})
    assert torch.equal(row["image"], image)
    RandDeformd("image").set_random_state(0)({"image": image})
    assert torch.equal(image, torch.from_numpy(NOISE[None]))


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        RandDeformd(["image", "label"])({"image": torch.zeros(1, 8, 8), "label": torch.zeros(1, 8, 9)})


@pytest.mark.parametrize("settings", [{"scale": (0, 1)}, {"scale": (1.2, 0.8)}, {"grid": 1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        RandDeformd("image", **settings)

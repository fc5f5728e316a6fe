import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from cmunet_monai.transforms import RandLocalPixelShuffled
from cmunet_monai.transforms.local_pixel_shuffle import random_small_windows, shuffle_windows


def numbered(height=12, width=10):
    """Every pixel has a value of its own."""
    return np.arange(height * width, dtype=np.float32).reshape(height, width)


def window(top, left, height, width):
    return slice(top, top + height), slice(left, left + width)


def test_windows_that_do_not_overlap_keep_their_pixels_and_nothing_else_changes():
    image = numbered()
    windows = [(0, 0, 4, 3), (5, 2, 2, 6), (11, 9, 1, 1)]
    shuffled = shuffle_windows(image, np.array(windows).T, np.random.RandomState(0))
    outside = np.ones(image.shape, bool)
    for box in windows:
        assert sorted(shuffled[window(*box)].flat) == sorted(image[window(*box)].flat)
        outside[window(*box)] = False
    assert np.array_equal(shuffled[outside], image[outside])
    assert (shuffled != image).sum() > 12  # of 24 pixels in windows of more than one, each stays in 1 of 12 cases
    assert np.array_equal(image, numbered())


def test_every_order_of_a_window_comes_equally_often():
    image = np.array([[1, 2, 3]], np.float32)
    generator = np.random.RandomState(0)
    box = np.array([[0], [0], [1], [3]])
    orders, counts = np.unique(
        [shuffle_windows(image, box, generator)[0] for _ in range(1200)], axis=0, return_counts=True
    )
    assert len(orders) == 6
    assert np.abs(counts - 200).max() < 65  # five standard deviations of 1200 draws at 1/6


def test_a_later_window_covers_an_earlier_one_and_both_take_the_image_as_it_was():
    image = numbered(1, 6)
    seen = set()
    for seed in range(200):
        shuffled = shuffle_windows(image, np.array([[0, 0, 1, 4], [0, 2, 1, 4]]).T, np.random.RandomState(seed))
        assert sorted(shuffled[0, 2:]) == [2, 3, 4, 5]
        assert set(shuffled[0, :2]) <= {0, 1, 2, 3}
        assert shuffled[0, 0] != shuffled[0, 1]
        seen.update(shuffled[0, :2])
    assert seen == {0, 1, 2, 3}


def test_as_a_loop_over_the_windows_does_it():
    image = np.random.RandomState(0).rand(30, 40).astype(np.float32)
    windows = random_small_windows(30, 40, 200, 0.2, np.random.RandomState(1))
    keys = np.random.RandomState(2).random_sample(int((windows[2] * windows[3]).sum()))
    expected, done = image.copy(), 0
    for box in windows.T:
        pixels = image[window(*box)]
        order = np.argsort(keys[done : done + pixels.size])
        expected[window(*box)] = pixels.flat[order].reshape(pixels.shape)
        done += pixels.size
    assert np.array_equal(shuffle_windows(image, windows, np.random.RandomState(2)), expected)


@pytest.mark.parametrize("height, width, largest", [(160, 224, (6, 9)), (512, 512, (20, 20)), (30, 1, (2, 1))])
def test_windows_reach_a_25th_of_each_side_at_least_two_pixels_and_stay_in_the_frame(height, width, largest):
    top, left, rows, columns = random_small_windows(height, width, 10_000, 1 / 25, np.random.RandomState(0))
    assert (rows.min(), columns.min()) == (1, 1)
    assert (rows.max(), columns.max()) == largest
    assert (top.min(), left.min()) == (0, 0)
    assert ((top + rows).max(), (left + columns).max()) == (height, width)


@pytest.mark.parametrize("size", [128, 160, 224, 512])
def test_at_any_size_a_pixel_lies_under_two_to_three_windows(size):
    count = RandLocalPixelShuffled("image").windows
    windows = random_small_windows(size, size, count, 1 / 25, np.random.RandomState(0))
    assert 2 < (windows[2] * windows[3]).sum() / size**2 < 3


def test_pixels_move_no_further_than_a_window_reaches():
    image = torch.from_numpy(numbered(160, 160)[None])
    shuffled = RandLocalPixelShuffled("image", prob=1).set_random_state(0)({"image": image})["image"]
    # sides of 1 to 6, 12.25 pixels a window, 2.4 windows a pixel: exp(-2.4) = 9% lie under none, others stay by chance
    assert 0.09 < (shuffled == image).float().mean() < 0.3
    rows, columns = np.divmod(shuffled[0].numpy().astype(int), 160)
    at = np.indices((160, 160))
    assert (np.abs(rows - at[0]).max(), np.abs(columns - at[1]).max()) == (5, 5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (1, 3, 2), (1, 24, 26)])
def test_any_frame_gives_one_of_its_size_and_pixels(shape):
    frame = torch.arange(float(np.prod(shape))).reshape(shape)
    shuffled = RandLocalPixelShuffled("image", prob=1, windows=50)({"image": frame})["image"]
    assert shuffled.shape == frame.shape
    assert set(shuffled.flatten().tolist()) <= set(frame.flatten().tolist())
    constant = torch.full(shape, 3.0)
    assert torch.equal(RandLocalPixelShuffled("image", prob=1)({"image": constant})["image"], constant)


def test_the_probability_is_that_of_a_change():
    frame = torch.randn(1, 40, 40)
    assert torch.equal(RandLocalPixelShuffled("image", prob=0)({"image": frame})["image"], frame)
    shuffle = RandLocalPixelShuffled("image", windows=20).set_random_state(0)
    changed = [not torch.equal(shuffle({"image": frame})["image"], frame) for _ in range(200)]
    assert 65 < sum(changed) < 135  # five standard deviations of 200 draws at 0.5


def test_the_same_seed_gives_the_same_frame_as_a_plain_tensor_and_the_input_is_not_modified():
    frame = torch.randn(1, 40, 48)
    row = {"image": MetaTensor(frame.clone()), "other": 1}
    a, b, c = (RandLocalPixelShuffled("image", prob=1).set_random_state(seed)(row) for seed in (5, 5, 6))
    assert type(a["image"]) is torch.Tensor
    assert a["image"].dtype == torch.float32
    assert a["other"] == 1
    assert torch.equal(a["image"], b["image"])
    assert not torch.equal(a["image"], c["image"])
    assert torch.equal(row["image"].as_tensor(), frame)


def test_a_frame_that_is_not_shuffled_shares_no_memory_with_the_input():
    frame = torch.zeros(1, 8, 8)
    RandLocalPixelShuffled("image", prob=0)({"image": frame})["image"].fill_(9)
    assert not frame.any()


def test_settings_and_frames_that_cannot_work_are_named():
    for settings in ({"windows": 0}, {"largest_share": 0}, {"largest_share": 1.5}):
        with pytest.raises(ValueError, match=r"`windows` must be 1 or more and `largest_share` in \(0, 1\], got"):
            RandLocalPixelShuffled("image", **settings)
    with pytest.raises(ValueError, match=r"must be \(1, H, W\), got \(3, 8, 8\)"):
        RandLocalPixelShuffled("image")({"image": torch.zeros(3, 8, 8)})

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from cmunet_monai.transforms import RandPaintingd
from cmunet_monai.transforms.painting import paint, random_windows

IN, OUT = (1 / 6, 1 / 3), (3 / 7, 5 / 7)


def numbered(height=20, width=30):
    """Every pixel has a whole number of its own, which noise meets almost never."""
    return np.arange(height * width, dtype=np.float32).reshape(height, width)


@pytest.mark.parametrize("outside", [False, True])
def test_exactly_the_windows_are_painted_or_kept(outside):
    image = numbered()
    windows = [(0, 0, 4, 5), (2, 3, 6, 6), (19, 29, 1, 1)]
    inside = np.zeros(image.shape, bool)
    inside[0:4, 0:5] = inside[2:8, 3:9] = inside[19, 29] = True
    painted = paint(image, windows, outside=outside, generator=np.random.RandomState(0))
    assert painted.dtype == np.float32
    assert np.array_equal(painted == image, inside if outside else ~inside)
    assert np.array_equal(image, numbered())


def test_noise_is_uniform_over_the_range_of_the_frame():
    image = np.zeros((200, 200), np.float32)
    image[0, 0], image[0, 1] = -1, 3
    noise = paint(image, [(0, 0, 200, 200)], outside=False, generator=np.random.RandomState(0))
    assert -1 <= noise.min() < -0.99
    assert 2.99 < noise.max() <= 3
    assert noise.mean() == pytest.approx(1, abs=0.03)  # five standard errors of 40,000 draws: 4 / sqrt(12) / 200 * 5
    assert noise.std() == pytest.approx(4 / np.sqrt(12), abs=0.03)


@pytest.mark.parametrize("shares, sides", [(IN, ((20, 40), (10, 20))), (OUT, ((51, 86), (26, 43)))])
def test_windows_have_sides_between_the_shares_and_lie_anywhere_in_the_frame(shares, sides):
    generator = np.random.RandomState(0)
    boxes = np.array([box for _ in range(500) for box in random_windows(120, 60, shares, 5, generator)])
    for axis, (side, (smallest, largest)) in enumerate(zip((120, 60), sides, strict=True)):
        assert (boxes[:, 2 + axis].min(), boxes[:, 2 + axis].max()) == (smallest, largest)
        assert boxes[:, axis].min() == 0
        assert (boxes[:, axis] + boxes[:, 2 + axis]).max() == side


def test_later_windows_are_not_larger_than_the_first():
    generator = np.random.RandomState(0)
    draws = [windows for _ in range(1500) if len(windows := random_windows(120, 120, IN, 5, generator)) == 5]
    sides = np.array(draws)[:, :, 2].mean(0)  # sides of 20 to 40: 30 on average, 6 the standard deviation
    assert np.abs(sides - 30).max() < 1


def test_a_further_window_is_drawn_with_probability_095():
    generator = np.random.RandomState(0)
    counts = np.bincount([len(random_windows(60, 60, IN, 5, generator)) for _ in range(2000)], minlength=6)
    assert counts[0] == 0
    assert counts[1] / 2000 == pytest.approx(0.05, abs=0.025)
    assert counts[5] / 2000 == pytest.approx(0.95**4, abs=0.05)
    assert all(len(random_windows(60, 60, IN, 1, generator)) == 1 for _ in range(50))


@pytest.mark.parametrize("windows, hidden", [(1, 0.67), (5, 0.36)])
def test_out_painting_hides_the_stated_share(windows, hidden):
    painting = RandPaintingd("image", prob=1, out_prob=1, windows=windows).set_random_state(0)
    image = torch.from_numpy(numbered(100, 100)[None])
    shares = [(painting({"image": image})["image"] != image).float().mean().item() for _ in range(400)]
    # with one window exactly 1 - (4/7)**2 = 0.673, sides being uniform from 43 to 71 of 100
    assert np.mean(shares) == pytest.approx(hidden, abs=0.03)


def test_in_painting_changes_no_more_than_five_windows_can_cover():
    painting = RandPaintingd("image", prob=1, out_prob=0).set_random_state(0)
    image = torch.from_numpy(numbered(90, 90)[None])
    shares = [(painting({"image": image})["image"] != image).float().mean().item() for _ in range(200)]
    assert min(shares) >= (15 / 90) ** 2
    assert max(shares) <= 5 * (30 / 90) ** 2


def test_probabilities_are_those_of_painting_and_of_painting_outside():
    painting = RandPaintingd("image").set_random_state(0)
    image = torch.from_numpy(numbered(60, 60)[None])
    shares = np.array([(painting({"image": image})["image"] != image).float().mean().item() for _ in range(400)])
    assert 10 < (shares == 0).sum() < 70  # five standard deviations of 400 draws at 0.1
    never = RandPaintingd("image", prob=0)({"image": image})["image"]
    assert torch.equal(never, image)
    never.fill_(9)
    assert image[0, 0, 0] == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 5), (1, 2, 3), (1, 64, 20)])
@pytest.mark.parametrize("out_prob", [0, 1])
def test_a_constant_frame_of_any_size_stays_and_others_keep_their_range(shape, out_prob):
    painting = RandPaintingd("image", prob=1, out_prob=out_prob)
    constant = torch.full(shape, -1.7)
    assert torch.equal(painting({"image": constant})["image"], constant)
    frame = torch.randn(shape)
    painted = painting({"image": frame})["image"]
    assert painted.shape == frame.shape
    assert frame.min() <= painted.min() <= painted.max() <= frame.max()


def test_the_same_seed_gives_the_same_frame_as_a_plain_tensor_and_the_input_is_not_modified():
    frame = torch.randn(1, 40, 48)
    row = {"image": MetaTensor(frame.clone()), "other": 1}
    a, b, c = (RandPaintingd("image", prob=1).set_random_state(seed)(row) for seed in (5, 5, 6))
    assert type(a["image"]) is torch.Tensor
    assert a["image"].dtype == torch.float32
    assert a["other"] == 1
    assert torch.equal(a["image"], b["image"])
    assert not torch.equal(a["image"], c["image"])
    assert torch.equal(row["image"].as_tensor(), frame)


def test_settings_and_frames_that_cannot_work_are_named():
    with pytest.raises(ValueError, match=r"`out_shares` must be \(smallest, largest\) in \(0, 1\], got \(0.8, 0.5\)"):
        RandPaintingd("image", out_shares=(0.8, 0.5))
    with pytest.raises(ValueError, match=r"`in_shares` must be .*, got \(0, 0.5\)"):
        RandPaintingd("image", in_shares=[0, 0.5])
    with pytest.raises(ValueError, match="`windows` must be 1 or more, got 0"):
        RandPaintingd("image", windows=0)
    with pytest.raises(ValueError, match=r"must be \(1, H, W\), got \(2, 8, 8\)"):
        RandPaintingd("image")({"image": torch.zeros(2, 8, 8)})

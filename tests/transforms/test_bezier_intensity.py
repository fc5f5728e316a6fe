import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from cmunet_monai.transforms import RandBezierIntensityd
from cmunet_monai.transforms.bezier_intensity import bezier_curve, map_intensities


def ramp():
    """(1, 1, 200), rising from -3 to 5."""
    return torch.linspace(-3, 5, 200).reshape(1, 1, 200)


def test_control_points_on_the_diagonal_give_the_identity():
    x, y = bezier_curve((0.25, 0.25), (0.75, 0.75))
    assert np.allclose(x, y, atol=1e-12)


def test_the_curve_passes_through_points_worked_out_by_hand():
    # at t = 1/2 the Bernstein weights are 1/8, 3/8, 3/8, 1/8: x = 3/8 * 0.2 + 3/8 * 0.6 + 1/8, y likewise
    x, y = bezier_curve((0.2, 0.8), (0.6, 1.0))
    assert np.interp(0.425, x, y) == pytest.approx(0.8, abs=1e-4)
    # control points (0, 0) and (0, 0): x = y = t**3; (0, 1) and (0, 1): x = t**3, y = 3 t - 3 t**2 + t**3
    x, y = bezier_curve((0, 1), (0, 1))
    assert np.interp(0.3**3, x, y) == pytest.approx(0.9 - 0.27 + 0.027, abs=1e-4)


def test_curves_are_monotone_from_zero_to_one_wherever_the_control_points_lie():
    corners = np.array([[(1, 0), (0, 1)], [(1, 1), (0, 0)], [(0, 0), (1, 1)], [(0, 0), (0, 0)], [(1, 1), (1, 1)]])
    t = np.linspace(0, 1, 200)
    for first, second in [*corners, *np.random.RandomState(0).rand(300, 2, 2)]:
        for a, b, axis in zip(first, second, bezier_curve(first, second), strict=True):
            assert (axis[0], axis[-1]) == (0, 1)
            assert (np.diff(axis) >= 0).all()
            formula = 3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3
            assert np.abs(axis - formula).max() < 1e-12  # monotone by itself: accumulating removes rounding only


def test_the_lowest_and_the_highest_intensity_stand_for_zero_and_one():
    image = np.array([[[-2.0, 0.0, 6.0]]], np.float32)  # 0 is a quarter of the way
    mapped = map_intensities(image, np.array([0, 0.5, 1]), np.array([0, 0.8, 1]))
    assert mapped.dtype == np.float32
    assert np.allclose(mapped, [[[-2, -2 + 8 * 0.4, 6]]], atol=1e-6)
    falling = map_intensities(image, np.array([0, 0.5, 1]), np.array([1, 0.8, 0]))
    assert np.allclose(falling, [[[6, -2 + 8 * 0.9, -2]]], atol=1e-6)


@pytest.mark.parametrize("invert_prob, sign", [(0, 1), (1, -1)])
def test_intensities_keep_their_order_or_reverse_it_and_the_range_stays(invert_prob, sign):
    curve = RandBezierIntensityd("image", prob=1, invert_prob=invert_prob).set_random_state(0)
    for _ in range(100):
        mapped = curve({"image": ramp()})["image"]
        assert (mapped.diff() * sign >= 0).all()
        assert (mapped.min(), mapped.max()) == (-3, 5)


def test_half_of_the_changed_frames_are_inverted_and_a_tenth_is_not_changed():
    curve = RandBezierIntensityd("image").set_random_state(0)
    mapped = [curve({"image": ramp()})["image"] for _ in range(400)]
    unchanged = sum(torch.equal(image, ramp()) for image in mapped)
    inverted = sum(bool(image[0, 0, 0] > image[0, 0, -1]) for image in mapped)
    assert 10 < unchanged < 70  # five standard deviations of 400 draws at 0.1, and at 0.45
    assert 130 < inverted < 230


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (1, 30, 17)])
def test_a_constant_frame_of_any_size_stays(shape):
    for value in (0.0, -1.7, 1e6):
        frame = torch.full(shape, value)
        assert torch.equal(RandBezierIntensityd("image", prob=1)({"image": frame})["image"], frame)


def test_probability_zero_leaves_the_frame_in_memory_of_its_own():
    frame = torch.randn(1, 8, 8)
    before = frame.clone()
    same = RandBezierIntensityd("image", prob=0)({"image": frame})["image"]
    assert torch.equal(same, before)
    same.fill_(9)
    assert torch.equal(frame, before)


def test_the_same_seed_gives_the_same_frame_as_a_plain_tensor_and_the_input_is_not_modified():
    frame = torch.randn(1, 20, 24)
    row = {"image": MetaTensor(frame.clone()), "other": 1}
    a, b, c = (RandBezierIntensityd("image", prob=1).set_random_state(seed)(row) for seed in (5, 5, 6))
    assert type(a["image"]) is torch.Tensor
    assert a["image"].dtype == torch.float32
    assert a["other"] == 1
    assert torch.equal(a["image"], b["image"])
    assert not torch.equal(a["image"], c["image"])
    assert torch.equal(row["image"].as_tensor(), frame)


def test_frames_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"must be \(1, H, W\), got \(8, 8\)"):
        RandBezierIntensityd("image")({"image": torch.zeros(8, 8)})

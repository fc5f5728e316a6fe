import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage
from skimage import filters

from cmunet_monai.transforms import RandUnsharpMaskd, UnsharpMask, UnsharpMaskd


def angiogram(height: int, width: int) -> np.ndarray:
    """8-bit grey levels: a slope, dark bands, a dark corner, noise."""
    rows, columns = np.mgrid[:height, :width]
    image = 90 + 120 * columns / width + 20 * np.random.default_rng(0).standard_normal((height, width))
    image[(rows + 2 * columns) % 90 < 8] -= 60
    image[rows + columns < (height + width) / 8] = 2
    return np.rint(image.clip(0, 255))


# scikit-image needs half a second for a large frame and a large radius: not every radius on every size
@pytest.mark.parametrize(
    "size, radius",
    [((512, 512), 5), ((512, 512), 60), ((509, 700), 16), ((181, 127), 100)]
    + [((40, 33), radius) for radius in (1, 5, 16, 60, 100)],
)
def test_within_half_a_grey_level_of_scikit_image(size, radius):
    image = angiogram(*size)
    expected = filters.unsharp_mask(image, radius=radius, amount=1, preserve_range=True)
    sharp = UnsharpMask(radius=radius)(image[None].astype(np.float32))[0]
    assert sharp.dtype == np.float32
    assert np.abs(sharp - expected).max() < 0.5


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1), (3, 200)])
@pytest.mark.parametrize("radius", [2, 30])
def test_lines_and_strips_are_within_half_a_grey_level_of_scipy(shape, radius):
    image = angiogram(*shape)
    expected = 2 * image - ndimage.gaussian_filter(image, radius, mode="reflect")
    assert np.abs(UnsharpMask(radius=radius)(image[None])[0] - expected).max() < 0.5


@pytest.mark.parametrize("radius", [300, 1e4, 1e9])
def test_a_radius_far_beyond_the_frame_subtracts_its_mean(radius):
    image = angiogram(40, 33)
    expected = image + (image - image.mean())
    assert np.abs(UnsharpMask(radius=radius)(image[None])[0] - expected).max() < 0.1


def test_amount_is_the_weight_of_the_difference_to_the_blurred_frame():
    image = angiogram(60, 80)[None].astype(np.float32)
    difference = UnsharpMask(amount=1)(image) - image
    assert np.allclose(UnsharpMask(amount=3)(image), image + 3 * difference, atol=1e-3)
    assert np.array_equal(UnsharpMask(amount=0)(image), image)


def test_values_go_beyond_the_range_of_the_frame():
    image = np.zeros((1, 64, 64), np.uint8)
    image[..., 32:] = 255
    sharp = UnsharpMask(radius=8)(image)
    # at the step the blurred frame is at half height, give or take half a pixel of slope 255 / (8 * sqrt(2 pi))
    half = 255 / 2
    slope = 255 / (8 * np.sqrt(2 * np.pi))
    assert sharp[0, 32, 31] == pytest.approx(-(half - slope / 2), abs=0.5)
    assert sharp[0, 32, 32] == pytest.approx(255 + half - slope / 2, abs=0.5)


@pytest.mark.parametrize("value", [0, 7, 255, 65535])
def test_a_constant_frame_stays_as_it_is(value):
    # float32 products of matrices round differently on other processors
    assert np.allclose(UnsharpMask()(np.full((1, 65, 130), value, np.float32)), value, rtol=3e-6)


def test_sixteen_bits_are_sharpened_as_eight_bits_are():
    image = angiogram(100, 100)[None].astype(np.uint16)
    deep = UnsharpMask()(image * 257)
    assert np.allclose(deep / 257, UnsharpMask()(image.astype(np.uint8)), atol=0.01)
    assert np.allclose(UnsharpMask()(image / 255) * 255, UnsharpMask()(image.astype(np.uint8)), atol=0.01)


def test_the_field_may_stand_upright_or_lie():
    image = angiogram(50, 70)[None].astype(np.float32)
    lying = UnsharpMask()(image.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert np.allclose(lying, UnsharpMask()(image), atol=1e-2)


def test_channels_are_sharpened_each_by_itself():
    image = np.stack([angiogram(40, 50), np.zeros((40, 50))]).astype(np.float32)
    sharp = UnsharpMask()(image)
    assert np.array_equal(sharp[:1], UnsharpMask()(image[:1]))
    assert not sharp[1].any()


def test_row_keeps_its_kind_and_meta_data_and_inputs_stay():
    array = angiogram(40, 50)[None].astype(np.float32)
    array.setflags(write=False)
    expected = UnsharpMask()(array)
    affine = torch.diag(torch.tensor([0.3, 0.2, 1, 1], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(array.copy()), affine=affine, meta={"filename_or_obj": "x.png"})
    image.push_applied_operation({"class": "Resize"})
    row = {"image": image, "other": 1}
    result = UnsharpMaskd("image")(row)
    assert np.array_equal(row["image"].numpy(), array)
    assert isinstance(result["image"], MetaTensor)
    assert np.array_equal(result["image"].numpy(), expected)
    assert torch.equal(result["image"].affine, affine)
    assert result["image"].applied_operations == [{"class": "Resize"}]
    plain = UnsharpMask()(torch.from_numpy(array.copy()).to(torch.uint8))
    assert type(plain) is torch.Tensor
    assert plain.dtype == torch.float32
    assert np.array_equal(plain.numpy(), expected)
    again = pickle.loads(pickle.dumps(UnsharpMaskd("image")))(row)
    assert torch.equal(again["image"], result["image"])


def test_wrong_inputs_and_settings_are_named():
    for radius in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"`radius` must be positive, got {radius}"):
            UnsharpMaskd("image", radius=radius)
    with pytest.raises(ValueError, match=r"must be \(C, H, W\), got \(40, 50\)"):
        UnsharpMask()(np.zeros((40, 50)))
    frame = MetaTensor(torch.full((1, 8, 8), torch.nan), meta={"filename_or_obj": "frames/x.png"})
    with pytest.raises(ValueError, match=r"frames/x\.png.* not finite"):
        UnsharpMask()(frame)


def test_a_random_radius_is_one_of_the_range_and_others_follow():
    image = np.random.default_rng(0).uniform(0, 255, (1, 40, 40)).astype(np.float32)
    sharpen = RandUnsharpMaskd("image", radius=(10, 40)).set_random_state(0)
    made = [sharpen({"image": image})["image"] for _ in range(5)]
    radii = np.exp(np.random.RandomState(0).uniform(np.log(10), np.log(40), 5))
    for result, radius in zip(made, radii, strict=True):
        assert np.array_equal(result, UnsharpMask(radius)(image))


@pytest.mark.parametrize("radius", [(0, 10), (20, 10)])
def test_radii_that_are_not_in_order_are_refused(radius):
    with pytest.raises(ValueError, match="`radius` must be"):
        RandUnsharpMaskd("image", radius=radius)

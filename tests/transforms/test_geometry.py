"""MONAI's own resizing, padding and cropping, as the bundles use them: does the way back end where it began?"""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resized, ResizeWithPadOrCropd, SpatialPadd
from scipy import ndimage

# Smaller than the network's square, odd, not square; the last is larger, and is reduced.
SIZES = [(160, 160), (33, 40), (101, 57), (1, 30), (159, 211)]
SIDE = 160
AFFINE = torch.diag(torch.tensor([0.3, 0.2, 1, 1], dtype=torch.float64))


def resized() -> Compose:
    """The chain of the bundles: the longer side becomes that of the square, the rest is padded."""
    return Compose(
        [
            Resized(
                "image",
                spatial_size=SIDE,
                size_mode="longest",
                mode="bilinear",
                anti_aliasing=True,
                dtype=torch.float32,
            ),
            SpatialPadd("image", spatial_size=(SIDE, SIDE)),
        ]
    )


def cropped(side: int = SIDE) -> Compose:
    return Compose([ResizeWithPadOrCropd("image", spatial_size=(side, side))])


def there_and_back(values: np.ndarray, chain: Compose) -> MetaTensor:
    """A perfect network's output, its input itself, brought back to the geometry of the frame."""
    frame = MetaTensor(torch.from_numpy(values)[None].float(), affine=AFFINE)
    row = chain({"image": frame})
    row["pred"] = MetaTensor(row["image"].as_tensor().clone())
    back = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False)(row)["pred"]
    assert back.shape == frame.shape
    assert torch.allclose(back.affine, AFFINE)
    return back[0]


def ramps(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return rows, columns


@pytest.mark.parametrize("size", SIZES)
def test_resized_probability_comes_back_to_its_place(size):
    """Bilinear interpolation keeps a straight slope, so that each pixel must give its own coordinate again.

    Not on the border, where half a step lies outside the samples; and where the frame is reduced, MONAI's anti-aliasing
    takes the outside for 0, which reaches 4 standard deviations of (211 / 160 - 1) / 2 in.
    """
    for coordinate in ramps(size):
        back = there_and_back(coordinate, resized()).numpy()
        inner = np.s_[2:-2, 2:-2] if size[0] > 4 else np.s_[:, 2:-2]
        assert np.abs(back - coordinate)[inner].max() < 0.01  # pixels


@pytest.mark.parametrize("size", SIZES[:3] + SIZES[4:])
def test_resized_label_comes_back_pixel_by_pixel(size):
    rows, columns = ramps(size)
    label = np.hypot(rows - 0.45 * size[0], columns - 0.55 * size[1]) < 0.3 * min(size)
    back = there_and_back(label, resized()).numpy() > 0.5
    assert np.array_equal(back, label)


def test_resized_label_of_three_pixel_vessels_comes_back_pixel_by_pixel():
    rows, columns = ramps((101, 57))
    label = ((rows + 2 * columns) % 40 < 6) | (np.abs(columns - 28) < 2)
    assert np.array_equal(there_and_back(label, resized()).numpy() > 0.5, label)


def test_a_reduced_label_comes_back_within_a_pixel_of_its_outline():
    rows, columns = ramps((509, 700))
    label = np.hypot(rows - 240, columns - 380) < 150  # reduced by 4.4 and enlarged again
    back = there_and_back(label, resized()).numpy() > 0.5
    assert not (back & ~ndimage.binary_dilation(label, np.ones((3, 3)), iterations=2)).any()
    assert not (ndimage.binary_erosion(label, np.ones((3, 3)), iterations=2) & ~back).any()
    shift = np.subtract(ndimage.center_of_mass(back), ndimage.center_of_mass(label))
    assert np.abs(shift).max() < 0.1


@pytest.mark.parametrize("size", SIZES[:4])
def test_padded_frame_comes_back_bit_by_bit(size):
    rows, columns = ramps(size)
    values = np.sin(rows) + columns
    assert np.array_equal(there_and_back(values, cropped()).numpy(), values)


@pytest.mark.parametrize("size, side", [((101, 57), 64), ((101, 58), 64), ((159, 211), 100), ((100, 121), 97)])
def test_cropped_frame_comes_back_with_zeros_where_it_was_cut(size, side):
    rows, columns = ramps(size)
    values = 1 + np.sin(rows) ** 2 + columns
    back = there_and_back(values, cropped(side)).numpy()
    kept = back != 0
    assert np.array_equal(back[kept], values[kept])
    assert kept.sum() == min(size[0], side) * min(size[1], side)
    for axis, length in enumerate(size):  # the centre, give or take the odd pixel
        along = np.flatnonzero(kept.any(axis=1 - axis))
        assert abs(along[0] - (length - 1 - along[-1])) <= 1


def test_inverting_with_nearest_neighbours_moves_a_label():
    """MONAI's defect, and why the bundles invert probabilities with `nearest_interp=False`."""
    rows, columns = ramps((33, 40))
    label = np.hypot(rows - 15, columns - 20) < 10
    chain = resized()
    row = chain({"image": MetaTensor(torch.from_numpy(label)[None].float())})
    row["pred"] = MetaTensor(row["image"].as_tensor().clone())
    back = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=True)(row)["pred"][0].numpy() > 0.5
    shift = np.subtract(ndimage.center_of_mass(back), ndimage.center_of_mass(label))
    assert (shift > 0.1).all()

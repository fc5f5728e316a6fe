import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from cmunet_monai.transforms import SmoothMask, SmoothMaskd


def blobs(seed: int, shape: tuple[int, int] = (60, 47)) -> np.ndarray:
    """Ragged regions, (1, H, W) uint8."""
    noise = np.random.default_rng(seed).random(shape)
    return (ndimage.gaussian_filter(noise, 1.2) > 0.5).astype(np.uint8)[None]


@pytest.mark.parametrize("width", [2, 3, 4, 7, 20])
@pytest.mark.parametrize("start", [0, 10])
def test_straight_arteries_from_two_pixels_keep_their_pixels(width, start):
    mask = np.zeros((1, 40, 50), np.uint8)
    mask[0, :, start : start + width] = 1
    assert np.array_equal(SmoothMask()(mask), mask)
    assert np.array_equal(SmoothMask()(mask.transpose(0, 2, 1)), mask.transpose(0, 2, 1))


def test_hairs_and_single_pixels_vanish():
    mask = np.zeros((1, 40, 50), np.uint8)
    mask[0, :, 10] = mask[0, 20, 30] = 1
    assert not SmoothMask()(mask).any()


def test_a_square_loses_its_corner_pixels_only_and_a_notch_gains_its_own():
    # The blurred edge of a half plane is 0.5 + 0.399 / 2 = 0.70 on its last pixel: 0.49 on the corner of a square,
    # where two edges meet, and 0.51 on the pixel outside the inner corner of an L. Its neighbours stay: 0.70 * 0.94.
    square = np.zeros((1, 40, 40), np.uint8)
    square[0, 10:30, 10:30] = 1
    expected = square.copy()
    expected[0, [10, 10, 29, 29], [10, 29, 10, 29]] = 0
    assert np.array_equal(SmoothMask()(square), expected)
    corner = 1 - square
    assert np.array_equal(SmoothMask()(corner), 1 - expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.5])
def test_ragged_masks_are_smoothed_as_with_scipys_gaussian(seed, sigma):
    mask = blobs(seed)
    blurred = ndimage.gaussian_filter(mask[0].astype(float), sigma, mode="nearest")
    clear = np.abs(blurred - 0.5) > 1e-3  # not a tie, which rounding decides
    assert clear.mean() > 0.95
    smooth = SmoothMask(sigma)(mask)[0]
    assert np.array_equal(smooth[clear], blurred[clear] > 0.5)
    assert (smooth != mask[0]).any()


def test_empty_and_full_masks_stay():
    for value in (0, 1):
        mask = np.full((1, 5, 7), value, np.uint8)
        assert np.array_equal(SmoothMask()(mask), mask)
        assert np.array_equal(SmoothMask(50)(mask), mask)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32])
def test_type_and_meta_data_are_kept_and_inputs_stay(dtype):
    mask = torch.from_numpy(blobs(0))
    expected = SmoothMask()(mask.numpy())
    assert expected.dtype == np.uint8
    label = MetaTensor(mask.to(dtype), meta={"filename_or_obj": "x.png"})
    row = {"label": label, "image": None}
    result = SmoothMaskd("label")(row)["label"]
    assert isinstance(result, MetaTensor)
    assert result.dtype == dtype
    assert result.meta["filename_or_obj"] == "x.png"
    assert np.array_equal(result.numpy(), expected)
    assert torch.equal(label.as_tensor(), mask.to(dtype))
    assert torch.equal(pickle.loads(pickle.dumps(SmoothMaskd("label")))(row)["label"], result)


def test_channels_are_smoothed_each_by_itself():
    mask = np.concatenate([blobs(0), blobs(1)])
    assert np.array_equal(SmoothMask()(mask), np.concatenate([SmoothMask()(blobs(0)), SmoothMask()(blobs(1))]))


def test_masks_of_other_values_are_refused_with_the_file():
    label = MetaTensor(torch.from_numpy(blobs(0)) * 255, meta={"filename_or_obj": "labels/x.png"})
    with pytest.raises(ValueError, match=r"labels/x\.png.* 0 and 1 only, got values from 0 to 255"):
        SmoothMaskd("label")({"label": label})
    with pytest.raises(ValueError, match="0 and 1 only"):
        SmoothMask()(np.full((1, 4, 4), 0.5))
    with pytest.raises(ValueError, match="not finite"):
        SmoothMask()(np.full((1, 4, 4), np.nan))
    with pytest.raises(ValueError, match=r"must be \(C, H, W\), got \(4, 4\)"):
        SmoothMask()(np.zeros((4, 4)))
    for sigma in (0, float("nan")):
        with pytest.raises(ValueError, match=f"`sigma` must be positive, got {sigma}"):
            SmoothMask(sigma)

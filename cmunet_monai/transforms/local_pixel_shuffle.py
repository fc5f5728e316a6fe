"""Pixels shuffled within many small windows: texture is lost, shapes stay."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from cmunet_monai.transforms.frame_array import frame_array


def random_small_windows(
    height: int, width: int, count: int, largest_share: float, generator: np.random.RandomState
) -> np.ndarray:
    """Draw `count` windows (top, left, height, width) in a frame, as a (4, count) integer array.

    Args:
        height: of the frame in pixels.
        width: of the frame in pixels.
        count: of the windows.
        largest_share: of a side of the frame that a window's side reaches; 2 pixels at least, where they fit.
        generator: where the randomness comes from.
    """
    frame = np.array([[height], [width]])
    largest = np.clip(np.rint(largest_share * frame), 2, None).clip(max=frame)
    sides = 1 + (largest * generator.random_sample((2, count))).astype(np.int64)
    corners = ((frame - sides + 1) * generator.random_sample((2, count))).astype(np.int64)
    return np.concatenate([corners, sides])


def shuffle_windows(image: np.ndarray, windows: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
    """Shuffle the pixels of each window; a new (H, W).

    All windows are taken from the image as it was, and a later one covers those before: a window that none covers has
    its own pixels, in another order, while of overlapping ones some pixels are lost and others there twice.

    Args:
        image: (H, W). Not modified.
        windows: (4, count) integers: top, left, height, width.
        generator: where the randomness comes from.
    """
    top, left, height, width = windows
    rows, columns = np.arange(height.max()), np.arange(width.max())
    inside = (rows < height[:, None])[:, :, None] & (columns < width[:, None])[:, None]
    pixels = ((top * image.shape[1] + left)[:, None, None] + (rows[:, None] * image.shape[1] + columns))[inside]
    window = np.repeat(np.arange(len(height)), height * width)
    order = np.argsort(window + generator.random_sample(len(pixels)))  # window after window, at random within each
    shuffled = image.flatten()
    shuffled[pixels] = image.ravel()[pixels[order]]  # numpy keeps the last of several values for one pixel
    return shuffled.reshape(image.shape)


class RandLocalPixelShuffled(MapTransform, Randomizable):
    """Shuffle the pixels within thousands of small, overlapping windows.

    MONAI's `RandCoarseShuffle` writes into its input, takes sizes in pixels, never draws a window smaller than the one
    before, and shuffles window by window what was shuffled before.

    Args:
        keys: frames, (1, H, W), drawn for apart. What comes out is a float32 tensor of the same shape.
        prob: probability that a frame is shuffled.
        windows: their number. Their sides grow with the frame's: from 128 pixels on each pixel lies under two to three
            of them at any size, and the time grows with the area (about 6 ms at 160 x 160).
        largest_share: see `random_small_windows`; height and width of each window are drawn from 1 pixel to this.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if a frame is not (1, H, W) or holds a value that is not finite, or for settings out of range.
    Source: Zhou et al. 2021, local pixel shuffling; probability and overlaps as in the authors' code. Deviations:
        windows of up to 1/25 of the side, as in the 2D code of Challier et al. 2025 (theirs 1/10 of 64 voxels), and
        5,000 (10,000 in both codes), which cover a pixel about as often as theirs cover a voxel, 1.9 times.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.5,
        windows: int = 5_000,
        largest_share: float = 1 / 25,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if windows < 1 or not 0 < largest_share <= 1:
            raise ValueError(
                f"`windows` must be 1 or more and `largest_share` in (0, 1], got {windows} and {largest_share}"
            )
        self.prob = prob
        self.windows = windows
        self.largest_share = largest_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = frame_array(row[key], channels=1)[0].astype(np.float32)
            if self.R.random_sample() < self.prob:
                height, width = image.shape
                windows = random_small_windows(height, width, self.windows, self.largest_share, self.R)
                image = shuffle_windows(image, windows, self.R)
            row[key] = torch.from_numpy(image[None])
        return row

"""Windows of a frame, or all but windows of it, replaced by noise."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from cmunet_monai.transforms.frame_array import frame_array
from cmunet_monai.transforms.resized_crop import Box

FURTHER_PROB = 0.95  # probability of a further window, in the authors' code


def random_windows(
    height: int, width: int, shares: tuple[float, float], most: int, generator: np.random.RandomState
) -> list[Box]:
    """Draw 1 to `most` windows (top, left, height, width) in a frame; a further one with probability 0.95.

    Args:
        height: of the frame in pixels.
        width: of the frame in pixels.
        shares: smallest and largest share of a side of the frame that a window's side has, rounded; 1 pixel at least.
        most: largest number of windows.
        generator: where the randomness comes from.
    """
    windows: list[Box] = []
    while not windows or (len(windows) < most and generator.random_sample() < FURTHER_PROB):
        rows, columns = (
            generator.randint(max(1, round(shares[0] * side)), max(1, round(shares[1] * side)) + 1)
            for side in (height, width)
        )
        windows.append((generator.randint(height - rows + 1), generator.randint(width - columns + 1), rows, columns))
    return windows


def paint(image: np.ndarray, windows: Sequence[Box], *, outside: bool, generator: np.random.RandomState) -> np.ndarray:
    """Replace pixels by noise, uniform between the lowest and the highest of the image; a new (H, W) float32.

    Args:
        image: (H, W) float32. Not modified.
        windows: top, left, height and width of each.
        outside: True replaces what is in none of the windows, False what is in one.
        generator: where the noise comes from.
    """
    hidden = np.full(image.shape, outside)
    for top, left, height, width in windows:
        hidden[top : top + height, left : left + width] = not outside
    noise = generator.uniform(image.min(), image.max(), image.shape).astype(np.float32)
    return np.where(hidden, noise, image)


class RandPaintingd(MapTransform, Randomizable):
    """Hide windows of a frame (in-painting), or what surrounds them (out-painting), behind noise of its own range.

    MONAI's `RandCoarseDropout` writes into its input, takes sizes in pixels, and never draws a window smaller than the
    one before: of five, the last is nearly the largest.

    Args:
        keys: frames, (1, H, W), drawn for apart. What comes out is a float32 tensor of the same shape.
        prob: probability that a frame is painted.
        out_prob: probability that a painted frame is painted outside of the windows.
        in_shares: smallest and largest share of the frame's side that a window's side has, in-painting.
        out_shares: the same for out-painting, where overlapping windows are kept as one region.
        windows: largest number of windows. With 5, out-painting hides 36% of a frame on average; with 1, 67%.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if a frame is not (1, H, W) or holds a value that is not finite, or for settings out of range.
    Source: Zhou et al. 2021, out-painting and in-painting. Deviations: windows reach the frame's border (theirs stay 3
        pixels away); one window at least (theirs may in-paint none); those that out-painting keeps measure up to 5/7 of
        a side (theirs 4/7), as in the 2D code of Challier et al. 2025.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.9,
        out_prob: float = 0.8,
        in_shares: tuple[float, float] = (1 / 6, 1 / 3),
        out_shares: tuple[float, float] = (3 / 7, 5 / 7),
        windows: int = 5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        for name, shares in (("in_shares", in_shares), ("out_shares", out_shares)):
            if len(shares) != 2 or not 0 < shares[0] <= shares[1] <= 1:
                raise ValueError(f"`{name}` must be (smallest, largest) in (0, 1], got {tuple(shares)}")
        if windows < 1:
            raise ValueError(f"`windows` must be 1 or more, got {windows}")
        self.prob = prob
        self.out_prob = out_prob
        self.in_shares = (in_shares[0], in_shares[1])
        self.out_shares = (out_shares[0], out_shares[1])
        self.windows = windows

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = frame_array(row[key], channels=1)[0].astype(np.float32)
            if self.R.random_sample() < self.prob:
                outside = bool(self.R.random_sample() < self.out_prob)
                shares = self.out_shares if outside else self.in_shares
                windows = random_windows(image.shape[0], image.shape[1], shares, self.windows, self.R)
                image = paint(image, windows, outside=outside, generator=self.R)
            row[key] = torch.from_numpy(image[None])
        return row

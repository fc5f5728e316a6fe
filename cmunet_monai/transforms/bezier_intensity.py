"""A random smooth monotone curve over the intensities of a frame."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from cmunet_monai.transforms.frame_array import frame_array

POINTS = 200  # of the table that stands for a curve: its chords lie within 5e-5 of it


def bezier_curve(first: tuple[float, float], second: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """x and y, (200,) each, of the cubic Bezier curve from (0, 0) to (1, 1) with two control points in between.

    Both rise from 0 to 1 wherever in the unit square the control points lie: with a and b theirs along an axis, the
    derivative, 3 * (a (1 - t)^2 + 2 (b - a) t (1 - t) + (1 - b) t^2), is nowhere negative, as (a - b)^2 <= a (1 - b)
    where a > b.

    Args:
        first: control point (x, y) in 0 .. 1.
        second: control point (x, y) in 0 .. 1.
    """
    t = np.linspace(0, 1, POINTS)
    x, y = (3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 for a, b in zip(first, second, strict=True))
    return np.maximum.accumulate(x), np.maximum.accumulate(y)  # rounding aside, as they are


def map_intensities(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Map the intensities along a curve; float32, of the shape of `image`.

    Args:
        image: any shape. Not modified.
        x: rising from 0 to 1, where 0 and 1 stand for the image's lowest and highest intensity.
        y: what x becomes, on the same scale. A constant image stays.
    """
    low, high = float(image.min()), float(image.max())
    return np.interp(image, low + (high - low) * x, low + (high - low) * y).astype(np.float32)


class RandBezierIntensityd(MapTransform, Randomizable):
    """Change the intensities along a random monotone cubic Bezier curve, over the frame's own range.

    MONAI's `RandHistogramShift` is piecewise linear and never inverts.

    Args:
        keys: frames, (1, H, W), drawn for apart. What comes out is a float32 tensor of the same shape and range.
        prob: probability that a frame is changed.
        invert_prob: probability that a changed frame gets a falling curve: dark vessels become bright. The authors'
            code has 0.5; 0 keeps the polarity.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if a frame is not (1, H, W) or holds a value that is not finite.
    Source: Zhou et al. 2021, non-linear transformation. Deviations: from the lowest to the highest intensity of the
        frame, which is z-scored (theirs are scaled to 0 .. 1 beforehand); a table of 200 points (theirs 100,000).
    """

    def __init__(
        self, keys: KeysCollection, *, prob: float = 0.9, invert_prob: float = 0.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prob = prob
        self.invert_prob = invert_prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = frame_array(row[key], channels=1).astype(np.float32)
            if self.R.random_sample() < self.prob:
                first, second = self.R.random_sample((2, 2)).tolist()
                x, y = bezier_curve(first, second)
                image = map_intensities(image, x, y[::-1] if self.R.random_sample() < self.invert_prob else y)
            row[key] = torch.from_numpy(image)
        return row

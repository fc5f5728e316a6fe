"""A random part of a frame, enlarged to one size."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

Box = tuple[int, int, int, int]


def resized_crop(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """(H, W) float32 -> (size, size): the box (top, left, height, width), enlarged by bicubic interpolation."""
    top, left, height, width = box
    crop = np.ascontiguousarray(image[top : top + height, left : left + width])
    shrinks = height > size or width > size
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def random_crop_box(
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    generator: np.random.RandomState,
) -> Box:
    """Draw a box (top, left, height, width) in a frame; the largest square, centred, if ten draws do not fit.

    Args:
        height: of the frame in pixels.
        width: of the frame in pixels.
        area: smallest and largest share of the frame's area.
        aspect: smallest and largest ratio of width to height.
        generator: where the randomness comes from.
    """
    for _ in range(10):
        pixels = height * width * generator.uniform(area[0], area[1])
        ratio = np.exp(generator.uniform(np.log(aspect[0]), np.log(aspect[1])))
        rows, columns = round((pixels / ratio) ** 0.5), round((pixels * ratio) ** 0.5)
        if 0 < rows <= height and 0 < columns <= width:
            return generator.randint(height - rows + 1), generator.randint(width - columns + 1), rows, columns
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


class RandResizedCropd(MapTransform, Randomizable):
    """A random crop enlarged to one size, and a random flip: the same for all keys (a frame and its vessel prior).

    MONAI's `RandScaleCropd` with `Resized` draws no aspect ratio and scales all axes, channels of a map included.

    Args:
        keys: images, each (1, H, W) float, of one H and W.
        size: side in pixels of what comes out, (1, size, size) float32.
        area: smallest and largest share of the frame's area.
        aspect: smallest and largest ratio of the crop's sides.
        flip_prob: probability of a flip along the first spatial axis (MONAI reads frames as (x, y): left and right).
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if an image is not (1, H, W), or the images differ in size.
    Source: He et al. 2022, appendix A (random resized crop of 0.2 to 1 and flip are its only augmentation).
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        size: int = 224,
        area: tuple[float, float] = (0.2, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size
        self.area = (area[0], area[1])
        self.aspect = (aspect[0], aspect[1])
        self.flip_prob = flip_prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        images = {key: np.asarray(row[key], dtype=np.float32) for key in self.key_iterator(row)}
        shapes = {key: image.shape for key, image in images.items()}
        if len(set(shapes.values())) != 1 or any(len(shape) != 3 or shape[0] != 1 for shape in shapes.values()):
            raise ValueError(f"images must be (1, H, W) of one size, got {shapes}")
        height, width = next(iter(shapes.values()))[1:]
        box = random_crop_box(height, width, self.area, self.aspect, self.R)
        flips = self.R.random_sample() < self.flip_prob
        for key, image in images.items():
            crop = resized_crop(image[0], box, self.size)
            row[key] = torch.from_numpy((crop[::-1].copy() if flips else crop)[None])
        return row

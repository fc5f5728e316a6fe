"""Slow changes of brightness over a frame, as scatter, wedge filters and other bodies make them."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from cmunet_monai.transforms.frame_array import frame_array


class RandShadingd(MapTransform, Randomizable):
    """Add a smooth random field to a z-scored frame.

    MONAI's `RandBiasField` multiplies, which leaves a z-scored frame as it is where it is near 0.

    Args:
        keys: frames, (1, H, W). A float32 tensor of the same shape comes out.
        std: standard deviation of the field at its nodes, in the frame's unit.
        grid: nodes along a side; smooth between.
        prob: probability that anything is done.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: for fewer than 2 nodes, or a frame that is not (1, H, W).
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        std: float = 0.25,
        grid: int = 4,
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if grid < 2:
            raise ValueError(f"`grid` must be 2 nodes or more, got {grid}")
        self.std = std
        self.grid = grid
        self.prob = prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = frame_array(row[key], channels=1)[0].astype(np.float32)
            if self.R.random_sample() < self.prob:
                nodes = (self.std * self.R.standard_normal((self.grid, self.grid))).astype(np.float32)
                image = image + cv2.resize(nodes, image.shape[::-1], interpolation=cv2.INTER_CUBIC)
            row[key] = torch.from_numpy(image[None])
        return row

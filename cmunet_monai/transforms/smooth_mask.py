"""Smooth the outline of a training label."""

from collections.abc import Hashable, Mapping

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type
from monai.utils.enums import TransformBackends

from cmunet_monai.transforms.frame_array import frame_array, frame_name


class SmoothMask(Transform):
    """Round the corners of a binary mask: Gaussian blur, then the half level.

    Polygons drawn by hand have corners that no artery has. With the default sigma of 1 pixel a straight artery of any
    width from 2 pixels keeps its pixels (the half level of a blurred edge is the edge itself, and the middle of a 2 px
    line stays above it); single pixels and 1 px hairs vanish. For training labels only: metrics take raw labels.

    Args:
        sigma: of the Gaussian, in pixels.
    Source: Challier et al. 2025, section IV-A, which names the step but not the filter.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, sigma: float = 1.0) -> None:
        if not sigma > 0:
            raise ValueError(f"`sigma` must be positive, got {sigma}")
        self.sigma = sigma

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Smooth each channel by itself.

        Args:
            img: (C, H, W) of 0 and 1, any type. Not modified.
        Returns:
            (C, H, W) of 0 and 1, of the same type.
        Raises:
            ValueError: if `img` is not (C, H, W), or holds other values than 0 and 1.
        """
        array = frame_array(img)
        if not ((array == 0) | (array == 1)).all():
            values = np.unique(array)
            raise ValueError(f"{frame_name(img)} must hold 0 and 1 only, got values from {values[0]} to {values[-1]}")
        blurred = [
            cv2.GaussianBlur(channel.astype(np.float32), (0, 0), self.sigma, borderType=cv2.BORDER_REPLICATE)
            for channel in array
        ]
        smooth = (np.stack(blurred) > 0.5).astype(array.dtype)
        return convert_to_dst_type(smooth, img, dtype=img.dtype)[0]


class SmoothMaskd(MapTransform):
    """`SmoothMask` on training labels of a dictionary.

    Args:
        keys: labels, (C, H, W).
        sigma: see `SmoothMask`.
    """

    backend = SmoothMask.backend

    def __init__(self, keys: KeysCollection, sigma: float = 1.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = SmoothMask(sigma)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[key] = self.transform(row[key])
        return row

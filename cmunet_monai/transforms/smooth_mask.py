"""Smooth the outline of a training label."""

from collections.abc import Hashable, Mapping

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from monai.utils.enums import TransformBackends


class SmoothMask(Transform):
    """Round the corners of a binary mask: Gaussian blur, then the half level.

    Polygons drawn by hand have corners that no artery has. With the default sigma of 1 pixel a straight artery of any
    width from 2 pixels keeps its pixels (the half level of a blurred edge is the edge itself, and the middle of a 2 px
    line stays above it); single pixels and 1 px hairs vanish. For training labels only: metrics are taken on raw labels.

    Args:
        sigma: of the Gaussian, in pixels.
    Raises:
        ValueError: if the mask holds other values than 0 and 1.
    Source: Challier et al. 2025, section IV-A, which names the step but not the filter.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, sigma: float = 1.0) -> None:
        if sigma <= 0:
            raise ValueError(f"`sigma` must be positive, got {sigma}")
        self.sigma = sigma

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """(C, H, W) of 0 and 1 -> the same type and shape."""
        array, *_ = convert_data_type(img, np.ndarray)
        if array.ndim != 3:
            raise ValueError(f"`img` must be (C, H, W), got {tuple(array.shape)}")
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"`img` must hold 0 and 1 only, got values {np.unique(array)[:5].tolist()}")
        blurred = [
            cv2.GaussianBlur(channel.astype(np.float32), (0, 0), self.sigma, borderType=cv2.BORDER_REPLICATE)
            for channel in array
        ]
        smooth = (np.stack(blurred) > 0.5).astype(array.dtype)
        return convert_to_dst_type(smooth, img, dtype=img.dtype)[0]


class SmoothMaskd(MapTransform):
    """`SmoothMask` on training labels of a dictionary."""

    backend = SmoothMask.backend

    def __init__(self, keys: KeysCollection, sigma: float = 1.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = SmoothMask(sigma)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[key] = self.transform(row[key])
        return row

"""Unsharp masking with a large radius: evens the background, lifts the vessels."""

from collections.abc import Hashable, Mapping
from math import ceil

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from monai.utils.enums import TransformBackends

TRUNCATE = 4.0  # standard deviations at which the Gaussian ends, as in scipy and scikit-image


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W) float32 with mirrored borders (scipy's mode `reflect`).

    A large sigma is blurred on a copy reduced by areas and enlarged by cubic interpolation: the reduction keeps at
    least 8 of its pixels to a sigma, and stays within 0.1% of the frame's range of the full blur.
    """
    factor = max(2 ** int(np.log2(max(sigma, 1) / 8)), 1)
    margin = 3 * factor if factor > 1 else 0
    reach = ceil(TRUNCATE * sigma / factor) * factor + margin
    height, width = image.shape
    padded = cv2.copyMakeBorder(
        image, reach, reach + -height % factor, reach, reach + -width % factor, cv2.BORDER_REFLECT
    )
    if factor > 1:
        padded = cv2.resize(
            padded, (padded.shape[1] // factor, padded.shape[0] // factor), interpolation=cv2.INTER_AREA
        )
    # the mean over a block of `factor` pixels has a variance of its own
    coarse_sigma = (sigma**2 - (factor**2 - 1) / 12) ** 0.5 / factor
    side = 2 * int(TRUNCATE * coarse_sigma + 0.5) + 1
    blurred = cv2.GaussianBlur(padded, (side, side), coarse_sigma, borderType=cv2.BORDER_REPLICATE)
    if factor > 1:
        edge = (reach - margin) // factor
        blurred = blurred[edge : blurred.shape[0] - edge, edge : blurred.shape[1] - edge]
        blurred = cv2.resize(
            blurred, (blurred.shape[1] * factor, blurred.shape[0] * factor), interpolation=cv2.INTER_CUBIC
        )
        return blurred[margin : margin + height, margin : margin + width]
    return blurred[reach : reach + height, reach : reach + width]


def unsharp_mask(image: np.ndarray, *, radius: float = 60, amount: float = 1) -> np.ndarray:
    """(H, W) -> image + amount * (image - blurred image), float32, not clipped; `radius` is the Gaussian's sigma."""
    image = np.ascontiguousarray(image, dtype=np.float32)
    return image + np.float32(amount) * (image - gaussian_blur(image, radius))


class UnsharpMask(Transform):
    """Unsharp masking in float32, without clipping (8-bit unsharp masking clips 8% of the pixels of an angiogram).

    Args:
        radius: sigma of the Gaussian in pixels.
        amount: weight of the difference to the blurred frame.
    Source: Challier et al. 2025, section IV-A. Equal to scikit-image's `unsharp_mask` within half a grey level of 255.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, radius: float = 60, amount: float = 1) -> None:
        if radius <= 0:
            raise ValueError(f"`radius` must be positive, got {radius}")
        self.radius = radius
        self.amount = amount

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """(C, H, W) -> (C, H, W) float32, each channel by itself."""
        array, *_ = convert_data_type(img, np.ndarray)
        if array.ndim != 3 or not array.size:
            raise ValueError(f"`img` must be (C, H, W), got {tuple(array.shape)}")
        sharp = np.stack([unsharp_mask(channel, radius=self.radius, amount=self.amount) for channel in array])
        return convert_to_dst_type(sharp, img, dtype=np.float32)[0]


class UnsharpMaskd(MapTransform):
    """`UnsharpMask` on frames of a dictionary."""

    backend = UnsharpMask.backend

    def __init__(
        self, keys: KeysCollection, radius: float = 60, amount: float = 1, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = UnsharpMask(radius, amount)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[key] = self.transform(row[key])
        return row

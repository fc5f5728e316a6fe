"""Unsharp masking with a large radius: evens the background, lifts the vessels."""

from collections.abc import Hashable, Mapping
from functools import lru_cache

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils import convert_to_dst_type
from monai.utils.enums import TransformBackends

from cmunet_monai.transforms.frame_array import frame_array

TRUNCATE = 4.0  # standard deviations at which the Gaussian ends, as in scipy and scikit-image
SMALL_SIGMA_PX = 8  # below it a direct convolution is cheaper than the cosine basis
NEGLIGIBLE_GAIN = 1e-4  # a cosine that the blur leaves a smaller share of is left out


@lru_cache(maxsize=16)
def surviving_cosines(length: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The cosines along one axis that a Gaussian blur leaves, and what it leaves of each.

    With mirrored borders a blur is diagonal in the cosine basis (DCT-II): it scales each cosine by the sum of the
    Gaussian's weights times that cosine's values at their offsets.

    Args:
        length: of the axis in pixels.
        sigma: of the Gaussian in pixels.
    Returns:
        (rank, length) float32 orthonormal cosines, and their (rank,) float32 gains.
    """
    reach = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    # the gain of cosine k is near exp(-(pi k sigma / length)**2 / 2): beyond this k it is below 4e-5
    orders = np.arange(min(length, int(4.5 * length / (np.pi * sigma)) + 2))
    gains = np.cos(np.pi / length * orders[:, None] * offsets) @ weights
    cosines = np.cos(np.pi / length * orders[:, None] * (np.arange(length) + 0.5))
    cosines *= np.sqrt(np.where(orders > 0, 2, 1) / length)[:, None]
    kept = np.abs(gains) > NEGLIGIBLE_GAIN
    return cosines[kept].astype(np.float32), gains[kept].astype(np.float32)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W) float32 with mirrored borders (scipy's mode `reflect`); sigma in pixels.

    About 15 cosines an axis survive a sigma of 60 on 512 pixels, so that two thin matrix products replace the
    convolution.
    """
    if sigma < SMALL_SIGMA_PX:
        side = 2 * int(TRUNCATE * sigma + 0.5) + 1
        return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
    sigma = min(sigma, 1.5 * max(image.shape))  # by then the blurred frame is its mean
    (rows, row_gains), (columns, column_gains) = (surviving_cosines(length, float(sigma)) for length in image.shape)
    spectrum = rows @ (image @ columns.T) * np.outer(row_gains, column_gains)
    return rows.T @ spectrum @ columns


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
        if not radius > 0:
            raise ValueError(f"`radius` must be positive, got {radius}")
        self.radius = radius
        self.amount = amount

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Sharpen each channel by itself.

        Args:
            img: (C, H, W). Not modified.
        Returns:
            (C, H, W) float32, in the grey levels of the frame, beyond their range in places.
        Raises:
            ValueError: if `img` is not (C, H, W), or holds a value that is not finite.
        """
        array = frame_array(img)
        sharp = np.stack([unsharp_mask(channel, radius=self.radius, amount=self.amount) for channel in array])
        return convert_to_dst_type(sharp, img, dtype=np.float32)[0]


class UnsharpMaskd(MapTransform):
    """`UnsharpMask` on frames of a dictionary.

    Args:
        keys: frames, (C, H, W).
        radius, amount: see `UnsharpMask`.
    """

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


class RandUnsharpMaskd(MapTransform, Randomizable):
    """`UnsharpMask` with a radius drawn anew, so that a network meets what frames of other sizes look like.

    Args:
        keys: frames, (C, H, W).
        radius: smallest and largest, drawn evenly on a logarithmic scale. 60 px of a frame of 512 are 30 at 256.
        amount: see `UnsharpMask`.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if the radii are not in order, or not above 0.
    """

    backend = UnsharpMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        radius: tuple[float, float] = (25, 55),
        amount: float = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 < radius[0] <= radius[1]:
            raise ValueError(f"`radius` must be (smallest, largest), both above 0, got {tuple(radius)}")
        self.radius = (radius[0], radius[1])
        self.amount = amount

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            radius = float(np.exp(self.R.uniform(*np.log(self.radius))))
            row[key] = UnsharpMask(radius, self.amount)(row[key])
        return row

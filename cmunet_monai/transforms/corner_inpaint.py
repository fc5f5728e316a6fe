"""Fill the dark corners that a round image intensifier or a collimator leaves."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from monai.utils.enums import TransformBackends

WHITE_LEVELS = (1, 255, 1023, 4095, 16383, 65535)


def white_level(image: np.ndarray) -> float:
    """The largest value that the frame's depth can hold: the smallest of 1, 255, 1023, ... not below its maximum."""
    highest = float(image.max())
    return float(next((white for white in WHITE_LEVELS if highest <= white), highest))


def find_dark_corners(
    image: np.ndarray,
    *,
    border_ratio: float = 0.25,
    threshold: float = 20,
    dilation: int = 2,
    white: float | None = None,
) -> np.ndarray:
    """Where the dark regions are that hold a corner of the frame.

    A region is a set of pixels darker than `threshold` that are connected (8 neighbours) to a corner pixel inside the
    border band; what lies deeper in the frame is never part of it, nor is a dark structure (spine, diaphragm,
    catheter) that does not reach a corner.

    Args:
        image: (H, W), finite.
        border_ratio: width of the border band, as a share of the side; 0.5 is the whole frame.
        threshold: in grey levels of an 8-bit frame; scaled to the frame's depth.
        dilation: pixels by which the regions are grown, inside the band or not, since their edge is blurred.
        white: the grey level that stands for 255; None takes `white_level`.
    Returns:
        (H, W) bool.
    """
    height, width = image.shape
    limit = threshold / 255 * (white_level(image) if white is None else white)
    ends = {0, height - 1}, {0, width - 1}
    corners = [(row, column) for row in ends[0] for column in ends[1] if image[row, column] < limit]
    if not corners:
        return np.zeros(image.shape, dtype=bool)
    dark = (image < limit).astype(np.uint8)
    rows, columns = int(border_ratio * height), int(border_ratio * width)
    dark[rows : height - rows, columns : width - columns] = 0
    _, labels = cv2.connectedComponents(dark, connectivity=8)
    region = np.isin(labels, [labels[corner] for corner in corners]).astype(np.uint8)
    if dilation:
        region = cv2.dilate(region, np.ones((2 * dilation + 1,) * 2, np.uint8))
    return region.astype(bool)


def inpaint(image: np.ndarray, region: np.ndarray, *, radius: float = 3) -> np.ndarray:
    """Fill `region` from its surroundings (Telea 2004, OpenCV's), in float32; all other pixels are kept.

    A frame that is region all over is returned as it is: there is nothing to fill it from.
    """
    image = np.ascontiguousarray(image, dtype=np.float32)
    if not region.any() or region.all():
        return image.copy()
    filled = cv2.inpaint(image, region.astype(np.uint8), radius, cv2.INPAINT_TELEA)
    return np.where(region, filled, image)


class CornerInpaint(Transform):
    """Fill the dark corners of a frame; a frame without any comes back unchanged (as float32).

    Args:
        border_ratio: width of the border band in which corners lie, as a share of the side.
        threshold: grey level of an 8-bit frame below which a corner is dark; scaled for 10 to 16 bits and for [0, 1].
        dilation: pixels by which a dark corner is grown before it is filled.
        radius: of the neighbourhood that Telea's method fills from, in pixels.
        white: the grey level that stands for 255; None takes the frame's depth from its maximum.
    Source: Challier et al. 2025, section IV-A; the values are those of the authors' code.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        border_ratio: float = 0.25,
        threshold: float = 20,
        dilation: int = 2,
        radius: float = 3,
        white: float | None = None,
    ) -> None:
        if not 0 < border_ratio <= 0.5:
            raise ValueError(f"`border_ratio` must be above 0 and at most 0.5, got {border_ratio}")
        if dilation < 0:
            raise ValueError(f"`dilation` must not be negative, got {dilation}")
        self.border_ratio = border_ratio
        self.threshold = threshold
        self.dilation = dilation
        self.radius = radius
        self.white = white

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """(1, H, W) -> (1, H, W) float32."""
        return self.fill(img)[0]

    def fill(self, img: NdarrayOrTensor) -> tuple[NdarrayOrTensor, torch.Tensor]:
        """(1, H, W) -> the filled frame, and the valid field (1, H, W) bool, False in the dark corners."""
        array, *_ = convert_data_type(img, np.ndarray)
        if array.ndim != 3 or array.shape[0] != 1 or not array.size:
            raise ValueError(f"`img` must be (1, H, W), got {tuple(array.shape)}")
        if not np.isfinite(array).all():
            raise ValueError("`img` holds values that are not finite (NaN or infinity)")
        region = find_dark_corners(
            array[0],
            border_ratio=self.border_ratio,
            threshold=self.threshold,
            dilation=self.dilation,
            white=self.white,
        )
        filled = inpaint(array[0], region, radius=self.radius)[None]
        return convert_to_dst_type(filled, img, dtype=np.float32)[0], torch.from_numpy(~region[None])


class CornerInpaintd(MapTransform):
    """`CornerInpaint` on frames of a dictionary; never give it a label.

    Args:
        keys: frames, (1, H, W).
        field_key: where the valid field goes, (1, H, W) bool, True = real field; None leaves it out.
        settings: of `CornerInpaint`.
    """

    backend = CornerInpaint.backend

    def __init__(
        self, keys: KeysCollection, field_key: str | None = None, allow_missing_keys: bool = False, **settings: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.field_key = field_key
        self.transform = CornerInpaint(**settings)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[key], field = self.transform.fill(row[key])
            if self.field_key is not None:
                row[self.field_key] = field
        return row

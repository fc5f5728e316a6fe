"""Fill the dark corners that a round image intensifier or a collimator leaves."""

from collections.abc import Hashable, Mapping

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type
from monai.utils.enums import TransformBackends

from cmunet_monai.transforms.frame_array import frame_array, frame_name

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
    border band, with the dark grey specks that it encloses. A dark structure (spine, diaphragm, catheter) that does not
    reach a corner is never part of it; nor, but for its end, is a narrow one that does (catheter, artery); of a wide
    one (diaphragm) the part inside the band is. A frame that is dark all over has no corners, nor has one whose sides
    are both shorter than 1 / `border_ratio` pixels.

    Args:
        image: (H, W), finite.
        border_ratio: width of the border band, as a share of the side, rounded down to pixels.
        threshold: in grey levels of an 8-bit frame; scaled to the frame's depth.
        dilation: pixels by which the regions are grown, inside the band or not, since their edge is blurred.
        white: the grey level that stands for 255; None takes `white_level`.
    Returns:
        (H, W) bool.
    """
    if white is None:
        white = white_level(image)
    limit = threshold / 255 * white
    region = dark_at_corners(image, limit=limit, border_ratio=border_ratio)
    if not region.any():
        return region.astype(bool)
    if dilation:
        region = cv2.dilate(region, np.ones((2 * dilation + 1,) * 2, np.uint8))
    return without_tongues(without_holes(image, region, limit=limit)).astype(bool)


def dark_at_corners(image: np.ndarray, *, limit: float, border_ratio: float) -> np.ndarray:
    """(H, W) uint8: 1 where pixels below `limit` are connected to a corner pixel inside the border band."""
    height, width = image.shape
    corners = [(row, column) for row in (0, height - 1) for column in (0, width - 1) if image[row, column] < limit]
    dark = np.array(image < limit, dtype=np.uint8, order="C")
    if not corners or dark.all():
        return np.zeros_like(dark)
    rows, columns = int(border_ratio * height), int(border_ratio * width)
    dark[rows : height - rows, columns : width - columns] = 0
    for row, column in corners:
        if dark[row, column] == 1:
            cv2.floodFill(dark, None, (column, row), 2, flags=8)
    return (dark == 2).astype(np.uint8)


def without_holes(image: np.ndarray, region: np.ndarray, *, limit: float) -> np.ndarray:
    """(H, W) of 0 and 1: enclosed pieces that are darker than twice `limit` on average join the region.

    Lighter pieces stay, such as the part of the field that a dark catheter cuts off; so does the largest piece.
    """
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(1 - region, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    field = np.bincount(pieces.ravel(), image.ravel(), count) >= 2 * limit * areas
    if count > 1:
        field[1 + areas[1:].argmax()] = True
    field[0] = False  # the region itself
    return (~field[pieces]).astype(np.uint8)


def without_tongues(region: np.ndarray) -> np.ndarray:
    """(H, W) of 0 and 1: give back to the field what reaches into it as a narrow tongue, such as a filled artery.

    An opening by a square of 1/16 of the side, where all beyond the frame counts as dark: it leaves what surrounds a
    convex field as it is. The square is odd, since an even one would shift the region.
    """
    side = round(min(region.shape) / 16) | 1
    padded = cv2.copyMakeBorder(region, side, side, side, side, cv2.BORDER_CONSTANT, value=1)
    square = np.ones((side, side), np.uint8)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, square, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return opened[side:-side, side:-side]


def inpaint(image: np.ndarray, region: np.ndarray, *, radius: float = 3, white: float = 255) -> np.ndarray:
    """Fill `region` from its surroundings (Telea 2004, OpenCV's), in float32; all other pixels are kept.

    OpenCV adds a term of up to 1.4 grey levels to each pixel that it fills, up or down, whatever the frame's depth: the
    frame is brought to 0 to 255 first, so that all depths are filled alike.

    Args:
        image: (H, W), finite. Not modified.
        region: (H, W) bool. A frame that is region all over is returned as it is: there is nothing to fill it from.
        radius: of the neighbourhood that a pixel is filled from, in pixels.
        white: the grey level that stands for 255.
    Returns:
        (H, W) float32.
    """
    image = np.ascontiguousarray(image, dtype=np.float32)
    if not region.any() or region.all():
        return image.copy()
    scale = np.float32(255 / white)
    repeats = [3 if side == 1 else 1 for side in image.shape]  # of a single line, OpenCV reads memory beyond it
    wide, hole = np.tile(image * scale, repeats), np.tile(region.astype(np.uint8), repeats)
    filled = cv2.inpaint(wide, hole, radius, cv2.INPAINT_TELEA)
    height, width = image.shape
    return np.where(region, filled[:height, :width] / scale, image)


class CornerInpaint(Transform):
    """Fill the dark corners of a frame; a frame without any comes back unchanged (as float32).

    Args:
        border_ratio: width of the border band in which corners lie, as a share of the side; above 0, at most 0.5.
        threshold: grey level of an 8-bit frame below which a corner is dark; scaled for 10 to 16 bits and for [0, 1].
        dilation: pixels by which a dark corner is grown before it is filled.
        radius: of the neighbourhood that Telea's method fills from, in pixels, 1 to 100.
        white: the grey level that stands for 255. None takes the frame's depth from its maximum (`white_level`): give
            it for frames with pixels brighter than their depth allows, such as text burned into 12 bits at 65535.
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
        if not 1 <= radius <= 100:
            raise ValueError(f"`radius` must be from 1 to 100, got {radius}")
        if white is not None and not white > 0:
            raise ValueError(f"`white` must be positive, got {white}")
        self.border_ratio = border_ratio
        self.threshold = threshold
        self.dilation = dilation
        self.radius = radius
        self.white = white

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """(1, H, W) -> (1, H, W) float32; see `fill`."""
        return self.fill(img)[0]

    def fill(self, img: NdarrayOrTensor) -> tuple[NdarrayOrTensor, torch.Tensor]:
        """Fill the dark corners of one frame.

        Args:
            img: (1, H, W), grey levels of any depth. Not modified.
        Returns:
            the filled frame, (1, H, W) float32, and the valid field, (1, H, W) bool, False in the dark corners.
        Raises:
            ValueError: if `img` is not (1, H, W), holds a value that is not finite, or, where `white` is None, below 0.
        """
        array = frame_array(img, channels=1)
        white = self.white
        if white is None:
            if array.min() < 0:
                raise ValueError(
                    f"{frame_name(img)} must have grey levels of 0 or more, so that its bit depth can be "
                    f"derived, got {array.min()}: "
                    "fill corners before other changes of intensity, or give `white`"
                )
            white = white_level(array)
        region = find_dark_corners(
            array[0], border_ratio=self.border_ratio, threshold=self.threshold, dilation=self.dilation, white=white
        )
        filled = inpaint(array[0], region, radius=self.radius, white=white)[None]
        return convert_to_dst_type(filled, img, dtype=np.float32)[0], torch.from_numpy(~region[None])


class CornerInpaintd(MapTransform):
    """`CornerInpaint` on frames of a dictionary; never give it a label.

    Args:
        keys: frames, (1, H, W).
        field_key: where the valid field goes, (1, H, W) bool, True = real field; None leaves it out. For a single key.
        border_ratio, threshold, dilation, radius, white: see `CornerInpaint`.
    """

    backend = CornerInpaint.backend

    def __init__(
        self,
        keys: KeysCollection,
        field_key: str | None = None,
        border_ratio: float = 0.25,
        threshold: float = 20,
        dilation: int = 2,
        radius: float = 3,
        white: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if field_key is not None and len(self.keys) != 1:
            raise ValueError(f"`keys` must be a single key where there is a `field_key`, got {self.keys}")
        self.field_key = field_key
        self.transform = CornerInpaint(border_ratio, threshold, dilation, radius, white)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[key], field = self.transform.fill(row[key])
            if self.field_key is not None:
                row[self.field_key] = field
        return row

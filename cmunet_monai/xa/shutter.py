"""The part of a frame that its display shutters leave open (PS3.3 C.7.6.11)."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.xa.header import Header

_FAR_PX = 2**15


@dataclass(frozen=True)
class Shutter:
    """Display shutters; what lies outside any of them is covered. Positions are DICOM's, from 1 in the first pixel.

    The standard does not say whether the pixels of an edge are open. They count as covered (the safe side: a covered
    pixel in the field is worse than an open one outside it), except at the border of the picture, where writers that
    have nothing to cover put the edges.

    Attributes:
        rectangle: columns of the left and the right edge, rows of the upper and the lower one, or None.
        circle: row and column of the centre, and radius, or None.
        polygon: (row, column) of each vertex; empty for none.
    """

    rectangle: tuple[float, float, float, float] | None = None
    circle: tuple[float, float, float] | None = None
    polygon: tuple[tuple[float, float], ...] = ()


def read_shutter(header: Header, frame: int | None = None) -> Shutter | None:
    """The shutters of a file, or of one of its frames; None if there is none that is complete.

    A shape that is named without its numbers is named in `header.unreadable`.
    """
    shapes = header.words("ShutterShape", frame)
    rectangle = circle = None
    polygon: tuple[tuple[float, float], ...] = ()
    if "RECTANGULAR" in shapes:
        names = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
        left, right, upper, lower = (header.number(f"Shutter{name}Edge", frame) for name in names)
        if left is not None and right is not None and upper is not None and lower is not None:
            rectangle = (left, right, upper, lower)
    if "CIRCULAR" in shapes:
        center, radius = (
            header.numbers("CenterOfCircularShutter", frame),
            header.number("RadiusOfCircularShutter", frame),
        )
        if len(center) == 2 and radius is not None and radius > 0:
            circle = (*center, radius)
    if "POLYGONAL" in shapes:
        values = header.numbers("VerticesOfThePolygonalShutter", frame)
        if len(values) >= 6 and len(values) % 2 == 0:
            polygon = tuple(zip(values[::2], values[1::2], strict=True))
    if ("RECTANGULAR" in shapes) > (rectangle is not None) or ("CIRCULAR" in shapes) > (circle is not None):
        header.unreadable.add("ShutterShape")
    if ("POLYGONAL" in shapes) > bool(polygon):
        header.unreadable.add("ShutterShape")
    return Shutter(rectangle, circle, polygon) if rectangle or circle or polygon else None


def valid_region(shutter: Shutter | None, rows: int, columns: int) -> NDArray[np.bool_]:
    """(row, column) mask, True where the frame is shown: inside all shutters."""
    region = np.ones((rows, columns), bool)
    if shutter is None:
        return region
    row, column = np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None, :]
    if shutter.rectangle:
        left, right, upper, lower = shutter.rectangle
        region &= ((row > upper) | (upper <= 1)) & ((row < lower) | (lower >= rows))
        region &= ((column > left) | (left <= 1)) & ((column < right) | (right >= columns))
    if shutter.circle:
        center_row, center_column, radius = shutter.circle
        region &= (row - center_row) ** 2 + (column - center_column) ** 2 <= radius**2
    if shutter.polygon:
        # OpenCV counts (column, row) from 0; farther vertices than this overflow its fixed point
        corners = np.clip(np.asarray(shutter.polygon)[:, ::-1] - 1, -_FAR_PX, _FAR_PX)
        region &= cv2.fillPoly(np.zeros((rows, columns), np.uint8), [np.rint(corners).astype(np.int32)], 1) > 0
    return region

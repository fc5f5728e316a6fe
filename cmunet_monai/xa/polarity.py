"""Determine from the header whether contrast agent is dark."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.xa.pixels import FloatFrame

_SIZE_PX = 256  # what the lengths below are of
_WIDEST_LINE_PX, _FROM_EDGE_PX = 7, 14
_CORNERS = 0.03
_FRAMES_LOOKED_AT = 8


def contrast_may_be_bright(frames: NDArray[np.float32]) -> bool:
    """Whether a run looks as if its vessels were brighter than what surrounds them, in spite of its header.

    It is a reason to look at the run, never to invert it.

    Args:
        frames: (frame, row, column) of a run, or those chosen from it; at most eight, evenly spaced, are looked at.
    Returns:
        True where `line_polarity` is negative in the median of the frames.
    """
    looked_at = np.unique(np.linspace(0, len(frames) - 1, _FRAMES_LOOKED_AT).astype(int))
    return bool(np.median([line_polarity(frames[number]) for number in looked_at]) < 0)


def line_polarity(frame: FloatFrame) -> float:
    """How much stronger the dark lines of a frame are than its bright ones.

    Lines (vessels, catheter, wires: all full of what absorbs) are what a closing fills, or an opening removes, by a
    disk wider than they are, which leaves edges alone (Serra, Image Analysis and Mathematical Morphology, 1982). Their
    strength is the 98th percentile over the field; the border of the picture and of its dark corners is left out.

    Args:
        frame: (row, column), of any range. Not modified.
    Returns:
        (dark - bright) / (dark + bright): -1 to 1, positive where contrast is dark; 0 where there are no lines or no
        field to look at.
    """
    scale = min(1.0, _SIZE_PX / max(frame.shape))
    small = cv2.GaussianBlur(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_WIDEST_LINE_PX, _WIDEST_LINE_PX))
    field = _field(small)
    if not field.any():
        return 0.0
    dark = np.percentile(cv2.morphologyEx(small, cv2.MORPH_BLACKHAT, disk)[field], 98)
    bright = np.percentile(cv2.morphologyEx(small, cv2.MORPH_TOPHAT, disk)[field], 98)
    return float((dark - bright) / (dark + bright)) if dark + bright > 0 else 0.0


def _field(frame: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the frame is neither as dark nor as bright as corners are, and far from there."""
    low, high = float(frame.min()), float(frame.max())
    margin = _CORNERS * (high - low)
    inside = ((frame > low + margin) & (frame < high - margin)).astype(np.uint8)
    closing = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_WIDEST_LINE_PX + 4, _WIDEST_LINE_PX + 4))
    closed = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, closing)
    framed = cv2.copyMakeBorder(closed, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.erode(framed, np.ones((2 * _FROM_EDGE_PX + 1,) * 2, np.uint8))[1:-1, 1:-1] > 0

"""Does a picture show something that looks like text? Rows of sharp-edged marks of one height and one contrast.

Text that a system burns into its pictures has edges of one pixel; what X-rays show is blurred by focus, detector and
motion. The detector finds candidates for a person to look at; it reads nothing, and finding nothing is no proof.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_KERNEL_PX = 13
"""Strokes are thinner than this; wider structures are background."""
_THRESHOLDS = (0.06, 0.12, 0.24, 0.45)
"""Contrasts at which marks are cut out, as a share of the picture's range. At a low one letters touch."""
_HEIGHT_PX = (5, 48)
_SHARPNESS = 0.72
"""Step across an edge, in two pixels, as a share of the mark's contrast: 1 for drawn text, about half for a vessel."""
_NOISE_DEVIATIONS = 6.0
_MARKS_IN_ROW = 3


@dataclass(frozen=True)
class Box:
    """A part of a picture in pixels; `bottom` and `right` lie outside."""

    top: int
    left: int
    bottom: int
    right: int

    def touches(self, other: "Box") -> bool:
        """Whether the two overlap or share an edge."""
        return (
            self.top <= other.bottom
            and other.top <= self.bottom
            and self.left <= other.right
            and other.left <= self.right
        )

    def joined(self, other: "Box") -> "Box":
        """The smallest box around both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


@dataclass(frozen=True)
class _Mark:
    box: Box
    contrast: float

    @property
    def height(self) -> int:
        return self.box.bottom - self.box.top


def text_like_boxes(minimum: NDArray[np.floating], maximum: NDArray[np.floating]) -> tuple[Box, ...]:
    """Where a run shows text-like structure, bright or dark, in its darkest or its brightest values over time.

    Text that stands in one frame only is in one of the two pictures.

    Args:
        minimum: (row, column) of any range, the least value of each pixel over all frames.
        maximum: the greatest, of the same size.
    Returns:
        Boxes from top to bottom; none for a constant picture.
    Raises:
        ValueError: if the two are not of one (row, column) size or not finite.
    """
    if minimum.ndim != 2 or minimum.shape != maximum.shape:
        raise ValueError(f"expected two (row, column) pictures of one size, got {minimum.shape} and {maximum.shape}")
    if not (np.isfinite(minimum).all() and np.isfinite(maximum).all()):
        raise ValueError("`minimum` and `maximum` must be finite")
    pictures = [minimum] if np.array_equal(minimum, maximum) else [minimum, maximum]
    found: list[Box] = []
    for picture in pictures:
        unit = _to_unit_range(picture)
        for polarity in (unit, 1 - unit):
            found += [box for marks in _marks(polarity) for box in _rows(marks)]
    return tuple(sorted(_merged(found), key=lambda box: (box.top, box.left)))


def _to_unit_range(picture: NDArray[np.floating]) -> NDArray[np.float32]:
    low, high = np.percentile(picture, (0.02, 99.98))
    if high <= low:
        low, high = float(picture.min()), float(picture.max())
    if high <= low:
        return np.zeros(picture.shape, np.float32)
    return np.clip((picture - low) / (high - low), 0, 1).astype(np.float32)


def _marks(picture: NDArray[np.float32]) -> Iterator[list[_Mark]]:
    """Small bright marks with sharp edges, at each of the thresholds."""
    # a border, since the opening of OpenCV takes what touches the edge for background
    above: NDArray[Any] = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, np.ones((_KERNEL_PX, _KERNEL_PX), np.uint8))
    fine = picture - cv2.blur(picture, (3, 3))
    noise = 1.4826 * float(np.median(np.abs(fine)))
    step: NDArray[Any] = cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    for threshold in dict.fromkeys(max(threshold, _NOISE_DEVIATIONS * noise) for threshold in _THRESHOLDS):
        yield _marks_above(above, step, threshold)


def _marks_above(above: NDArray[np.float32], step: NDArray[np.float32], threshold: float) -> list[_Mark]:
    mask = (above > threshold).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    width, height, area = (stats[:, index] for index in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    least, most = _HEIGHT_PX
    fitting = (least <= height) & (height <= most) & (width <= 1.8 * height) & (area >= 5)
    fitting[0] = False  # the background
    if np.count_nonzero(fitting) < _MARKS_IN_ROW:
        return []
    inner: NDArray[Any] = cv2.erode(mask, np.ones((3, 3), np.uint8))
    edge = np.flatnonzero(mask > inner)
    of_edge = labels.ravel()[edge]
    pixels = np.bincount(of_edge, minlength=len(stats))
    sharpness = np.bincount(of_edge, weights=step.ravel()[edge], minlength=len(stats)) / np.maximum(pixels, 1)
    marks = []
    for label in np.flatnonzero(fitting & (sharpness >= _SHARPNESS * threshold)):  # a mark's contrast is above it
        left, top = int(stats[label, cv2.CC_STAT_LEFT]), int(stats[label, cv2.CC_STAT_TOP])
        box = Box(top, left, top + int(height[label]), left + int(width[label]))
        part = np.s_[box.top : box.bottom, box.left : box.right]
        inside = np.sort(above[part][labels[part] == label])
        contrast = float(inside[int(0.8 * (len(inside) - 1))])
        if sharpness[label] >= _SHARPNESS * contrast:
            marks.append(_Mark(box, contrast))
    return marks


def _rows(marks: list[_Mark]) -> list[Box]:
    """Boxes around three and more marks that stand beside each other on one line."""
    marks = sorted(marks, key=lambda mark: mark.box.left)
    groups: list[list[_Mark]] = []
    for mark in marks:
        for group in groups:
            if any(_side_by_side(other, mark) for other in group[-2:]):
                group.append(mark)
                break
        else:
            groups.append([mark])
    return [
        _around([mark.box for mark in group]) for group in groups if len(group) >= _MARKS_IN_ROW and _on_a_line(group)
    ]


def _side_by_side(left: _Mark, right: _Mark) -> bool:
    tall = max(left.height, right.height)
    short = min(left.height, right.height)
    shared = min(left.box.bottom, right.box.bottom) - max(left.box.top, right.box.top)
    gap = right.box.left - left.box.right
    return (
        shared >= 0.7 * short
        and tall <= 1.7 * short
        and -0.3 * tall <= gap <= 1.1 * tall
        and min(left.contrast, right.contrast) >= 0.6 * max(left.contrast, right.contrast)
    )


def _on_a_line(group: list[_Mark]) -> bool:
    """Three in a row end at one height, above or below, and the row is longer than it is high."""
    height = float(np.median([mark.height for mark in group]))
    slack = max(1.0, 0.1 * height)
    bottoms = np.array([mark.box.bottom for mark in group])
    tops = np.array([mark.box.top for mark in group])
    level = sum(
        abs(low - np.median(bottoms)) <= slack and abs(high - np.median(tops)) <= 0.45 * height
        for low, high in zip(bottoms, tops, strict=True)
    )
    advance = [second.box.left - first.box.left for first, second in pairwise(group)]
    return level >= max(_MARKS_IN_ROW, 0.7 * len(group)) and sum(advance) >= height


def _around(boxes: list[Box]) -> Box:
    whole = boxes[0]
    for box in boxes[1:]:
        whole = whole.joined(box)
    return whole


def _merged(boxes: list[Box]) -> list[Box]:
    merged: list[Box] = []
    for box in boxes:
        while True:
            touching = [other for other in merged if other.touches(box)]
            if not touching:
                break
            merged = [other for other in merged if other not in touching]
            box = _around([box, *touching])
        merged.append(box)
    return merged

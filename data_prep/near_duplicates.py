"""Which frames show the same thing: for sets that carry no patient identity.

Two resemblances are measured, since they mean different things.

`content_pairs`: the same vessels in the same view. Frames are reduced to 64x64; what is not irradiated, and 5 px along
the edge of what is, is blanked (shutter edges look alike in unrelated frames); the slow background is taken off
(Gaussian, sigma 3 px) and two frames are correlated where they overlap, at every shift of up to 8 px (an eighth of the
side) each way. Brightness and contrast drop out of the correlation. A pair counts from 0.39 on.
Measured on ARCADE (1,260 `train` and 260 `val` frames of both tasks, 1,154,440 pairs, those above 0.34 looked at):
copies score 1.000 (5 pairs), neighbouring frames of one cine 0.82 to 0.96 (6), the same vessels at another phase or
time 0.405 to 0.62 (13, of which one could also be a look-alike); the next pairs, from 0.380 down, show other vessels,
save one (0.380: stenosis train 423 and 782, which is missed). The threshold is 0.015 below the ones and 0.010 above
the others. What moved further, or was turned, is not found.

`same_shutter_pairs`: the same shutter position, whatever is seen. It may mean the same examination or only the same
habit: a precaution, not a proof. Only frames whose field covers less than 90% count (79 of those 1,520), from an
intersection over union of 0.94 on; its values have no gap, so that this threshold has no margin.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

THUMBNAIL_SIDE_PX = 128
CONTENT_SIDE_PX = 64
MAX_SHIFT_PX = 8
FIELD_MARGIN_PX = 5
BACKGROUND_SIGMA_PX = 3.0
SAME_CONTENT_CORRELATION = 0.39
SHUTTERED_FIELD_SHARE = 0.9
SHUTTER_BRIGHTNESS = 0.2
PENUMBRA_BRIGHTNESS = 0.5
SAME_SHUTTER_IOU = 0.94
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Pair:
    """Two frames that resemble each other, by their place in the sequence given; `first < second`."""

    first: int
    second: int
    score: float


def thumbnail(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Reduce a greyscale frame (H, W) of any range and size to (128, 128), averaging over each pixel's area."""
    return _resize(image.astype(np.float32), THUMBNAIL_SIDE_PX)


def irradiated_field(frame: NDArray[np.float32], *, min_brightness: float) -> NDArray[np.bool_]:
    """Where a frame (S, S) was irradiated: brighter than this share of its central quarter's median, holes closed."""
    side = len(frame)
    centre = slice(side // 4, side - side // 4)
    lit = frame > min_brightness * np.median(frame[centre, centre])
    reach = side // 16
    # Padded, since closing would otherwise also fill the strip between a shutter and the frame's edge.
    padded = np.pad(lit.astype(np.uint8), reach)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((2 * reach + 1,) * 2, np.uint8))
    return closed[reach:-reach, reach:-reach].astype(bool)


def content_pairs(
    thumbnails: Sequence[NDArray[np.float32]], *, min_correlation: float = SAME_CONTENT_CORRELATION
) -> list[Pair]:
    """Pairs of frames that show the same vessels in the same view.

    Args:
        thumbnails: (128, 128) each, from `thumbnail`.
        min_correlation: pairs from this correlation on, in -1 to 1, are given.
    Returns:
        Pairs with their highest correlation over all shifts, sorted by place. A constant frame resembles nothing.
    """
    if len(thumbnails) < 2:
        return []
    content = np.stack([_content(frame) for frame in thumbnails])
    steps = range(-MAX_SHIFT_PX, MAX_SHIFT_PX + 1)
    # Half of the shifts: the opposite one of a pair is that of the pair in the other order.
    shifts = [(down, right) for down in steps for right in steps if (down, right) >= (0, 0)]
    best: dict[tuple[int, int], float] = {}
    blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(content), _BLOCK_ROWS)]
    with tqdm(total=len(blocks) * len(shifts), desc="comparing frames", unit="shift", disable=None) as progress:
        for block in blocks:
            scores = np.full((len(content[block]), len(content)), -1, np.float32)
            for down, right in shifts:
                correlation = _overlap(content[block], down, right) @ _overlap(content, -down, -right).T
                np.maximum(scores, correlation, out=scores)
                progress.update()
            for row, other in np.argwhere(scores >= min_correlation):
                first, second = sorted((block.start + int(row), int(other)))
                if first != second:
                    best[first, second] = max(best.get((first, second), -1.0), float(scores[row, other]))
    return [Pair(first, second, score) for (first, second), score in sorted(best.items())]


def same_shutter_pairs(thumbnails: Sequence[NDArray[np.float32]], *, min_iou: float = SAME_SHUTTER_IOU) -> list[Pair]:
    """Pairs of shuttered frames (field below 90% of the frame) whose fields coincide.

    Args:
        thumbnails: (128, 128) each, from `thumbnail`.
        min_iou: pairs from this intersection over union of the two fields on, in 0 to 1, are given.
    Returns:
        Pairs with that IoU, sorted by place.
    """
    fields = [irradiated_field(frame, min_brightness=SHUTTER_BRIGHTNESS) for frame in thumbnails]
    shuttered = [place for place, field in enumerate(fields) if field.mean() < SHUTTERED_FIELD_SHARE]
    pairs = []
    for position, first in enumerate(shuttered):
        for second in shuttered[position + 1 :]:
            union = np.count_nonzero(fields[first] | fields[second])
            iou = np.count_nonzero(fields[first] & fields[second]) / union if union else 0.0
            if iou >= min_iou:
                pairs.append(Pair(first, second, iou))
    return pairs


def connected_groups(count: int, pairs: Iterable[Pair]) -> list[int]:
    """Group `count` frames so that every pair falls into one group; a group is named by its first member's place."""
    group = list(range(count))

    def first_member(place: int) -> int:
        while group[place] != place:
            place = group[place]
        return place

    for pair in pairs:
        first, second = sorted((first_member(pair.first), first_member(pair.second)))
        group[second] = first
    return [first_member(place) for place in range(count)]


def _resize(image: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA), np.float32)


def _content(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is seen inside the field, without the slow background: (64, 64), unit deviation, 0 outside."""
    small = _resize(frame, CONTENT_SIDE_PX)
    kernel = np.ones((2 * FIELD_MARGIN_PX + 1,) * 2, np.uint8)
    field = irradiated_field(small, min_brightness=PENUMBRA_BRIGHTNESS).astype(np.uint8)
    inner = cv2.erode(field, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(np.float32)
    weight = cv2.GaussianBlur(inner, (0, 0), BACKGROUND_SIGMA_PX)
    background = cv2.GaussianBlur(small * inner, (0, 0), BACKGROUND_SIGMA_PX) / np.maximum(weight, 1e-3)
    detail = (small - background) * inner
    deviation = float(np.sqrt(np.square(detail).sum() / max(inner.sum(), 1.0)))
    # A frame without detail holds rounding errors only, which must not be blown up to a pattern.
    if deviation <= 1e-4 * float(np.abs(small).max()):
        return np.zeros_like(detail)
    # Clipped, so that one bright wire or text overlay does not decide.
    return np.clip(detail / deviation, -3, 3)


def _overlap(content: NDArray[np.float32], down: int, right: int) -> NDArray[np.float32]:
    """What of (N, 64, 64) overlaps a frame shifted by this much, as (N, pixels) rows of unit length (or zeros)."""
    side = CONTENT_SIDE_PX
    rows = slice(max(down, 0), side + min(down, 0))
    columns = slice(max(right, 0), side + min(right, 0))
    windows = content[:, rows, columns].reshape(len(content), -1)
    return windows / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-6)

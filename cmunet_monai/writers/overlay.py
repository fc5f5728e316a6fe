"""Pictures of a frame with the outline of its mask, upright, for people."""

import os
from collections.abc import Sequence

import cv2
import numpy as np
from skimage.measure import find_contours
from skimage.morphology import disk
from torch import Tensor

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.measurements import Narrowing

Array = np.ndarray | Tensor

# Okabe and Ito's palette: told apart with red-green blindness, and on grey.
AGREEMENT = (0, 200, 140)
MISSED = (255, 175, 0)
FALSE = (255, 90, 200)
OUTLINE = (0, 200, 255)
NARROWING = (240, 228, 66)
FONT = cv2.FONT_HERSHEY_SIMPLEX
TOLERANCE_PX = 2
SHORTEST_SIDE_PX = 1024
LONGEST_SIDE_PX = 4096
_SUBPIXEL_BITS = 4


def draw_outline(frame: Array, mask: Array, *, narrowings: Sequence[Narrowing] = (), title: str = "") -> np.ndarray:
    """A frame with the outline of its mask.

    Args:
        frame: (1, W, H) grey values of any range, first spatial axis along the columns. Not modified.
        mask: (1, W, H); 0 is background. Not modified.
        narrowings: each gets a circle as wide as the reference beside it, and its percentage.
        title: text of the line under the picture.
    Returns:
        (H', W', 3) uint8 RGB, upright; H and W enlarged by a whole factor until the shorter one is 1024 px or more, as
        far as the longer one stays within 4096, with a strip for the title and "research use only" below the frame.
    Raises:
        ValueError: if the two are not (1, W, H) of one size.
    """
    grey, (vessel,) = _upright(frame, mask)
    picture, scale = _canvas(grey)
    for line in find_contours(np.pad(vessel, 1).astype(float), 0.5):
        _draw(picture, line - 1, np.zeros(len(line), int), (OUTLINE,), scale)
    for narrowing in narrowings:
        _draw_narrowing(picture, narrowing, scale)
    return np.concatenate([picture, _strip(picture.shape[1], title)])


def draw_comparison(frame: Array, mask: Array, reference: Array, *, title: str = "") -> np.ndarray:
    """A frame with the outlines of a predicted and a reference mask: where they agree, what is missed, what is false.

    The predicted outline is drawn as agreement where it runs within 2 px of the reference mask or in it, else as
    false; of the reference's outline only what is farther than that from the predicted mask is drawn, as missed.

    Args:
        frame: (1, W, H) grey values of any range, first spatial axis along the columns. Not modified.
        mask: (1, W, H) prediction; 0 is background. Not modified.
        reference: (1, W, H); 0 is background. Not modified.
        title: text of the line under the picture, beside the legend.
    Returns:
        (H', W', 3) uint8 RGB, upright, as `draw_outline`, with a legend in the strip below the frame.
    Raises:
        ValueError: if the three are not (1, W, H) of one size.
    """
    grey, (predicted, truth) = _upright(frame, mask, reference)
    picture, scale = _canvas(grey)
    for of, to, colours in ((truth, predicted, (None, MISSED)), (predicted, truth, (AGREEMENT, FALSE))):
        far = _is_far(to)
        for line in find_contours(np.pad(of, 1).astype(float), 0.5):
            rows, columns = np.rint(line - 1).astype(int).T
            kinds = far[rows.clip(0, of.shape[0] - 1), columns.clip(0, of.shape[1] - 1)]
            _draw(picture, line - 1, kinds, colours, scale)
    legend = (("false", FALSE), ("missed", MISSED), ("agreement", AGREEMENT))
    return np.concatenate([picture, _strip(picture.shape[1], title, legend)])


def write_picture(picture: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write an (H, W, 3) uint8 RGB picture as PNG."""
    # level 3 halves the size of OpenCV's default for grey pictures in colour, in the same time
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3]
    _, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    with atomic_path(path) as temporary:  # cv2.imwrite leaves an empty file on a full disk, and says nothing
        temporary.write_bytes(content.tobytes())


def _upright(frame: Array, *masks: Array) -> tuple[np.ndarray, list[np.ndarray]]:
    arrays = [np.asarray(array) for array in (frame, *masks)]
    if any(array.ndim != 3 or array.shape[0] != 1 or array.shape != arrays[0].shape for array in arrays):
        raise ValueError(f"frame and masks must be (1, W, H) of one size, got {[array.shape for array in arrays]}")
    return arrays[0][0].T.astype(np.float32), [array[0].T > 0 for array in arrays[1:]]


def _canvas(grey: np.ndarray) -> tuple[np.ndarray, int]:
    """The frame in its own grey scale (0.5th to 99.5th percentile), enlarged, and by which factor."""
    low, high = np.percentile(grey, [0.5, 99.5])
    eight_bit = np.clip((grey - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    scale = max(1, min(-(-SHORTEST_SIDE_PX // min(grey.shape)), LONGEST_SIDE_PX // max(grey.shape)))
    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    return cv2.cvtColor(cv2.resize(eight_bit, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB), scale


def _is_far(mask: np.ndarray) -> np.ndarray:
    """(H, W) of 0 and 1: 1 where a pixel is farther than the tolerance from the mask."""
    return 1 - cv2.dilate(mask.astype(np.uint8), disk(TOLERANCE_PX))


def _draw(
    picture: np.ndarray,
    line: np.ndarray,
    kinds: np.ndarray,
    colours: tuple[tuple[int, int, int] | None, ...],
    scale: int,
) -> None:
    """Draw a contour (row, column; pixel centres on whole numbers) in stretches of one kind."""
    points = ((line[:, ::-1] + 0.5) * scale - 0.5) * 2**_SUBPIXEL_BITS
    points = np.rint(points).astype(np.int32)
    changes = np.flatnonzero(np.diff(kinds)) + 1
    for start, stop in zip([0, *changes], [*changes, len(points)], strict=True):
        colour = colours[kinds[start]]
        if colour is not None:
            stretch = points[start : stop + 1].reshape(-1, 1, 2)
            cv2.polylines(picture, [stretch], False, colour, 1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_narrowing(picture: np.ndarray, narrowing: Narrowing, scale: int) -> None:
    column, row = (round((value + 0.5) * scale) for value in (narrowing.column, narrowing.row))
    radius = max(round(0.75 * narrowing.reference_px * scale), 8)
    text = f"{narrowing.percent:.0f}%"
    width = cv2.getTextSize(text, FONT, 0.55, 1)[0][0]
    beside = column + radius + 6
    x = beside if beside + width < picture.shape[1] else column - radius - 6 - width
    for colour, wider in (((0, 0, 0), 2), (NARROWING, 0)):  # a dark rim, to be read on bright ground
        cv2.circle(picture, (column, row), radius, colour, 2 + wider, cv2.LINE_AA)
        cv2.putText(picture, text, (x, row + 6), FONT, 0.55, colour, 1 + wider, cv2.LINE_AA)


def _strip(width: int, title: str, legend: Sequence[tuple[str, tuple[int, int, int]]] = ()) -> np.ndarray:
    strip = np.full((34, width, 3), 24, np.uint8)
    size, baseline, ink = 0.55, 22, (230, 230, 230)
    x = width - cv2.getTextSize(RESEARCH_USE, FONT, size, 1)[0][0] - 12
    cv2.putText(strip, RESEARCH_USE, (x, baseline), FONT, size, ink, 1, cv2.LINE_AA)
    for name, colour in legend:
        x -= cv2.getTextSize(name, FONT, size, 1)[0][0] + 52
        cv2.line(strip, (x, baseline - 5), (x + 26, baseline - 5), colour, 2, cv2.LINE_AA)
        cv2.putText(strip, name, (x + 34, baseline), FONT, size, ink, 1, cv2.LINE_AA)
    title = title.encode("utf-8", "replace").decode()  # OpenCV ends the process at a file name that is no text
    while title and cv2.getTextSize(title, FONT, size, 1)[0][0] > x - 36:
        title = title[:-1]
    cv2.putText(strip, title, (12, baseline), FONT, size, ink, 1, cv2.LINE_AA)
    return strip

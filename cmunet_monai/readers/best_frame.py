"""Which frame of a cine run: the one in which most of the coronary tree is filled, or one to measure in.

Vessels are dark lines, but so are catheters, wires, ribs and the edge of the diaphragm. These are there before contrast
agent is, so that what counts is the lines that arrive with it: in each frame, the lines that no frame at the run's
start has within a few pixels of them, which is as far as heart and breath move what was there before.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.atomic import atomic_path

WORKING_SIDE_PX = 128
"""Longer side of the copies that are looked at; widths and distances below are in their pixels."""
LINE_WIDTH_PX = 9
MOVEMENT_PX = 3
QUIET_SHARE = 1 / 8
MIN_FRAMES = 8
MIN_NEW_AREA = 0.01
NEW_STRENGTH = 1.25
"""How much stronger than the lines before a line must be to be new: while exposure settles, old ones grow stronger."""
MIN_NEW_LENGTH = 0.2
FILLED_SHARE = 0.8


@dataclass(frozen=True)
class FillingCurve:
    """How a run fills, frame by frame.

    Attributes:
        filling: (F,) share of the picture that is covered by lines which arrived with the contrast agent.
        motion: (F,) mean change of all lines to the frames before and after, as a share of all lines.
        filled: (F,) whether the tree is filled: at least 80% of the fullest frame's lines, if those cover at least 1%
            of the picture, in one piece a fifth of its side, and more than the lines that vanish (those that only
            move do both). In other runs it is so in no frame.
    """

    filling: NDArray[np.float32]
    motion: NDArray[np.float32]
    filled: NDArray[np.bool_]


def filling_curve(frames: Iterable[NDArray[np.floating]]) -> FillingCurve:
    """Measure the filling of a run.

    Grey levels may have any scale and offset, also one that changes from frame to frame (automatic exposure). The run
    must show the state before the contrast agent in its first eighth, or else after it in the last: a run that does
    not, and one of fewer than 8 frames, are never `filled`, since nothing tells a vessel from a wire there.
    Known limits: where the table is moved far, ribs and wires become new lines too; injections into the aorta or a
    ventricle are not thought of.

    Args:
        frames: (row, column) each, contrast dark, all of one size; read once, one at a time.
    Raises:
        ValueError: without a frame, or if frames differ in size or hold values that are not finite.
    """
    lines = [_dark_lines(frame) for frame in frames]
    if not lines:
        raise ValueError("`frames` is empty: a run has at least one frame")
    if len({line.shape for line in lines}) > 1:
        raise ValueError(f"`frames` must be of one size, got copies of {sorted({line.shape for line in lines})}")
    stack = np.stack(lines)
    count = len(stack)
    if count < MIN_FRAMES:
        nothing = np.zeros(count, np.float32)
        return FillingCurve(nothing, _motion(stack), nothing > 0)
    shown = np.flatnonzero(stack.any(axis=(1, 2)))  # a blank frame says nothing of what was there before
    quiet = max(3, round(QUIET_SHARE * count))
    filling, filled = _filling(stack, shown[:quiet])
    if not filled.any():
        filling, filled = _filling(stack, shown[-quiet:])
    return FillingCurve(filling, _motion(stack), filled)


def fullest_frame(curve: FillingCurve) -> int | None:
    """The frame with most of the tree filled; None if the run shows no filled coronary tree."""
    return int(np.argmax(curve.filling)) if curve.filled.any() else None


def early_frame(curve: FillingCurve) -> int | None:
    """The frame on the way to the fullest in which about half as much is filled; None if the run has none."""
    fullest = fullest_frame(curve)
    return None if fullest is None else _half_filled(curve.filling, range(fullest, -1, -1))


def late_frame(curve: FillingCurve) -> int | None:
    """The frame after the filled ones in which about half as much is left; None if the run ends before."""
    fullest = fullest_frame(curve)
    if fullest is None:
        return None
    return _half_filled(curve.filling, range(int(np.flatnonzero(curve.filled)[-1]), len(curve.filling)))


def measure_frame(curve: FillingCurve, *, r_wave_frames: Sequence[int] | None = None) -> int | None:
    """A frame to measure diameters in: filled, and the heart still.

    Args:
        curve: of the run.
        r_wave_frames: frames at R waves, from 0. The frame before one of them is end-diastolic; of those that are
            filled, the fullest is taken.
    Returns:
        Where no R wave is known, or none follows a filled frame: the filled frame with the least motion. None if the
        run shows no filled coronary tree.
    """
    filled = np.flatnonzero(curve.filled)
    if not len(filled):
        return None
    end_diastolic = [wave - 1 for wave in r_wave_frames or () if wave - 1 in filled]
    if end_diastolic:
        return int(max(end_diastolic, key=lambda index: curve.filling[index]))
    return int(filled[np.argmin(curve.motion[filled])])


def draw_curve(
    curve: FillingCurve, path: str | os.PathLike[str], *, r_wave_frames: Sequence[int] | None = None
) -> None:
    """Write the curve as a PNG, with the chosen frames marked."""
    from matplotlib.figure import Figure  # a third of a second, which the processes of an ingestion do without

    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * curve.filling, color="#000000", linewidth=1.2)
    chosen = {
        "early": early_frame(curve),
        "fullest": fullest_frame(curve),
        "measure": measure_frame(curve, r_wave_frames=r_wave_frames),
        "late": late_frame(curve),
    }
    looks = {
        "early": ("#56b4e9", "^"),
        "fullest": ("#d55e00", "o"),
        "measure": ("#009e73", "s"),
        "late": ("#cc79a7", "v"),
    }
    for name, index in chosen.items():
        if index is not None:
            colour, marker = looks[name]
            axes.plot(index, 100 * curve.filling[index], marker, color=colour, label=f"{name}: {index}", markersize=7)
    for wave in r_wave_frames or ():
        axes.axvline(wave, color="#999999", linewidth=0.6, linestyle=":")
    axes.set(
        xlabel="frame", ylabel="new lines (% of picture)", xlim=(0, max(len(curve.filling) - 1, 1)), ylim=(0, None)
    )
    if curve.filled.any():
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.set_title("no filled coronary tree", fontsize=9)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110)


def _dark_lines(frame: NDArray[np.floating]) -> NDArray[np.float32]:
    """How much darker than its surroundings each pixel of a small copy is, in standard deviations of the copy."""
    scale = min(1.0, WORKING_SIDE_PX / max(frame.shape))
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    small: np.ndarray = np.asarray(frame, np.float32)
    while all(side % 2 == 0 and side >= 4 * goal for side, goal in zip(small.shape, size[::-1], strict=True)):
        small = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # twice as fast as one step
    small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    if not np.isfinite(small).all():  # every value is part of a mean, so that the copy tells
        raise ValueError("`frames` hold values that are not finite (NaN or infinity)")
    smooth = cv2.GaussianBlur(small, (0, 0), 0.8)
    width = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (LINE_WIDTH_PX, LINE_WIDTH_PX))
    lines = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, width) - smooth
    spread = float(small.std())
    # a frame of one grey level, but for rounding, has no lines
    return lines / spread if spread > 1e-6 * float(np.abs(small).max()) else np.zeros_like(lines)


def _filling(lines: NDArray[np.float32], quiet: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Filling and filled of every frame, by what is new against the quiet frames."""
    if not len(quiet):
        return np.zeros(len(lines), np.float32), np.zeros(len(lines), bool)
    noise = _noise(lines)
    new = _new_lines(lines, lines[quiet].max(axis=0), noise)
    area = np.array([np.count_nonzero(plane) for plane in new], np.float32) / new[0].size
    filling = _median_of_three(area)
    fullest = int(np.argmax(filling))
    filled = filling >= FILLED_SHARE * filling[fullest]
    has_tree = (
        filling[fullest] >= MIN_NEW_AREA
        and max(_largest_extent(plane) for plane in new[max(fullest - 1, 0) : fullest + 2]) >= MIN_NEW_LENGTH
        and _net_area(lines[filling >= MIN_NEW_AREA], lines[quiet], noise) >= MIN_NEW_AREA
    )
    return filling, filled & has_tree


def _net_area(later: NDArray[np.float32], quiet: NDArray[np.float32], noise: float) -> float:
    """The largest area of new lines less that of vanished ones in a later frame, against the median quiet frame.

    What only moves, as everything does with the table, is new in one place and has vanished in another.
    """
    net = [
        [
            np.count_nonzero(_new_lines(line, before, noise)) - np.count_nonzero(_new_lines(before, line, noise))
            for line in _spread_out(later, 8)
        ]
        for before in _spread_out(quiet, 3)
    ]
    return float(np.median(net, axis=0).max()) / quiet[0].size


def _spread_out(frames: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """At most `number` of the frames, from the first to the last."""
    return frames[np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)]


def _new_lines(lines: NDArray[np.float32], before: NDArray[np.float32], noise: float) -> NDArray[np.bool_]:
    """(..., h, w): where lines are stronger than any line of `before` (h, w) nearby, by more than noise."""
    reach = 2 * MOVEMENT_PX + 1
    nearby = cv2.dilate(before, np.ones((reach, reach), np.uint8))
    return lines > NEW_STRENGTH * nearby + 2 * noise + 1e-6


def _noise(lines: NDArray[np.float32]) -> float:
    """Standard deviation of the lines from frame to frame, at most places."""
    changes = np.abs(np.diff(lines[:, ::3, ::3], axis=0))  # every ninth pixel is enough for a median
    changes = changes[changes > 0]  # not the corners, which are black in every frame
    # of a normal difference of two: median = 0.6745 * sqrt(2) standard deviations
    return float(np.median(changes)) / (0.6745 * 2**0.5) if changes.size else 0.0


def _largest_extent(new: NDArray[np.bool_]) -> float:
    _, _, boxes, _ = cv2.connectedComponentsWithStats(new.astype(np.uint8), connectivity=8)
    sides = boxes[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    return float(sides.max()) / max(new.shape) if len(sides) else 0.0


def _motion(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    steps = np.abs(np.diff(lines, axis=0)).mean(axis=(1, 2)) / max(float(lines.mean()), 1e-12)
    around = np.stack([np.append(steps, np.nan), np.insert(steps, 0, np.nan)])
    return np.nan_to_num(np.nanmean(around, axis=0) if len(lines) > 1 else np.zeros(1)).astype(np.float32)


def _median_of_three(values: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0).astype(np.float32)


def _half_filled(filling: NDArray[np.float32], way: range) -> int | None:
    """On the way from a filled frame: of the two frames on both sides of half the fullest's filling, the nearer."""
    half = filling.max() / 2
    for before, after in pairwise(way):
        if filling[after] <= half:
            return min(before, after, key=lambda index: abs(float(filling[index]) - half))
    return None

"""Which frame of a cine run: the one in which most of the coronary tree is filled, or one to measure in.

Vessels are dark lines, but so are catheters, wires, ribs and the edge of the diaphragm. These are there before contrast
agent is, so that what counts is the lines that arrive with it: in each frame, the lines that no frame at the run's
start has within a few pixels of them, which is as far as heart and breath move what was there before.

Where nothing arrives (a static phantom, a run that begins after the injection and ends before the agent is gone, a run
of a few frames), the picture itself must tell: arteries fork, catheters, wires and ribs hardly do.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.files.atomic import atomic_path

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
STANDING_STRENGTH = 0.25
"""How dark a line must be, in standard deviations of the picture, to be part of a tree that stands."""
FORK_ARMS = 3
FORK_ARM_PX = WORKING_SIDE_PX // 16


@dataclass(frozen=True)
class FillingCurve:
    """How a run fills, frame by frame.

    Attributes:
        filling: (F,) share of the picture that is covered by lines which arrived with the contrast agent; where none
            arrives, by those of the largest piece that forks.
        motion: (F,) mean change of all lines to the frames before and after, as a share of all lines.
        filled: (F,) whether the tree is filled: at least 80% of the fullest frame's lines, if those cover at least 1%
            of the picture, in one piece a fifth of its side, and more than the lines that vanish (those that only
            move do both). In a run where nothing arrives: the lines fork, as they do in at least half of the frames,
            and are at least 80% of those of the frame with most. In other runs it is so in no frame.
        whole: (F,) False for damaged frames, which were not seen: never filled, the rest held from their neighbours.
    """

    filling: NDArray[np.float32]
    filled: NDArray[np.bool_]
    motion: NDArray[np.float32]
    whole: NDArray[np.bool_]


def filling_curve(frames: Iterable[NDArray[np.floating] | None]) -> FillingCurve:
    """Measure the filling of a run.

    Grey levels may have any scale and offset, also one that changes from frame to frame (automatic exposure). The
    arrival of the contrast agent can be detected if the first eighth of the run shows the state before it, or the last
    eighth the state after it. In
    other runs, and in those of fewer than 8 frames, the dark lines that stand in the picture are judged by their forks.
    Known limits: of trees that stand, those of few or faint branches are missed (in 8 of 12 synthetic runs and 64 of 80
    public frames a tree was found, in 24 synthetic runs without agent none); where the table is moved far, ribs and
    wires become new lines too; injections into the aorta or a ventricle are not thought of.

    Args:
        frames: (row, column) each, contrast dark, all of one size; read once, one at a time. None is a damaged frame.
    Raises:
        ValueError: without a frame, or if frames differ in size or hold values that are not finite.
    """
    found = [None if frame is None else _dark_lines(frame) for frame in frames]
    lines = [plane for plane in found if plane is not None]
    if not lines:
        raise ValueError("`frames` must contain at least one undamaged frame")
    if len({line.shape for line in lines}) > 1:
        raise ValueError(
            f"`frames` must all have the same size, got {sorted({line.shape for line in lines})} after reduction"
        )
    whole = np.array([plane is not None for plane in found])
    curve = _curve(np.stack(lines))
    return curve if whole.all() else _among_damaged(curve, whole)


def _curve(stack: NDArray[np.float32]) -> FillingCurve:
    count = len(stack)
    whole = np.ones(count, bool)
    if count < MIN_FRAMES:
        return FillingCurve(*_standing(stack), motion=_motion(stack), whole=whole)
    shown = np.flatnonzero(stack.any(axis=(1, 2)))  # a blank frame says nothing of what was there before
    quiet = max(3, round(QUIET_SHARE * count))
    filling, filled = _filling(stack, shown[:quiet])
    if not filled.any():
        late_filling, filled = _filling(stack, shown[-quiet:])
        filling = late_filling if filled.any() else filling
    if not filled.any():
        standing, filled = _standing(stack)
        filling = standing if filled.any() else filling
    return FillingCurve(filling, filled, motion=_motion(stack), whole=whole)


def _among_damaged(curve: FillingCurve, whole: NDArray[np.bool_]) -> FillingCurve:
    """The curve of the whole frames, in the numbers of all frames."""
    numbers = np.flatnonzero(whole)
    nearest = np.abs(np.arange(len(whole))[:, None] - numbers).argmin(axis=1)
    return FillingCurve(
        curve.filling[nearest], curve.filled[nearest] & whole, motion=curve.motion[nearest], whole=whole
    )


def fullest_frame(curve: FillingCurve) -> int | None:
    """The frame with most of the tree filled; None if the run shows no filled coronary tree."""
    return int(np.argmax(np.where(curve.filled, curve.filling, -1))) if curve.filled.any() else None


def early_frame(curve: FillingCurve) -> int | None:
    """The frame on the way to the fullest in which about half as much is filled; None if the run has none."""
    fullest = fullest_frame(curve)
    return None if fullest is None else _half_filled(curve, range(fullest, -1, -1))


def late_frame(curve: FillingCurve) -> int | None:
    """The frame after the filled ones in which about half as much is left; None if the run ends before."""
    fullest = fullest_frame(curve)
    if fullest is None:
        return None
    return _half_filled(curve, range(int(np.flatnonzero(curve.filled)[-1]), len(curve.filling)))


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


def _standing(lines: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Filling and filled of every frame, by the lines of its own that fork."""
    area = np.array([_forked_area(plane) for plane in lines], np.float32)
    filled = (area > 0) & (area >= FILLED_SHARE * area.max())
    return area, filled & (np.count_nonzero(area) >= len(area) / 2)


def _forked_area(lines: NDArray[np.float32]) -> float:
    """Share of the picture that is covered by the largest piece of lines with three arms or more; 0 without one."""
    from skimage.morphology import skeletonize

    dark = (lines > STANDING_STRENGTH).astype(np.uint8)
    dark[:2] = dark[-2:] = dark[:, :2] = dark[:, -2:] = 0  # edges of the picture, which may be a single line
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    for piece in 1 + np.argsort(-boxes[1:, cv2.CC_STAT_AREA])[:4]:
        long = boxes[piece, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max() >= MIN_NEW_LENGTH * max(lines.shape)
        if long and _arms(skeletonize(pieces == piece)) >= FORK_ARMS:
            return float(boxes[piece, cv2.CC_STAT_AREA]) / lines.size
    return 0.0


def _arms(skeleton: NDArray[np.bool_]) -> int:
    """How many lines of some length are left of a skeleton without its branch points; without one, it has none."""
    thin = skeleton.astype(np.uint8)
    neighbours = cv2.filter2D(thin, -1, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT) - thin
    branch_points = ((neighbours >= 3) & skeleton).astype(np.uint8)
    left = np.where(cv2.dilate(branch_points, np.ones((3, 3), np.uint8)) > 0, 0, thin)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(left.astype(np.uint8), connectivity=8)
    return int(np.count_nonzero(boxes[1:, cv2.CC_STAT_AREA] >= FORK_ARM_PX))


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


def _half_filled(curve: FillingCurve, way: range) -> int | None:
    """On the way from a filled frame: of the two frames on both sides of half the fullest's filling, the nearer."""
    half = curve.filling.max() / 2
    for before, after in pairwise(number for number in way if curve.whole[number]):
        if curve.filling[after] <= half:
            return min(before, after, key=lambda index: abs(float(curve.filling[index]) - half))
    return None

"""Diameter profiles: from wall to wall across a centreline, to a fraction of a pixel.

A wall is where the probability falls to 0.5 along the normal of the centreline, between pixels by linear interpolation.
There is no value (NaN) in the widest disc about a branch point or a crossing, where the walls are those of several
vessels, within one radius of a free end, where a rounded tip would be measured, where the normal leaves the image
before a wall, and where a wall is farther than twice the radius of the vessel there: that is a side branch's mouth.

There is also no value where the walls are closer together than the resolution, because such a value is not meaningful.
A segment's least diameter is the least median of five neighbouring points, about 4 px of the way, so that a
crack in the map does not make it; where that is below the resolution, it is undefined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.distance import cdist

from cmunet_monai.measurements.centreline import Centreline, CentrelineGraph, Points, path_length_px

EndKind = Literal["branch", "crossing", "end", "border", "loop", "point"]

WALL_LEVEL = 0.5
# Of the smoothing that turns a binary mask's steps into slopes. It takes 0.01 px from a vessel of 3 px, 0.2 px from one
# of 2 px; with more, vessels of 3 px would suffer.
MASK_SIGMA_PX = 1.0
STEP_PX = 0.5
RESOLUTION_PX = 1.0
_MEDIAN_POINTS = 5
REACH_RADII, REACH_PX = 2.0, 2.0


@dataclass(frozen=True, eq=False)
class Segment:
    """One piece of a vessel between two nodes of the centreline graph, and its diameter at every point.

    Attributes:
        number: from 1; the longest segment first.
        points: (N, 2) row and column, about 1 px apart; 0 is the first pixel's centre.
        diameter_px: (N,) distance between the walls, NaN where there is none (see the module).
        walls: (N, 2, 2) row and column of both walls, NaN likewise.
        clear: (N,) bool: more than one local diameter from every branch, crossing, end and border, those of other
            segments included.
        starts_at, ends_at: "branch", "crossing", "end" (the vessel ends), "border" (it leaves the image), "loop" (a
            closed ring's seam) or "point" (chosen by the user).
        spacing_mm: size of a pixel, or None.
        unresolved: (N,) bool: the walls are nearer to each other than the resolution; there is no diameter.
        resolution_px: the least distance of walls that can be told apart.
    """

    number: int
    points: Points
    diameter_px: NDArray[np.float64]
    walls: NDArray[np.float64]
    clear: NDArray[np.bool_]
    starts_at: EndKind
    ends_at: EndKind
    spacing_mm: float | None
    unresolved: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    resolution_px: float = RESOLUTION_PX

    @property
    def distance_px(self) -> NDArray[np.float64]:
        """(N,) way along the centreline from the first point."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @property
    def length_px(self) -> float:
        return path_length_px(self.points)

    @property
    def mean_diameter_px(self) -> float:
        """Mean over the points that have a diameter; NaN where none has."""
        return float(np.nanmean(self.diameter_px)) if self._is_measured else float("nan")

    @property
    def minimum_diameter_px(self) -> float:
        """The least median of five neighbouring points; NaN where no point has one, or it is below the resolution."""
        if not self._is_measured:
            return float("nan")
        widths = self.diameter_px.copy()
        widths[np.flatnonzero(self.unresolved)] = 0.0
        side = _MEDIAN_POINTS // 2
        around = sliding_window_view(np.pad(widths, side, constant_values=np.nan), _MEDIAN_POINTS)
        least = float(np.nanmedian(around[~np.isnan(widths)], axis=1).min())
        return least if least >= self.resolution_px else float("nan")

    @property
    def diameter_note(self) -> str | None:
        """Why a diameter is undefined; None where both are defined."""
        if not np.isnan(self.minimum_diameter_px):
            return None
        if self.unresolved.any():
            count = int(self.unresolved.sum())
            return f"{count} of {len(self.points)} points are below the resolution of {self.resolution_px:g} px"
        return "no point has a wall on both sides, clear of branches and ends"

    @property
    def length_mm(self) -> float | None:
        return in_mm(self.length_px, self.spacing_mm)

    @property
    def mean_diameter_mm(self) -> float | None:
        return in_mm(self.mean_diameter_px, self.spacing_mm)

    @property
    def minimum_diameter_mm(self) -> float | None:
        return in_mm(self.minimum_diameter_px, self.spacing_mm)

    @property
    def _is_measured(self) -> bool:
        return not bool(np.isnan(self.diameter_px).all())


def in_mm(value_px: float, spacing_mm: float | None) -> float | None:
    """A length in mm, or None where the size of a pixel is not known."""
    return None if spacing_mm is None else value_px * spacing_mm


def level_map(probability: NDArray[np.float32], vessel: NDArray[np.bool_], *, binary: bool) -> NDArray[np.float32]:
    """The (H, W) map whose 0.5 contour is the vessel wall.

    Args:
        probability: (H, W) in 0 to 1. Not modified.
        vessel: (H, W) bool, the same without flaws.
        binary: `probability` holds only 0 and 1: then the map is `vessel`, smoothed slightly.
    """
    if binary:
        steps = vessel.astype(np.float32)
        return np.asarray(cv2.GaussianBlur(steps, (0, 0), MASK_SIGMA_PX, borderType=cv2.BORDER_REPLICATE))
    return np.where(vessel & (probability < WALL_LEVEL), np.float32(1.0), probability)


def measure_segments(
    levels: NDArray[np.float32],
    graph: CentrelineGraph,
    lines: Sequence[Centreline] | None = None,
    *,
    spacing_mm: float | None = None,
    resolution_px: float = RESOLUTION_PX,
) -> tuple[Segment, ...]:
    """The diameter profiles along centrelines.

    Args:
        levels: (H, W) whose 0.5 contour is the wall. Not modified.
        graph: all centrelines.
        lines: those to measure, or ways along them; None: all.
        spacing_mm: size of a pixel, or None.
        resolution_px: walls that are nearer to each other give no diameter.
    """
    lines = graph.lines if lines is None else lines
    if not lines:
        return ()
    normals = np.concatenate([_normals(line.points) for line in lines])
    points = np.concatenate([line.points for line in lines])
    reach_px = REACH_RADII * np.concatenate([line.radius_px for line in lines]) + REACH_PX
    directions = np.stack([normals, -normals], axis=1)
    ways = _way_to_wall(
        levels, np.repeat(points, 2, axis=0), directions.reshape(-1, 2), np.repeat(reach_px, 2)
    ).reshape(-1, 2)

    places = np.array([(node.row, node.column) for node in graph.nodes]).reshape(-1, 2)
    radii_px = np.array([node.radius_px for node in graph.nodes])
    # how far each point is from the nearest node, in that node's radii
    away = (cdist(points, places) / np.maximum(radii_px, 1e-9)).min(axis=1, initial=np.inf)
    ways[(away < 1) | np.isnan(ways).any(axis=1)] = np.nan
    unresolved = ways.sum(axis=1) < resolution_px  # false for NaN
    ways[unresolved] = np.nan
    walls = points[:, None] + ways[..., None] * directions
    diameter_px = ways.sum(axis=1)

    segments, start = [], 0
    for number, line in enumerate(lines, 1):
        own = slice(start, start + len(line.points))
        start = own.stop
        kinds = (_end_kind(graph, line, line.start), _end_kind(graph, line, line.end))
        segments.append(
            Segment(
                number,
                line.points,
                diameter_px[own],
                walls[own],
                away[own] > 2,
                *kinds,
                spacing_mm,
                unresolved[own],
                resolution_px,
            )
        )
    return tuple(segments)


def _end_kind(graph: CentrelineGraph, line: Centreline, node: int | None) -> EndKind:
    if node is not None:
        return graph.nodes[node].kind
    return "loop" if (line.points[0] == line.points[-1]).all() else "point"


def _normals(points: Points) -> Points:
    """(N, 2) unit vectors across the line."""
    if (points[0] == points[-1]).all():  # the seam of a ring has neighbours on both sides
        along = np.gradient(np.concatenate([points[-2:-1], points, points[1:2]]), axis=0)[1:-1]
    else:
        along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)


def _way_to_wall(
    levels: NDArray[np.float32], points: Points, directions: Points, reach_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) distance from each point to where `levels` first falls below 0.5; NaN where it does not within reach."""
    found = np.full(len(points), np.nan)
    last = np.array(levels.shape) - 1
    before = _sample(levels, points)
    going = np.flatnonzero(before >= WALL_LEVEL)
    before = before[going]
    way_px = 0.0
    while len(going):
        way_px += STEP_PX
        places = points[going] + way_px * directions[going]
        inside = ((places >= 0) & (places <= last)).all(axis=1) & (way_px <= reach_px[going])
        going, places, before = going[inside], places[inside], before[inside]
        here = _sample(levels, places)
        out = here < WALL_LEVEL
        found[going[out]] = way_px - STEP_PX * (WALL_LEVEL - here[out]) / (before[out] - here[out])
        going, before = going[~out], here[~out]
    return found


def _sample(levels: NDArray[np.float32], places: Points) -> NDArray[np.float64]:
    return map_coordinates(levels, places.T, output=np.float64, order=1, mode="nearest")

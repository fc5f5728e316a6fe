"""Measure all arteries of a frame, and return the results as rows. This is the entry point of the package.

Every length is that of a shadow in one projection. It is blind to an artery that is occluded or not filled, takes two
vessels that overlap for one that is wide, and sees a vessel that runs along the beam shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmunet_monai.measurements.centreline import path_between, trace_centrelines, without_flaws
from cmunet_monai.measurements.diameter import RESOLUTION_PX, WALL_LEVEL, Segment, level_map, measure_segments
from cmunet_monai.measurements.stenosis import Narrowing, find_narrowings

Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Measurements:
    """What was measured on one frame.

    Attributes:
        segments: the longest first; with `between`, the one way between the two points.
        narrowings: candidates, segment by segment, the severest first in each; empty unless asked for.
        spacing_mm: size of a pixel, or None: then every `_mm` is None.
    """

    segments: tuple[Segment, ...]
    narrowings: tuple[Narrowing, ...]
    spacing_mm: float | None


def measure_arteries(
    probability: NDArray[Any],
    *,
    mask: NDArray[np.bool_] | None = None,
    spacing_mm: float | None = None,
    narrowings: bool = False,
    between: Sequence[Sequence[float]] | None = None,
    resolution_px: float = RESOLUTION_PX,
) -> Measurements:
    """Segments of the arteries between branch points, with their diameters, from a probability map or a mask.

    Give probabilities where there are any, at the frame's own resolution: their 0.5 contour lies between the pixels. An
    array of only 0 and 1 is taken for a mask; its cracks of up to 2 px are closed, and it is smoothed slightly, so that
    vessels of less than 1.4 px have no diameter. Small holes (20 px) are filled in both.

    Args:
        probability: (H, W) float in 0 to 1, bool or 0/1, row 0 at the top. Not modified.
        mask: (H, W) bool, what counts as vessel; None: probability of 0.5 or more. Not modified.
        spacing_mm: size of a pixel at the patient; None leaves everything in pixels.
        narrowings: look for candidate narrowings of 30 percent or more; with `between`, for the severest, of any
            degree.
        between: two (row, column): measure only the way along the centrelines between the places nearest to them.
        resolution_px: smallest diameter that can be measured: one pixel of the array, or of the network's input where
            that is coarser. Smaller diameters are undefined.
    Returns:
        No segments where there is no vessel that is longer than wide: an empty mask, a single pixel, a full frame.
    Raises:
        ValueError: wrong shapes or values, NaN included; `between` too far (20 px) from a centreline, or at two places
            that no centreline connects.
    """
    levels, vessel, binary = _checked(probability, mask)
    if spacing_mm is not None and not (np.isfinite(spacing_mm) and spacing_mm > 0):
        raise ValueError(f"`spacing_mm` must be positive and finite, or None, got {spacing_mm}")
    whole = without_flaws(levels >= WALL_LEVEL, cracks=binary)
    graph = trace_centrelines(whole if vessel is None else without_flaws(vessel, cracks=binary))
    lines = graph.lines if between is None else (path_between(graph, *_checked_points(between)),)
    levels = level_map(levels, whole, binary=binary)
    segments = measure_segments(levels, graph, lines, spacing_mm=spacing_mm, resolution_px=resolution_px)
    found: tuple[Narrowing, ...] = ()
    if narrowings and between is not None:
        found = find_narrowings(segments[0], least_percent=0.0)[:1]
    elif narrowings:
        found = tuple(narrowing for segment in segments for narrowing in find_narrowings(segment))
    return Measurements(segments, found, spacing_mm)


def segment_rows(measurements: Measurements) -> list[Row]:
    """One row of scalars a segment, for a CSV or JSON file; None where a value is not known."""
    return [
        {
            "segment": segment.number,
            "starts_at": segment.starts_at,
            "ends_at": segment.ends_at,
            "start_row": float(segment.points[0, 0]),
            "start_column": float(segment.points[0, 1]),
            "end_row": float(segment.points[-1, 0]),
            "end_column": float(segment.points[-1, 1]),
            "length_px": segment.length_px,
            "mean_diameter_px": _number(segment.mean_diameter_px),
            "minimum_diameter_px": _number(segment.minimum_diameter_px),
            "length_mm": segment.length_mm,
            "mean_diameter_mm": _number(segment.mean_diameter_mm),
            "minimum_diameter_mm": _number(segment.minimum_diameter_mm),
            "spacing_mm": segment.spacing_mm,
            "diameter_note": segment.diameter_note,
        }
        for segment in measurements.segments
    ]


def profile_rows(measurements: Measurements) -> list[Row]:
    """One row of scalars a point of every segment; None where there is no diameter."""
    return [
        {
            "segment": segment.number,
            "row": float(row),
            "column": float(column),
            "distance_px": float(distance_px),
            "diameter_px": _number(float(diameter_px)),
            "diameter_mm": None if segment.spacing_mm is None else _number(float(diameter_px) * segment.spacing_mm),
            "clear": bool(clear),
        }
        for segment in measurements.segments
        for (row, column), distance_px, diameter_px, clear in zip(
            segment.points, segment.distance_px, segment.diameter_px, segment.clear, strict=True
        )
    ]


def narrowing_rows(measurements: Measurements) -> list[Row]:
    """One row of scalars a candidate narrowing."""
    return [
        {
            "segment": narrowing.segment,
            "row": narrowing.row,
            "column": narrowing.column,
            "length_px": narrowing.length_px,
            "minimum_px": narrowing.minimum_px,
            "reference_px": narrowing.reference_px,
            "length_mm": narrowing.length_mm,
            "minimum_mm": narrowing.minimum_mm,
            "reference_mm": narrowing.reference_mm,
            "percent": narrowing.percent,
        }
        for narrowing in measurements.narrowings
    ]


def _number(value: float | None) -> float | None:
    """None for NaN, which JSON does not know."""
    return None if value is None or np.isnan(value) else value


def _checked(
    probability: NDArray[Any], mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, bool]:
    """The probabilities as float32, the mask, and whether the probabilities are 0 and 1 alone."""
    given = np.asarray(probability)
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(f"`probability` must be (H, W), got {given.shape}")
    if given.dtype.kind not in "buif":
        raise ValueError(f"`probability` must hold numbers of 0 to 1, got {given.dtype}")
    if not ((given >= 0) & (given <= 1)).all():  # false for NaN
        raise ValueError(f"`probability` must be 0 to 1, got {given.min():g} to {given.max():g}")
    vessel = None if mask is None else np.asarray(mask)
    if vessel is not None and vessel.dtype != np.bool_:
        raise ValueError(f"`mask` must be bool, got {vessel.dtype}")
    if vessel is not None and vessel.shape != given.shape:
        raise ValueError(f"`mask` must have the shape of `probability`, {given.shape}, got {vessel.shape}")
    return given.astype(np.float32), vessel, bool(((given == 0) | (given == 1)).all())


def _checked_points(between: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    points = np.asarray(between, dtype=np.float64)
    if points.shape != (2, 2) or not np.isfinite(points).all():
        raise ValueError(f"`between` must be two (row, column), got {between}")
    return [(float(row), float(column)) for row, column in points]

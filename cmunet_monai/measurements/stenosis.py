"""Candidate narrowings of a vessel segment: where its diameter dips below the line from before to behind the place.

The reference at a narrowing is what the diameter would be there if the vessel tapered evenly: a straight line fitted to
the diameters within ten diameters of the place, so that three quarters of them lie below it. A fit through their middle
would be pulled down by the narrowing itself, which may take up half of a short segment.

A candidate is a place to look at, no diagnosis: one projection shows the width of a shadow. An eccentric narrowing may
look like none, overlap and foreshortening change diameters, and an occluded artery is no narrow segment but none at
all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from cmunet_monai.measurements.diameter import Segment, in_mm

MIN_REFERENCE_PX = 6.0
"""Below this an error of one pixel is more than 16 points: no percentage is given."""
LEAST_PERCENT = 30.0
"""The walls of hand-drawn masks waver by so much that below this most dips are theirs."""
# Dips this shallow are the pixel grid's.
_NOISE_PX = 0.5
_REFERENCE_QUANTILE = 0.75
_REFERENCE_DIAMETERS = 10.0
# The diameter must come back by this share of the loss on both sides: a step or a taper is no narrowing.
_RECOVERED_SHARE = 0.5
# What is shorter than this, at half its depth, is a crack between the pieces of a mask: narrowings are lengthy.
_LEAST_LENGTH_DIAMETERS = 0.5
_MIN_POINTS = 10


@dataclass(frozen=True, eq=False)
class Narrowing:
    """A candidate narrowing.

    Attributes:
        segment: the number of its segment.
        point: index of the narrowest place in the segment's points.
        row, column: the narrowest place; 0 is the first pixel's centre.
        walls: (2, 2) row and column of both walls there.
        length_px: of the stretch in which more than half of the loss remains.
        minimum_px: the diameter there.
        reference_px: the diameter that the vessel would have there.
        percent: diameter stenosis, 100 (1 - minimum / reference).
        spacing_mm: size of a pixel, or None.
    """

    segment: int
    point: int
    row: float
    column: float
    walls: NDArray[np.float64]
    length_px: float
    minimum_px: float
    reference_px: float
    percent: float
    spacing_mm: float | None

    @property
    def length_mm(self) -> float | None:
        return in_mm(self.length_px, self.spacing_mm)

    @property
    def minimum_mm(self) -> float | None:
        return in_mm(self.minimum_px, self.spacing_mm)

    @property
    def reference_mm(self) -> float | None:
        return in_mm(self.reference_px, self.spacing_mm)


def find_narrowings(segment: Segment, *, least_percent: float = LEAST_PERCENT) -> tuple[Narrowing, ...]:
    """Candidate narrowings of a segment, the severest first.

    What lies within one diameter of a branch, a crossing, an end or a border is left out.

    Args:
        segment: the segment with its profile.
        least_percent: narrowings below this are not listed.
    Returns:
        No candidate where the reference is below 6 px, where the diameter does not recover half of its loss on both
        sides (a step, a taper), or does so within less than half a reference diameter (a crack in a mask).
    Source: the interpolated reference of quantitative coronary angiography (Reiber et al. 1985), in one straight line.
    """
    usable = np.flatnonzero(segment.clear & ~np.isnan(segment.diameter_px))
    if len(usable) < _MIN_POINTS:
        return ()
    distance_px, diameter_px = segment.distance_px[usable], segment.diameter_px[usable]
    least_recovery_px = _RECOVERED_SHARE * max(least_percent / 100 * MIN_REFERENCE_PX, _NOISE_PX)
    found = []
    for place in find_peaks(-diameter_px, prominence=least_recovery_px)[0].tolist():
        minimum_px = float(diameter_px[place])
        reference_px = _reference_px(distance_px, diameter_px, place)
        if not reference_px >= MIN_REFERENCE_PX:  # NaN included
            continue
        percent = 100 * (1 - minimum_px / reference_px)
        if percent <= 0 or percent < least_percent:
            continue
        first, last = _stretch(diameter_px <= minimum_px + (1 - _RECOVERED_SHARE) * (reference_px - minimum_px), place)
        length_px = float(distance_px[last] - distance_px[first])
        if first == 0 or last == len(usable) - 1 or length_px < _LEAST_LENGTH_DIAMETERS * reference_px:
            continue
        if diameter_px[first : last + 1].min() < minimum_px:
            continue  # a deeper place belongs to the same narrowing
        point = int(usable[place])
        row, column = segment.points[point].tolist()
        walls = segment.walls[point].copy()
        found.append(
            Narrowing(
                segment.number,
                point,
                row,
                column,
                walls,
                length_px,
                minimum_px,
                reference_px,
                percent,
                segment.spacing_mm,
            )
        )
    return tuple(sorted(found, key=lambda narrowing: -narrowing.percent))


def _stretch(is_inside: NDArray[np.bool_], place: int) -> tuple[int, int]:
    """First and last index of the unbroken stretch of True about `place`."""
    outside = np.flatnonzero(~is_inside)
    after = int(np.searchsorted(outside, place))
    first = int(outside[after - 1]) + 1 if after > 0 else 0
    last = int(outside[after]) - 1 if after < len(outside) else len(is_inside) - 1
    return first, last


def _reference_px(distance_px: NDArray[np.float64], diameter_px: NDArray[np.float64], place: int) -> float:
    """The value at `place` of the line below which three quarters of the diameters nearby lie; NaN with too few."""
    along = distance_px - distance_px[place]
    near = np.abs(along) <= _REFERENCE_DIAMETERS * max(float(np.median(diameter_px)), MIN_REFERENCE_PX)
    along, values = along[near], diameter_px[near]
    if len(values) < _MIN_POINTS:
        return float("nan")
    weight, level = np.ones(len(values)), np.inf
    for _ in range(30):  # quantile regression by iteratively reweighted least squares
        before, share = level, weight / weight.sum()
        middle, mean = share @ along, share @ values
        spread = share * (along - middle)
        slope = (spread @ values) / (spread @ along)
        level = float(mean - slope * middle)
        if abs(level - before) < 0.01:
            break
        residual = values - level - slope * along
        side = np.where(residual > 0, _REFERENCE_QUANTILE, 1 - _REFERENCE_QUANTILE)
        weight = side / np.maximum(np.abs(residual), 0.05)
    return level

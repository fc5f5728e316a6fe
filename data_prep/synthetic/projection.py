"""The C-arm: from tubes in the patient to path lengths and masks on the detector.

A tube is a chain of balls, a quarter of a radius apart, so its surface is right within 1% of the radius. The path
length of a ray is that through the union of the balls: no point counts twice, neither at joints nor at bifurcations.
Each ball is seen under parallel rays at its own magnification (off by less than 0.5% of its radius in this field).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BALLS_PER_RADIUS = 4


@dataclass(frozen=True)
class CArmView:
    """Where the C-arm stands, and what the picture covers.

    Angles as in DICOM: `primary_deg` positive for LAO, `secondary_deg` positive for cranial. At 0, 0 the detector is in
    front of the patient, whose left side is at the right of the picture.
    """

    primary_deg: float
    secondary_deg: float
    field_mm: float
    """Width and height of the picture in the plane of the isocentre."""
    size: int
    """Width and height of the picture in pixels."""
    source_isocentre_mm: float | None = 750.0
    """None for parallel rays."""
    shift_mm: tuple[float, float] = (0.0, 0.0)
    """Table position: (right, up) of the isocentre in the picture."""

    @property
    def pixel_mm(self) -> float:
        """Pixel size in the plane of the isocentre."""
        return self.field_mm / self.size

    @property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3): rows are the unit vectors to the right and up in the picture, and from the source to the detector."""
        primary, secondary = np.deg2rad([self.primary_deg, self.secondary_deg])
        right = np.array([np.cos(primary), np.sin(primary), 0.0])
        beam = np.array([np.sin(primary) * np.cos(secondary), -np.cos(primary) * np.cos(secondary), np.sin(secondary)])
        return np.stack([right, np.cross(beam, right), beam])

    def project(self, points_mm: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, 3) points → (N, 2) pixel coordinates (column, row; 0 is the first pixel's centre) and (N,) magnification.

        Magnification is 1 in the plane of the isocentre, above it nearer to the source.
        """
        local = points_mm @ self.axes.T
        if self.source_isocentre_mm is None:
            magnification = np.ones(len(local))
        else:
            magnification = self.source_isocentre_mm / (self.source_isocentre_mm + local[:, 2])
        right = local[:, 0] * magnification + self.shift_mm[0]
        up = local[:, 1] * magnification + self.shift_mm[1]
        middle = (self.size - 1) / 2
        return np.stack([middle + right / self.pixel_mm, middle - up / self.pixel_mm], axis=1), magnification


@dataclass(frozen=True)
class Balls:
    """The balls that make up one or more tubes."""

    centre_mm: NDArray[np.float64]
    """(N, 3)."""
    radius_mm: NDArray[np.float64]
    """(N,)."""
    weight: NDArray[np.float64]
    """(N,) concentration of the contrast agent, 1 = undiluted."""

    @classmethod
    def join(cls, parts: "list[Balls]") -> "Balls":
        """All balls of several tubes."""
        return cls(
            np.concatenate([part.centre_mm for part in parts]),
            np.concatenate([part.radius_mm for part in parts]),
            np.concatenate([part.weight for part in parts]),
        )

    def where(self, keep: NDArray[np.bool_]) -> "Balls":
        """The balls that are marked in `keep`, (N,) bool."""
        return Balls(self.centre_mm[keep], self.radius_mm[keep], self.weight[keep])


def tube_balls(points_mm: NDArray[np.float64], radius_mm: NDArray[np.float64], weight: NDArray[np.float64]) -> Balls:
    """Fill a tube, given by its centreline (N, 3), radius (N,) and weight (N,), with balls a quarter radius apart."""
    steps = np.linalg.norm(np.diff(points_mm, axis=0), axis=1)
    radius_between = (radius_mm[:-1] + radius_mm[1:]) / 2
    place = np.concatenate([[0.0], np.cumsum(_BALLS_PER_RADIUS * steps / radius_between)])
    new = np.linspace(0, place[-1], int(np.ceil(place[-1])) + 1)
    centre = np.stack([np.interp(new, place, column) for column in points_mm.T], axis=1)
    return Balls(centre, np.interp(new, place, radius_mm), np.interp(new, place, weight))


def path_length_mm(balls: Balls, view: CArmView) -> NDArray[np.float32]:
    """(size, size) weighted path length of the ray through each pixel's centre in the union of the balls.

    Where balls of different weight overlap, the one nearer to the source counts.
    """
    pixel, ball, distance2 = _pixels_inside(balls, view)
    scale_mm = view.pixel_mm / view.project(balls.centre_mm)[1]
    radius2 = (balls.radius_mm / scale_mm) ** 2
    half = scale_mm[ball] * np.sqrt(np.maximum(radius2[ball] - distance2, 0))
    depth = (balls.centre_mm @ view.axes[2])[ball]
    first, last = depth - half, depth + half
    if len(pixel):
        # A pixel's intervals lie apart from all other pixels', so that one running maximum serves the whole picture.
        offset = pixel * (2.0 * (last.max() - first.min()))
        order = np.argsort(offset + first)
        pixel, ball = pixel[order], ball[order]
        first, last = (offset + first)[order], (offset + last)[order]
        covered = np.concatenate([[-np.inf], np.maximum.accumulate(last)[:-1]])
        new = np.maximum(last - np.maximum(first, covered), 0) * balls.weight[ball]
    else:
        new = np.zeros(0)
    total = np.bincount(pixel, weights=new, minlength=view.size**2)
    return total.reshape(view.size, view.size).astype(np.float32)


def lumen_mask(balls: Balls, view: CArmView) -> NDArray[np.bool_]:
    """(size, size) bool: is the pixel's centre inside the projected tubes?"""
    mask = np.zeros(view.size**2, dtype=bool)
    mask[_pixels_inside(balls, view)[0]] = True
    return mask.reshape(view.size, view.size)


def _pixels_inside(balls: Balls, view: CArmView) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of a pixel and a ball over its centre: flat pixel index, ball index, squared distance in pixels."""
    centre, magnification = view.project(balls.centre_mm)
    radius = balls.radius_mm * magnification / view.pixel_mm
    ball, row = _whole_numbers(centre[:, 1] - radius, centre[:, 1] + radius, view.size)
    down2 = (row - centre[ball, 1]) ** 2
    half = np.sqrt(np.maximum(radius[ball] ** 2 - down2, 0))
    middle = centre[ball, 0]
    span, column = _whole_numbers(middle - half, middle + half, view.size)
    distance2 = (column - middle[span]) ** 2 + down2[span]
    return row[span] * view.size + column, ball[span], distance2


def _whole_numbers(
    low: NDArray[np.float64], high: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every interval, all whole numbers in it from 0 to `size` - 1: (index of the interval, number)."""
    first = np.maximum(np.ceil(low), 0).astype(np.int64)
    count = np.maximum(np.minimum(np.floor(high), size - 1).astype(np.int64) - first + 1, 0)
    interval = np.repeat(np.arange(len(count)), count)
    return interval, np.arange(len(interval)) - (np.cumsum(count) - count - first)[interval]

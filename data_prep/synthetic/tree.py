"""A heart and the coronary arteries on it: branching, tapering, tortuous, sometimes narrowed.

Lengths are in millimetres, in DICOM's patient axes about the isocentre: x to the patient's left, y to the back, z to
the head.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Side = Literal["left", "right"]
Range = tuple[float, float]
_STEP_MM = 0.5


@dataclass(frozen=True)
class Heart:
    """An ellipsoid whose long axis runs from the base (valve plane) to the apex.

    Longitude goes about the long axis: 0 is the anterior interventricular groove (LAD), 90 the left ventricle's free
    wall, -90 the right ventricle, 180 the posterior groove (PDA). Latitude goes along it: 0 is the valve plane (the
    groove of RCA and LCX), 90 the apex.
    """

    axes: NDArray[np.float64]
    """(3, 3): rows are the unit vectors to the anterior groove, to the free wall and to the apex."""
    radius_mm: float
    length_mm: float

    def point_mm(
        self, longitude_deg: NDArray[np.float64], latitude_deg: NDArray[np.float64], depth: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N, 3) points at a share `depth` (1 = epicardium, 0 = long axis) of the way out from the axis."""
        longitude, latitude = np.deg2rad(longitude_deg), np.deg2rad(latitude_deg)
        across = self.radius_mm * depth * np.cos(latitude)
        along = self.length_mm * (np.sin(latitude) - 0.35)
        local = np.stack([across * np.cos(longitude), across * np.sin(longitude), along], axis=1)
        return np.asarray(local @ self.axes)

    def contracted_mm(self, points_mm: NDArray[np.float64], systole: float) -> NDArray[np.float64]:
        """(N, 3) points on the heart contracted by a share `systole` in radius, half of that in length, and twisted."""
        local = points_mm @ self.axes.T
        turn = 0.5 * systole * local[:, 2] / self.length_mm
        cosine, sine = np.cos(turn), np.sin(turn)
        across = np.stack(
            [cosine * local[:, 0] - sine * local[:, 1], sine * local[:, 0] + cosine * local[:, 1]], axis=1
        )
        beaten = np.concatenate([across * (1 - systole), local[:, 2:] * (1 - systole / 2)], axis=1)
        return np.asarray(beaten @ self.axes)


@dataclass(frozen=True)
class Branch:
    """One artery from its origin to its end, sampled about every half millimetre."""

    name: str
    points_mm: NDArray[np.float64]
    """(N, 3) centreline; the first point lies on the parent's centreline."""
    radius_mm: NDArray[np.float64]
    """(N,) lumen radius, with its narrowings."""
    healthy_radius_mm: NDArray[np.float64]
    """(N,) lumen radius without narrowings: never grows along the branch."""
    distance_mm: NDArray[np.float64]
    """(N,) way from the ostium along the vessels."""


@dataclass(frozen=True)
class CoronaryTree:
    """The left or the right coronary artery with all its branches, and the heart that they lie on."""

    side: Side
    heart: Heart
    branches: tuple[Branch, ...]


def draw_heart(rng: Generator) -> Heart:
    """A heart of normal to large size, its apex to the left, forward and down."""
    apex = np.array([0.62, -0.55, -0.55]) + rng.normal(0, 0.07, 3)
    apex /= np.linalg.norm(apex)
    wall = np.array([0.6, 0.8, 0.1]) + rng.normal(0, 0.07, 3)
    wall -= apex * (wall @ apex)
    wall /= np.linalg.norm(wall)
    groove = np.cross(apex, wall)
    scale = rng.uniform(0.9, 1.15)
    axes = np.stack([groove, wall, apex])
    return Heart(axes, radius_mm=scale * rng.uniform(35, 43), length_mm=scale * rng.uniform(68, 84))


def grow_tree(rng: Generator, heart: Heart, side: Side) -> CoronaryTree:
    """Grow the left or the right coronary artery on a heart.

    Main branches follow their grooves with random control points; twigs are added on all of them. Calibres are those of
    adult arteries (left main 4 to 4.8 mm, right coronary 3 to 4.4 mm, twigs below 1 mm).
    """
    grower = _Grower(rng, heart)
    if side == "left":
        _grow_left(grower)
    elif side == "right":
        _grow_right(grower)
    else:
        raise ValueError(f"`side` must be 'left' or 'right', got {side!r}")
    grower.add_twigs()
    return CoronaryTree(side, heart, tuple(grower.branches))


def _grow_left(grower: "_Grower") -> None:
    rng = grower.rng
    size = rng.uniform(0.85, 1.15)
    turn = rng.normal(8, 5)
    main = grower.add(
        "LM",
        [(turn - 22, -15, rng.uniform(0.6, 0.85)), (turn - 10, -11, 0.9), (turn, -6, 1.0)],
        (2.1 * size, 1.95 * size),
        jitter_deg=3,
    )
    lad_end = rng.uniform(62, 84)
    lad = grower.add(
        "LAD",
        [(turn, -6, 1), (2, 12, 1), (0, 0.45 * lad_end, 1), (-2, 0.75 * lad_end, 1), (-6, lad_end, 1)],
        (1.75 * size, 0.7 * size),
        parent=main,
    )
    lcx_end = rng.uniform(85, 150)
    lcx = grower.add(
        "LCX",
        [(turn, -6, 1), (35, -3, 1), (0.65 * lcx_end, 3, 1), (lcx_end, rng.uniform(4, 25), 1)],
        (rng.uniform(1.3, 1.65) * size, 0.75 * size),
        parent=main,
    )
    if rng.random() < 0.25:
        grower.add(
            "ramus",
            [(turn, -6, 1), (28, 15, 1), (42, rng.uniform(35, 60), 1)],
            (rng.uniform(0.8, 1.2), 0.4),
            parent=main,
        )
    for share in np.sort(rng.uniform(0.12, 0.65, rng.integers(1, 4))):
        grower.add_side("diagonal", lad, share, (25, 55), (22, 42), (rng.uniform(0.6, 1.15) * size, 0.38))
    for share in np.sort(rng.uniform(0.2, 0.85, rng.integers(1, 4))):
        grower.add_side("marginal", lcx, share, (5, 30), (30, 60), (rng.uniform(0.65, 1.25) * size, 0.4))
    for share in np.sort(rng.uniform(0.1, 0.7, rng.integers(3, 9))):
        grower.add_side("septal", lad, share, (-25, 5), (10, 24), (rng.uniform(0.28, 0.5), 0.2), end_depth=(0.45, 0.75))


def _grow_right(grower: "_Grower") -> None:
    rng = grower.rng
    size = rng.uniform(0.85, 1.2)
    crux = -rng.uniform(165, 185)
    rca = grower.add(
        "RCA",
        [(-38, -20, 0.5), (-52, rng.uniform(-22, -6), 0.9), (-75, -6, 1), (-100, 2, 1), (-140, 3, 1), (crux, 2, 1)],
        (1.85 * size, 1.3 * size),
    )
    grower.add(
        "PDA",
        [(crux, 2, 1), (crux - 4, 18, 1), (crux + rng.uniform(-8, 12), rng.uniform(38, 66), 1)],
        (rng.uniform(0.9, 1.25) * size, 0.45),
        parent=rca,
    )
    posterior_end = crux - rng.uniform(25, 65)
    posterior = grower.add(
        "PLV",
        [(crux, 2, 1), (crux - 15, 0, 1), (posterior_end, rng.uniform(4, 30), 1)],
        (rng.uniform(0.8, 1.25) * size, 0.5),
        parent=rca,
    )
    for share in rng.uniform(0.3, 0.8, rng.integers(0, 3)):
        grower.add_side("posterolateral", posterior, share, (-25, 0), (15, 40), (rng.uniform(0.5, 0.9), 0.3))
    for share in np.sort(rng.uniform(0.15, 0.75, rng.integers(2, 5))):
        grower.add_side("ventricular", rca, share, (5, 40), (15, 55), (rng.uniform(0.35, 0.8), 0.25))
    for _ in range(rng.integers(1, 3)):
        grower.add_side("conus", rca, rng.uniform(0.03, 0.15), (15, 50), (-15, 15), (rng.uniform(0.3, 0.6), 0.22))


class _Grower:
    """Adds branches to a tree; keeps what the patient's vessels share (tortuosity, tendency to narrow)."""

    def __init__(self, rng: Generator, heart: Heart) -> None:
        self.rng = rng
        self.heart = heart
        self.branches: list[Branch] = []
        self._charts: list[NDArray[np.float64]] = []
        self._tortuosity = min(rng.lognormal(0.0, 0.45), 2.0)
        self._lesions = rng.exponential(0.5)

    def add(
        self,
        name: str,
        controls: list[tuple[float, float, float]],
        radii_mm: Range,
        *,
        parent: int | None = None,
        at: int = -1,
        jitter_deg: float = 5.0,
    ) -> int:
        """Add a branch through (longitude, latitude, depth) from point `at` of `parent`; return its index."""
        rng = self.rng
        chart = np.array(controls, dtype=float)
        chart[1:, :2] += rng.normal(0, jitter_deg, (len(chart) - 1, 2)) * min(1.0, radii_mm[0])
        chart = smooth_path(chart)
        points = self.heart.point_mm(chart[:, 0], chart[:, 1], chart[:, 2])
        points, chart = _resample(points, chart, _STEP_MM)
        before = 0.0
        if parent is not None:
            origin = self.branches[parent]
            points += origin.points_mm[at] - points[0]
            before = float(origin.distance_mm[at])
        along = np.arange(len(points), dtype=np.float64) * _STEP_MM
        points += self._meander_mm(points, along, radii_mm)
        remaining = (1 - along / along[-1]) ** rng.uniform(0.7, 1.3)
        healthy = radii_mm[1] + (radii_mm[0] - radii_mm[1]) * remaining
        if parent is not None:
            healthy = np.minimum(healthy, 0.95 * self.branches[parent].healthy_radius_mm[at])
        radius = healthy * self._lumen_share(along)
        self.branches.append(Branch(name, points, radius, healthy, before + along))
        self._charts.append(chart)
        return len(self.branches) - 1

    def add_side(
        self,
        name: str,
        parent: int,
        share: float,
        longitude_deg: Range,
        latitude_deg: Range,
        radii_mm: Range,
        *,
        end_depth: Range = (1.0, 1.0),
    ) -> int:
        """Add a branch that leaves `parent` at a share of its length and ends so many degrees away."""
        rng = self.rng
        at = int(share * (len(self._charts[parent]) - 1))
        longitude, latitude, depth = self._charts[parent][at]
        east, north, end = rng.uniform(*longitude_deg), rng.uniform(*latitude_deg), rng.uniform(*end_depth)
        north = min(north, 86 - latitude)
        bow = rng.normal(0, 0.15, 2)
        middle = (longitude + east * (0.55 + bow[0]), latitude + north * (0.45 + bow[1]), depth * (1 + end) / 2)
        controls = [(longitude, latitude, depth), middle, (longitude + east, latitude + north, depth * end)]
        return self.add(name, controls, radii_mm, parent=parent, at=at, jitter_deg=3.0)

    def add_twigs(self) -> None:
        """Thin side branches, one every 10 to 26 mm of every branch that is there."""
        rng = self.rng
        density = rng.uniform(0.5, 1.3)
        for parent in range(len(self.branches)):
            branch = self.branches[parent]
            length_mm = _STEP_MM * len(branch.points_mm)
            for share in rng.uniform(0.1, 0.98, rng.poisson(density * length_mm / 13)):
                stem = branch.healthy_radius_mm[int(share * (len(branch.points_mm) - 1))]
                radius = min(rng.uniform(0.22, 0.5), 0.7 * stem)
                angle, length_deg = rng.uniform(0, 2 * np.pi), rng.uniform(8, 36)
                east, north = length_deg * 1.3 * np.cos(angle), length_deg * np.sin(angle)
                self.add_side("twig", parent, share, (east, east), (north, north), (radius, 0.6 * radius))

    def _meander_mm(
        self, points: NDArray[np.float64], along: NDArray[np.float64], radii_mm: Range
    ) -> NDArray[np.float64]:
        """(N, 3) sideways displacement: waves of 9 to 70 mm length, mostly along the heart's surface."""
        rng = self.rng
        tangent = np.gradient(points, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        outward = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
        sideways = np.cross(tangent, outward)
        thin = np.clip(1.6 - 0.4 * radii_mm[0], 0.75, 1.5)
        total = np.zeros_like(points)
        for direction, strength in ((sideways, 1.0), (outward, 0.4)):
            wavelength = np.exp(rng.uniform(np.log(9), np.log(70), 5))[:, None]
            height = strength * thin * self._tortuosity * wavelength * rng.uniform(0, 0.055, (5, 1))
            wave = height * np.sin(2 * np.pi * (along / wavelength + rng.random((5, 1))))
            total += direction * wave.sum(axis=0)[:, None]
        return np.asarray(total * (1 - np.exp(-along / 8))[:, None])

    def _lumen_share(self, along: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) lumen radius as a share of the healthy one: slight waves, now and then a narrowing by 30 to 80%."""
        rng = self.rng
        share = 1 + 0.05 * np.sin(2 * np.pi * (along / rng.uniform(8, 25) + rng.random()))
        for _ in range(rng.poisson(self._lesions * along[-1] / 100)):
            centre, half_length = rng.uniform(0, along[-1]), rng.uniform(1.5, 5)
            share *= 1 - rng.uniform(0.3, 0.8) * np.exp(-(((along - centre) / half_length) ** 2))
        return share


def smooth_path(chart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round the corners of a path (N, D) by Chaikin's corner cutting, four times; its ends stay."""
    for _ in range(4):
        cut = np.stack([0.75 * chart[:-1] + 0.25 * chart[1:], 0.25 * chart[:-1] + 0.75 * chart[1:]], axis=1)
        chart = np.concatenate([chart[:1], cut.reshape(-1, chart.shape[1]), chart[-1:]])
    return chart


def _resample(
    points: NDArray[np.float64], chart: NDArray[np.float64], step_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and chart at equal steps along the way."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    new = np.linspace(0, way[-1], max(2, round(way[-1] / step_mm) + 1))
    return (
        np.stack([np.interp(new, way, column) for column in points.T], axis=1),
        np.stack([np.interp(new, way, column) for column in chart.T], axis=1),
    )

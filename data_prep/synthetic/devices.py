"""What lies in the field beside the arteries and is taken for them: sheaths, leads, wires, clips, collimator edges."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.synthetic.projection import CArmView, path_length_mm, tube_balls
from data_prep.synthetic.scanner import Map, grid_mm, soft_step
from data_prep.synthetic.tree import smooth_path


def draw_devices(rng: Generator, view: CArmView) -> Map:
    """Attenuation of devices and collimator edges, (size, size), in the exponent of Beer-Lambert's law.

    Two frames of five hold none. All lie in the plane of the isocentre.
    """
    total = np.zeros((view.size, view.size), np.float32)
    if rng.random() < 0.2:
        total += _sheath(rng, view)
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 3)):
            total += _pacing_lead(rng, view)
    if rng.random() < 0.15:
        total += _guide_wire(rng, view)
    if rng.random() < 0.12:
        total += _sternal_wires(rng, view)
    if rng.random() < 0.08:
        total += _clips(rng, view)
    if rng.random() < 0.2:
        total += _collimator(rng, view)
    return total


def _sheath(rng: Generator, view: CArmView) -> Map:
    """A sheath or a second catheter across the field: a hollow tube, dark at its walls."""
    path, outer_mm = _path_across(rng, view), rng.uniform(0.8, 1.6)
    wall = _tube(path, outer_mm, view) - rng.uniform(0.3, 1.0) * _tube(path, rng.uniform(0.6, 0.85) * outer_mm, view)
    return np.asarray(rng.uniform(0.06, 0.25) * wall, dtype=np.float32)


def _pacing_lead(rng: Generator, view: CArmView) -> Map:
    """A lead that ends in the field, with a thick dense electrode at its tip and perhaps a second one before it."""
    path = _path_across(rng, view)
    path = path[: int(rng.uniform(0.4, 1.0) * len(path))]
    lead = rng.uniform(0.1, 0.4) * _tube(path, rng.uniform(0.5, 1.0), view)
    for end in (len(path), int(0.85 * len(path)))[: rng.integers(1, 3)]:
        lead += rng.uniform(0.3, 0.6) * _tube(path[max(0, end - 6) : end], rng.uniform(1.0, 1.5), view)
    return lead


def _guide_wire(rng: Generator, view: CArmView) -> Map:
    """A guide wire: thin, dense and smooth."""
    return rng.uniform(0.5, 1.5) * _tube(_path_across(rng, view), rng.uniform(0.16, 0.25), view)


def _sternal_wires(rng: Generator, view: CArmView) -> Map:
    """Two to four closed wire loops below each other, each with its twist, as left by open-heart surgery."""
    total = np.zeros((view.size, view.size), np.float32)
    middle, pitch = rng.uniform(-0.4, 0.4) * view.field_mm, rng.uniform(16, 28)
    radius, density = rng.uniform(0.3, 0.5), rng.uniform(0.8, 2.0)
    top = rng.uniform(-0.4, 0.3) * view.field_mm
    for number in range(rng.integers(2, 5)):
        width, height = rng.uniform(5, 9), rng.uniform(2, 6)
        turn = np.linspace(0, 2 * np.pi, 24)
        centre = np.array([middle + rng.normal(0, 2), top + number * pitch + rng.normal(0, 2)])
        loop = centre + np.stack([width * np.cos(turn), height * np.sin(turn)], axis=1) + rng.normal(0, 0.3, (24, 2))
        twist = centre + np.array([[0, height], [rng.normal(0, 1.5), height + 4.0]])
        total += density * (_tube(loop, radius, view) + _tube(twist, 1.6 * radius, view))
    return total


def _clips(rng: Generator, view: CArmView) -> Map:
    """Surgical clips along a bypass graft: short dense bars."""
    total = np.zeros((view.size, view.size), np.float32)
    path = _path_across(rng, view)
    for place in rng.integers(0, len(path), rng.integers(3, 9)):
        angle = rng.uniform(0, np.pi)
        half = rng.uniform(1.2, 2.5) * np.array([np.cos(angle), np.sin(angle)])
        total += rng.uniform(0.8, 2.0) * _tube(np.stack([path[place] - half, path[place] + half]), 0.4, view)
    return total


def _collimator(rng: Generator, view: CArmView) -> Map:
    """The grey band that a collimator or a wedge filter leaves along one or two sides."""
    right, up = grid_mm(view)
    total = np.zeros_like(right)
    for _ in range(rng.integers(1, 3)):
        angle = rng.choice([0, 90, 180, 270]) + rng.normal(0, 2)
        outward = np.cos(np.deg2rad(angle)) * right + np.sin(np.deg2rad(angle)) * up
        edge = view.field_mm / 2 * (1 - rng.uniform(0.02, 0.25))
        total += rng.uniform(0.15, 1.5) * soft_step((outward - edge) / rng.uniform(0.25, 2.5))
    return total


def _path_across(rng: Generator, view: CArmView) -> NDArray[np.float64]:
    """(N, 2) a gently curved way, right and up in mm, from one side of the field to the opposite half."""
    angle, reach = rng.uniform(0, 2 * np.pi), 0.75 * view.field_mm
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    offset = rng.uniform(-0.4, 0.4) * view.field_mm
    sideways = offset + np.cumsum(rng.normal(0, 0.08 * view.field_mm, 6))
    return smooth_path(np.linspace(-reach, reach, 6)[:, None] * along + sideways[:, None] * across)


def _tube(path_mm: NDArray[np.float64], radius_mm: float, view: CArmView) -> Map:
    """(size, size) path length in mm through a tube about a way (N, 2) in the plane of the isocentre."""
    place = path_mm - np.array(view.shift_mm)
    points = place @ view.axes[:2]
    return path_length_mm(tube_balls(points, np.full(len(points), radius_mm), np.ones(len(points))), view)

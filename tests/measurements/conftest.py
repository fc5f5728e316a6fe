"""Frames of vessels whose course and diameter are known."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree


def _course(*corners: tuple[float, float]) -> np.ndarray:
    """Points every 0.2 px on the straight lines between (row, column) corners, (N, 2)."""
    stretches = [np.linspace(a, b, int(np.hypot(*np.subtract(b, a)) / 0.2) + 2) for a, b in pairwise(corners)]
    return np.concatenate(stretches)


def _draw(*vessels: tuple[np.ndarray, object], size: int = 128) -> np.ndarray:
    """Tubes as a probability map, (size, size) float64: each wall is a slope one pixel wide, 0.5 on the wall itself.

    A vessel is its course (N, 2) and its diameter, a number or (N,).
    """
    pixels = np.argwhere(np.ones((size, size), dtype=bool))
    levels = np.zeros(size * size)
    for course, diameter in vessels:
        radius = np.broadcast_to(np.asarray(diameter) / 2, len(course))
        distance, nearest = cKDTree(course).query(pixels, distance_upper_bound=radius.max() + 1)
        # too far away: the distance is infinite, the index one past the last
        levels = np.maximum(levels, np.clip(np.append(radius, 0)[nearest] - distance + 0.5, 0, 1))
    return levels.reshape(size, size)


@pytest.fixture
def course() -> Callable[..., np.ndarray]:
    return _course


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    return _draw


@pytest.fixture
def across() -> Callable[..., np.ndarray]:
    """The course of a straight vessel of a length through the middle of a frame of 128, at an angle in degrees."""

    def at(angle_deg: float, length: float = 90.0) -> np.ndarray:
        half = length / 2 * np.array([np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))])
        middle = np.array([63.3, 63.6])
        return _course(tuple(middle - half), tuple(middle + half))

    return at

"""Narrowings of known degree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from data_prep.synthetic.tree import CoronaryTree

_MIN_REFERENCE_MM = 2.0
_TO_ENDS_MM = 8.0
# Four times the greatest half length: the bells do not touch.
_APART_MM = 20.0


@dataclass(frozen=True)
class Stenosis:
    """One narrowing: a bell-shaped loss of diameter along a branch."""

    branch: int
    """Index in the tree's branches."""
    point: int
    """Index of the narrowest place in the branch's points."""
    percent: float
    """Diameter stenosis there, 0 to 100: 100 * (1 - diameter / healthy diameter at the same place)."""
    half_length_mm: float
    """At this distance from the narrowest place the loss is 1/e of the largest."""


def narrow(tree: CoronaryTree, stenoses: Sequence[Stenosis]) -> CoronaryTree:
    """The tree with exactly these narrowings: elsewhere every lumen is the healthy one.

    Raises:
        ValueError: a degree that is not between 0 and 100.
    """
    radii = [branch.healthy_radius_mm.copy() for branch in tree.branches]
    for stenosis in stenoses:
        if not 0 < stenosis.percent < 100:
            raise ValueError(f"a stenosis must be more than 0 and less than 100 percent, got {stenosis.percent}")
        along = tree.branches[stenosis.branch].distance_mm
        bell = np.exp(-(((along - along[stenosis.point]) / stenosis.half_length_mm) ** 2))
        radii[stenosis.branch] *= 1 - stenosis.percent / 100 * bell
    branches = (replace(branch, radius_mm=radius) for branch, radius in zip(tree.branches, radii, strict=True))
    return replace(tree, branches=tuple(branches))


def draw_stenoses(rng: Generator, tree: CoronaryTree, percents: Sequence[float]) -> tuple[Stenosis, ...]:
    """Stenoses of these degrees at random places where an artery is 2 mm wide or more, 20 mm apart on one branch.

    Raises:
        ValueError: the tree has no room for so many.
    """
    places = []
    for index, branch in enumerate(tree.branches):
        ends_mm = np.minimum(branch.distance_mm - branch.distance_mm[0], branch.distance_mm[-1] - branch.distance_mm)
        wide = (2 * branch.healthy_radius_mm >= _MIN_REFERENCE_MM) & (ends_mm >= _TO_ENDS_MM)
        places += [(index, int(point), float(branch.distance_mm[point])) for point in np.flatnonzero(wide)]
    stenoses: list[Stenosis] = []
    for percent in percents:
        if not places:
            raise ValueError(f"the tree has room for {len(stenoses)} stenoses, {len(percents)} were asked for")
        index, point, distance_mm = places[rng.integers(len(places))]
        stenoses.append(Stenosis(index, point, float(percent), half_length_mm=rng.uniform(2, 5)))
        places = [place for place in places if place[0] != index or abs(place[2] - distance_mm) >= _APART_MM]
    return tuple(stenoses)

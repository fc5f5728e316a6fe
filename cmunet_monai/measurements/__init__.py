"""Measurements of one frame's arteries: centreline, diameters along it, candidate narrowings."""

from cmunet_monai.measurements.arteries import (
    Measurements,
    measure_arteries,
    narrowing_rows,
    profile_rows,
    segment_rows,
)
from cmunet_monai.measurements.centreline import Centreline, CentrelineGraph, Node, path_between, trace_centrelines
from cmunet_monai.measurements.diameter import Segment
from cmunet_monai.measurements.stenosis import Narrowing, find_narrowings

__all__ = [
    "Centreline",
    "CentrelineGraph",
    "Measurements",
    "Narrowing",
    "Node",
    "Segment",
    "find_narrowings",
    "measure_arteries",
    "narrowing_rows",
    "path_between",
    "profile_rows",
    "segment_rows",
    "trace_centrelines",
]

"""The centreline of a vessel mask as a graph: segments between branch points, and what lies at their ends.

The skeleton is traced pixel by pixel, cleaned by three rules in units of the vessel's own diameter, and smoothed:

* a spur is no branch if it ends within one diameter of the branch point that it leaves: it hardly leaves the vessel;
* two branch points within one diameter of each other are one crossing: a mask shows two vessels that cross as two
  branch points with a bridge between them (a trifurcation looks the same, and is called a crossing, too; where they
  cross at less than about 50 degrees the bridge is longer, and stays a segment of its own);
* what is shorter than it is wide is no vessel.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

NodeKind = Literal["branch", "crossing", "end", "border"]
Points = NDArray[np.float64]

MAX_CLICK_DISTANCE_PX = 20.0
# A hole of so few pixels is a flaw of the mask, not a gap between vessels; the skeleton would run around it.
LARGEST_FLAW_PX = 20
# In vessels of 1 or 2 px a spur as long as the vessel is wide is no more than a step of the pixel grid.
SHORTEST_PX = 5.0
# Pixel steps show a direction only over several pixels; a wide vessel's skeleton wavers more slowly.
SMOOTH_RADII, SMOOTH_PX = 0.5, (2.0, 6.0)


@dataclass(frozen=True)
class Node:
    """A place where centrelines end or meet.

    Attributes:
        row, column: position; 0 is the first pixel's centre.
        radius_px: of the widest disc about it inside the vessel; of two joined branch points, the disc about theirs;
            at an end, that of the vessel's widest place within a diameter.
        kind: "branch" (three vessels meet), "crossing" (four or more), "end" (a vessel ends), "border" (it leaves the
            image).
    """

    row: float
    column: float
    radius_px: float
    kind: NodeKind


@dataclass(frozen=True, eq=False)
class Centreline:
    """A smooth line along the middle of a vessel.

    Attributes:
        points: (N, 2) row and column, about 1 px apart.
        radius_px: (N,) distance to the nearest background pixel, less the half pixel that it takes up.
        start, end: indices into the graph's nodes; None at a closed loop's seam and at a point that a user chose.
    """

    points: Points
    radius_px: NDArray[np.float64]
    start: int | None
    end: int | None


@dataclass(frozen=True)
class CentrelineGraph:
    """All centrelines of a mask, the longest first, and the nodes that they join."""

    lines: tuple[Centreline, ...]
    nodes: tuple[Node, ...]


def without_flaws(mask: NDArray[np.bool_], *, cracks: bool) -> NDArray[np.bool_]:
    """A copy of a vessel mask with its small holes filled and, if asked for, cracks up to 2 px wide closed.

    People draw masks in pieces, one polygon a segment; between them remain cracks that a skeleton would branch at.

    Args:
        mask: (H, W) bool. Not modified.
    """
    whole: NDArray[Any] = mask.astype(np.uint8)
    if cracks:
        # beyond the image's border it goes on as it is, so that nothing is closed along it
        wide = np.pad(whole, 2, mode="edge")
        whole = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))[2:-2, 2:-2]
    _, number, facts, _ = cv2.connectedComponentsWithStats(1 - whole, connectivity=4)
    left, top, width, height, area = facts.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    flaw = inside & (area <= LARGEST_FLAW_PX)
    flaw[0] = False  # the foreground
    return (whole > 0) | flaw[number]


def path_length_px(points: Points) -> float:
    """Length of the line through (N, 2) points."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def trace_centrelines(mask: NDArray[np.bool_]) -> CentrelineGraph:
    """The centreline graph of a vessel mask.

    A vessel is followed to the image's border where it touches it, and to about one radius before its tip where it
    ends inside.

    Args:
        mask: (H, W) bool. Not modified.
    Returns:
        No lines for an empty mask, one without background, or one of specks that are no longer than wide.
    """
    if not mask.any() or mask.all():
        return CentrelineGraph((), ())
    radius, skeleton, corner = _radius_and_skeleton(mask)
    raw = _trace(skeleton, radius)
    raw.prune()
    raw.join_crossings()
    raw.prune()
    raw.drop_specks()
    return raw.finished(corner, mask.shape)


def path_between(graph: CentrelineGraph, first: tuple[float, float], last: tuple[float, float]) -> Centreline:
    """The shortest way along the centrelines between the places that are nearest to two points.

    Args:
        graph: of `trace_centrelines`.
        first, last: (row, column).
    Returns:
        A centreline from `first` to `last`; it may pass branch points.
    Raises:
        ValueError: if a point is more than 20 px from every centreline, both lie at one place, or no centreline
            connects them.
    """
    if not graph.lines:
        raise ValueError("`between` needs a vessel, got a mask without one")
    points = np.concatenate([line.points for line in graph.lines])
    radius = np.concatenate([line.radius_px for line in graph.lines])
    distances, (start, stop) = cKDTree(points).query(np.array([first, last], dtype=np.float64))
    for point, distance in zip((first, last), distances, strict=True):
        if distance > MAX_CLICK_DISTANCE_PX:
            raise ValueError(
                f"`between` must lie within {MAX_CLICK_DISTANCE_PX:g} px of a centreline, got {point}, "
                f"{distance:.1f} px away"
            )
    way = _shortest_way(graph, points, int(start), int(stop))
    if len(way) == 0:
        raise ValueError(f"`between` must lie on connected vessels, got {first} and {last}")
    if path_length_px(points[way]) == 0:
        raise ValueError(f"`between` must be two places, got {first} and {last}")
    return Centreline(*_smoothed(points[way], radius[way], closed=False), None, None)


def _shortest_way(graph: CentrelineGraph, points: Points, start: int, stop: int) -> NDArray[np.intp]:
    """Indices into `points`, those of all lines in order; none where nothing connects the two."""
    chains, at = [], 0
    for line in graph.lines:
        own = list(range(at, at + len(line.points)))
        before = [] if line.start is None else [len(points) + line.start]
        after = own[:1] if line.end is None else [len(points) + line.end]
        chains.append(np.array([*before, *own, *after]))
        at += len(own)
    tail = np.concatenate([chain[:-1] for chain in chains])
    head = np.concatenate([chain[1:] for chain in chains])
    places = np.concatenate([points, np.array([(node.row, node.column) for node in graph.nodes]).reshape(-1, 2)])
    # a line's end and its node lie at one place, and a length of zero would mean "not connected"
    lengths = np.maximum(np.linalg.norm(places[tail] - places[head], axis=1), 1e-9)
    network = coo_matrix((lengths, (tail, head)), shape=(len(places),) * 2)
    before_on_way = dijkstra(network, directed=False, indices=start, return_predecessors=True)[1]
    way = [stop]
    while way[-1] != start:
        if before_on_way[way[-1]] < 0:
            return np.empty(0, dtype=np.intp)
        way.append(int(before_on_way[way[-1]]))
    vertices = np.array(way[::-1])
    return vertices[vertices < len(points)]


def _radius_and_skeleton(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp]]:
    """Distance to the background and skeleton in the foreground's box, and the box's first row and column.

    Beyond a border of the image the vessels are continued: thinning would otherwise draw back from it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    box = mask[top : rows[-1] + 2, left : columns[-1] + 2]
    margin = int(np.ceil(_distance(box).max())) + 2
    (above, below), (before, after) = (
        (margin * bool(side[0].any()), margin * bool(side[-1].any())) for side in (box, box.T)
    )
    wide = np.pad(box, ((above, below), (before, after)), mode="edge")
    cut = slice(above, above + box.shape[0]), slice(before, before + box.shape[1])
    # scikit-image's default, Zhang and Suen 1984, eats diagonal vessels of an even width from both ends
    skeleton = skeletonize(wide, method="lee")[cut] > 0
    # the background pixel's centre lies half a pixel beyond the edge
    return np.maximum(_distance(wide)[cut] - 0.5, 0), skeleton, np.array((top, left))


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every pixel to the nearest background pixel's centre; what lies outside is no background."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)


def _smoothed(path: Points, radius: NDArray[np.float64], *, closed: bool) -> tuple[Points, NDArray[np.float64]]:
    """Points 1 px apart on the path, its corners rounded but its ends in place, and the radius there."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    new = np.linspace(0, along[-1], max(round(along[-1]), 1) + 1)
    even = np.stack([np.interp(new, along, column) for column in path.T], axis=1)
    sigma = float(np.clip(SMOOTH_RADII * np.median(radius), *SMOOTH_PX))
    return smooth_line(even, sigma, closed=closed), np.interp(new, along, radius)


def smooth_line(values: NDArray[np.float64], sigma: float, *, closed: bool = False) -> NDArray[np.float64]:
    """Gaussian smoothing along the first axis that keeps both ends where they are; of a closed line, all round.

    Args:
        values: (N, ...) with the first repeated at the end where `closed`.
        sigma: standard deviation in samples.
    """
    if closed:
        round_once = gaussian_filter1d(values[:-1], sigma, axis=0, mode="wrap")
        return np.concatenate([round_once, round_once[:1]])
    reach = [(int(4 * sigma) + 1, int(4 * sigma) + 1)] + [(0, 0)] * (values.ndim - 1)
    # mirrored in the end point, not only in its place: a line goes straight on
    longer = np.pad(values, reach, mode="reflect", reflect_type="odd")
    return gaussian_filter1d(longer, sigma, axis=0)[reach[0][0] : -reach[0][0]]


@dataclass(eq=False)
class _Edge:
    """A pixel path, (N, 2), from one node's place to another's; closed and without nodes where it is a ring."""

    start: int | None
    end: int | None
    path: Points

    @cached_property
    def length_px(self) -> float:
        return path_length_px(self.path)

    def leaving(self, node: int) -> "_Edge":
        """The same edge, starting at `node`."""
        return self if self.start == node else _Edge(self.end, self.start, self.path[::-1])


class _RawGraph:
    """The pixel graph while it is being cleaned; positions count from the corner of the foreground's box."""

    def __init__(self, radius_map: NDArray[np.float64], nodes: list[NDArray[np.intp]]) -> None:
        self.radius_map = radius_map
        self.places: list[Points] = [pixels.mean(axis=0) for pixels in nodes]
        self.radii = [float(radius_map[tuple(pixels.T)].max()) for pixels in nodes]
        self.edges: dict[int, _Edge] = {}
        """By a number that is never used again: in the order in which they were added."""
        self.at: list[list[int]] = [[] for _ in nodes]
        """The edges of each node; one that starts and ends there is listed twice."""
        self._added = 0

    def add(self, edge: _Edge) -> None:
        self.edges[self._added] = edge
        for node in (edge.start, edge.end):
            if node is not None:
                self.at[node].append(self._added)
        self._added += 1

    def take(self, number: int) -> _Edge:
        """Remove an edge."""
        edge = self.edges.pop(number)
        for node in (edge.start, edge.end):
            if node is not None:
                self.at[node].remove(number)
        return edge

    def radius_along(self, path: Points) -> NDArray[np.float64]:
        rows, columns = np.rint(path).astype(np.intp).T
        return self.radius_map[rows, columns]

    def prune(self) -> None:
        """Take away spurs and short loops, all at once so that a fork at a blunt end goes as a whole; then again."""
        while spurs := [number for number, edge in self.edges.items() if self._is_spur(edge)]:
            for number in spurs:
                self.take(number)
            self._join_through()

    def _is_spur(self, edge: _Edge) -> bool:
        a, b = edge.start, edge.end
        if a is None or b is None:
            return False
        if len(self.at[a]) < len(self.at[b]):
            a, b = b, a
        if a != b and (len(self.at[b]) > 1 or len(self.at[a]) < 3):
            return False
        return edge.length_px <= max(2 * self.radii[a], SHORTEST_PX)

    def _join_through(self) -> None:
        """Make one edge of every two that meet where nothing else does."""
        for node, numbers in enumerate(self.at):
            if len(numbers) == 2:
                one, other = numbers
                first = self.take(one).leaving(node)
                if one == other:
                    self.add(_Edge(None, None, first.path))
                else:
                    second = self.take(other).leaving(node)
                    self.add(_Edge(first.end, second.end, np.concatenate([first.path[::-1], second.path[1:]])))

    def join_crossings(self) -> None:
        """Make one node of every two branch points that lie within one diameter, the nearest first, each once."""
        joined: set[int] = set()
        for number, edge in sorted(self.edges.items(), key=lambda item: item[1].length_px):
            a, b = edge.start, edge.end
            if a is None or b is None or a == b or {a, b} & joined or min(len(self.at[a]), len(self.at[b])) < 3:
                continue
            if edge.length_px <= 2 * max(self.radii[a], self.radii[b]):
                joined |= {a, b}
                self.take(number)
                self._merge(a, b)

    def _merge(self, a: int, b: int) -> None:
        """Put node `b` into node `a`, half-way between both."""
        middle = (self.places[a] + self.places[b]) / 2
        self.radii[a] = max(self.radii[n] + float(np.linalg.norm(self.places[n] - middle)) for n in (a, b))
        self.places[a] = middle
        for number in {*self.at[a], *self.at[b]}:
            edge = self.edges[number]
            start, end = (a if node == b else node for node in (edge.start, edge.end))
            before = [middle[None]] if start == a else []
            after = [middle[None]] if end == a else []
            self.edges[number] = _Edge(start, end, np.concatenate([*before, edge.path, *after]))
        self.at[a] += self.at[b]
        self.at[b] = []

    def drop_specks(self) -> None:
        """Take away pieces that join nothing and are no longer than wide."""
        for number, edge in list(self.edges.items()):
            alone = all(len(self.at[node]) == 1 for node in (edge.start, edge.end) if node is not None)
            if alone and edge.length_px <= max(2 * float(np.median(self.radius_along(edge.path))), SHORTEST_PX):
                self.take(number)

    def _radius_near_end(self, path: Points) -> float:
        """The largest radius within about one diameter of a path's first point: a tip itself is narrow."""
        radius = self.radius_along(path)
        return float(radius[: int(2 * np.median(radius)) + 2].max())

    def finished(self, corner: NDArray[np.intp], shape: tuple[int, ...]) -> CentrelineGraph:
        """The graph in the frame's coordinates, smoothed, without the nodes that are no longer in use."""
        index: dict[int | None, int | None] = {None: None}
        nodes: list[Node] = []
        for node, numbers in enumerate(self.at):
            if numbers:
                index[node] = len(nodes)
                nodes.append(self._node(node, corner, shape))
        lines = []
        for edge in sorted(self.edges.values(), key=lambda edge: -edge.length_px):
            points, radius = _smoothed(edge.path, self.radius_along(edge.path), closed=edge.start is None)
            lines.append(Centreline(points + corner, radius, index[edge.start], index[edge.end]))
        return CentrelineGraph(tuple(lines), tuple(nodes))

    def _node(self, node: int, corner: NDArray[np.intp], shape: tuple[int, ...]) -> Node:
        place = self.places[node] + corner
        row, column = place.tolist()
        degree = len(self.at[node])
        if degree > 1:
            return Node(row, column, self.radii[node], "branch" if degree == 3 else "crossing")
        on_border = bool((place < 1).any() or (place > np.array(shape) - 2).any())
        radius_px = self._radius_near_end(self.edges[self.at[node][0]].leaving(node).path)
        return Node(row, column, radius_px, "border" if on_border else "end")


def _trace(skeleton: NDArray[np.bool_], radius_map: NDArray[np.float64]) -> _RawGraph:
    """Nodes (ends, and groups of touching pixels where three or more ways meet) and the pixel paths between them."""
    pixels = np.argwhere(skeleton)
    neighbours = _neighbours(pixels, skeleton.shape)
    degree = np.array([len(near) for near in neighbours])
    meeting = np.zeros(skeleton.shape, dtype=np.uint8)
    meeting[tuple(pixels[degree > 2].T)] = 1
    groups, labels = cv2.connectedComponents(meeting, connectivity=8)
    node_of = labels[tuple(pixels.T)].astype(np.intp) - 1
    ends = np.flatnonzero(degree < 2)
    node_of[ends] = groups - 1 + np.arange(len(ends))
    inside = np.argsort(node_of, kind="stable")[np.count_nonzero(node_of < 0) :]
    sizes = np.bincount(node_of[inside], minlength=1)
    graph = _RawGraph(radius_map, np.split(pixels[inside], np.cumsum(sizes)[:-1]) if len(inside) else [])
    passed = node_of >= 0
    for pixel in np.flatnonzero(passed).tolist():
        start = int(node_of[pixel])
        for first in neighbours[pixel]:
            # two nodes side by side are found from both, and have no pixel between them to be marked as passed
            if not passed[first] or node_of[first] > start:
                way, end = _walk(pixel, first, neighbours, node_of)
                passed[way] = True
                path = np.concatenate([graph.places[start][None], pixels[way], graph.places[end][None]])
                graph.add(_Edge(start, end, path))
    for pixel in range(len(pixels)):
        if not passed[pixel]:
            ring = [pixel, *_walk(pixel, neighbours[pixel][0], neighbours, node_of, stop=pixel)[0]]
            passed[ring] = True
            graph.add(_Edge(None, None, pixels[[*ring, pixel]].astype(np.float64)))
    return graph


def _walk(
    start: int, first: int, neighbours: list[list[int]], node_of: NDArray[np.intp], stop: int = -1
) -> tuple[list[int], int]:
    """The pixels from `first` on, away from `start`, up to a node or the pixel `stop`; and that node."""
    way: list[int] = []
    before, pixel = start, first
    while node_of[pixel] < 0 and pixel != stop:
        way.append(pixel)
        one, other = neighbours[pixel]
        before, pixel = pixel, other if one == before else one
    return way, int(node_of[pixel])


def _neighbours(pixels: NDArray[np.intp], shape: tuple[int, ...]) -> list[list[int]]:
    """Of each skeleton pixel its neighbours; diagonal ones only where no pixel beside both leads there."""
    number = np.full((shape[0] + 1, shape[1] + 2), -1, dtype=np.intp)  # room below and on both sides
    rows, columns = pixels[:, 0], pixels[:, 1] + 1
    number[rows, columns] = np.arange(len(pixels))
    right, left = number[rows, columns + 1], number[rows, columns - 1]
    below = number[rows + 1, columns]
    found: list[list[int]] = [[] for _ in pixels]
    for other, joined in (
        (right, right >= 0),
        (below, below >= 0),
        (number[rows + 1, columns + 1], (right < 0) & (below < 0)),
        (number[rows + 1, columns - 1], (left < 0) & (below < 0)),
    ):
        joined = joined & (other >= 0)
        for a, b in zip(np.flatnonzero(joined).tolist(), other[joined].tolist(), strict=True):
            found[a].append(b)
            found[b].append(a)
    return found

"""What several metrics need of one mask: contour points, skeleton and the diameters along it, each worked out once.

Everything is computed on the mask's bounding box grown by one pixel inside the frame. That changes no value: a contour
point lies between a foreground and a background pixel, and thinning removes foreground pixels by their eight
neighbours, so neither ever looks further than one pixel beyond the foreground.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize


@dataclass(frozen=True, eq=False)
class MaskGeometry:
    """Contour, skeleton and local diameters of one mask, in pixels, computed when first asked for.

    Args:
        mask: (H, W) bool. Not modified.
    """

    mask: np.ndarray

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the foreground and one pixel around it inside the frame; empty for an empty mask."""
        rows = np.flatnonzero(self.mask.any(axis=1))
        if rows.size == 0:
            return slice(0, 0), slice(0, 0)
        columns = np.flatnonzero(self.mask[rows[0] : rows[-1] + 1].any(axis=0))
        return (
            slice(max(int(rows[0]) - 1, 0), int(rows[-1]) + 2),
            slice(max(int(columns[0]) - 1, 0), int(columns[-1]) + 2),
        )

    def _points(self, inside_box: np.ndarray) -> np.ndarray:
        """Frame coordinates (N, 2) of the True entries of an array that starts at the corner of the box."""
        # flatnonzero of the flat array is several times faster than argwhere of the two-dimensional one
        rows, columns = np.divmod(np.flatnonzero(inside_box), max(inside_box.shape[1], 1))
        return np.stack((rows + self.box[0].start, columns + self.box[1].start), axis=1)

    @cached_property
    def contour_points(self) -> np.ndarray:
        """(N, 2) float64: the contour at level 0.5, one point half-way between every two unlike neighbours.

        For a binary mask these are the points of `skimage.measure.find_contours(mask, 0.5)`, in another order and
        without the closing point that it repeats on closed contours. The frame's edge is no contour.
        """
        box = self.mask[self.box]
        below = self._points(box[1:] != box[:-1]) + np.array((0.5, 0.0))
        beside = self._points(box[:, 1:] != box[:, :-1]) + np.array((0.0, 0.5))
        return np.concatenate((below, beside))

    @cached_property
    def contour_tree(self) -> cKDTree:
        return cKDTree(self.contour_points, balanced_tree=False)  # faster to build, same answers

    @cached_property
    def skeleton_points(self) -> np.ndarray:
        """(N, 2) int: the pixels of `skimage.morphology.skeletonize(mask)` (Zhang and Suen 1984).

        The method can shorten a perfectly diagonal bar of even width. Of the 200 masks of ARCADE's `val` it leaves out
        0.002% of the centreline that Lee's method finds (further than 5 px from it).
        """
        box = self.mask[self.box]
        return self._points(skeletonize(box)) if box.size else np.empty((0, 2), dtype=np.intp)

    @cached_property
    def skeleton_tree(self) -> cKDTree:
        return cKDTree(self.skeleton_points)

    @cached_property
    def inner(self) -> "MaskGeometry":
        """The mask with the frame's outermost pixels cleared (on a copy), so that every contour closes."""
        mask = self.mask
        if not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()):
            return self
        cleared = np.zeros_like(mask)
        cleared[1:-1, 1:-1] = mask[1:-1, 1:-1]
        return MaskGeometry(cleared)

    @cached_property
    def diameters_px(self) -> np.ndarray:
        """(N,) float64: at each skeleton point, twice the distance to the nearest contour point."""
        if len(self.skeleton_points) == 0 or len(self.contour_points) == 0:
            return np.empty(0)
        return 2.0 * self.contour_tree.query(self.skeleton_points)[0]

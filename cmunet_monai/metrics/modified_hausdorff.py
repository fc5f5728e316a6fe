"""Modified Hausdorff distance: how far apart are the two outlines on average?"""

from typing import Any

from torch import Tensor

from cmunet_monai.metrics._cumulative import DistanceMetric
from cmunet_monai.metrics._geometry import MaskGeometry
from cmunet_monai.metrics._masks import Spacing, as_result, check_pair, check_spacing, for_each_pair


def modified_hausdorff_px_of_pair(pred: MaskGeometry, ref: MaskGeometry) -> float:
    """Modified Hausdorff distance of one prediction and its reference in pixels, or NaN."""
    if len(pred.contour_points) == 0 or len(ref.contour_points) == 0:
        return float("nan")
    to_ref = ref.contour_tree.query(pred.contour_points)[0].mean()
    to_pred = pred.contour_tree.query(ref.contour_points)[0].mean()
    return float(max(to_ref, to_pred))


def compute_modified_hausdorff(
    y_pred: Tensor, y: Tensor, *, spacing_mm: Spacing = None, include_background: bool = False
) -> Tensor:
    """Modified Hausdorff distance between the contours of each image and class.

    Each contour point of one mask has a distance to the nearest contour point of the other; these are averaged in both
    directions, and the larger average counts. Contours are at level 0.5 of the masks as they are: where a vessel leaves
    the frame, the frame's edge is no contour.

    Args:
        y_pred: (B, C, H, W) one-hot prediction, bool or 0/1. Not modified.
        y: (B, C, H, W) one-hot reference, bool or 0/1. Not modified.
        spacing_mm: pixel size in mm, a number or (B,); None gives pixels.
        include_background: whether channel 0 counts where C > 1. A single channel always counts.
    Returns:
        (B, C) float32 in pixels or mm, C without the background. NaN where either mask has no contour: one is empty,
        both are empty (no outlines to compare, so not a perfect 0), or a mask fills the whole frame.
    Raises:
        TypeError, ValueError: if the masks are not tensors of one (B, C, H, W) shape that hold only 0 and 1, or
            `spacing_mm` is not positive and finite.
    Source: Dubuisson and Jain 1994; Challier et al. 2025, section IV-B1. Deviations: the published code counts the
        first point of every closed contour twice, gives inf when one mask is empty and 0 when both are.
    """
    pred, ref = check_pair(y_pred, y, include_background=include_background)
    spacing = check_spacing(spacing_mm, len(ref))
    return as_result(for_each_pair(modified_hausdorff_px_of_pair, pred, ref)[..., 0] * spacing, y_pred)


class ModifiedHausdorffMetric(DistanceMetric):
    """`compute_modified_hausdorff` as a MONAI metric; MONAI's Hausdorff distance is the maximum or a percentile.

    Arguments as in `DistanceMetric`.
    """

    def _compute(self, y_pred: Tensor, y: Tensor, **options: Any) -> Tensor:
        return compute_modified_hausdorff(y_pred, y, **options)

"""Centreline Dice: do the two trees run along the same courses?"""

from typing import Any

from torch import Tensor

from cmunet_monai.metrics._cumulative import MaskMetric
from cmunet_monai.metrics._geometry import MaskGeometry
from cmunet_monai.metrics._masks import as_result, check_pair, for_each_pair


def cl_dice_of_pair(pred: MaskGeometry, ref: MaskGeometry) -> float:
    """clDice of one prediction and its reference, between 0 and 1, or NaN."""
    if len(ref.skeleton_points) == 0:
        return float("nan")
    if len(pred.skeleton_points) == 0:
        return 0.0
    precision = ref.mask[tuple(pred.skeleton_points.T)].mean()
    sensitivity = pred.mask[tuple(ref.skeleton_points.T)].mean()
    total = precision + sensitivity
    return float(2.0 * precision * sensitivity / total) if total > 0 else 0.0


def compute_cl_dice(y_pred: Tensor, y: Tensor, *, include_background: bool = False) -> Tensor:
    """Centreline Dice of each image and class, with the hard skeleton.

    The harmonic mean of the share of the predicted skeleton that lies in the reference mask and the share of the
    reference skeleton that lies in the predicted mask.

    Args:
        y_pred: (B, C, H, W) one-hot prediction, bool or 0/1. Not modified.
        y: (B, C, H, W) one-hot reference, bool or 0/1. Not modified.
        include_background: whether channel 0 counts where C > 1. A single channel always counts.
    Returns:
        (B, C) float32 in [0, 1], C without the background. An empty reference gives NaN, whatever the prediction; an
        empty prediction of a reference that is not empty gives 0. MONAI's Dice and IoU do the same.
    Raises:
        TypeError, ValueError: if the masks are not tensors of one (B, C, H, W) shape that hold only 0 and 1.
    Source: Shit et al. 2021, "clDice", equations 1 to 3. Deviations: none. The skeleton is
        `skimage.morphology.skeletonize`, which is not exactly symmetric: exchanging the two spatial axes may move it by
        a pixel.
    """
    pred, ref = check_pair(y_pred, y, include_background=include_background)
    return as_result(for_each_pair(cl_dice_of_pair, pred, ref)[..., 0], y_pred)


class ClDiceMetric(MaskMetric):
    """`compute_cl_dice` as a MONAI metric; MONAI has a soft clDice loss but no metric. Arguments as in `MaskMetric`."""

    def _compute(self, y_pred: Tensor, y: Tensor, **options: Any) -> Tensor:
        return compute_cl_dice(y_pred, y, **options)

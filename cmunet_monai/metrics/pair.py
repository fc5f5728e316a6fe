"""All metrics of a prediction and its reference at once, with the work on each mask shared."""

from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice, compute_iou
from torch import Tensor

from cmunet_monai.metrics._geometry import MaskGeometry
from cmunet_monai.metrics._masks import Spacing, as_result, check_pair, check_spacing, for_each_pair
from cmunet_monai.metrics.artery_diameter import mean_diameter_px, pointwise_diameter_error_px_of_pair
from cmunet_monai.metrics.cl_dice import cl_dice_of_pair
from cmunet_monai.metrics.modified_hausdorff import modified_hausdorff_px_of_pair


@dataclass(frozen=True)
class PairMetrics:
    """Metrics of each image and class, every field (B, C) float32; lengths in pixels, or in mm if a spacing was given.

    Attributes:
        dice, iou: MONAI's, in [0, 1]; NaN where the reference is empty, 0 where only the prediction is.
        cl_dice: as `compute_cl_dice`.
        modified_hausdorff: as `compute_modified_hausdorff`.
        diameter_pred, diameter_ref: as `compute_artery_diameter`, for Pearson's r and Bland-Altman over images.
        diameter_difference: as `compute_artery_diameter_difference`.
        pointwise_diameter_error, unmatched_share: as `compute_pointwise_diameter_error`.
    """

    dice: Tensor
    iou: Tensor
    cl_dice: Tensor
    modified_hausdorff: Tensor
    diameter_pred: Tensor
    diameter_ref: Tensor
    diameter_difference: Tensor
    pointwise_diameter_error: Tensor
    unmatched_share: Tensor


def _dice_and_iou_of_pair(pred: MaskGeometry, ref: MaskGeometry) -> tuple[float, float]:
    """MONAI's Dice and IoU, on the part of the frame that holds all foreground: what is cut off counts nothing."""
    box = MaskGeometry(pred.mask | ref.mask).box
    p, r = (torch.from_numpy(geometry.mask[box])[None, None] for geometry in (pred, ref))
    return compute_dice(p, r).item(), compute_iou(p, r).item()


def _all_px_of_pair(pred: MaskGeometry, ref: MaskGeometry) -> tuple[float, ...]:
    diameter_pred, diameter_ref = mean_diameter_px(pred), mean_diameter_px(ref)
    return (
        *_dice_and_iou_of_pair(pred, ref),
        cl_dice_of_pair(pred, ref),
        modified_hausdorff_px_of_pair(pred, ref),
        diameter_pred,
        diameter_ref,
        abs(diameter_pred - diameter_ref),
        *pointwise_diameter_error_px_of_pair(pred, ref),
    )


def compute_all(
    y_pred: Tensor, y: Tensor, *, spacing_mm: Spacing = None, include_background: bool = False
) -> PairMetrics:
    """Every metric of this package, and MONAI's Dice and IoU, of each image and class.

    The values are those of the single functions; only the work is shared.

    Args:
        y_pred: (B, C, H, W) one-hot prediction, bool or 0/1. Not modified.
        y: (B, C, H, W) one-hot reference, bool or 0/1. Not modified.
        spacing_mm: pixel size in mm at the patient, a number or (B,); None gives pixels.
        include_background: whether channel 0 counts where C > 1. A single channel always counts.
    Returns:
        PairMetrics. What an empty mask gives is said at each function.
    Raises:
        TypeError, ValueError: if the masks are not tensors of one (B, C, H, W) shape that hold only 0 and 1, or
            `spacing_mm` is not positive and finite.
    """
    pred, ref = check_pair(y_pred, y, include_background=include_background)
    spacing = check_spacing(spacing_mm, len(ref))
    values = for_each_pair(_all_px_of_pair, pred, ref)
    dice, iou, cl_dice, hausdorff, diameter_pred, diameter_ref, difference, error, unmatched_share = np.moveaxis(
        values, -1, 0
    )
    return PairMetrics(
        dice=as_result(dice, y_pred),
        iou=as_result(iou, y_pred),
        cl_dice=as_result(cl_dice, y_pred),
        modified_hausdorff=as_result(hausdorff * spacing, y_pred),
        diameter_pred=as_result(diameter_pred * spacing, y_pred),
        diameter_ref=as_result(diameter_ref * spacing, y_pred),
        diameter_difference=as_result(difference * spacing, y_pred),
        pointwise_diameter_error=as_result(error * spacing, y_pred),
        unmatched_share=as_result(unmatched_share, y_pred),
    )

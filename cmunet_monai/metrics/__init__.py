"""Metrics that compare a predicted mask with its reference, and the agreement of two series of measurements."""

from cmunet_monai.metrics.agreement import BlandAltman, Pearson, bland_altman, pearson
from cmunet_monai.metrics.artery_diameter import (
    ArteryDiameterDifferenceMetric,
    PointwiseDiameterErrorMetric,
    compute_artery_diameter,
    compute_artery_diameter_difference,
    compute_pointwise_diameter_error,
)
from cmunet_monai.metrics.cl_dice import ClDiceMetric, compute_cl_dice
from cmunet_monai.metrics.modified_hausdorff import ModifiedHausdorffMetric, compute_modified_hausdorff
from cmunet_monai.metrics.pair import PairMetrics, compute_all

__all__ = [
    "ArteryDiameterDifferenceMetric",
    "BlandAltman",
    "ClDiceMetric",
    "ModifiedHausdorffMetric",
    "PairMetrics",
    "Pearson",
    "PointwiseDiameterErrorMetric",
    "bland_altman",
    "compute_all",
    "compute_artery_diameter",
    "compute_artery_diameter_difference",
    "compute_cl_dice",
    "compute_modified_hausdorff",
    "compute_pointwise_diameter_error",
    "pearson",
]

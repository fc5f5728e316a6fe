"""Losses that MONAI lacks, and the sum of its own that fine-tuning takes."""

from cmunet_monai.losses.info_nce import InfoNCELoss
from cmunet_monai.losses.masked_mse import MaskedMSELoss
from cmunet_monai.losses.mean_teacher import MeanTeacherLoss
from cmunet_monai.losses.segmentation import SegmentationLoss
from cmunet_monai.losses.vessel_bce import VesselBCELoss

__all__ = ["InfoNCELoss", "MaskedMSELoss", "MeanTeacherLoss", "SegmentationLoss", "VesselBCELoss"]

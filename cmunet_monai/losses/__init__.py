"""Losses that MONAI lacks; Dice and cross-entropy are MONAI's."""

from cmunet_monai.losses.info_nce import InfoNCELoss
from cmunet_monai.losses.masked_mse import MaskedMSELoss
from cmunet_monai.losses.mean_teacher import MeanTeacherLoss
from cmunet_monai.losses.vessel_bce import VesselBCELoss

__all__ = ["InfoNCELoss", "MaskedMSELoss", "MeanTeacherLoss", "VesselBCELoss"]

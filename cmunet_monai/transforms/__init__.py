"""Transforms of angiograms that MONAI lacks: arrays and tensors (C, H, W), and dictionaries of them."""

from cmunet_monai.transforms.corner_inpaint import CornerInpaint, CornerInpaintd
from cmunet_monai.transforms.frame_reader import FrameReader
from cmunet_monai.transforms.load_frame import LoadFramed
from cmunet_monai.transforms.paired_views import RandPairedViewsd
from cmunet_monai.transforms.patch_mask import RandPatchMaskd
from cmunet_monai.transforms.resized_crop import RandResizedCropd
from cmunet_monai.transforms.smooth_mask import SmoothMask, SmoothMaskd
from cmunet_monai.transforms.unsharp_mask import UnsharpMask, UnsharpMaskd
from cmunet_monai.transforms.z_score import ZScore, ZScored

__all__ = [
    "CornerInpaint",
    "CornerInpaintd",
    "FrameReader",
    "LoadFramed",
    "RandPairedViewsd",
    "RandPatchMaskd",
    "RandResizedCropd",
    "SmoothMask",
    "SmoothMaskd",
    "UnsharpMask",
    "UnsharpMaskd",
    "ZScore",
    "ZScored",
]

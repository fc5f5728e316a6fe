"""Transforms of angiograms that MONAI lacks: arrays and tensors (C, H, W), and dictionaries of them."""

from cmunet_monai.readers.frame_reader import FrameReader
from cmunet_monai.readers.label_reader import LabelReader
from cmunet_monai.transforms.bezier_intensity import RandBezierIntensityd
from cmunet_monai.transforms.corner_inpaint import CornerInpaint, CornerInpaintd
from cmunet_monai.transforms.deform import RandDeformd
from cmunet_monai.transforms.erase_arteries import EraseArteriesd
from cmunet_monai.transforms.fill_label import FillLabeld
from cmunet_monai.transforms.join_views import JoinViewsd
from cmunet_monai.transforms.load_frame import LoadFramed
from cmunet_monai.transforms.load_label import LoadLabeld
from cmunet_monai.transforms.local_pixel_shuffle import RandLocalPixelShuffled
from cmunet_monai.transforms.paint_arteries import RandPaintArteriesd
from cmunet_monai.transforms.painting import RandPaintingd
from cmunet_monai.transforms.paired_views import RandPairedViewsd
from cmunet_monai.transforms.patch_draws import RandPatchDrawsd
from cmunet_monai.transforms.patch_mask import RandPatchMaskd
from cmunet_monai.transforms.resized_crop import RandResizedCropd
from cmunet_monai.transforms.shading import RandShadingd
from cmunet_monai.transforms.smooth_mask import SmoothMask, SmoothMaskd
from cmunet_monai.transforms.unsharp_mask import RandUnsharpMaskd, UnsharpMask, UnsharpMaskd
from cmunet_monai.transforms.vessel_prior import VesselPriord
from cmunet_monai.transforms.z_score import ZScore, ZScored

__all__ = [
    "CornerInpaint",
    "CornerInpaintd",
    "EraseArteriesd",
    "FillLabeld",
    "FrameReader",
    "JoinViewsd",
    "LabelReader",
    "LoadFramed",
    "LoadLabeld",
    "RandBezierIntensityd",
    "RandDeformd",
    "RandLocalPixelShuffled",
    "RandPaintArteriesd",
    "RandPaintingd",
    "RandPairedViewsd",
    "RandPatchDrawsd",
    "RandPatchMaskd",
    "RandResizedCropd",
    "RandShadingd",
    "RandUnsharpMaskd",
    "SmoothMask",
    "SmoothMaskd",
    "UnsharpMask",
    "UnsharpMaskd",
    "VesselPriord",
    "ZScore",
    "ZScored",
]

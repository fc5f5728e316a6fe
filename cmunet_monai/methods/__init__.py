"""Pre-training methods: each receives a UNet and turns views into losses."""

from cmunet_monai.methods.base import PretrainingMethod, Reconstruction
from cmunet_monai.methods.cm_unet import CMUNet
from cmunet_monai.methods.mae import MaskedAutoencoder
from cmunet_monai.methods.moco_v2 import MoCoV2
from cmunet_monai.methods.models_genesis import ModelsGenesis
from cmunet_monai.methods.painted_arteries import PaintedArteries
from cmunet_monai.methods.prior_segmentor import PriorSegmentor
from cmunet_monai.methods.spark import SparK
from cmunet_monai.methods.vaso_mim import VasoMIM
from cmunet_monai.methods.vessel_prior import VesselPrior

__all__ = [
    "CMUNet",
    "MaskedAutoencoder",
    "MoCoV2",
    "ModelsGenesis",
    "PaintedArteries",
    "PretrainingMethod",
    "PriorSegmentor",
    "Reconstruction",
    "SparK",
    "VasoMIM",
    "VesselPrior",
]

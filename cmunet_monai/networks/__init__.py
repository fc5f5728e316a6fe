"""The UNet, the heads of pre-training, and weights on disk."""

from cmunet_monai.networks.heads import ProjectionHead
from cmunet_monai.networks.unet import UNet, UNetDecoder, UNetEncoder
from cmunet_monai.networks.weights import WeightsReport, file_digest, load_unet_weights, provenance, save_unet_weights

__all__ = [
    "ProjectionHead",
    "UNet",
    "UNetDecoder",
    "UNetEncoder",
    "WeightsReport",
    "file_digest",
    "load_unet_weights",
    "provenance",
    "save_unet_weights",
]

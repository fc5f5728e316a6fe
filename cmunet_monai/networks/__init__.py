"""The UNet, the heads of pre-training, and weights on disk."""

from cmunet_monai.networks.convert import ConversionReport, convert_reference_weights
from cmunet_monai.networks.ensemble import Ensemble, weights_digests
from cmunet_monai.networks.heads import ProjectionHead
from cmunet_monai.networks.sparse import encode_visible
from cmunet_monai.networks.unet import UNet, UNetDecoder, UNetEncoder
from cmunet_monai.networks.weights import WeightsReport, file_digest, load_unet_weights, provenance, save_unet_weights

__all__ = [
    "ConversionReport",
    "Ensemble",
    "ProjectionHead",
    "UNet",
    "UNetDecoder",
    "UNetEncoder",
    "WeightsReport",
    "convert_reference_weights",
    "encode_visible",
    "file_digest",
    "load_unet_weights",
    "provenance",
    "save_unet_weights",
    "weights_digests",
]

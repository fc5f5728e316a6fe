"""Pre-training methods: each receives a UNet and turns views into losses."""

from cmunet_monai.methods.base import PretrainingMethod, Reconstruction
from cmunet_monai.methods.cm_unet import CMUNet

__all__ = ["CMUNet", "PretrainingMethod", "Reconstruction"]

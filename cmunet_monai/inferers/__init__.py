"""How a network is called: precision, folding of frames, exported models."""

from cmunet_monai.inferers.autocast import AutocastInferer

__all__ = ["AutocastInferer"]

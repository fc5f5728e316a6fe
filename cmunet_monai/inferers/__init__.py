"""How a network is called: precision, mirrored views, runtime."""

from cmunet_monai.inferers.autocast import AutocastInferer
from cmunet_monai.inferers.flip_views import FlipViews
from cmunet_monai.inferers.runtime import RuntimeNetwork

__all__ = ["AutocastInferer", "FlipViews", "RuntimeNetwork"]

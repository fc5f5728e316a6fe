"""Models Genesis: the image restored from a distorted one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmunet_monai.methods.base import PretrainingMethod, Reconstruction
from cmunet_monai.networks import UNet


class ModelsGenesis(PretrainingMethod):
    """The UNet restores a frame from a copy that was shuffled, changed in intensity, and painted over with noise.

    The distortions are transforms: `RandLocalPixelShuffled`, `RandBezierIntensityd`, `RandPaintingd`.

    Args:
        network: the UNet that fine-tuning starts from. A 1x1 pixel head of the method's own follows its decoder.
    Source: Zhou et al. 2021. Deviations: 2D; the head is linear, for z-scored frames (theirs ends in a sigmoid, for
        frames scaled to 0 .. 1).
    """

    def __init__(self, network: UNet) -> None:
        super().__init__(network)
        self.pixel_head = nn.Conv2d(network.channels[0], 1, kernel_size=1)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            views: `image` and `distorted`, (B, 1, H, W), of the same z-scored frames.
        Returns:
            `loss`, the mean squared error over all pixels, in float32.
        """
        restored = self._restore(views["distorted"])  # (B, 1, H, W)
        return {"loss": functional.mse_loss(restored, views["image"].float())}

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """The image, the distorted one that the network sees, and its restoration."""
        return Reconstruction(views["image"], views["distorted"], self._restore(views["distorted"]))

    def _restore(self, distorted: Tensor) -> Tensor:
        return self.pixel_head(self.network.decoder(self.network.encoder(distorted))).float()

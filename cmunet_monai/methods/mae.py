"""MAE: the masked autoencoder, with a UNet."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmunet_monai.losses import MaskedMSELoss
from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, fill_hidden, hide
from cmunet_monai.networks import UNet


class MaskedAutoencoder(PretrainingMethod):
    """Hidden patches of a frame are reconstructed from the visible ones.

    With the default UNet 31,042,369 parameters are trained: encoder, decoder and a 1x1 pixel head.

    Args:
        network: the UNet that fine-tuning starts from.
        patch_size: side of a masked patch in pixels.
        normalise_targets: normalise each hidden patch of the target; False compares raw pixels.
    Source: He et al. 2022. Deviations: convolutions need a whole image, so hidden patches are set to 0 (the mean of a
        z-scored frame) and not removed; the decoder is the UNet's, skip connections included, and is transferred.
    """

    def __init__(self, network: UNet, *, patch_size: int = 16, normalise_targets: bool = True) -> None:
        super().__init__(network)
        self.patch_size = patch_size
        self.pixel_head = nn.Conv2d(network.channels[0], 1, kernel_size=1)
        self.masked_mse = MaskedMSELoss(patch_size, normalise_targets=normalise_targets)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            views: `image`, (B, 1, H, W) z-scored, and `mask`, (B, 1, H / patch_size, W / patch_size) bool, True =
                hidden. H and W must be multiples of the UNet's divisor.
        Returns:
            `loss`, over the pixels of hidden patches.
        """
        masked = hide(views["image"], views["mask"], self.patch_size)  # (B, 1, H, W), mask True = hidden = 0
        pixels = self._pixels(masked)  # (B, 1, H, W)
        return {"loss": self.masked_mse(pixels, views["image"], views["mask"])}

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """Hidden patches as the decoder fills them (normalised targets: in each patch's own scale)."""
        image, mask = views["image"], views["mask"]
        masked = hide(image, mask, self.patch_size)
        pixels = self._pixels(masked).float()
        normalised = self.masked_mse.normalise_targets
        return Reconstruction(image, masked, fill_hidden(image, pixels, mask, self.patch_size, normalised=normalised))

    def _pixels(self, masked: Tensor) -> Tensor:
        return self.pixel_head(self.network.decoder(self.network.encoder(masked)))

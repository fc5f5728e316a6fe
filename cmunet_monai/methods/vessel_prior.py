"""Where are the vessels of the frame behind noise and hidden patches? A ridge filter of the whole frame knows."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmunet_monai.losses import VesselBCELoss
from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, hide, in_range_of
from cmunet_monai.networks import UNet


class VesselPrior(PretrainingMethod):
    """Predict the vessel response of a clean frame from a disturbed one, on visible and hidden patches alike.

    With the default UNet 31,042,369 parameters are trained: encoder, decoder and a 1x1 prior head.

    Args:
        network: the UNet that fine-tuning starts from.
        patch_size: side of a masked patch in pixels.
        vessel_weight: of `VesselBCELoss`.
    Source: this project's own; the ridge filter as target is the idea of VasoMIM's prior (Huang et al. 2025).
    """

    def __init__(self, network: UNet, *, patch_size: int = 16, vessel_weight: float = 9.0) -> None:
        super().__init__(network)
        self.patch_size = patch_size
        self.prior_head = nn.Conv2d(network.channels[0], 1, kernel_size=1)
        self.bce = VesselBCELoss(vessel_weight)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            views: `image`, (B, 1, H, W) z-scored, then disturbed; `prior`, (B, 1, H, W) in 0..1, the response of the
                clean frame; `mask`, (B, 1, H / patch_size, W / patch_size) bool, True = hidden. H and W must be
                multiples of the UNet's divisor.
        Returns:
            `loss`, over all pixels.
        """
        masked = hide(views["image"], views["mask"], self.patch_size)  # (B, 1, H, W), mask True = hidden = 0
        return {"loss": self.bce(self._logits(masked), views["prior"])}  # logits and prior: (B, 1, H, W)

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """The predicted response, 0..1, in the range of each image: vessels bright."""
        image = views["image"]
        masked = hide(image, views["mask"], self.patch_size)
        return Reconstruction(image, masked, in_range_of(image, self._logits(masked).float().sigmoid()))

    def _logits(self, masked: Tensor) -> Tensor:
        return self.prior_head(self.network.decoder(self.network.encoder(masked)))

"""The small network that tells VasoMIM where vessels are."""

from collections.abc import Mapping

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, in_range_of
from cmunet_monai.networks import UNet


class PriorSegmentor(PretrainingMethod):
    """Segment what the vessel prior grew, without labels: 0.5 cross-entropy + 0.5 Dice.

    Its encoder, decoder and head are what `VasoMIM` reads; nobody fine-tunes it.

    Args:
        network: a UNet of one output channel; with channels 12, 24, 48, 96 it has 272,221 parameters (published: 0.26
            million).
    Raises:
        ValueError: if the network has more output channels.
    Source: Huang et al. 2025 (VasoMIM). Deviations: the network, and a Sato filter for the prior.
    """

    transferred = ("encoder", "decoder", "head")

    def __init__(self, network: UNet) -> None:
        super().__init__(network)
        if network.out_channels != 1:
            raise ValueError(f"`network` must have 1 output channel, got {network.out_channels}")
        self.dice = DiceLoss(sigmoid=True)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            views: `image`, (B, 1, H, W) z-scored, and `prior`, (B, 1, H, W): vessel above 0.5.
        Returns:
            `loss` and its halves, `cross_entropy` and `dice_loss` (the mean over images).
        """
        logits = self.network(views["image"]).float()  # (B, 1, H, W)
        target = (views["prior"] > 0.5).float()
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, target)
        dice_loss = self.dice(logits, target)
        return {
            "loss": 0.5 * cross_entropy + 0.5 * dice_loss,
            "cross_entropy": cross_entropy,
            "dice_loss": dice_loss,
        }

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """The vessel probability in the range of each image; the network sees the whole image."""
        image = views["image"]
        return Reconstruction(image, image, in_range_of(image, self.network(image).float().sigmoid()))

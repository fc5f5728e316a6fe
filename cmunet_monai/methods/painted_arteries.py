"""Find the synthetic arteries that were painted into an unlabelled angiogram: a pretext that is the task itself."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cmunet_monai.losses import SegmentationLoss
from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, in_range_of
from cmunet_monai.networks import UNet


class PaintedArteries(PretrainingMethod):
    """Segment arteries that were painted into real backgrounds, whose mask is known exactly.

    The whole network is trained and transferred, its head included: it segments before it has seen a label.

    Args:
        network: the UNet that fine-tuning starts from.
        lambda_ce: weight of the cross-entropy beside the Dice loss.
    Source: this project's own. Related: SSVS (Ma et al. 2021) and FreeCOS (Shi et al. 2023) learn from drawn curves and
        fractals, and adapt them to real frames; here projected coronary trees darken real frames by Beer-Lambert's law.
    """

    transferred = ("encoder", "decoder", "head")

    def __init__(self, network: UNet, *, lambda_ce: float = 1.0) -> None:
        super().__init__(network)
        self.loss = SegmentationLoss(lambda_ce=lambda_ce)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            views: `image`, (B, 1, H, W) z-scored, with painted arteries; `label`, (B, 1, H, W), 1 inside one, else 0.
        Returns:
            `loss`: Dice of the arteries and cross-entropy, as in fine-tuning.
        """
        logits = self.network(views["image"])  # (B, 2, H, W)
        return {"loss": self.loss(logits.float(), views["label"])}

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """The true mask and the network's probability, in the range of each image: arteries bright."""
        image, label = views["image"], views["label"]
        probability = self.network(image).float().softmax(dim=1)[:, 1:]  # (B, 1, H, W)
        return Reconstruction(
            image,
            in_range_of(image, label),
            in_range_of(image, probability),
            titles=("painted frame", "painted arteries", "found"),
        )

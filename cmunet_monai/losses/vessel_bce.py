"""Cross-entropy with soft targets in which vessels weigh more than background."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class VesselBCELoss(nn.Module):
    """Weighted mean of the binary cross-entropy, in float32; the weight of a pixel is 1 + vessel_weight * target.

    Soft targets have an entropy, so that the least loss is above 0. MONAI has no cross-entropy with weights by pixel.

    Args:
        vessel_weight: from 0. The mean vessel response of an angiogram is about 0.11 (60 frames of ARCADE): at 9 half
            of the weight follows the response.
    Raises:
        ValueError: if `vessel_weight` is negative.
    """

    def __init__(self, vessel_weight: float = 9.0) -> None:
        super().__init__()
        if vessel_weight < 0:
            raise ValueError(f"`vessel_weight` must not be negative, got {vessel_weight}")
        self.vessel_weight = vessel_weight

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets, (B, 1, H, W) each -> scalar. Targets are clipped to 0..1: enlarging overshoots.

        Raises:
            ValueError: if the shapes differ.
        """
        if input.shape != target.shape:
            raise ValueError(
                f"`input` and `target` must be of one shape, got {tuple(input.shape)} and {tuple(target.shape)}"
            )
        with torch.autocast(input.device.type, enabled=False):
            target = target.float().clamp(0, 1)
            weight = 1 + self.vessel_weight * target
            losses = functional.binary_cross_entropy_with_logits(input.float(), target, weight=weight, reduction="sum")
            return losses / weight.sum()

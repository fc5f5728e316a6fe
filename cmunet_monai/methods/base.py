"""The contract of a pre-training method."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmunet_monai.networks import UNet


@dataclass(frozen=True)
class Reconstruction:
    """What a method shows of itself: (B, 1, H, W) each."""

    image: Tensor
    masked: Tensor
    reconstruction: Tensor


class PretrainingMethod(nn.Module, ABC):
    """A UNet, what is built around it, and the losses that train it without labels.

    A new method is one file here, one overlay in the pre-training bundle's `configs/methods/` and one test file.

    Attributes:
        transferred: which parts of the network fine-tuning starts from.
        network: the UNet. Its segmentation head takes no part in pre-training and is frozen.
    """

    transferred: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.network.head.requires_grad_(False)

    @abstractmethod
    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of views -> scalars by name: `loss`, which is minimised, and its parts."""

    def after_step(self) -> None:
        """Called after every optimiser step (momentum encoders)."""

    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction | None:
        """What the method makes of a batch, for pictures; None where it reconstructs nothing."""
        return None


def hide(image: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """Set hidden patches to 0, the mean of a z-scored frame.

    Args:
        image: (B, 1, H, W).
        mask: (B, 1, H / patch_size, W / patch_size) bool, True = hidden.
        patch_size: side of a patch in pixels.
    """
    pixels = mask.repeat_interleave(patch_size, dim=-2).repeat_interleave(patch_size, dim=-1)
    return torch.where(pixels, 0.0, image)

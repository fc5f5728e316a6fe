"""The contract of a pre-training method."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cmunet_monai.networks import UNet


@dataclass(frozen=True)
class Reconstruction:
    """What a method shows of itself: (B, 1, H, W) each, and what they are called."""

    image: Tensor
    masked: Tensor
    reconstruction: Tensor
    titles: tuple[str, str, str] = ("view", "what the network sees", "reconstruction")


class PretrainingMethod(nn.Module, ABC):
    """A UNet, what is built around it, and the losses that train it without labels.

    A new method is one file here, one overlay in the pre-training bundle's `configs/methods/` and one test file.

    Attributes:
        transferred: which parts of the network fine-tuning starts from.
        network: the UNet. Its segmentation head is frozen, unless it is transferred.
    """

    transferred: tuple[str, ...] = ("encoder", "decoder")

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.network.head.requires_grad_("head" in self.transferred)

    @abstractmethod
    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of views -> scalars by name: `loss`, which is minimised, and its parts."""

    def after_step(self) -> None:
        """Called after every optimiser step (momentum encoders)."""

    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction | None:
        """What the method makes of a batch, for pictures; None where it reconstructs nothing."""
        return None


def prepare_views(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **_: Any
) -> tuple[dict[str, Tensor], None]:
    """The tensors of a batch as plain tensors on the device; images channels-last. There is no target."""
    views = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    moved = {key: torch.as_tensor(value).to(device, non_blocking=non_blocking) for key, value in views.items()}
    return {
        key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for key, value in moved.items()
    }, None


def hide(image: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """Set hidden patches to 0, the mean of a z-scored frame.

    Args:
        image: (B, 1, H, W).
        mask: (B, 1, H / patch_size, W / patch_size) bool, True = hidden.
        patch_size: side of a patch in pixels.
    """
    return torch.where(_pixel_mask(mask, patch_size), 0.0, image)


def fill_hidden(image: Tensor, pixels: Tensor, mask: Tensor, patch_size: int, *, normalised: bool) -> Tensor:
    """The image with its hidden patches as a method reconstructs them; (B, 1, H, W).

    Args:
        image: (B, 1, H, W).
        pixels: (B, 1, H, W) what was reconstructed.
        mask: (B, 1, H / patch_size, W / patch_size) bool, True = hidden.
        patch_size: side of a patch in pixels.
        normalised: targets were normalised per patch; each patch gets the image's mean and standard deviation there.
    """
    if normalised:
        batch, _, height, width = image.shape
        shape = (batch, 1, height // patch_size, patch_size, width // patch_size, patch_size)
        variance, mean = torch.var_mean(image.reshape(shape), dim=(3, 5), keepdim=True)
        pixels = (pixels.reshape(shape) * variance.sqrt() + mean).reshape(image.shape)
    return torch.where(_pixel_mask(mask, patch_size), pixels, image)


def in_range_of(image: Tensor, share: Tensor) -> Tensor:
    """(B, 1, H, W) each: 0..1 of `share` as the darkest to the brightest value of each image, for pictures."""
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return low + (high - low) * share


@torch.no_grad()
def update_average(average: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the parameters of a momentum branch towards the online ones; its buffers (BatchNorm) stay its own."""
    for source, target in zip(online.parameters(), average.parameters(), strict=True):
        target.lerp_(source, 1 - momentum)


def _pixel_mask(mask: Tensor, patch_size: int) -> Tensor:
    return mask.repeat_interleave(patch_size, dim=-2).repeat_interleave(patch_size, dim=-1)

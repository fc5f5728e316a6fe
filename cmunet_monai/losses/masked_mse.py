"""Mean squared error on the hidden patches."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedMSELoss(nn.Module):
    """Mean squared error over the pixels of hidden patches; visible patches do not count.

    Args:
        patch_size: side of a patch in pixels.
        normalise_targets: each patch of the target is brought to mean 0 and variance 1 first (He et al. 2022), so that
            texture and edges count, not brightness; False compares raw pixels (Challier et al. 2025, equation 1).
    """

    def __init__(self, patch_size: int = 16, *, normalise_targets: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.normalise_targets = normalise_targets

    def forward(self, input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The loss as a scalar, in float32.

        Args:
            input: (B, 1, H, W) reconstruction.
            target: (B, 1, H, W) image.
            mask: (B, 1, H / patch_size, W / patch_size) bool, True = hidden.
        Raises:
            ValueError: if the shapes do not fit each other, or nothing is hidden.
        """
        side = self.patch_size
        expected = (target.shape[0], 1, target.shape[-2] // side, target.shape[-1] // side)
        if input.shape != target.shape or target.shape[-2] % side or target.shape[-1] % side or mask.shape != expected:
            raise ValueError(
                f"`input` and `target` must be (B, 1, H, W) with sides in multiples of {side}, and `mask` "
                f"(B, 1, H / {side}, W / {side}); got {tuple(input.shape)}, {tuple(target.shape)}, {tuple(mask.shape)}"
            )
        if not mask.any():
            raise ValueError("`mask` hides nothing: there is no patch to compare")
        patches = hidden_patches(target.float(), mask, side)  # (hidden patches, side^2)
        if self.normalise_targets:
            variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
            patches = (patches - mean) / (variance + 1e-6).sqrt()
        return functional.mse_loss(hidden_patches(input.float(), mask, side), patches)


def hidden_patches(image: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """(B, 1, H, W), (B, 1, h, w) bool -> (number of hidden patches, patch_size**2)."""
    batch, _, rows, columns = mask.shape
    patches = image.reshape(batch, rows, patch_size, columns, patch_size).transpose(2, 3)
    return patches.reshape(batch, rows, columns, patch_size**2)[mask[:, 0]]

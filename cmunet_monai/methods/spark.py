"""SparK: a masked autoencoder whose encoder sees the visible patches alone."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from cmunet_monai.losses import MaskedMSELoss
from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, fill_hidden, hide
from cmunet_monai.networks import UNet, encode_visible


class SparK(PretrainingMethod):
    """Hidden patches are removed from the encoder; the decoder reconstructs them from mask tokens in their place.

    Patches set to 0, as in `MaskedAutoencoder`, are pixels like others, and enter BatchNorm's statistics.

    With the default UNet 31,044,353 parameters are trained: the UNet with one output channel (31,042,369), and a token
    for each skip and the bottleneck (1,984). The published 34,182,353 (Challier et al. 2025) hold 3,138,000 more, of
    densifying convolutions for a decoder of 768 channels, which the UNet's decoder never uses: left out here.

    Args:
        network: the UNet that fine-tuning starts from.
        patch_size: side of a masked patch in pixels; a multiple of the UNet's divisor.
        normalise_targets: normalise each hidden patch of the target; False compares raw pixels.
    Raises:
        ValueError: if a patch is not a whole number of positions at the bottleneck.
    Source: Tian et al. 2023, section 3; the tokens' initialisation from its code. Deviations: the decoder is the
        UNet's, and is transferred; no normalisation and no convolution before it, since it takes the encoder's widths;
        several processes have BatchNorm's statistics of their own frames each (there: of all); crops (0.2 to 1 of the
        area, there 0.67 to 1), weight decay (fixed) and gradients (not clipped) are as for the other methods here.
    """

    def __init__(self, network: UNet, *, patch_size: int = 16, normalise_targets: bool = True) -> None:
        super().__init__(network)
        if patch_size < 1 or patch_size % network.divisor:
            raise ValueError(
                f"`patch_size` must be a multiple of the UNet's divisor {network.divisor}, got {patch_size}"
            )
        self.patch_size = patch_size
        self.pixel_head = nn.Conv2d(network.channels[0], 1, kernel_size=1)
        # one-dimensional, so that `adamw` does not decay them (nor does the original)
        self.mask_tokens = nn.ParameterList(torch.empty(channels) for channels in network.channels)
        for token in self.mask_tokens:
            nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
        self.masked_mse = MaskedMSELoss(patch_size, normalise_targets=normalise_targets)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            views: `image`, (B, 1, H, W) z-scored, and `mask`, (B, 1, H / patch_size, W / patch_size) bool, True =
                hidden.
        Returns:
            `loss`, over the pixels of hidden patches.
        """
        pixels = self._pixels(views["image"], views["mask"])  # (B, 1, H, W)
        return {"loss": self.masked_mse(pixels, views["image"], views["mask"])}

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """Hidden patches as the decoder fills them (normalised targets: in each patch's own scale)."""
        image, mask = views["image"], views["mask"]
        pixels = self._pixels(image, mask).float()
        filled = fill_hidden(image, pixels, mask, self.patch_size, normalised=self.masked_mse.normalise_targets)
        return Reconstruction(image, hide(image, mask, self.patch_size), filled)

    def _pixels(self, image: Tensor, mask: Tensor) -> Tensor:
        features = encode_visible(self.network.encoder, image, mask)  # (B, C_i, H/2^i, W/2^i), 0 where hidden
        dense = densify(features, mask, self.mask_tokens)  # the same shapes, a token where hidden
        return self.pixel_head(self.network.decoder(dense))  # (B, C_0, H, W) -> (B, 1, H, W)


def densify(features: Iterable[Tensor], mask: Tensor, tokens: Iterable[Tensor]) -> list[Tensor]:
    """Put the token of each scale at its hidden positions.

    Args:
        features: one (B, C, H / 2**i, W / 2**i) a scale.
        mask: (B, 1, H / patch_size, W / patch_size) bool, True = hidden.
        tokens: one (C,) a scale.
    """
    dense = []
    for feature, token in zip(features, tokens, strict=True):
        side = feature.shape[-1] // mask.shape[-1]
        hidden = mask.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)
        dense.append(torch.where(hidden, token.to(feature.dtype)[:, None, None], feature))
    return dense

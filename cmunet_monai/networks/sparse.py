"""The UNet's encoder on the visible patches alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmunet_monai.networks.unet import UNetEncoder


def encode_visible(encoder: UNetEncoder, image: Tensor, mask: Tensor) -> list[Tensor]:
    """What `encoder(image)` gives if hidden patches did not exist: the same modules, run on visible positions alone.

    The visible patches are kept as a batch of small images, so that BatchNorm (its running statistics too), ReLU and
    pooling meet no hidden position. For a convolution they are laid into a frame of zeros, and taken out of its result
    (a submanifold sparse convolution: neighbouring visible patches see each other).

    Args:
        encoder: in training its BatchNorm buffers are updated, as by its own `forward`.
        image: (B, in_channels, H, W); hidden pixels are never read. Fastest in the channels-last memory format.
        mask: (B, 1, H / side, W / side) bool, True = hidden; the side of a patch is a multiple of 2**(stages - 1).
    Returns:
        One (B, channels[i], H / 2**i, W / 2**i) a stage, the bottleneck last; 0 at hidden positions.
    Raises:
        ValueError: if `mask` does not fit `image` and the depth of the encoder, or hides everything.
    Source: Tian et al. 2023 (SparK), section 3. Deviations: none.
    """
    side = _patch_side(image, mask, 2 ** (len(encoder.stages) - 1))
    visible = _VisiblePatches(mask, side)
    patches = visible.take(image)  # (V, in_channels, side, side), V visible patches of the batch
    features = []
    for depth, stage in enumerate(encoder.stages):
        if depth:
            patches = functional.max_pool2d(patches, 2)  # (V, C, side/2^depth, side/2^depth)
            visible = _VisiblePatches(mask, side >> depth)
        for layer in stage.children():
            if isinstance(layer, nn.Conv2d):
                patches = visible.take(layer(visible.lay(patches)))
            else:
                patches = layer(patches)
        features.append(visible.lay(patches))  # (B, C, H/2^depth, W/2^depth)
    return features


class _VisiblePatches:
    """Where the visible patches lie in a frame in which a patch has `side` positions.

    A frame in the channels-last format is cut into lines of `side` positions with their channels; `lines` numbers
    those of the visible patches, patch by patch.
    """

    def __init__(self, mask: Tensor, side: int) -> None:
        self.side = side
        self.batch, _, self.rows, self.columns = mask.shape
        image, row, column = torch.nonzero(~mask[:, 0], as_tuple=True)
        first = (image * self.rows + row) * side * self.columns + column
        self.lines = (first[:, None] + torch.arange(side, device=mask.device) * self.columns).flatten()

    def take(self, frame: Tensor) -> Tensor:
        """(B, C, H, W) -> (visible patches, C, side, side)."""
        channels = frame.shape[1]
        lines = frame.permute(0, 2, 3, 1).reshape(-1, self.side * channels).index_select(0, self.lines)
        return lines.view(-1, self.side, self.side, channels).permute(0, 3, 1, 2)

    def lay(self, patches: Tensor) -> Tensor:
        """(visible patches, C, side, side) -> (B, C, H, W), 0 at hidden positions."""
        channels, side = patches.shape[1:3]
        lines = patches.permute(0, 2, 3, 1).reshape(-1, side * channels)
        frame = lines.new_zeros(self.batch * self.rows * side * self.columns, side * channels)
        frame = frame.index_copy_(0, self.lines, lines)
        return frame.view(self.batch, self.rows * side, self.columns * side, channels).permute(0, 3, 1, 2)


def _patch_side(image: Tensor, mask: Tensor, divisor: int) -> int:
    """Pixels of a patch's side."""
    batch, _, height, width = image.shape
    side = width // max(mask.shape[-1], 1)
    expected = (batch, 1, height // max(side, 1), width // max(side, 1))
    whole = side > 0 and side % divisor == 0 and height % side == 0 and width % side == 0
    if not whole or mask.shape != expected or mask.dtype != torch.bool:
        raise ValueError(
            f"`mask` must be bool (B, 1, H / side, W / side), with patches of `side` pixels in multiples of {divisor} "
            f"(one position of the bottleneck); got {mask.dtype} {tuple(mask.shape)} for `image` {tuple(image.shape)}"
        )
    if mask.all():
        raise ValueError("`mask` hides everything: there is nothing to encode")
    return side

"""The one UNet that every method pre-trains and every segmentation model is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

DEFAULT_CHANNELS = (64, 128, 256, 512, 1024)


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """(3x3 convolution with bias, BatchNorm, ReLU) twice; keeps H and W."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNetEncoder(nn.Module):
    """The contracting path: one DoubleConv a stage, 2x2 max-pooling between stages.

    Args:
        in_channels: channels of the image.
        channels: channels of each stage, from full resolution down to the bottleneck.
    """

    def __init__(self, in_channels: int = 1, channels: Sequence[int] = DEFAULT_CHANNELS) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.stages = nn.ModuleList(
            double_conv(before, after) for before, after in zip((in_channels, *channels), channels, strict=False)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) -> one (B, channels[i], H / 2**i, W / 2**i) a stage, the bottleneck last.

        H and W must be multiples of 2**(stages - 1): `UNet` pads for that.
        """
        features = []
        for depth, stage in enumerate(self.stages):
            image = stage(functional.max_pool2d(image, 2) if depth > 0 else image)  # (B, channels[d], H/2^d, W/2^d)
            features.append(image)
        return features


class UNetDecoder(nn.Module):
    """The expanding path: transposed convolution, concatenation (upsampled, skip), DoubleConv.

    Args:
        channels: channels of each encoder stage, as given to `UNetEncoder`.
    """

    def __init__(self, channels: Sequence[int] = DEFAULT_CHANNELS) -> None:
        super().__init__()
        self.channels = tuple(channels)
        pairs = list(zip(self.channels[::-1], self.channels[-2::-1], strict=False))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(deep, skip, kernel_size=2, stride=2) for deep, skip in pairs)
        self.stages = nn.ModuleList(double_conv(2 * skip, skip) for _, skip in pairs)

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's features -> (B, channels[0], H, W)."""
        image = features[-1]  # (B, channels[-1], H/2^(stages-1), W/2^(stages-1)), the bottleneck
        for depth, (up, stage) in enumerate(zip(self.ups, self.stages)):  # noqa: B905  # TorchScript has no `strict`
            skip = features[-2 - depth]  # (B, C, 2h, 2w) where `image` is (B, 2C, h, w)
            image = stage(torch.cat((up(image), skip), dim=1))  # (B, 2C, 2h, 2w) -> (B, C, 2h, 2w)
        return image


class UNet(nn.Module):
    """UNet with an encoder, a decoder and a 1x1 convolution as head; `torch.jit.script` takes it.

    MONAI's `BasicUNet` differs in its last stage, so the published weights and parameter counts would not fit it.
    With the default channels: encoder 18,849,984, decoder 12,192,320, head 130, together 31,042,434 parameters.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits (classes, background included).
        channels: channels of each stage, from full resolution down to the bottleneck.
    Raises:
        ValueError: if `channels` has fewer than two stages, or the image is not (B, in_channels, H, W).
    Source: Ronneberger et al. 2015; Challier et al. 2025, section IV-C.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 2, channels: Sequence[int] = DEFAULT_CHANNELS) -> None:
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"`channels` must be two or more positive numbers, got {tuple(channels)}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.channels = tuple(channels)
        self.encoder = UNetEncoder(in_channels, channels)
        self.decoder = UNetDecoder(channels)
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=1)

    @property
    def divisor(self) -> int:
        """H and W are padded to multiples of this inside."""
        return int(2 ** (len(self.channels) - 1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) of any H and W -> logits (B, out_channels, H, W)."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            self._refuse(image)
        height, width = image.shape[-2], image.shape[-1]
        padding = [0, -width % self.divisor, 0, -height % self.divisor]
        padded = functional.pad(image, padding, mode="replicate")  # (B, in_channels, H', W'), multiples of the divisor
        logits: Tensor = self.head(self.decoder(self.encoder(padded)))  # (B, out_channels, H', W')
        return logits[..., :height, :width]

    @torch.jit.unused
    def _refuse(self, image: Tensor) -> None:
        raise ValueError(f"`image` must be (B, {self.in_channels}, H, W), got {tuple(image.shape)}")

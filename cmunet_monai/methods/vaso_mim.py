"""VasoMIM: masked image modelling that hides vessels first and wants them back."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmunet_monai.losses import MaskedMSELoss
from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, fill_hidden, hide
from cmunet_monai.networks import UNet, load_unet_weights

SEGMENTOR_COMMAND = (
    "python -m monai.bundle run "
    "--config_file \"['BUNDLE/configs/train.json', 'BUNDLE/configs/methods/vaso_mim_segmentor.json']\" "
    "--bundle_root BUNDLE --dataset_dir DATA --datalist DATALIST"
)


class VasoMIM(PretrainingMethod):
    """Hidden patches, vessels among them, are reconstructed, and a frozen segmentor must find their vessels again.

    Guide G: the mean of the vessel prior and of the segmentor's probability. Of the hidden patches a share beta is
    drawn by G, the others uniformly; beta rises linearly with the epochs from 0 to `guided_share`. Where an image has
    no prior all are drawn uniformly.

    Args:
        network: the UNet that fine-tuning starts from.
        segmentor_weights: what a run of `PriorSegmentor` saved, trained on rows of `pretraining` only.
        segmentor_channels: of that run's UNet.
        patch_size: side of a masked patch in pixels.
        mask_ratio: share of the patches that is hidden.
        guided_share: beta at the end; 0 hides at random.
        consistency_weight: of the anatomical consistency beside the masked error; 0 leaves it out.
    Raises:
        FileNotFoundError: without segmentor weights, with the command that makes them.
        ValueError: if they do not fit `segmentor_channels` wholly, or a share is out of range.
    Source: Huang et al. 2025, 2026 (VasoMIM). Deviations: the UNet with hidden patches at 0, the mean, instead of a
        vision transformer; a Sato filter for the prior; a UNet of 0.27 million parameters as segmentor, which sees the
        hidden patches pasted into the image (the authors' code: the whole reconstruction), and guides nothing where the
        prior is empty (there: where prior and probability are).
    """

    def __init__(
        self,
        network: UNet,
        *,
        segmentor_weights: str | os.PathLike[str],
        segmentor_channels: Sequence[int] = (12, 24, 48, 96),
        patch_size: int = 16,
        mask_ratio: float = 0.5,
        guided_share: float = 0.5,
        consistency_weight: float = 1.0,
    ) -> None:
        super().__init__(network)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"`mask_ratio` must be between 0 and 1, got {mask_ratio}")
        if not 0 <= guided_share <= 1:
            raise ValueError(f"`guided_share` must be in 0 .. 1, got {guided_share}")
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio
        self.guided_share = guided_share
        self.consistency_weight = consistency_weight
        self.progress = 0.0
        self.pixel_head = nn.Conv2d(network.channels[0], 1, kernel_size=1)
        self.masked_mse = MaskedMSELoss(patch_size)
        self.segmentor = load_segmentor(segmentor_weights, segmentor_channels)

    def set_progress(self, progress: float) -> None:
        """How far the run is, 0 .. 1; `SetMethodProgress` says so at each epoch's start.

        Raises:
            ValueError: outside 0 .. 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"`progress` must be in 0 .. 1, got {progress}")
        self.progress = progress

    def train(self, mode: bool = True) -> "VasoMIM":
        """As of every module, but the segmentor stays in evaluation mode."""
        super().train(mode)
        self.segmentor.eval()
        return self

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            views: `image`, (B, 1, H, W) z-scored; `prior`, (B, 1, H, W), 1 at grown vessels; `draws`,
                (B, 2, H / patch_size, W / patch_size) of `RandPatchDrawsd`. H and W must be multiples of the UNet's
                divisor.
        Returns:
            `loss` = `reconstruction` + consistency_weight * `consistency`, and the parts that count.
        """
        image = views["image"]
        vessels = self._vessels(image)  # (B, 1, H, W) in 0..1
        mask = self._mask(views, vessels)  # (B, 1, H/p, W/p), True = hidden
        pixels = self._pixels(hide(image, mask, self.patch_size)).float()  # (B, 1, H, W)
        reconstruction = self.masked_mse(pixels, image, mask)
        if not self.consistency_weight:
            return {"loss": reconstruction, "reconstruction": reconstruction}
        filled = fill_hidden(image, pixels, mask, self.patch_size, normalised=True)  # (B, 1, H, W)
        consistency = functional.binary_cross_entropy_with_logits(self.segmentor(filled).float(), vessels)
        return {
            "loss": reconstruction + self.consistency_weight * consistency,
            "reconstruction": reconstruction,
            "consistency": consistency,
        }

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction:
        """Hidden patches as the decoder fills them, in each patch's own scale."""
        image = views["image"]
        mask = self._mask(views, self._vessels(image))
        masked = hide(image, mask, self.patch_size)
        filled = fill_hidden(image, self._pixels(masked).float(), mask, self.patch_size, normalised=True)
        return Reconstruction(image, masked, filled)

    @torch.no_grad()
    def _vessels(self, image: Tensor) -> Tensor:
        return self.segmentor(image).float().sigmoid()

    def _mask(self, views: Mapping[str, Tensor], vessels: Tensor) -> Tensor:
        prior = views["prior"].float().clamp(0, 1)  # enlarging overshoots
        guide = (prior + vessels) / 2 * (prior.amax(dim=(1, 2, 3), keepdim=True) > 0)  # (B, 1, H, W)
        patches = functional.avg_pool2d(guide, self.patch_size)  # (B, 1, H/p, W/p)
        return guided_mask(patches, views["draws"], ratio=self.mask_ratio, guided=self.guided_share * self.progress)

    def _pixels(self, masked: Tensor) -> Tensor:
        return self.pixel_head(self.network.decoder(self.network.encoder(masked)))


def guided_mask(guide: Tensor, draws: Tensor, *, ratio: float, guided: float) -> Tensor:
    """Which patches are hidden: some drawn by the guide without replacement (Gumbel top-k), the rest uniformly.

    Args:
        guide: (B, 1, h, w) from 0; a patch is drawn by its share of the sum. Patches at 0 are not drawn by the guide.
        draws: (B, 2, h, w) uniform in [0, 1]: all the randomness there is.
        ratio: share of the patches that is hidden.
        guided: share of the hidden ones that the guide draws.
    Returns:
        (B, 1, h, w) bool, True = hidden: int(ratio * h * w) of each image. The guide draws int(guided * that number) of
        them, or as many as it has above 0.
    """
    weights = guide.flatten(1).float()  # (B, N), N = h w
    by_guide, uniform = draws.flatten(2).float().unbind(dim=1)  # (B, N) each
    count = int(ratio * weights.shape[1])
    # log p + Gumbel noise; the guide's sum, the same for all patches, changes no order
    scores = weights.log() - by_guide.clamp(1e-7, 1 - 1e-7).log().neg().log()
    nothing = torch.zeros_like(weights, dtype=torch.bool)
    first = nothing.scatter(1, scores.topk(int(guided * count)).indices, True) & (weights > 0)
    hidden = nothing.scatter(1, torch.where(first, 2.0, uniform).topk(count).indices, True)  # (B, N)
    return hidden.view(guide.shape)


def load_segmentor(weights: str | os.PathLike[str], channels: Sequence[int]) -> UNet:
    """The trained `PriorSegmentor`'s UNet, frozen, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file, with the command that makes it.
        ValueError: if the file and the UNet differ in any key or shape.
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"no segmentor weights at {weights}: train them first with `{SEGMENTOR_COMMAND}`")
    segmentor = UNet(out_channels=1, channels=channels)
    report = load_unet_weights(segmentor, weights)
    if report.missing or report.skipped:
        raise ValueError(f"{weights} is not a segmentor of channels {tuple(channels)}: {report}")
    return segmentor.requires_grad_(False).eval()

"""CM-UNet: a masked autoencoder and a contrastive momentum branch on one UNet."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmunet_monai.losses import InfoNCELoss, MaskedMSELoss, VesselBCELoss
from cmunet_monai.methods.base import PretrainingMethod, Reconstruction, fill_hidden, hide, update_average
from cmunet_monai.networks import ProjectionHead, UNet, UNetDecoder


class CMUNet(PretrainingMethod):
    """Contrastive masked UNet.

    View A, with 65% of its patches hidden, is reconstructed; an embedding of it is pulled towards that of the whole
    view B, seen by a momentum copy of the encoder, and away from those of the other frames of the batch.

    Embeddings, by `embedding`:
        `pooled`: the bottleneck of each branch, averaged over its positions (1024 -> projector). Any image size; one
            decoder. The idea of the original CMAE (Huang et al. 2024).
        `flattened`: the published one. A feature decoder with its own weights gives a map of `head_channels`, averaged
            over its channels and flattened (224 * 224 = 50,176 values); the momentum branch reaches the same length by
            a 1x1 adapter (1024 -> 256 channels of 14 x 14, the 16 x 16 pixels of each position). Fixed image size. With
            2-channel heads and the default UNet 121,494,084 parameters are trained (121,493,954 with 1-channel heads),
            the adapter not counted.

    A part of weight 0 is neither built nor computed. Where both that use the decoder are 0 (contrast alone), it is
    frozen, and only the encoder is transferred.

    Args:
        network: the UNet that fine-tuning starts from.
        embedding: see above.
        image_size: height and width of the views in pixels; needed for `flattened`.
        lambda_r: weight of the reconstruction loss.
        lambda_c: weight of the contrastive loss beside the reconstruction loss.
        lambda_prior: weight of a second target of the masked branch, view A's vessel response (`VesselPriord`), which a
            1x1 head on the decoder predicts on all pixels.
        temperature: of InfoNCE.
        momentum: of the exponential moving average after each step. Parameters are averaged; BatchNorm in the momentum
            branch normalises with the statistics of its own batch, and its running statistics are its own.
        patch_size: side of a masked patch in pixels.
        normalise_targets: normalise each hidden patch of the target (He et al. 2022). The paper compares raw pixels.
        head_channels: of the pixel and feature heads. With 2, as published, the reconstruction is the last channel.
        train_adapter: train the adapter, on momentum features that are detached; otherwise it stays as initialised.
        hidden_features: of projector and predictor.
        embedding_features: of the contrastive space.
    Raises:
        ValueError: for an unknown `embedding`, `flattened` without a fitting `image_size`, or all weights at 0.
    Source: Challier et al. 2025, section III. Deviations: per-patch target normalisation by default; masks are drawn
        for each image, and the projectors see the same coordinates; the adapter is a fixed layer (the authors' code
        draws it anew in every forward pass, and applies one mask to the whole batch).
    """

    def __init__(
        self,
        network: UNet,
        *,
        embedding: Literal["pooled", "flattened"] = "flattened",
        image_size: tuple[int, int] | None = (224, 224),
        lambda_r: float = 1.0,
        lambda_c: float = 1.0,
        lambda_prior: float = 0.0,
        temperature: float = 0.07,
        momentum: float = 0.996,
        patch_size: int = 16,
        normalise_targets: bool = True,
        head_channels: int = 1,
        train_adapter: bool = False,
        hidden_features: int = 1536,
        embedding_features: int = 256,
    ) -> None:
        super().__init__(network)
        if embedding not in ("pooled", "flattened"):
            raise ValueError(f"`embedding` must be 'pooled' or 'flattened', got {embedding!r}")
        if not (lambda_r or lambda_c or lambda_prior):
            raise ValueError("one of `lambda_r`, `lambda_c` and `lambda_prior` must be above 0")
        self.embedding = embedding
        self.lambda_r = lambda_r
        self.lambda_c = lambda_c
        self.lambda_prior = lambda_prior
        self.momentum = momentum
        self.patch_size = patch_size
        if not (lambda_r or lambda_prior):
            self.transferred = ("encoder",)
            self.network.decoder.requires_grad_(False)
        if lambda_r:
            self.pixel_head = nn.Conv2d(network.channels[0], head_channels, kernel_size=1)
            self.masked_mse = MaskedMSELoss(patch_size, normalise_targets=normalise_targets)
        if lambda_c:
            if embedding == "flattened":
                features = self._flattened_length(image_size)
                self.feature_decoder = UNetDecoder(network.channels)
                self.feature_head = nn.Conv2d(network.channels[0], head_channels, kernel_size=1)
                self.adapter = nn.Conv2d(network.channels[-1], network.divisor**2, kernel_size=1)
                self.adapter.requires_grad_(train_adapter)
            else:
                features = network.channels[-1]
            self.projector = ProjectionHead(features, hidden_features, embedding_features)
            self.predictor = ProjectionHead(embedding_features, hidden_features, embedding_features)
            self.momentum_encoder = deepcopy(network.encoder).requires_grad_(False)
            self.momentum_projector = deepcopy(self.projector).requires_grad_(False)
            self.info_nce = InfoNCELoss(temperature, detach_target=not (embedding == "flattened" and train_adapter))
        if lambda_prior:
            self.prior_head = nn.Conv2d(network.channels[0], 1, kernel_size=1)
            self.prior_bce = VesselBCELoss()

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            views: `view_a` and `view_b`, (B, 1, H, W) z-scored, and `mask`, (B, 1, H / patch_size, W / patch_size)
                bool, True = hidden; with `lambda_prior` also `view_a_prior`, (B, 1, H, W) in 0..1. H and W must be
                multiples of the UNet's divisor.
        Returns:
            `loss` = lambda_r * `reconstruction` + lambda_prior * `prior` + lambda_c * `contrast`, and those of the
            parts that count.
        """
        masked = hide(views["view_a"], views["mask"], self.patch_size)  # (B, 1, H, W), mask True = hidden = 0
        features = self.network.encoder(masked)  # f_s: (B, C_i, H/2^i, W/2^i) for each stage i
        losses = {}
        if self.lambda_r or self.lambda_prior:
            decoded = self.network.decoder(features)  # (B, C_0, H, W)
        if self.lambda_r:
            losses["reconstruction"] = self.masked_mse(self._pixels(decoded), views["view_a"], views["mask"])
        if self.lambda_prior:
            losses["prior"] = self.prior_bce(self.prior_head(decoded), views["view_a_prior"])
        if self.lambda_c:
            prediction = self.predictor(self.projector(self._online_embedding(features)))  # (B, L) -> (B, F)
            target = self.momentum_projector(self._momentum_embedding(views["view_b"]))  # (B, L) -> (B, F)
            losses["contrast"] = self.info_nce(prediction, target)  # row i belongs to row i, the others are negatives
        weights = {"reconstruction": self.lambda_r, "prior": self.lambda_prior, "contrast": self.lambda_c}
        return {"loss": torch.stack([weights[name] * part for name, part in losses.items()]).sum()} | losses

    def after_step(self) -> None:
        """Move the momentum encoder and projector towards the online ones."""
        if self.lambda_c:
            update_average(self.momentum_encoder, self.network.encoder, self.momentum)
            update_average(self.momentum_projector, self.projector, self.momentum)

    @torch.no_grad()
    def reconstruct(self, views: Mapping[str, Tensor]) -> Reconstruction | None:
        """Hidden patches of view A as the pixel decoder fills them (normalised targets: in each patch's own scale)."""
        if not self.lambda_r:
            return None
        image, mask = views["view_a"], views["mask"]
        masked = hide(image, mask, self.patch_size)
        pixels = self._pixels(self.network.decoder(self.network.encoder(masked))).float()
        normalised = self.masked_mse.normalise_targets
        return Reconstruction(image, masked, fill_hidden(image, pixels, mask, self.patch_size, normalised=normalised))

    def _pixels(self, decoded: Tensor) -> Tensor:
        return self.pixel_head(decoded)[:, -1:]

    def _online_embedding(self, features: list[Tensor]) -> Tensor:
        if self.embedding == "pooled":
            return features[-1].mean(dim=(-2, -1))  # (B, C, h, w) -> (B, C)
        return self.feature_head(self.feature_decoder(features)).mean(dim=1).flatten(1)  # (B, H, W) -> (B, H W)

    def _momentum_embedding(self, view: Tensor) -> Tensor:
        with torch.no_grad():
            bottleneck = self.momentum_encoder(view)[-1]  # (B, C, h, w)
        if self.embedding == "pooled":
            return bottleneck.mean(dim=(-2, -1))  # (B, C)
        # pixel by pixel, as the online map is: the projector, whose average this one is, weighs each by its place
        maps = self.adapter(bottleneck)  # (B, 256, h, w): 16 x 16 pixels for each position
        return functional.pixel_shuffle(maps, self.network.divisor).flatten(1)  # (B, 1, H, W) -> (B, H W)

    def _flattened_length(self, image_size: tuple[int, int] | None) -> int:
        divisor = self.network.divisor
        if image_size is None or image_size[0] % divisor or image_size[1] % divisor:
            raise ValueError(
                f"the flattened embedding needs `image_size`, the views' height and width in multiples of {divisor}; "
                f"got {image_size}"
            )
        return image_size[0] * image_size[1]

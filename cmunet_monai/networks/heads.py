"""Heads that pre-training puts on the UNet and that fine-tuning leaves behind."""

from torch import nn


class ProjectionHead(nn.Sequential):
    """Two-layer perceptron onto the space of the contrastive loss: Linear, BatchNorm, ReLU, Linear without bias.

    Used as projector and, with `in_features` equal to `out_features`, as predictor.
    (B, in_features) -> (B, out_features); B must be at least 2 in training (BatchNorm).

    Source: Challier et al. 2025, section III-A3; sizes as published (50,176 -> 1,536 -> 256: 77,468,160 parameters).
    """

    def __init__(self, in_features: int, hidden_features: int = 1536, out_features: int = 256) -> None:
        super().__init__(
            nn.Linear(in_features, hidden_features),
            nn.BatchNorm1d(hidden_features),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_features, out_features, bias=False),
        )
        self.out_features = out_features

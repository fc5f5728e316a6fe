"""Several networks of one form, called together."""

import os
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from cmunet_monai.networks.weights import file_digest

Weights = str | os.PathLike[str]


class Ensemble(nn.Module):
    """A copy of a network for each file of weights; `cmunet_monai.engines.load_trained` loads them.

    Args:
        network: the form of all of them.
        weights: a file, or several; counted here, not read.
    Raises:
        ValueError: if there is none.
    """

    def __init__(self, network: nn.Module, weights: Weights | Sequence[Weights]) -> None:
        super().__init__()
        files = weight_files(weights)
        if not files:
            raise ValueError("`weights` must name at least one file, got none")
        self.members = nn.ModuleList([deepcopy(network) for _ in files])

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, members * C, H, W): the C channels of each member after one another."""
        return torch.cat([member(image) for member in self.members], dim=1)  # (B, C, H, W) each


def weight_files(weights: Weights | Sequence[Weights]) -> list[Weights]:
    """One file or several, as a list."""
    return [weights] if isinstance(weights, (str, os.PathLike)) else list(weights)


def weights_digests(weights: Weights | Sequence[Weights]) -> list[str | None]:
    """The SHA-256 of each file."""
    return [file_digest(file) for file in weight_files(weights)]

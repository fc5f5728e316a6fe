"""Where a segmentation model's weights come from, as steps of a bundle's `initialize`."""

import logging
import os
from collections.abc import Sequence

from torch import nn

from cmunet_monai.networks import Ensemble, WeightsReport, load_unet_weights
from cmunet_monai.networks.ensemble import Weights, weight_files

logger = logging.getLogger(__name__)


def start_from(network: nn.Module, pretrained_weights: str | os.PathLike[str] | None) -> WeightsReport | None:
    """Load pre-trained weights where a file is named, and say what was loaded; else say that training is from scratch.

    Raises:
        FileNotFoundError, ValueError: as `load_unet_weights`.
    """
    if pretrained_weights is None:
        logger.info("no pre-trained weights are given: training from scratch")
        return None
    logger.info("starting from the pre-trained weights %s", pretrained_weights)
    return load_unet_weights(network, pretrained_weights)


def load_trained(network: nn.Module, weights: Weights | Sequence[Weights]) -> list[WeightsReport]:
    """Load the weights of a trained segmentation model, all of them; of an `Ensemble`, a file for each member.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file and the network differ in any key or shape (a pre-trained UNet has no head).
    """
    members = list(network.members) if isinstance(network, Ensemble) else [network]
    reports = []
    for member, file in zip(members, weight_files(weights), strict=True):
        report = load_unet_weights(member, file)
        if report.missing or report.skipped:
            raise ValueError(
                f"{file} does not fit this network; were `channels` and the configs the same in training? {report}"
            )
        reports.append(report)
    return reports

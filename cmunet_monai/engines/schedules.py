"""Optimisers and learning-rate schedules, each one call in a bundle's config."""

import os
from collections.abc import Sized

from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from cmunet_monai.networks.weights import read_state_dict


def adamw(
    network: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.95),
    pretrained_weights: str | os.PathLike[str] | None = None,
    pretrained_rate: float = 1.0,
) -> AdamW:
    """AdamW with weight decay on convolution and linear weights only: none on biases and norms (all 1-D parameters).

    Args:
        network: its parameters that require a gradient are optimised.
        learning_rate: of every group, but for what comes from `pretrained_weights`.
        weight_decay: of the parameters with two or more dimensions.
        betas: of the running means of gradient and squared gradient.
        pretrained_weights: file that the network starts from, as `load_unet_weights` takes it.
        pretrained_rate: rate of the parameters that are in that file, as a multiple of `learning_rate`. Another than 1
            makes groups of their own, after the others.
    Raises:
        ValueError: if `pretrained_rate` is negative.
        FileNotFoundError, ValueError: as `load_unet_weights`, where the rates differ.
    """
    if pretrained_rate < 0:
        raise ValueError(f"`pretrained_rate` must be at least 0, got {pretrained_rate}")
    state = {} if pretrained_weights is None or pretrained_rate == 1 else read_state_dict(pretrained_weights)
    new: list[nn.Parameter] = []
    pretrained: list[nn.Parameter] = []
    for name, parameter in getattr(network, "module", network).named_parameters():
        if parameter.requires_grad:
            fits = name in state and state[name].shape == parameter.shape
            (pretrained if fits else new).append(parameter)
    groups = [
        {"params": [p for p in parameters if (p.ndim > 1) == decays], "lr": rate, "weight_decay": weight_decay * decays}
        for parameters, rate in ((new, learning_rate), (pretrained, learning_rate * pretrained_rate))
        if parameters
        for decays in (True, False)
    ]
    return AdamW(groups, lr=learning_rate, betas=betas, fused=True)  # on a CPU half the time of torch's default


def learning_rate_for_batch(base_rate: float, batch_size: int, *, processes: int = 1) -> float:
    """The linear scaling rule: `base_rate` is that of 256 images a step over all processes (Goyal et al. 2017)."""
    return base_rate * batch_size * processes / 256


def warmup_cosine(
    optimizer: Optimizer, loader: Sized, *, max_epochs: int, warmup_epochs: int = 0
) -> WarmupCosineSchedule:
    """Linear warm-up, then a cosine to 0, stepped after every iteration.

    Raises:
        ValueError: if the warm-up is not shorter than the run.
    """
    if not 0 <= warmup_epochs < max_epochs:
        raise ValueError(f"`warmup_epochs` must be from 0 to {max_epochs - 1} (`max_epochs` - 1), got {warmup_epochs}")
    steps = len(loader)
    return WarmupCosineSchedule(optimizer, warmup_steps=warmup_epochs * steps, t_total=max_epochs * steps)


def one_cycle(optimizer: Optimizer, loader: Sized, *, max_epochs: int) -> OneCycleLR:
    """One cycle up to each group's rate and down to almost 0, stepped after every iteration (Smith and Topin 2018)."""
    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=highest, total_steps=max_epochs * len(loader))

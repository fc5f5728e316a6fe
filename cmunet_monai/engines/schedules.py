"""Optimisers and learning-rate schedules, each one call in a bundle's config."""

from collections.abc import Sized

from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def adamw(
    network: nn.Module, *, learning_rate: float, weight_decay: float = 0.05, betas: tuple[float, float] = (0.9, 0.95)
) -> AdamW:
    """AdamW with weight decay on convolution and linear weights only: none on biases and norms (all 1-D parameters).

    Args:
        network: its parameters that require a gradient are optimised.
        learning_rate: of every group.
        weight_decay: of the parameters with two or more dimensions.
        betas: of the running means of gradient and squared gradient.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
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
        raise ValueError(f"`warmup_epochs` must be in 0 .. max_epochs - 1 = {max_epochs - 1}, got {warmup_epochs}")
    steps = len(loader)
    return WarmupCosineSchedule(optimizer, warmup_steps=warmup_epochs * steps, t_total=max_epochs * steps)


def one_cycle(optimizer: Optimizer, loader: Sized, *, max_epochs: int, learning_rate: float) -> OneCycleLR:
    """One cycle up to `learning_rate` and down to almost 0, stepped after every iteration (Smith and Topin 2018)."""
    return OneCycleLR(optimizer, max_lr=learning_rate, total_steps=max_epochs * len(loader))

"""The one pre-training loop, on MONAI's trainer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from cmunet_monai.engines.handlers import StopOnNonFiniteLoss
from cmunet_monai.methods.base import prepare_views


class Pretrainer(SupervisedTrainer):
    """Train a `PretrainingMethod` on views of unlabelled frames.

    Args:
        device: where the method is trained.
        max_epochs: epochs of the whole run, those before an interruption included.
        train_data_loader: gives dictionaries of views.
        method: the method, which is brought to the channels-last memory format; or its `DistributedDataParallel`, which
            has to wrap it in that format (brought there afterwards, its first gradients would stand in wrong places).
        optimizer: of the method's parameters. The method's `after_step` runs after each of its steps.
        inferer: how the method is called; `cmunet_monai.inferers.AutocastInferer` for bfloat16.
        settings: further arguments of MONAI's `SupervisedTrainer`, such as `train_handlers`.
    Raises:
        ValueError: if the loader has no batch, since there are fewer frames than one holds.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        method: nn.Module,
        optimizer: Optimizer,
        inferer: Inferer | None = None,
        train_handlers: Sequence[Any] | None = None,
        **settings: Any,
    ) -> None:
        if len(train_data_loader) == 0:
            raise ValueError(
                f"the frames for training do not fill one batch of {train_data_loader.batch_size} in each process: "
                "give more frames or a smaller `batch_size`"
            )
        inner: Any = getattr(method, "module", method)
        if not isinstance(method, nn.parallel.DistributedDataParallel):
            inner.to(memory_format=torch.channels_last)
        optimizer.register_step_post_hook(lambda *_: inner.after_step())
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=method,
            optimizer=optimizer,
            loss_function=total_loss,
            inferer=inferer,
            prepare_batch=prepare_views,
            decollate=False,
            train_handlers=[StopOnNonFiniteLoss(), *(train_handlers or [])],
            **settings,
        )


def total_loss(losses: Mapping[str, Tensor], _: None) -> Tensor:
    """The loss that is minimised, of a method's named losses."""
    return losses["loss"]

"""Stop at the first loss that is not finite, before it reaches the weights."""

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys


class StopOnNonFiniteLoss:
    """Raise an error that names the step; ignite's `TerminateOnNan` ends the run as if it had finished.

    Raises:
        RuntimeError: at the iteration whose loss is NaN or infinite; the weights are those before that step.
    """

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: Any = engine.state.output
        loss = output[CommonKeys.LOSS].detach()
        if not torch.isfinite(loss).all():
            raise RuntimeError(
                f"the loss is {float(loss.sum())} at epoch {engine.state.epoch}, iteration {engine.state.iteration}: "
                "lower the learning rate, or check the frames of this step for NaN; the last checkpoint is kept"
            )

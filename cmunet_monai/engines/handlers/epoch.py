"""Handlers that pass the current epoch to data sets and methods, whose random state and settings depend on it."""

from typing import Any

from ignite.engine import Engine, Events


class SetDataEpoch:
    """Call `dataset.set_epoch(epoch)` at the start of each epoch (MONAI does this for samplers only)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.dataset.set_epoch(engine.state.epoch)


class SetMethodProgress:
    """Call `method.set_progress` at the start of each epoch: 0 in the first, 1 in the last, linear between.

    It depends on the epoch alone, so that a resumed run goes on as it would have.

    Args:
        method: the method, or its `DistributedDataParallel`.
    """

    def __init__(self, method: Any) -> None:
        self.method = method

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        method = getattr(self.method, "module", self.method)
        method.set_progress((engine.state.epoch - 1) / max((engine.state.max_epochs or 0) - 1, 1))

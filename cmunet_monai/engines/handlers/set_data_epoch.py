"""Tell a data set the epoch, so that its randomness can depend on it."""

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

"""One progress bar for a whole run."""

import sys

from ignite.engine import Engine, Events
from tqdm import tqdm

from cmunet_monai.engines.distributed import is_main_process
from cmunet_monai.engines.handlers.csv_log import named_losses


class ProgressBar:
    """A bar over all steps of a run, resumed ones included.

    ignite's `ProgressBar` draws a bar an epoch: hundreds of them where an epoch has two steps.

    Args:
        title: what stands before the bar; None gives the epoch, and the loss after the bar.
    """

    def __init__(self, title: str | None = None) -> None:
        self.title = title

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED, self.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)

    bar: tqdm | None = None

    def start(self, engine: Engine) -> None:
        if self.bar is None:
            steps = engine.state.epoch_length or 0
            self.bar = tqdm(
                total=steps * (engine.state.max_epochs or 0),
                initial=engine.state.iteration,
                unit="step",
                mininterval=0.2 if sys.stderr.isatty() else 15,
                disable=not is_main_process(),
            )
        title = self.title or f"epoch {engine.state.epoch}/{engine.state.max_epochs}"
        self.bar.set_description(title, refresh=False)

    def advance(self, engine: Engine) -> None:
        if self.bar is not None:
            if self.title is None:
                self.bar.set_postfix(loss=f"{named_losses(engine.state.output)['loss']:.4f}", refresh=False)
            self.bar.update()

    def close(self, engine: Engine) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def fail(self, engine: Engine, error: BaseException) -> None:
        self.close(engine)
        raise error

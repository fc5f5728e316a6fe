"""An interrupted run, started again with the same command, goes on where it was."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events

from cmunet_monai.engines.distributed import is_main_process
from cmunet_monai.files.atomic import atomic_path

logger = logging.getLogger(__name__)


class ResumableCheckpoint:
    """Save the complete state of a run after an epoch, and load it at the start if the file exists.

    MONAI's `CheckpointSaver` and `CheckpointLoader` need the path of an existing file in the config to resume, and
    write in place. Here the file is replaced atomically, so that a killed run leaves the last epoch that was saved.
    With data seeded by epoch (`SeededCacheDataset`) a resumed run on the CPU ends bit-equal to an uninterrupted one.

    Attach it before the handlers that read the epoch at the start.

    Args:
        path: checkpoint file, such as `<output_dir>/checkpoint.pt`.
        save_dict: name -> object with `state_dict` and `load_state_dict` (network or method, optimiser, scheduler).
        settings: what must not change between the parts of one run, as JSON values.
        every: epochs between two checkpoints; the last epoch is always saved.
        seconds: least time between two checkpoints, for epochs that are short beside the writing of one.
    Raises:
        ValueError: at the start of a run, if the checkpoint comes from other settings or cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        save_dict: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        *,
        every: int = 1,
        seconds: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self.save_dict = dict(save_dict)
        self.settings = dict(settings or {})
        self.every = every
        self.seconds = seconds

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        self.load(engine)
        self.saved = perf_counter()
        # registered only now, so that it runs last: an epoch counts once all other handlers have written their part
        if not engine.has_event_handler(self.save):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Engine) -> None:
        if not self.path.is_file():
            return
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{self.path} cannot be read; remove it to start the run anew: {error}") from error
        for name, now in self.settings.items():
            before = state["settings"].get(name)
            if before != now:
                raise ValueError(
                    f"{self.path} was written with {name} = {before}, this run has {now}: "
                    "give the same value to go on, or another output_dir (or remove the file) to start anew"
                )
        for name, item in self.save_dict.items():
            _unwrap(item).load_state_dict(state["objects"][name])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        if state["epoch"] >= (engine.state.max_epochs or 0):
            logger.info("%s is of a finished run of %d epochs: nothing to train", self.path, state["epoch"])
        else:
            logger.info("going on after epoch %d of %s", state["epoch"], self.path)

    def save(self, engine: Engine) -> None:
        last = engine.state.epoch == engine.state.max_epochs
        due = engine.state.epoch % self.every == 0 and perf_counter() - self.saved >= self.seconds
        if not is_main_process() or not (last or due):
            return
        state = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "settings": self.settings,
            "objects": {name: _unwrap(item).state_dict() for name, item in self.save_dict.items()},
        }
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)
        self.saved = perf_counter()


def _unwrap(item: Any) -> Any:
    return getattr(item, "module", item)

"""When a run validates, what it finds, and the weights of the best epoch."""

import csv
import math
import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler
from torch import nn

from cmunet_monai.engines.distributed import is_main_process
from cmunet_monai.files.atomic import write_csv_atomic
from cmunet_monai.networks import save_unet_weights


class PeriodicValidation(ValidationHandler):
    """MONAI's `ValidationHandler` that validates after the last epoch too, where the interval does not divide it."""

    def attach(self, engine: Engine) -> None:
        def due(engine: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=due), self)


class ValidationRecord:
    """Write one row a validation to a CSV file, and keep the weights of the best epoch. Attach to the evaluator.

    The file is the only memory: a resumed run drops the rows of the epochs that it repeats, and compares with those
    that are left. MONAI's `CheckpointSaver` forgets the best value when a run is interrupted, and writes pickles.

    Args:
        path: CSV file; columns are `epoch` and the evaluator's metrics.
        network: the UNet (or its wrapper in distributed training).
        best_weights: `.safetensors` file for the weights of the best epoch.
        metric: the metric that decides, larger is better; on a tie, and where it is NaN, the earlier epoch stays.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: nn.Module,
        best_weights: str | os.PathLike[str],
        *,
        metric: str = "mean_dice",
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.best_weights = Path(best_weights)
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if not is_main_process():
            return
        epoch = engine.state.epoch
        earlier = [row for row in self._read() if int(row["epoch"]) < epoch]
        metrics: dict[str, Any] = {name: float(value) for name, value in engine.state.metrics.items()}
        if not earlier or _score(metrics[self.metric]) > max(_score(float(row[self.metric])) for row in earlier):
            save_unet_weights(self.network, self.best_weights, epoch=epoch, **metrics)
        row = {"epoch": epoch} | {name: f"{value:.6f}" for name, value in metrics.items()}
        write_csv_atomic(self.path, [*earlier, row])

    def _read(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def _score(value: float) -> float:
    return -math.inf if math.isnan(value) else value

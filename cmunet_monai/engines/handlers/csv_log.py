"""Log one row per epoch: losses, learning rate, speed, and the share of time spent waiting for data."""

import csv
import os
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch.optim import Optimizer

from cmunet_monai.engines.distributed import is_main_process
from cmunet_monai.files.atomic import write_csv_atomic


class CSVLog:
    """Write the epoch's mean losses to a CSV file; in a resumed run keep the rows of the epochs before.

    Columns: epoch, loss and its named parts, learning_rate, steps, seconds, images_per_second, and data_wait_share, the
    share of the epoch in which the training step waited for a batch.

    Args:
        path: CSV file.
        optimizer: whose first group's learning rate is logged.
    """

    def __init__(self, path: str | os.PathLike[str], optimizer: Optimizer) -> None:
        self.path = Path(path)
        self.optimizer = optimizer
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.start_waiting)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self.stop_waiting)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self.rows = []
        if engine.state.epoch and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= engine.state.epoch]

    def start_epoch(self, engine: Engine) -> None:
        self.begin = perf_counter()
        self.waited = 0.0
        self.images = 0
        self.sums: dict[str, float] = defaultdict(float)
        self.iterations = 0

    def start_waiting(self, engine: Engine) -> None:
        self.wait_begin = perf_counter()

    def stop_waiting(self, engine: Engine) -> None:
        self.waited += perf_counter() - self.wait_begin

    def add(self, engine: Engine) -> None:
        self.iterations += 1
        self.images += _batch_size(engine.state.batch)
        for name, value in named_losses(engine.state.output).items():
            self.sums[name] += value

    def write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        seconds = perf_counter() - self.begin
        self.rows.append(
            {"epoch": engine.state.epoch}
            | {name: f"{total / self.iterations:.6g}" for name, total in self.sums.items()}
            | {
                "learning_rate": f"{self.optimizer.param_groups[0]['lr']:.6g}",
                "steps": self.iterations,
                "seconds": f"{seconds:.2f}",
                "images_per_second": f"{self.images / seconds:.2f}",
                "data_wait_share": f"{self.waited / seconds:.4f}",
            }
        )
        write_csv_atomic(self.path, self.rows)


def named_losses(output: Any) -> dict[str, float]:
    """The loss of a MONAI trainer's output, and its named parts where the network gave them."""
    if isinstance(output, list):  # decollated: every item holds the batch's loss
        output = output[0]
    parts = output.get(CommonKeys.PRED)
    losses = {"loss": output[CommonKeys.LOSS]} | (parts if isinstance(parts, dict) else {})
    return {name: float(torch.as_tensor(value).detach()) for name, value in losses.items()}


def _batch_size(batch: Any) -> int:
    values = batch.values() if isinstance(batch, dict) else batch
    return int(next(len(value) for value in values if isinstance(value, torch.Tensor)))

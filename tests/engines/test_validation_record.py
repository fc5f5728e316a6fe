"""When validations happen, their table, and the weights of the best one."""

import csv
import json

import monai.engines
import pytest
import torch
from ignite.engine import Engine, State

from cmunet_monai.engines.handlers import PeriodicValidation, ValidationRecord
from cmunet_monai.networks import UNet


class Evaluator:
    """What the handler reads of an engine."""

    def __init__(self, epoch, dice):
        self.state = State(epoch=epoch, metrics={"mean_dice": dice})


@pytest.fixture
def record(tmp_path):
    return ValidationRecord(tmp_path / "v.csv", UNet(channels=(2, 4)), tmp_path / "best.safetensors")


def rows_of(record):
    with record.path.open(newline="") as file:
        return [(int(row["epoch"]), float(row["mean_dice"])) for row in csv.DictReader(file)]


def best_epoch(record):
    return json.loads(record.best_weights.with_suffix(".json").read_text())["epoch"]


def test_best_weights_follow_the_highest_metric_and_the_earlier_epoch_on_a_tie(record):
    for epoch, dice in enumerate((0.2, 0.6, 0.4, 0.6), start=1):
        record(Evaluator(epoch, dice))
    assert rows_of(record) == [(1, 0.2), (2, 0.6), (3, 0.4), (4, 0.6)]
    assert best_epoch(record) == 2


def test_a_resumed_run_drops_the_rows_that_it_repeats_and_compares_with_the_rest(record):
    for epoch, dice in enumerate((0.3, 0.7), start=1):
        record(Evaluator(epoch, dice))
    again = ValidationRecord(record.path, record.network, record.best_weights)
    again(Evaluator(2, 0.5))  # the second epoch anew: its old 0.7 counts no more
    assert rows_of(again) == [(1, 0.3), (2, 0.5)]
    assert best_epoch(again) == 2
    again(Evaluator(3, 0.4))
    assert best_epoch(again) == 2


def test_a_new_run_in_an_old_folder_starts_its_own_table(record):
    record(Evaluator(1, 0.9))
    record(Evaluator(1, 0.1))
    assert rows_of(record) == [(1, 0.1)]


def test_an_undefined_metric_never_wins_against_a_defined_one(record):
    record(Evaluator(1, 0.1))
    record(Evaluator(2, float("nan")))
    assert best_epoch(record) == 1
    record(Evaluator(3, 0.2))
    assert best_epoch(record) == 3


def test_the_first_defined_metric_wins_against_undefined_ones(record):
    record(Evaluator(1, float("nan")))
    record(Evaluator(2, 0.0))
    assert best_epoch(record) == 2


def test_best_weights_are_those_of_the_moment(record):
    record(Evaluator(1, 0.5))
    before = record.best_weights.read_bytes()
    with torch.no_grad():
        record.network.head.bias.add_(1)
    record(Evaluator(2, 0.4))
    assert record.best_weights.read_bytes() == before


class Validator(monai.engines.Evaluator):
    """Notes the epochs that it is asked to validate."""

    def __init__(self):
        self.epochs = []

    def run(self, global_epoch):
        self.epochs.append(global_epoch)


@pytest.mark.parametrize("interval, epochs", [(2, [2, 4, 5]), (5, [5]), (9, [5])])
def test_the_last_epoch_is_validated_whatever_the_interval(interval, epochs):
    engine = Engine(lambda engine, batch: None)
    validator = Validator()
    PeriodicValidation(validator=validator, interval=interval).attach(engine)
    engine.run([0], max_epochs=5)
    assert validator.epochs == epochs

"""Run a study cell by cell; what is finished is not run again."""

import csv
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from cmunet_monai.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.check import RunArguments, check_run
from cmunet_monai.networks import file_digest
from cmunet_monai.study.plan import FOLDS, Study

logger = logging.getLogger(__name__)

Overrides = Mapping[str, Any]
Run = Callable[[list[Path], Overrides], None]


@dataclass(frozen=True)
class Cell:
    """One method on one draw of labelled images."""

    method: str
    draw: int
    folder: Path
    learning_rate: float
    choices: Mapping[float, float]


def run_bundle(configs: list[Path], overrides: Overrides) -> None:
    """`python -m monai.bundle run` in a process of its own, its output beside its results.

    Raises:
        RuntimeError: if the run fails; the message names its log.
    """
    output = Path(overrides["output_dir"])
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str([str(config) for config in configs])]
    for name, value in overrides.items():
        command += [f"--{name}", str(value)]  # read as Python literals: None, not null
    with (output / "run.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise RuntimeError(f"a run failed with exit code {code}: see {output / 'run.log'}, then run the study again")


def run_study(study: Study, *, run: Run = run_bundle) -> list[Cell]:
    """Choose, fit and evaluate every method on every draw.

    For each draw and method: train on two thirds of the labelled images and validate on the rest, three times a rate;
    take the rate with the highest mean Dice over all labelled images, each validated once, at the last epoch; fit once
    on all of them with that rate; evaluate the last weights on the test list, which nothing before has seen.

    Returns:
        The cells, in the order in which they ran; `<output_dir>/cells.csv` has one row for each.
    """
    cells = []
    for number, draw in enumerate(study.draws):
        for method, weights in study.methods.items():
            folder = study.output_dir / f"draw_{number}" / method
            start = {"seed": number, "pretrained_weights": None if weights is None else str(weights)}
            choices = {
                rate: fmean(_validated_dice(study, draw, folder, fold, rate, start, run) for fold in FOLDS)
                for rate in study.learning_rates
            }
            chosen = max(choices, key=lambda rate: choices[rate])
            logger.info("draw %d, %s: learning rate %g chosen from %s", number, method, chosen, choices)
            final = {**start, "learning_rate": chosen, "max_epochs": study.max_epochs}
            _train(study, folder / "final", draw / "final.json", final, run)
            _evaluate(study, folder, draw, run)
            cells.append(Cell(method, number, folder, chosen, choices))
            _write_cells(study, cells)
    return cells


def mistakes(study: Study) -> list[str]:
    """What `python -m cmunet_monai check` says of the runs: each draw's data lists, and the evaluation, once."""
    start = next((str(weights) for weights in study.methods.values() if weights), None)
    found: list[str] = []
    for draw in study.draws:
        for name in (*(f"fold_{fold}" for fold in FOLDS), "final"):
            settings = {**_common(study, study.output_dir, draw / f"{name}.json"), "pretrained_weights": start}
            found += check_run(_arguments(_configs(study, "train"), settings)).problems
        settings = _common(study, study.output_dir, draw / "final.json")
        problems = check_run(_arguments(_configs(study, "evaluate"), settings)).problems
        found += (problem for problem in problems if not problem.startswith("`weights`"))  # which the fit will write
    return list(dict.fromkeys(found))


def _arguments(configs: list[Path], settings: Overrides) -> RunArguments:
    return RunArguments(tuple(str(config) for config in configs), dict(settings))


def _validated_dice(
    study: Study, draw: Path, folder: Path, fold: int, rate: float, start: Overrides, run: Run
) -> float:
    epochs = study.choice_epochs or study.max_epochs
    output = folder / "choice" / f"rate_{rate:g}" / f"fold_{fold}"
    settings = {**start, "learning_rate": rate, "max_epochs": epochs, "val_interval": epochs}
    _train(study, output, draw / f"fold_{fold}.json", settings, run)
    with (output / "validation.csv").open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    if int(row["epoch"]) != epochs:
        raise RuntimeError(f"{output / 'validation.csv'} ends at epoch {row['epoch']}, expected {epochs}")
    return float(row["mean_dice"])


def _train(study: Study, output: Path, datalist: Path, settings: Overrides, run: Run) -> None:
    _once(output, _configs(study, "train"), {**_common(study, output, datalist), **settings}, run)


def _evaluate(study: Study, folder: Path, draw: Path, run: Run) -> None:
    settings = {
        **_common(study, folder / "evaluation", draw / "final.json"),
        "weights": str(folder / "final" / "model.safetensors"),
    }
    _once(folder / "evaluation", _configs(study, "evaluate"), settings, run)


def _configs(study: Study, task: str) -> list[Path]:
    first = "evaluate.json" if task == "evaluate" else study.configs[0]
    return [study.bundle_root / "configs" / name for name in (first, *study.configs[1:])]


def _common(study: Study, output: Path, datalist: Path) -> dict[str, Any]:
    return {
        "bundle_root": str(study.bundle_root),
        "dataset_dir": str(study.dataset_dir),
        "datalist": str(datalist),
        "output_dir": str(output),
        **study.overrides,
    }


def _once(output: Path, configs: list[Path], settings: Overrides, run: Run) -> None:
    """Run unless a run with the same settings has finished here; an interrupted one goes on by itself.

    Raises:
        ValueError: if a run with other settings has finished here.
    """
    digests = {
        f"{name}_sha256": file_digest(settings.get(name)) for name in ("datalist", "pretrained_weights", "weights")
    }
    settings = {**settings, **digests}
    marker = output / "finished.json"
    if marker.is_file():
        before = json.loads(marker.read_text(encoding="utf-8"))
        if before != settings:
            changed = sorted(key for key in before.keys() | settings if before.get(key) != settings.get(key))
            raise ValueError(
                f"{output} holds a finished run with another {', '.join(changed)}: move it away to redo it"
            )
        return
    logger.info("running %s", output)
    run(configs, {name: value for name, value in settings.items() if name not in digests})
    write_text_atomic(marker, json.dumps(settings, indent=2) + "\n")


def _write_cells(study: Study, cells: list[Cell]) -> None:
    rows = [
        {"method": cell.method, "draw": cell.draw, "learning_rate": cell.learning_rate}
        | {f"dice_in_folds_at_{rate:g}": f"{cell.choices[rate]:.4f}" for rate in study.learning_rates}
        | {"per_image": (cell.folder / "evaluation" / "per_image.csv").relative_to(study.output_dir).as_posix()}
        for cell in cells
    ]
    write_csv_atomic(study.output_dir / "cells.csv", rows)

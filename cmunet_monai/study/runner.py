"""Run a study cell by cell; what is finished is not run again."""

import csv
import json
import logging
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

from cmunet_monai.bundle import Config, as_config, is_config_text, run_command
from cmunet_monai.check import RunArguments, check_run
from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.files.lock import alone
from cmunet_monai.networks import file_digest
from cmunet_monai.study.plan import FOLDS, Method, Study, images_of
from cmunet_monai.study.record import RECORD, Kind, RunRecord

logger = logging.getLogger(__name__)

WEIGHTS = "unet.safetensors"
EVALUATION = "evaluate.json"
PACKAGES = ("cmunet_monai", "monai", "numpy", "torch")  # whose versions are written down
BEGUN, MARKER = "begun.json", "finished.json"

Overrides = Mapping[str, Any]
Run = Callable[[list[Path], Overrides], None]


class OwnPath(str):
    """A path that the study sets itself: never config, whatever characters it holds."""

    __slots__ = ()


@dataclass(frozen=True)
class BundleRun:
    """A run of a bundle: its folder, its configs, and its options, the folder among them; and what it is for.

    `kind`, `method`, `part` and the label set and draw of `cell` are those of its `RunRecord`.
    """

    output: Path
    configs: list[Path]
    settings: Overrides
    kind: Kind = "final fit"
    method: str = ""
    cell: "Cell | None" = None
    part: str = ""


@dataclass(frozen=True)
class Cell:
    """One method on one draw of labelled images; the number of the draw in its label set is the seed."""

    labels: str
    draw: int
    method: str

    def folder(self, study: Study) -> Path:
        return study.output_dir / f"labels_{self.labels}" / f"draw_{self.draw}" / self.method


def cells_of(study: Study, methods: Sequence[str] | None = None) -> list[Cell]:
    """The cells of a study (of these methods) in the order in which they run: every method on the first draw first."""
    cells = []
    for labels, label_set in study.labels.items():
        shared = label_set.shared_draws or len(label_set.draws)
        for draw in range(len(label_set.draws)):
            cells += [
                Cell(labels, draw, name)
                for name, method in study.methods.items()
                if (methods is None or name in methods)
                and (method.labels is None or labels in method.labels)
                and (draw < shared or method.all_draws)
            ]
    return cells


def deciding_cell(study: Study, cell: Cell) -> Cell:
    """The cell whose folds choose the rate of this one."""
    return Cell(cell.labels, 0 if study.choose_once else cell.draw, study.methods[cell.method].rate_of or cell.method)


def has_finished(output: Path) -> bool:
    """Whether the run that goes to this folder has come to its end there."""
    return (output / MARKER).is_file()


def shard_of(study: Study, index: int, count: int) -> list[str]:
    """The methods of the `index`-th of `count` shards, from 1: whole methods, which share no run with each other.

    Raises:
        ValueError: if there is no such shard.
    """
    if not 1 <= index <= count:
        raise ValueError(f"a shard is I/N with I from 1 to N, got {index}/{count}")
    return list(study.methods)[index - 1 :: count]


def run_bundle(configs: list[Path], overrides: Overrides) -> None:
    """`python -m monai.bundle run` in a process of its own, its output beside its results.

    Raises:
        RuntimeError: if the run fails; the message names its log.
    """
    output = Path(overrides["output_dir"])
    output.mkdir(parents=True, exist_ok=True)
    command = run_command(configs, _as_options(overrides))
    environment = dict(os.environ)
    if configs[0].name == EVALUATION:  # beside a loading process torch's idle threads must sleep, not spin
        environment.setdefault("OMP_WAIT_POLICY", "passive")
    with (output / "run.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        # it inherits the study's lock: should the study be killed, none begins beside this run
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, check=False, close_fds=False, env=environment
        ).returncode
    if code:
        raise RuntimeError(
            f"a run failed with exit code {code}: see {output / 'run.log'}, then run the study again (without its rate "
            "among `learning_rates`, should the loss have diverged)"
        )


def run_study(study: Study, *, methods: Sequence[str] | None = None, run: Run = run_bundle) -> list[Cell]:
    """Pre-train where a method asks for it, then choose, fit and evaluate every method on every draw.

    For each cell: train on two thirds of the labelled images and validate on the rest, three times a rate (or
    `choice_folds` times); take the rate with the highest mean Dice over the validated images at the last epoch (with
    `choose_once` on the first draw alone); fit once on all of them with that rate; evaluate the last weights on the
    test list, which nothing before has seen.

    Args:
        study: what to run.
        methods: run these only (a shard).
        run: how a bundle is run.
    Returns:
        The cells, in the order in which they ran; `<output_dir>/cells.csv` has one row for each finished one, those of
        other shards too.
    Raises:
        BlockingIOError: if another process is at work on one of the methods.
        ValueError: if a run with other settings has finished where one would go.
        RuntimeError: at the end, if runs failed; cells that need none of them are finished.
    """
    cells = cells_of(study, methods)
    with ExitStack() as stack:
        for name in dict.fromkeys(cell.method for cell in cells):
            path = study.output_dir / f".{name}.lock"
            busy = (
                f"another process is at work on this study ({path} is locked): a second one, or a run of one that was "
                "killed; wait for it or end it"
            )
            stack.enter_context(alone(path, busy, inherited=True))
        write_plan(study)
        failed: dict[Path, RuntimeError] = {}
        left: list[str] = []

        def unless_failed(configs: list[Path], overrides: Overrides) -> None:
            output = Path(overrides["output_dir"])
            if output in failed:
                raise failed[output]
            try:
                run(configs, overrides)
            except RuntimeError as error:
                failed[output] = error
                raise

        for cell in cells:
            try:
                _run_cell(study, cell, unless_failed)
            except RuntimeError as error:
                logger.error("%s labels, draw %d, %s is left: %s", cell.labels, cell.draw, cell.method, error)
                left.append(str(error))
            write_cells(study)
    if left:
        raise RuntimeError("\n".join(["not everything could be run:", *dict.fromkeys(left)]))
    return cells


def write_plan(study: Study) -> None:
    """`plan.csv`: the cells that the study is to have, for a report on a part of them."""
    rows = [{"labels": cell.labels, "draw": cell.draw, "method": cell.method} for cell in cells_of(study)]
    write_csv_atomic(study.output_dir / "plan.csv", rows)


def write_cells(study: Study) -> None:
    """Collect the finished cells of all shards in `cells.csv`, in the order of the study."""
    with alone(study.output_dir / ".cells.csv.lock", None):  # another shard may have finished one meanwhile
        rows = [
            json.loads(path.read_text(encoding="utf-8"))
            for cell in cells_of(study)
            if (path := cell.folder(study) / "cell.json").is_file()
        ]
        if rows:
            write_csv_atomic(study.output_dir / "cells.csv", rows)


def mistakes(study: Study) -> list[str]:
    """What `cmunet check` says of the runs: pre-training, each draw's data lists, an evaluation."""
    found: list[str] = []
    start = next((OwnPath(method.weights) for method in study.methods.values() if method.weights), None)
    output = study.output_dir
    for name, method in study.methods.items():
        for bundle_run in pretraining_runs(study, name):
            found += _problems(bundle_run, made_by_the_study=tuple(method.needs))
        if method.finetuning_overrides or method.finetuning_configs:
            cell = Cell(next(iter(study.labels)), 0, name)
            found += _problems(final_run(study, cell))
    for draw in dict.fromkeys(draw for label_set in study.labels.values() for draw in label_set.draws):
        for name in (*(f"fold_{fold}" for fold in FOLDS), "final"):
            found += _problems(finetuning_run(study, output, draw / f"{name}.json", pretrained_weights=start))
    weights = output / "model.safetensors"
    evaluations = (run for cell in cells_of(study) for run in evaluation_runs(study, cell, weights).values())
    for evaluation in {run.settings["datalist"]: run for run in evaluations}.values():  # each list is read once
        found += _problems(evaluation, made_by_the_study=("weights",))
    return list(dict.fromkeys(found))


def _problems(bundle_run: BundleRun, *, made_by_the_study: tuple[str, ...] = ()) -> list[str]:
    options = as_config(options_of(bundle_run))
    arguments = RunArguments(tuple(str(config) for config in bundle_run.configs), options)
    absent = tuple(f"`{name}`: no such file" for name in made_by_the_study)
    return [problem for problem in check_run(arguments).problems if not problem.startswith(absent)]


# Runs -----------------------------------------------------------------------------------------------------------------


def _run_cell(study: Study, cell: Cell, run: Run) -> None:
    label_set, folder = study.labels[cell.labels], cell.folder(study)
    weights, pretraining = _weights(study, cell.method, run)
    chosen, choices = _chosen_rate(study, deciding_cell(study, cell), run)
    logger.info("%s labels, draw %d, %s: rate %g of %s", cell.labels, cell.draw, cell.method, chosen, choices)
    frames = [file_digest(folder / "final.json") for folder in label_set.draws]
    label_draw = frames.index(frames[cell.draw])
    facts = {"labels": cell.labels, "draw": cell.draw, "label_draw": label_draw}
    labelled = images_of(label_set.draws[cell.draw] / "final.json", "training") if label_set.max_epochs else []
    facts |= {"labelled_images": len(labelled), "method": cell.method}
    facts |= {"datalist_sha256": frames[cell.draw], "learning_rate": chosen}
    facts |= {"choice_folds": label_set.choice_folds, "choice_draw": deciding_cell(study, cell).draw}
    facts |= {f"dice_in_folds_at_{rate:g}": round(dice, 4) for rate, dice in choices.items()}
    final, trained = None, weights
    if label_set.max_epochs:
        final = final_run(study, cell, **_start(weights), seed=cell.draw, learning_rate=chosen)
        trained = final.output / "model.safetensors"
    evaluations = evaluation_runs(study, cell, trained)
    facts |= {"epochs": 0, "seconds": 0.0}
    if final is not None:
        for evaluation in evaluations.values():
            if has_finished(evaluation.output) and not has_finished(final.output):
                raise ValueError(
                    f"{evaluation.output} belongs to a training run that is no longer in {final.output}: "
                    "move this folder away too"
                )
        facts |= {"epochs": final.settings["max_epochs"], "seconds": _once(study, final, run).seconds}
    facts |= _pretraining_facts(study.methods[cell.method], pretraining)
    for column, evaluation in evaluations.items():
        _once(study, evaluation, run)
        facts[column] = (evaluation.output / "per_image.csv").relative_to(study.output_dir).as_posix()
    write_text_atomic(folder / "cell.json", json.dumps(facts, indent=2) + "\n")


def _start(weights: Path | None) -> dict[str, Any]:
    """The option of a fine-tuning that says what it starts from."""
    return {"pretrained_weights": None if weights is None else OwnPath(weights)}


def has_a_choice(study: Study, labels: str) -> bool:
    """Whether a rate is chosen for the cells of a label set: there are several, and something is fitted."""
    return len(study.learning_rates) > 1 and study.labels[labels].max_epochs > 0


def _chosen_rate(study: Study, cell: Cell, run: Run) -> tuple[float, dict[float, float]]:
    """The rate with the highest Dice in the folds, and that Dice by rate; without a choice to make, nothing is run."""
    if not has_a_choice(study, cell.labels):
        return study.learning_rates[0], {}
    start = _start(_weights(study, cell.method, run)[0])
    choices = {
        rate: fmean(_validated_dice(study, bundle_run, run) for bundle_run in bundle_runs)
        for rate, bundle_runs in choice_runs(study, cell, **start).items()
    }
    return max(choices, key=lambda rate: choices[rate]), choices


def pretraining_runs(study: Study, name: str) -> list[BundleRun]:
    """What makes the weights of a method, in order; the last run makes those that fine-tuning starts from."""
    method = study.methods[name]
    if method.overlays is None:
        return []
    if study.pretraining is None:
        raise ValueError(f"the method {name} is pre-trained, but no `pretraining` says with which bundle")
    how = study.pretraining
    runs = {f"{name}.{option}": overlays for option, overlays in method.needs.items()}
    own = {option: OwnPath(study.output_dir / "pretraining" / f"{name}.{option}" / WEIGHTS) for option in method.needs}
    return [
        BundleRun(
            output := study.output_dir / "pretraining" / run_name,
            [how.bundle_root / "configs" / config for config in (*how.configs, *overlays)],
            {
                "bundle_root": OwnPath(how.bundle_root),
                "dataset_dir": OwnPath(study.dataset_dir),
                "datalist": OwnPath(study.first_draw / "final.json"),
                "output_dir": OwnPath(output),
                **how.overrides,
                **({**method.pretraining_overrides, **own} if run_name == name else {}),
            },
            kind="pre-training",
            method=name,
            part=run_name.removeprefix(name).removeprefix("."),
        )
        for run_name, overlays in (runs | {name: method.overlays}).items()
    ]


def _weights(study: Study, name: str, run: Run) -> tuple[Path | None, list[RunRecord]]:
    """What fine-tuning starts from, made by pre-training if it is not there yet; and the records of that."""
    runs = pretraining_runs(study, name)
    records = [_once(study, bundle_run, run) for bundle_run in runs]
    return (runs[-1].output / WEIGHTS if runs else study.methods[name].weights), records


def _pretraining_facts(method: Method, records: Sequence[RunRecord]) -> dict[str, Any]:
    """Epochs of a method's pre-training, and its seconds, those of the runs that it needs included; a file's: None."""
    if method.weights is not None:
        return {"pretraining_epochs": None, "pretraining_seconds": None}
    seconds = round(sum(record.seconds or 0.0 for record in records), 1)
    return {"pretraining_epochs": records[-1].epochs if records else 0, "pretraining_seconds": seconds}


def choice_runs(study: Study, cell: Cell, **start: Any) -> dict[float, list[BundleRun]]:
    """By rate, the runs of a deciding cell that tell what the rate is worth: one a fold, validated at its end."""
    label_set, folder = study.labels[cell.labels], cell.folder(study) / "choice"
    epochs = label_set.choice_epochs or label_set.max_epochs
    own = study.methods[cell.method].finetuning_overrides
    settings = {**own, **start, "seed": cell.draw, "max_epochs": epochs, "val_interval": epochs}
    return {
        rate: [
            replace(
                finetuning_run(
                    study,
                    folder / f"rate_{rate:g}" / f"fold_{fold}",
                    label_set.draws[cell.draw] / f"fold_{fold}.json",
                    **settings,
                    learning_rate=rate,
                ),
                kind="choice",
                method=cell.method,
                cell=cell,
                part=f"rate_{rate:g} fold_{fold}",
            )
            for fold in FOLDS[: label_set.choice_folds]
        ]
        for rate in study.learning_rates
    }


def final_run(study: Study, cell: Cell, **chosen: Any) -> BundleRun:
    """The fit on all labelled images of a cell."""
    label_set, method = study.labels[cell.labels], study.methods[cell.method]
    settings = {"max_epochs": label_set.max_epochs, **method.finetuning_overrides, **chosen}
    run = finetuning_run(study, cell.folder(study) / "final", label_set.draws[cell.draw] / "final.json", **settings)
    overlays = [study.bundle_root / "configs" / name for name in method.finetuning_configs]
    return replace(run, configs=[*run.configs, *overlays], method=cell.method, cell=cell)


def evaluation_runs(study: Study, cell: Cell, weights: Path | None) -> dict[str, BundleRun]:
    """Column of `cells.csv` -> the evaluation whose table it names: on the draws' own test list, then on further ones.

    Raises:
        ValueError: if there are no weights, since nothing was fitted and the method starts at random.
    """
    if weights is None:
        raise ValueError(f"{cell.method} starts at random: with {cell.labels} labels there is nothing to evaluate")
    folder, draw = cell.folder(study), study.labels[cell.labels].draws[cell.draw]
    own = _evaluation_run(study, folder / "evaluation", draw / "final.json", weights)
    runs = {"per_image": replace(own, method=cell.method, cell=cell)}
    for name, test in study.further_tests.items():
        elsewhere = study.model_copy(update={"dataset_dir": test.dataset_dir})
        output = folder / f"evaluation_{name}"
        further = _evaluation_run(elsewhere, output, test.datalist, weights)
        runs[f"per_image_{name}"] = replace(further, method=cell.method, cell=cell, part=name)
    return runs


def _validated_dice(study: Study, bundle_run: BundleRun, run: Run) -> float:
    epochs = bundle_run.settings["max_epochs"]
    epoch, dice = _once(study, bundle_run, run).curves["mean_dice"][-1]
    if epoch != epochs:
        raise RuntimeError(f"{bundle_run.output / 'validation.csv'} ends at epoch {epoch:g}, expected {epochs}")
    return dice


def finetuning_run(study: Study, output: Path, datalist: Path, **settings: Any) -> BundleRun:
    """A fine-tuning with the study's common settings."""
    configs = [study.bundle_root / "configs" / name for name in study.configs]
    return BundleRun(output, configs, {**_common(study, output, datalist), **study.finetuning_overrides, **settings})


def _evaluation_run(study: Study, output: Path, datalist: Path, weights: Path) -> BundleRun:
    configs = [study.bundle_root / "configs" / name for name in (EVALUATION, *study.configs[1:])]
    settings = {**_common(study, output, datalist), **study.evaluation_overrides, "weights": OwnPath(weights)}
    return BundleRun(output, configs, settings, kind="evaluation")


def _common(study: Study, output: Path, datalist: Path) -> dict[str, Any]:
    return {
        "bundle_root": OwnPath(study.bundle_root),
        "dataset_dir": OwnPath(study.dataset_dir),
        "datalist": OwnPath(datalist),
        "output_dir": OwnPath(output),
        **study.overrides,
    }


def _once(study: Study, bundle_run: BundleRun, run: Run) -> RunRecord:
    """Run unless a run with the same settings has finished here; an interrupted one goes on by itself.

    Returns:
        its record, as it stands in the run's folder; that of a run of an earlier version is written now.
    Raises:
        ValueError: if a run with other settings has finished or begun here.
    """
    output, settings = bundle_run.output, identity(bundle_run)
    for state, marker in (("a finished", output / MARKER), ("an interrupted", output / BEGUN)):
        if marker.is_file():
            before = json.loads(marker.read_text(encoding="utf-8"))
            changed = sorted(key for key in before.keys() | settings if before.get(key) != settings.get(key))
            if changed:
                raise ValueError(
                    f"{output} holds {state} run with another {', '.join(changed)}: move it away to redo it"
                )
    if has_finished(output):
        if not (output / RECORD).is_file():
            _record(study, bundle_run).write(study.output_dir)
        return RunRecord.read(output / RECORD)
    logger.info("running %s", output)
    write_text_atomic(output / BEGUN, json.dumps(settings, indent=2) + "\n")
    begin = perf_counter()
    run(bundle_run.configs, bundle_run.settings)
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    record = _record(study, bundle_run, seconds=round(perf_counter() - begin, 1), versions=versions)
    record.write(study.output_dir)
    (output / BEGUN).rename(output / MARKER)
    return record


def _record(
    study: Study, bundle_run: BundleRun, *, seconds: float | None = None, versions: dict[str, str] | None = None
) -> RunRecord:
    """What the run has left in its folder; `seconds` are those of an evaluation."""
    output, cell = bundle_run.output, bundle_run.cell
    pretrained = bundle_run.kind == "pre-training"
    curves, sidecar = {}, output / ("unet.json" if pretrained else "model.json")
    facts: dict[str, Any] = {"seconds": seconds}
    if bundle_run.kind != "evaluation":
        log = _rows(output / ("training.csv" if pretrained else "train.csv"))
        steps = [row.get("steps") for row in log]  # earlier versions did not count them
        facts = {"epochs": len(log), "steps": sum(map(int, filter(None, steps))) if all(steps) else None}
        facts["seconds"] = round(len(log) * median(float(row["seconds"]) for row in log), 1)
        curves["loss"] = _curve(log, "loss")
    if bundle_run.kind == "choice":
        curves["mean_dice"] = _curve(_rows(output / "validation.csv"), "mean_dice")
    return RunRecord(
        kind=bundle_run.kind,
        method=bundle_run.method,
        labels=cell.labels if cell else None,
        draw=cell.draw if cell else None,
        part=bundle_run.part,
        folder=output.relative_to(study.output_dir).as_posix(),
        command=tuple(run_command(bundle_run.configs, options_of(bundle_run))),
        settings=identity(bundle_run),
        curves=curves,
        weights=json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else {},
        versions=versions,
        **facts,
    )


def options_of(bundle_run: BundleRun) -> dict[str, Any]:
    """Options for a bundle: the study's own paths literally, overrides as they are on MONAI's command line."""
    return _as_options(bundle_run.settings)


def _as_options(settings: Overrides) -> dict[str, Any]:
    return {
        name: Config(value)
        if isinstance(value, list | dict) or (is_config_text(value) and not isinstance(value, OwnPath))
        else value
        for name, value in settings.items()
    }


def identity(bundle_run: BundleRun) -> dict[str, Any]:
    """What makes a run another one: its options, and the contents of its configs, data list and weights."""
    settings = dict(bundle_run.settings)
    files = [name for name, value in settings.items() if name == "datalist" or is_weights(name, value)]
    settings |= {f"{name}_sha256": file_digest(settings[name]) for name in files}
    return settings | {"configs": [[path.name, file_digest(path)] for path in bundle_run.configs]}


def is_weights(name: str, value: Any) -> bool:
    """Whether an option names a file of weights, or none; not numbers, nor a reference (`@pretrained_weights`)."""
    return name.endswith("weights") and (
        value is None or isinstance(value, OwnPath) or (isinstance(value, str) and not is_config_text(value))
    )


def _curve(rows: Sequence[Mapping[str, str]], column: str) -> tuple[tuple[float, float], ...]:
    """Epochs and one column of a log."""
    return tuple((float(row["epoch"]), float(row[column])) for row in rows if row.get(column))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

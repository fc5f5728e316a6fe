"""What a study has left behind: finished cells, per-image results, training logs, sidecars; and what is not there."""

import ast
import csv
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmunet_monai.readers import frame_size

COLUMNS = (
    *("labels", "draw", "label_draw", "method", "learning_rate", "epochs", "seconds"),
    *("choice_folds", "choice_draw", "datalist_sha256"),
    *("pretraining_epochs", "pretraining_seconds", "per_image"),
)
LENGTHS = ("modified_hausdorff", "add", "pointwise_diameter_error")
DISTANCES = tuple(f"{name}_px" for name in LENGTHS)
SCORES = ("dice", "cl_dice", "iou", *DISTANCES, "unmatched_share")
DIAMETERS = ("artery_diameter", "artery_diameter_reference")


@dataclass(frozen=True)
class Cell:
    """A finished cell: one method on one draw of one label set.

    Attributes:
        draw: position in the label set, and seed. label_draw: equal where the same labelled frames were used.
        choice_folds, choice_draw: how many folds, of which draw, chose the rate. datalist_sha256: of the final fit.
        seconds, pretraining_seconds: of the final fit; of the pre-training, 0 where there was none, None where the
            weights came from a file.
        per_image: table of the evaluation, relative to the study's folder.
    """

    labels: str
    draw: int
    label_draw: int
    method: str
    learning_rate: float
    epochs: int
    seconds: float
    pretraining_epochs: int | None
    pretraining_seconds: float | None
    choice_folds: int
    choice_draw: int
    datalist_sha256: str
    per_image: str

    @property
    def folder(self) -> Path:
        """The cell's folder, relative to the study's."""
        return self.evaluation.parent

    @property
    def evaluation(self) -> Path:
        """The folder of its evaluation, relative to the study's."""
        return Path(self.per_image).parent


@dataclass(frozen=True)
class MethodRuns:
    """One method on one label set: each table (draws, images), draws in the order of `cells`, images of `ids`.

    A table holds one column of `per_image.csv`, NaN where the metric is undefined.
    """

    cells: tuple[Cell, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    tables: Mapping[str, np.ndarray]

    @property
    def label_draws(self) -> tuple[int, ...]:
        return tuple(cell.label_draw for cell in self.cells)


@dataclass(frozen=True)
class StudyRuns:
    """The finished part of a study.

    Attributes:
        runs: (label set, method) -> results; label sets in the order of their numbers, methods in that of `cells.csv`.
        missing: sentences on what is not there.
        planned: (label set, draw, method) of all cells that the study is to have; empty where it does not say so.
    """

    folder: Path
    runs: Mapping[tuple[str, str], MethodRuns]
    missing: tuple[str, ...]
    planned: frozenset[tuple[str, int, str]]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(labels for labels, _ in self.runs))

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of `cells.csv`, the same in every label set."""
        return tuple(dict.fromkeys(method for _, method in self.runs))

    def planned_draws(self, labels: str, *methods: str) -> int:
        """How many draws of a label set are planned for all of these methods."""
        draws = [{draw for own, draw, method in self.planned if (own, method) == (labels, name)} for name in methods]
        return len(set.intersection(*draws))

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for runs in self.runs.values() for cell in runs.cells)


def read_runs(folder: str | os.PathLike[str], *, test: str | None = None) -> StudyRuns:
    """Read the finished cells of a study; a cell whose table is not there is left out and named in `missing`.

    Args:
        folder: the study's `output_dir`.
        test: which of its `further_tests` to read; None is the test list of the draws.
    Raises:
        FileNotFoundError: if there is no `cells.csv`, or none of the tables that it names is there.
        ValueError: if a column is not there (an older study), a cell stands twice, a value is not a number, or two
            cells were evaluated on different images, groups of images or labels.
    """
    folder = Path(folder)
    cells = _read_cells(folder / "cells.csv", "per_image" if test is None else f"per_image_{test}")
    present = [cell for cell in cells if (folder / cell.per_image).is_file()]
    missing = [f"{cell.per_image}: not there, the cell is left out" for cell in cells if cell not in present]
    if not present:
        raise FileNotFoundError(f"no table that {folder / 'cells.csv'} names is there: {', '.join(missing[:3])}")
    tables = {cell: _read_table(folder / cell.per_image) for cell in present}
    ids = tuple(sorted(tables[present[0]]))
    for cell in present:
        if tuple(sorted(tables[cell])) != ids:
            raise ValueError(f"{cell.per_image} holds other images than {present[0].per_image}")
        for column in ("group", f"{DIAMETERS[1]}_px"):
            differing = sum(tables[cell][name][column] != tables[present[0]][name][column] for name in ids)
            if differing:
                raise ValueError(
                    f"{cell.per_image} has another `{column}` of {differing} of {len(ids)} images than "
                    f"{present[0].per_image}: labels or groups were changed between the two evaluations; move the "
                    "folder of the older one away and run the study again"
                )
    methods = dict.fromkeys(cell.method for cell in present)
    runs = {}
    for labels in sorted(dict.fromkeys(cell.labels for cell in present), key=label_order):
        for method in methods:
            own = sorted((c for c in present if (c.labels, c.method) == (labels, method)), key=lambda c: c.draw)
            if own:
                runs[labels, method] = _method_runs(own, ids, [tables[cell] for cell in own])
    planned = _planned(folder)
    unfinished = _unfinished(folder, present, planned)
    return StudyRuns(folder, runs, (*missing, *unfinished, *_absent_files(folder, present)), planned)


def label_order(labels: str) -> tuple[float, str]:
    """Sorts the names of label sets: numbers by value, then the others."""
    return (float(labels), "") if labels.isdigit() else (math.inf, labels)


def largest_diagonal(study: StudyRuns) -> float:
    """Diagonal in pixels of the largest frame of a study, by the masks that the first evaluation saved.

    Raises:
        FileNotFoundError: if there is no mask.
    """
    for cell in study.cells:
        sizes = [frame_size(path) for path in (study.folder / cell.evaluation / "masks").glob("*.png")]
        if sizes:
            return max(math.hypot(*size) for size in sizes)
    raise FileNotFoundError(f"no saved mask in {study.folder} tells the size of the frames: give --diagonal-px")


def has_undefined_distance(study: StudyRuns) -> bool:
    """Whether a comparison needs the image diagonal."""
    tables = [runs.tables for runs in study.runs.values()]
    return any((np.isnan(table["modified_hausdorff_px"]) & ~np.isnan(table["dice"])).any() for table in tables)


def diameter_unit(study: StudyRuns) -> str:
    """ "mm" where every image of every cell has diameters in mm wherever it has them in pixels, else "px"."""
    tables = [runs.tables for runs in study.runs.values()]
    in_mm = all(
        f"{name}_mm" in table and (np.isnan(table[f"{name}_mm"]) == np.isnan(table[f"{name}_px"])).all()
        for table in tables
        for name in DIAMETERS
    )
    return "mm" if in_mm else "px"


# Logs -----------------------------------------------------------------------------------------------------------------


def read_curve(path: Path, column: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Epochs and one column of a log, both (epochs,); None where there is no such file or column."""
    if not path.is_file():
        return None
    rows = [row for row in _rows(path) if row.get(column)]
    if not rows:
        return None
    return np.array([float(row["epoch"]) for row in rows]), np.array([float(row[column]) for row in rows])


def mean_curve(curves: Iterable[tuple[np.ndarray, np.ndarray] | None]) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean of several curves at the epochs that all of them have; None without a curve or a common epoch."""
    found = [curve for curve in curves if curve is not None]
    if not found:
        return None
    epochs = sorted(set.intersection(*(set(curve[0].tolist()) for curve in found)))
    values = [[dict(zip(*map(np.ndarray.tolist, curve), strict=True))[epoch] for epoch in epochs] for curve in found]
    return (np.array(epochs), np.mean(values, axis=0)) if epochs else None


def finetuning_loss(study: StudyRuns, runs: MethodRuns) -> tuple[np.ndarray, np.ndarray] | None:
    """Loss of the final fits by epoch, mean over draws."""
    return mean_curve(read_curve(study.folder / cell.folder / "final" / "train.csv", "loss") for cell in runs.cells)


def validation_dice(study: StudyRuns, runs: MethodRuns) -> tuple[np.ndarray, np.ndarray] | None:
    """Validation Dice of the chosen rate by epoch, mean over folds and draws (draws that chose nothing left out)."""
    return mean_curve(
        read_curve(path, "mean_dice")
        for cell in runs.cells
        for path in sorted(
            (study.folder / cell.folder / "choice" / f"rate_{cell.learning_rate:g}").glob("fold_*/validation.csv")
        )
    )


def pretraining_losses(study: StudyRuns) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pre-training run -> its loss by epoch; what a method needs made first is a run of its own."""
    found = {path.parent.name: read_curve(path, "loss") for path in _pretraining_files(study, "training.csv")}
    return {name: curve for name, curve in found.items() if curve is not None}


def last_reconstructions(study: StudyRuns) -> dict[str, Path]:
    """Pre-training run -> its latest picture."""
    found: dict[str, Path] = {}
    for path in _pretraining_files(study, "reconstructions/*.png"):
        found[path.parent.parent.name] = path
    return found


def _pretraining_files(study: StudyRuns, pattern: str) -> list[Path]:
    """Of the methods in the order of the study; `method.needed` stands beside its method."""
    order = {name: number for number, name in enumerate(study.methods)}
    paths = (study.folder / "pretraining").glob(f"*/{pattern}")
    names = {path: path.relative_to(study.folder / "pretraining").parts[0] for path in paths}
    kept = [path for path in names if names[path].split(".")[0] in order]
    return sorted(kept, key=lambda path: (order[names[path].split(".")[0]], names[path], path.name))


@dataclass(frozen=True)
class Source:
    """Where numbers come from: a run's files, the command that made it, and facts of its sidecar."""

    run: str
    file: str
    command: str
    facts: Mapping[str, object]


FACTS = ("sha256", "git_revision", "cmunet_monai", "datalist_sha256", "pretrained_weights_sha256", "seed", "epoch")


def sources(study: StudyRuns) -> list[Source]:
    """Of every pre-training, and of choice, fit and evaluation of every cell; a command is empty without its log."""
    found = []
    for path in _pretraining_files(study, "training.csv"):
        file = path.relative_to(study.folder).as_posix()
        log = first_command(path.parent / "run.log")
        found.append(Source(f"pre-training {path.parent.name}", file, log, _facts(path.parent / "unet.json")))
    for cell in study.cells:
        name = f"{cell.labels} labels, draw {cell.draw}, {cell.method}"
        fit, evaluation = study.folder / cell.folder / "final", study.folder / cell.evaluation
        for path in sorted((study.folder / cell.folder / "choice").glob("*/*/validation.csv")):
            run = f"{name}: choice, {path.parent.parent.name} {path.parent.name}"
            log = path.relative_to(study.folder).as_posix()
            found.append(Source(run, log, first_command(path.parent / "run.log"), _facts(path.parent / "model.json")))
        if cell.epochs:
            log = (cell.folder / "final" / "train.csv").as_posix()
            facts = _facts(fit / "model.json")
            found.append(Source(f"{name}: final fit", log, first_command(fit / "run.log"), facts))
        found.append(Source(f"{name}: evaluation", cell.per_image, first_command(evaluation / "run.log"), {}))
    return found


def first_command(log: Path) -> str:
    """The first `$ ...` line of a log, "" where there is none; without the machine's own folders.

    The interpreter becomes `python`; of an absolute path the last two parts stay: a page is passed on.
    """
    if not log.is_file():
        return ""
    with log.open(encoding="utf-8", errors="replace") as file:
        line = next((line[2:].strip() for line in file if line.startswith("$ ")), "")
    try:
        words = [_cut(word) for word in shlex.split(line)]
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{log}: the command in its first `$ ` line cannot be read: {error}") from None
    return shlex.join(["python", *words[1:]]) if words else ""


def _cut(word: str) -> str:
    """A word of a command, or a list of such words, without all but the last two parts of absolute paths."""
    if word.startswith("["):
        return str([_cut(str(item)) for item in ast.literal_eval(word)])
    parts = [part for part in re.split(r"[/\\]", word) if part]
    absolute = re.match(r"(~|[A-Za-z]:)?[/\\]", word)
    return "/".join(["…", *parts[-2:]]) if absolute and len(parts) > 2 else word


# Reading --------------------------------------------------------------------------------------------------------------


def _read_cells(path: Path, table: str) -> list[Cell]:
    """The rows of `cells.csv`; `table` is the column that names the tables of their evaluations."""
    if not path.is_file():
        raise FileNotFoundError(f"no finished cell in {path.parent}: {path.name} is not there")
    rows = _rows(path)
    absent = [name for name in COLUMNS if not rows or name not in rows[0]]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}: it was written by another version, or is cut")
    if table not in rows[0]:
        others = [name.removeprefix("per_image_") for name in rows[0] if name.startswith("per_image_")]
        raise ValueError(
            f"{path} has no results on {table.removeprefix('per_image_')!r}; further test lists: {others or 'none'}"
        )
    cells = []
    for row in rows:
        try:
            cells.append(
                Cell(
                    labels=row["labels"],
                    draw=int(row["draw"]),
                    label_draw=int(row["label_draw"]),
                    method=row["method"],
                    learning_rate=float(row["learning_rate"]),
                    epochs=int(row["epochs"]),
                    seconds=float(row["seconds"]),
                    pretraining_epochs=int(row["pretraining_epochs"]) if row["pretraining_epochs"] else None,
                    pretraining_seconds=float(row["pretraining_seconds"]) if row["pretraining_seconds"] else None,
                    choice_folds=int(row["choice_folds"]),
                    choice_draw=int(row["choice_draw"]),
                    datalist_sha256=row["datalist_sha256"],
                    per_image=row[table],
                )
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: the row {row} cannot be read ({error})") from None
    keys = [(cell.labels, cell.draw, cell.method) for cell in cells]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise ValueError(f"{path}: {twice[0]} labels, draw {twice[1]}, {twice[2]} stands twice")
    lists: dict[tuple[str, int], Cell] = {}
    for cell in cells:
        other = lists.setdefault((cell.labels, cell.draw), cell)
        if other.datalist_sha256 != cell.datalist_sha256:
            raise ValueError(
                f"{path}: draw {cell.draw} of {cell.labels} labels is of other frames for {cell.method} than for "
                f"{other.method}: the study's `draws` were changed between the two; they cannot be compared"
            )
    return cells


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    rows = _rows(path)
    needed = ("id", "group", *SCORES, *(f"{name}_px" for name in DIAMETERS))
    absent = [name for name in needed if not rows or name not in rows[0]]
    if absent:
        raise ValueError(f"{path} has no {', '.join(absent)}")
    table = {row["id"]: row for row in rows}
    if len(table) < len(rows) or any(None in row.values() for row in rows):
        raise ValueError(f"{path} is cut, or names an image twice: evaluate again")
    return table


def _method_runs(cells: list[Cell], ids: tuple[str, ...], tables: list[dict[str, dict[str, str]]]) -> MethodRuns:
    optional = [f"{name}_mm" for name in DIAMETERS]
    names = [*SCORES, *(f"{name}_px" for name in DIAMETERS)]
    names += [name for name in optional if all(name in table[ids[0]] for table in tables)]
    values = {}
    for name in names:
        rows = []
        for cell, table in zip(cells, tables, strict=True):
            try:
                rows.append([float(table[identity][name] or math.nan) for identity in ids])
            except ValueError as error:
                raise ValueError(f"{cell.per_image}: `{name}`: {error}") from None
        values[name] = np.array(rows)
    return MethodRuns(tuple(cells), ids, tuple(tables[0][identity]["group"] for identity in ids), values)


def _planned(folder: Path) -> frozenset[tuple[str, int, str]]:
    path = folder / "plan.csv"
    rows = _rows(path) if path.is_file() else []
    try:
        return frozenset((row["labels"], int(row["draw"]), row["method"]) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must have the columns labels, draw (a number) and method: {error}") from None


def _unfinished(folder: Path, cells: Sequence[Cell], planned: frozenset[tuple[str, int, str]]) -> list[str]:
    """Planned cells that are not there; without a plan, those of draws that another method has, and those begun."""
    finished = {(cell.labels, cell.draw, cell.method) for cell in cells}
    begun = set()
    for path in folder.glob("labels_*/draw_*/*"):
        labels, draw, method = path.relative_to(folder).parts
        if path.is_dir() and draw.removeprefix("draw_").isdigit():
            begun.add((labels.removeprefix("labels_"), int(draw.removeprefix("draw_")), method))
    everything = finished | (planned or begun)
    methods = dict.fromkeys([cell.method for cell in cells] + sorted(method for *_, method in everything))
    found = []
    for labels in sorted({labels for labels, *_ in everything}, key=label_order):
        for method in methods:
            draws = sorted({d for own, d, name in everything if own == labels and (not planned or name == method)})
            absent = [draw for draw in draws if (labels, draw, method) not in finished]
            if absent:
                started = [str(draw) for draw in absent if (labels, draw, method) in begun]
                state = "not begun" if planned else "not begun, or not planned"
                state = f"begun: {', '.join(started)}" if started else state
                numbers = ", ".join(map(str, absent))
                found.append(f"{labels} labels, {method}: no finished cell of draw {numbers} ({state})")
    return found


def _absent_files(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Logs and sidecars that figures and sources would need."""
    fitted = [cell.folder / "final" for cell in cells if cell.epochs]
    wanted = [fit / name for fit in fitted for name in ("train.csv", "model.json", "run.log")]
    wanted += [cell.evaluation / "run.log" for cell in cells]
    for method in dict.fromkeys(cell.method for cell in cells if cell.pretraining_epochs):
        wanted += [Path("pretraining", method, name) for name in ("training.csv", "unet.json", "run.log")]
    return [f"{path.as_posix()}: not there" for path in wanted if not (folder / path).is_file()]


def _facts(sidecar: Path) -> dict[str, object]:
    if not sidecar.is_file():
        return {}
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{sidecar} is not JSON: {error}") from None
    return {name: facts[name] for name in FACTS if facts.get(name) is not None}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))

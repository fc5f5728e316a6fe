"""What a study has left behind: finished cells, per-image results, records of its runs; and what is not there."""

import ast
import csv
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from cmunet_monai.files.frame_size import frame_size
from cmunet_monai.study.json_file import in_words
from cmunet_monai.study.record import RECORD, Kind, RunRecord, read_records

LENGTHS = ("modified_hausdorff", "add", "pointwise_diameter_error")
DISTANCES = tuple(f"{name}_px" for name in LENGTHS)
SCORES = ("dice", "cl_dice", "iou", *DISTANCES, "unmatched_share")
DIAMETERS = ("artery_diameter", "artery_diameter_reference")


Optional = BeforeValidator(lambda text: text or None)


class Cell(BaseModel):
    """A finished cell: one method on one draw of one label set; a row of `cells.csv`.

    Attributes:
        draw: position in the label set, and seed. label_draw: equal where the same labelled frames were used.
        labelled_images: in the list of the final fit; 0 where nothing was fitted.
        choice_folds, choice_draw: how many folds, of which draw, chose the rate. datalist_sha256: of the final fit.
        seconds, pretraining_seconds: of the final fit; of the pre-training, 0 where there was none, None where the
            weights came from a file.
        per_image: table of the evaluation, relative to the study's folder.
    """

    model_config = ConfigDict(frozen=True)

    labels: str
    draw: int
    label_draw: int
    labelled_images: int
    method: str
    learning_rate: float
    epochs: int
    seconds: float
    pretraining_epochs: Annotated[int | None, Optional]
    pretraining_seconds: Annotated[float | None, Optional]
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

    @property
    def labelled_images(self) -> float:
        """Mean over the cells: draws of whole groups may differ by a few."""
        return float(np.mean([cell.labelled_images for cell in self.cells]))


@dataclass(frozen=True)
class StudyRuns:
    """The finished part of a study.

    Attributes:
        runs: (label set, method) -> results; label sets in the order of their numbers, methods in that of `cells.csv`.
        missing: sentences on what is not there.
        planned: (label set, draw, method) of all cells that the study is to have; empty where it does not say so.
        records: of its runs.
    """

    folder: Path
    runs: Mapping[tuple[str, str], MethodRuns]
    missing: tuple[str, ...]
    planned: frozenset[tuple[str, int, str]]
    records: tuple[RunRecord, ...]

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

    @property
    def pretrainings(self) -> list[RunRecord]:
        """Of the methods in the order of the study; what a method needed comes after it."""
        found = [record for record in self.records if record.kind == "pre-training" and record.method in self.methods]
        return sorted(found, key=lambda record: (self.methods.index(record.method), record.part))

    def records_of(self, cell: Cell, kind: Kind) -> list[RunRecord]:
        key = (kind, cell.labels, cell.draw, cell.method)
        return [record for record in self.records if (record.kind, record.labels, record.draw, record.method) == key]

    def evaluation_of(self, cell: Cell) -> RunRecord | None:
        """The record of the evaluation whose table is read."""
        found = self.records_of(cell, "evaluation")
        return next((record for record in found if Path(record.folder) == cell.evaluation), None)


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
    study = StudyRuns(folder, runs, (*missing, *unfinished), planned, tuple(read_records(folder)))
    return replace(study, missing=(*study.missing, *_without_record(study)))


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


# Records --------------------------------------------------------------------------------------------------------------

Curve = tuple[np.ndarray, np.ndarray]


def curve_of(record: RunRecord, column: str) -> Curve | None:
    """Epochs and one column of a run's log, both (epochs,); None where it has none."""
    rows = record.curves.get(column)
    return (np.array([epoch for epoch, _ in rows]), np.array([value for _, value in rows])) if rows else None


def mean_curve(curves: Iterable[Curve | None]) -> Curve | None:
    """Mean of several curves at the epochs that all of them have; None without a curve or a common epoch."""
    found = [curve for curve in curves if curve is not None]
    if not found:
        return None
    epochs = sorted(set.intersection(*(set(curve[0].tolist()) for curve in found)))
    values = [[dict(zip(*map(np.ndarray.tolist, curve), strict=True))[epoch] for epoch in epochs] for curve in found]
    return (np.array(epochs), np.mean(values, axis=0)) if epochs else None


def finetuning_loss(study: StudyRuns, runs: MethodRuns) -> Curve | None:
    """Loss of the final fits by epoch, mean over draws."""
    return mean_curve(curve_of(fit, "loss") for cell in runs.cells for fit in study.records_of(cell, "final fit"))


def validation_dice(study: StudyRuns, runs: MethodRuns) -> Curve | None:
    """Validation Dice of the chosen rate by epoch, mean over folds and draws (draws that chose nothing left out)."""
    return mean_curve(
        curve_of(choice, "mean_dice")
        for cell in runs.cells
        for choice in study.records_of(cell, "choice")
        if choice.settings.get("learning_rate") == cell.learning_rate
    )


def pretraining_losses(study: StudyRuns) -> dict[str, Curve]:
    """Pre-training run -> its loss by epoch; what a method needs made first is a run of its own."""
    found = {Path(record.folder).name: curve_of(record, "loss") for record in study.pretrainings}
    return {name: curve for name, curve in found.items() if curve is not None}


def last_reconstructions(study: StudyRuns) -> dict[str, Path]:
    """Pre-training run -> its latest picture."""
    found = {
        Path(record.folder).name: sorted((study.folder / record.folder / "reconstructions").glob("*.png"))
        for record in study.pretrainings
    }
    return {name: paths[-1] for name, paths in found.items() if paths}


@dataclass(frozen=True)
class Source:
    """Where numbers come from: a run's file, the command that made it, and facts of it."""

    run: str
    labels: str | None
    file: str
    command: str
    facts: Mapping[str, object]


FACTS = (
    *("sha256", "git_revision", "cmunet_monai", "datalist_sha256", "pretrained_weights_sha256", "weights_sha256"),
    *("seed", "epoch", "steps", "monai", "numpy", "python", "torch"),
)


def sources(study: StudyRuns) -> list[Source]:
    """Of every pre-training, and of choice, fit and evaluation of every cell; without its record only an evaluation."""
    found = [_source(f"pre-training {Path(record.folder).name}", record, RECORD) for record in study.pretrainings]
    for cell in study.cells:
        name = f"{cell.labels} labels, draw {cell.draw}, {cell.method}"
        for record in study.records_of(cell, "choice"):
            found.append(_source(f"{name}: choice, {record.part}", record, RECORD))
        found += [_source(f"{name}: final fit", record, RECORD) for record in study.records_of(cell, "final fit")]
        table, evaluation = Path(cell.per_image), study.evaluation_of(cell)
        found.append(
            _source(f"{name}: evaluation", evaluation, table.name)
            if evaluation
            else Source(f"{name}: evaluation", cell.labels, cell.per_image, "", {})
        )
    return found


def _source(name: str, record: RunRecord, file: str) -> Source:
    facts = {**record.settings, **(record.versions or {}), "steps": record.steps, **record.weights}
    kept = {name: facts[name] for name in FACTS if facts.get(name) is not None}
    return Source(name, record.labels, f"{record.folder}/{file}", passed_on(record.command), kept)


def passed_on(command: Sequence[str]) -> str:
    """A command without the machine's own folders, as a page is passed on.

    The interpreter becomes `python`; of an absolute path the last two parts stay.
    """
    return shlex.join(["python", *map(_cut, command[1:])])


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
    absent = [name for name in Cell.model_fields if not rows or name not in rows[0]]
    if absent:
        raise ValueError(
            f"{path} lacks {', '.join(absent)}: it is cut, or of an earlier version (run the study again, which keeps "
            "finished runs and writes it anew)"
        )
    if table not in rows[0]:
        others = [name.removeprefix("per_image_") for name in rows[0] if name.startswith("per_image_")]
        raise ValueError(
            f"{path} has no results on {table.removeprefix('per_image_')!r}; further test lists: {others or 'none'}"
        )
    cells = []
    for number, row in enumerate(rows, 2):
        try:
            cells.append(Cell.model_validate(row | {"per_image": row[table]}))
        except ValidationError as error:
            raise ValueError(f"{path}, line {number}: {in_words(Cell, error)}") from None
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


def _without_record(study: StudyRuns) -> list[str]:
    """Records that figures and sources would need."""
    found = {Path(record.folder) for record in study.records}
    wanted = [cell.evaluation for cell in study.cells]
    wanted += [cell.folder / "final" for cell in study.cells if cell.epochs]
    wanted += [Path("pretraining", cell.method) for cell in study.cells if cell.pretraining_epochs]
    absent = [folder for folder in dict.fromkeys(wanted) if folder not in found]
    if len(absent) == len({*wanted}):
        return [
            "no run has its run.json: tables alone were kept, or a version before it ran the study (run the study "
            "again: finished runs are kept, and their records written); there are no commands, digests and loss curves"
        ]
    return [f"{(folder / RECORD).as_posix()}: not there" for folder in absent]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))

"""The table of a study: every metric of every method, and its paired difference to the baseline."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmunet_monai.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.readers import frame_size
from cmunet_monai.report.intervals import Interval, bootstrap_interval, hierarchical_bootstrap, summarise

METRICS = {
    "dice": "Dice",
    "cl_dice": "clDice",
    "iou": "IoU",
    "modified_hausdorff_px": "modified HD (px)",
    "add_px": "ADD (px)",
    "pointwise_diameter_error_px": "pointwise diameter error (px)",
    "unmatched_share": "unmatched centreline",
}
UNDEFINED = "undefined"
DISTANCES = ("modified_hausdorff_px", "add_px", "pointwise_diameter_error_px")


@dataclass(frozen=True)
class MethodRuns:
    """The per-image results of one method: each table (draws, images), images in the order of `ids`."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    tables: Mapping[str, np.ndarray]
    learning_rates: tuple[float, ...]


def read_runs(folder: str | os.PathLike[str]) -> dict[str, MethodRuns]:
    """The finished cells of a study, by method.

    Raises:
        FileNotFoundError: if there is no `cells.csv`, or a table that it names is not there.
        ValueError: if two cells were evaluated on different images.
    """
    folder = Path(folder)
    cells = folder / "cells.csv"
    if not cells.is_file():
        raise FileNotFoundError(f"no finished cell in {folder}: {cells.name} is not there")
    by_method: dict[str, list[dict[str, str]]] = {}
    for cell in _rows(cells):
        by_method.setdefault(cell["method"], []).append(cell)
    runs = {}
    for method, method_cells in by_method.items():
        tables = [{row["id"]: row for row in _rows(folder / cell["per_image"])} for cell in method_cells]
        ids = tuple(sorted(tables[0]))
        for cell, table in zip(method_cells, tables, strict=True):
            if tuple(sorted(table)) != ids:
                raise ValueError(f"{cell['per_image']} holds other images than {method_cells[0]['per_image']}")
        runs[method] = MethodRuns(
            ids,
            tuple(tables[0][name]["group"] for name in ids),
            {
                metric: np.array([[float(table[name][metric] or math.nan) for name in ids] for table in tables])
                for metric in METRICS
            },
            tuple(float(cell["learning_rate"]) for cell in method_cells),
        )
    if len({(method_runs.ids, len(method_runs.learning_rates)) for method_runs in runs.values()}) > 1:
        raise ValueError(f"the methods in {folder} were not all evaluated on the same images and draws (not finished?)")
    return runs


def largest_diagonal(folder: str | os.PathLike[str]) -> float:
    """Diagonal in pixels of the largest frame of a study, by the masks that its evaluations saved.

    Raises:
        FileNotFoundError: if there is no mask.
    """
    sizes = [frame_size(path) for path in Path(folder).glob("draw_*/*/evaluation/masks/*.png")]
    if not sizes:
        raise FileNotFoundError(f"no saved mask in {folder} tells the size of the frames: give --diagonal-px")
    return max(math.hypot(*size) for size in sizes)


def compare(runs: Mapping[str, MethodRuns], baseline: str, *, diagonal_px: float) -> list[dict[str, str]]:
    """One row a method and metric: the mean with its interval, and the paired difference to the baseline.

    Args:
        runs: as `read_runs` gives them.
        baseline: the method that the others are compared with.
        diagonal_px: length that stands for an undefined distance in a paired difference, since leaving the image out
            would reward an empty mask.
    """
    if baseline not in runs:
        raise ValueError(f"the baseline {baseline!r} is not among the methods {', '.join(runs)}")
    rows = []
    for method, own in runs.items():
        for metric, title in METRICS.items():
            values = own.tables[metric]
            mean = _interval(values, own.groups)
            row = {
                "method": method,
                "metric": title,
                "mean": _with_bounds(mean),
                "by draw": ", ".join(_figure(summarise(draw).mean) for draw in values),
                "undefined": f"{mean.undefined} of {values.size}",
            }
            if metric == "dice":
                spread = summarise(values.ravel(), failure_below=0.5)
                row["5th percentile"] = _figure(spread.percentile_5)
                row["failed"] = f"{spread.failure_rate:.1%}" if spread.n else UNDEFINED
            if method != baseline:
                filled = [
                    np.nan_to_num(table, nan=diagonal_px) if metric in DISTANCES else table
                    for table in (values, runs[baseline].tables[metric])
                ]
                row["difference"] = _with_bounds(_interval(filled[0], own.groups, filled[1]), sign="+")
            rows.append(row)
    return rows


def write_table(rows: Sequence[Mapping[str, str]], output_dir: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `table.csv` and `table.md`."""
    folder = Path(output_dir)
    names = list(dict.fromkeys(name for row in rows for name in row))
    write_csv_atomic(folder / "table.csv", rows)
    lines = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    write_text_atomic(folder / "table.md", "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return folder / "table.csv", folder / "table.md"


def _interval(values: np.ndarray, groups: Sequence[str], baseline: np.ndarray | None = None) -> Interval:
    if len(values) > 1:
        return hierarchical_bootstrap(values, baseline, groups=groups)
    return bootstrap_interval(values[0] if baseline is None else values[0] - baseline[0], groups)


def _with_bounds(interval: Interval, sign: str = "") -> str:
    if math.isnan(interval.mean):
        return UNDEFINED
    return f"{interval.mean:{sign}.3f} [{interval.lower:{sign}.3f}, {interval.upper:{sign}.3f}]"


def _figure(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.3f}"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

"""The tables of a study: metrics, paired comparisons with a baseline, agreement, and which images to look at."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmunet_monai.engines.handlers.evaluation import FAILURE_BELOW_DICE, picks
from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.metrics import bland_altman, pearson
from cmunet_monai.metrics.intervals import (
    Interval,
    PairedTest,
    bootstrap_interval,
    hierarchical_bootstrap,
    holm,
    paired_test,
    summarise,
)
from cmunet_monai.report.study_runs import DISTANCES, MethodRuns, StudyRuns

LEVEL = 0.05
FEW_DRAWS = 5
UNDEFINED = "undefined"


@dataclass(frozen=True)
class Metric:
    """How a figure is shown; shares are stored in [0, 1] and shown in percent."""

    title: str
    unit: str = ""
    digits: int = 3

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def show(self, value: float, sign: str = "") -> str:
        if math.isnan(value):
            return UNDEFINED
        shown = round(100 * value if self.unit == "%" else value, self.digits)
        return f"{shown + 0.0:{sign}.{self.digits}f}"  # no minus sign before a zero


METRICS = {
    "dice": Metric("Dice"),
    "cl_dice": Metric("clDice"),
    "iou": Metric("IoU"),
    "modified_hausdorff_px": Metric("modified HD", "px", 2),
    "add_px": Metric("ADD", "px", 2),
    "pointwise_diameter_error_px": Metric("pointwise diameter error", "px", 2),
    "unmatched_share": Metric("unmatched centreline", "%", 1),
    "failure": Metric("failed", "%", 1),
}
TAIL = "dice_5th_percentile"
SHOWN = METRICS | {TAIL: Metric("5th percentile of Dice")}


@dataclass(frozen=True)
class Primary:
    """The one comparison with the baseline that is named beforehand: all others are exploratory."""

    method: str = "cm_unet"
    metric: str = "dice"
    labels: str = "18"


@dataclass(frozen=True)
class TableRow:
    """One figure of one method on one label set.

    Attributes:
        interval: over draws and groups of images; without bounds for the 5th percentile.
        by_draw: the same figure of each draw. values: cells of the table, the undefined ones included.
    """

    labels: str
    method: str
    metric: str
    interval: Interval
    by_draw: tuple[float, ...]
    values: int


@dataclass(frozen=True)
class Comparison:
    """A method's paired difference to the baseline, over the draws that both have.

    Attributes:
        interval: bootstrap. test: `paired_test`. p_holm: its p-value, corrected among the exploratory comparisons; NaN
            for the primary one.
        draws: the shared ones. filled: undefined distances of both methods for which another length stands.
    """

    labels: str
    method: str
    baseline: str
    metric: str
    interval: Interval
    test: PairedTest
    draws: tuple[int, ...]
    filled: int
    primary: bool
    p_holm: float = math.nan

    @property
    def p_value(self) -> float:
        """The one that decides."""
        return self.test.p_value if self.primary else self.p_holm


@dataclass(frozen=True)
class Agreement:
    """Predicted against reference artery diameters of one method on one label set, all draws and images together.

    Attributes:
        r: Pearson's; bias: mean of predicted - reference; lower, upper: limits of agreement, in `unit`. r_by_draw: of
            each draw. n: pairs used. left_out: pairs of which one diameter is undefined (an empty mask).
    """

    labels: str
    method: str
    unit: str
    r: float
    r_by_draw: tuple[float, ...]
    bias: float
    lower: float
    upper: float
    n: int
    left_out: int


@dataclass(frozen=True)
class Case:
    """An image worth looking at: its Dice is the median over draws; `draw` is the one whose Dice lies nearest to it."""

    labels: str
    method: str
    kind: str
    id: str
    dice: float
    draw: int


# Computing ------------------------------------------------------------------------------------------------------------


def table(study: StudyRuns) -> list[TableRow]:
    """One row a label set, method and figure."""
    rows = []
    for (labels, method), runs in study.runs.items():
        for metric in METRICS:
            values = _values(runs, metric)
            by_draw = tuple(summarise(draw).mean for draw in values)
            rows.append(TableRow(labels, method, metric, _interval(values, runs), by_draw, values.size))
        dice = runs.tables["dice"]
        spread = summarise(dice.ravel())
        tail = Interval(spread.percentile_5, math.nan, math.nan, 0.95, spread.n, spread.undefined)
        tails = tuple(summarise(draw).percentile_5 for draw in dice)
        rows.append(TableRow(labels, method, TAIL, tail, tails, dice.size))
    return rows


def compare(
    study: StudyRuns, baseline: str, *, diagonal_px: float, primary: Primary | None
) -> tuple[list[Comparison], tuple[str, ...]]:
    """Every method against the baseline on every label set and metric; the primary comparison first.

    Args:
        baseline: the method that the others are compared with.
        diagonal_px: what stands for an undefined modified Hausdorff distance in a paired difference, since leaving the
            image out would reward an empty mask. For an undefined diameter error the diameter of the label stands: what
            the error is where no width is found. Images with an empty label are left out.
        primary: decided by its own p-value; all others by p-values corrected for their number together. None: none.
    Returns:
        The comparisons, and sentences on those that could not be made.
    Raises:
        ValueError: if the baseline has no finished cell, or the primary comparison names an unknown metric or is one of
            the baseline with itself.
    """
    if baseline not in study.methods:
        raise ValueError(f"the baseline {baseline!r} is not among the methods {', '.join(study.methods)}")
    if primary and primary.metric not in METRICS:
        raise ValueError(f"`primary`: the metric {primary.metric!r} is not among {', '.join(METRICS)}")
    if primary and primary.method == baseline:
        raise ValueError(f"`primary` would compare {baseline!r} with itself")
    made, absent = [], []
    for (labels, method), runs in study.runs.items():
        if method == baseline:
            continue
        shared = _shared(runs, study.runs.get((labels, baseline)))
        if shared is None:
            absent.append(f"{labels} labels: {method} and {baseline} have no finished draw in common")
            continue
        for metric in METRICS:
            is_primary = primary == Primary(method, metric, labels)
            made.append(_compare(shared, metric, labels, diagonal_px=diagonal_px, primary=is_primary))
    made.sort(key=lambda comparison: not comparison.primary)
    exploratory = [comparison for comparison in made if not comparison.primary]
    corrected = holm([comparison.test.p_value for comparison in exploratory])
    made = made[: len(made) - len(exploratory)]
    made += [replace(comparison, p_holm=p) for comparison, p in zip(exploratory, corrected, strict=True)]
    return made, tuple(absent)


def agreements(study: StudyRuns, unit: str) -> list[Agreement]:
    """Agreement of the diameters for every method and label set.

    Source: Challier et al. 2025, section IV-B3 and Fig. 4. Deviations: all draws together, and no p-value for r, as the
        draws measure the same images.
    """
    found = []
    for (labels, method), runs in study.runs.items():
        predicted, reference = diameters(runs, unit)
        correlation = pearson(predicted.ravel(), reference.ravel())
        limits = bland_altman(predicted.ravel(), reference.ravel())
        by_draw = tuple(pearson(*pair).r for pair in zip(predicted, reference, strict=True))
        bounds = (limits.mean_difference, limits.lower_limit, limits.upper_limit)
        found.append(Agreement(labels, method, unit, correlation.r, by_draw, *bounds, limits.n, limits.left_out))
    return found


def diameters(runs: MethodRuns, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and reference mean diameters, (draws, images) each, in the unit."""
    return runs.tables[f"artery_diameter_{unit}"], runs.tables[f"artery_diameter_reference_{unit}"]


def cases(study: StudyRuns) -> list[Case]:
    """The best, median and worst image of each method and label set, and all whose median Dice is a failure."""
    found = []
    for (labels, method), runs in study.runs.items():
        dice = runs.tables["dice"]
        defined = np.flatnonzero(~np.isnan(dice).all(axis=0))
        median = {runs.ids[i]: float(np.nanmedian(dice[:, i])) for i in defined}
        chosen = picks([{"id": name, "dice": value} for name, value in median.items()])
        kinds = [(kind, chosen[kind]) for kind in ("best", "median", "worst") if chosen[kind] is not None]
        kinds += [("failing", name) for name in chosen["failing"] if name != chosen["worst"]]
        for kind, name in kinds:
            nearest = int(np.nanargmin(np.abs(dice[:, runs.ids.index(name)] - median[name])))
            found.append(Case(labels, method, kind, name, median[name], runs.cells[nearest].draw))
    return found


def verdict(comparison: Comparison) -> str:
    """What may be said: higher or lower only where both the bootstrap interval and the test leave out zero."""
    interval = comparison.interval
    if math.isnan(interval.mean):
        return "undefined throughout"
    if math.isnan(comparison.test.p_value):
        return f"nothing can be said about other draws, with {counted(comparison.test.draws, 'draw')} of labels"
    if not (interval.lower > 0 or interval.upper < 0):
        return "no difference shown"
    if comparison.p_value < LEVEL:
        return "higher" if interval.mean > 0 else "lower"
    return f"undecided: the interval leaves out zero, the {'' if comparison.primary else 'corrected '}test does not"


def in_words(comparison: Comparison) -> str:
    """One sentence."""
    metric, interval = METRICS[comparison.metric], comparison.interval
    who = f"{comparison.method} against {comparison.baseline}, {metric.title}, {label_words(comparison.labels)}"
    said = f"{who}: {verdict(comparison)}"
    if math.isnan(interval.mean):
        return f"{said}."
    unit = {"%": " percentage points", "": ""}.get(metric.unit, f" {metric.unit}")
    facts = [f"difference {metric.show(interval.mean, '+')}{unit}"]
    if not math.isnan(interval.lower):
        facts.append(f"95% interval {metric.show(interval.lower, '+')} to {metric.show(interval.upper, '+')}")
    if not math.isnan(comparison.p_value):
        facts.append(f"p {p_words(comparison.p_value)}{'' if comparison.primary else ' after correction'}")
    return f"{said} ({', '.join(facts)})."


def label_words(labels: str) -> str:
    return f"{labels} labelled images" if labels.isdigit() else f"label set {labels}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def p_words(p_value: float) -> str:
    if math.isnan(p_value):
        return UNDEFINED
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _values(runs: MethodRuns, metric: str) -> np.ndarray:
    if metric != "failure":
        return runs.tables[metric]
    dice = runs.tables["dice"]
    return np.where(np.isnan(dice), np.nan, dice < FAILURE_BELOW_DICE)  # an empty prediction has a Dice of 0


def _shared(runs: MethodRuns, other: MethodRuns | None) -> tuple[MethodRuns, MethodRuns] | None:
    """Both methods cut down to the draws that both have."""
    draws = {cell.draw for cell in runs.cells} & {cell.draw for cell in (other.cells if other else ())}
    if other is None or not draws:
        return None
    return _only(runs, draws), _only(other, draws)


def _only(runs: MethodRuns, draws: set[int]) -> MethodRuns:
    kept = [number for number, cell in enumerate(runs.cells) if cell.draw in draws]
    tables = {name: values[kept] for name, values in runs.tables.items()}
    return replace(runs, cells=tuple(runs.cells[number] for number in kept), tables=tables)


def _compare(
    pair: tuple[MethodRuns, MethodRuns], metric: str, labels: str, *, diagonal_px: float, primary: bool
) -> Comparison:
    runs, other = pair
    (values, filled), (baseline, filled_too) = (_filled(own, metric, diagonal_px=diagonal_px) for own in pair)
    return Comparison(
        labels,
        runs.cells[0].method,
        other.cells[0].method,
        metric,
        _interval(values, runs, baseline),
        paired_test(values, baseline, groups=runs.groups, run_groups=runs.label_draws),
        tuple(cell.draw for cell in runs.cells),
        filled + filled_too,
        primary,
    )


def _filled(runs: MethodRuns, metric: str, *, diagonal_px: float) -> tuple[np.ndarray, int]:
    """(draws, images) of a metric, and how many undefined distances another length stands for in it."""
    values = _values(runs, metric)
    if metric not in DISTANCES:
        return values, 0
    undefined = np.isnan(values) & ~np.isnan(runs.tables["dice"])  # Dice is undefined where the label is empty
    of_label = runs.tables["artery_diameter_reference_px"]
    length = np.full_like(values, diagonal_px) if metric == "modified_hausdorff_px" else of_label
    return np.where(undefined, length, values), int(undefined.sum())


def _interval(values: np.ndarray, runs: MethodRuns, baseline: np.ndarray | None = None) -> Interval:
    """Over label draws and groups; over seeds, where all runs have the same labels; over groups alone for one run."""
    if len(values) == 1:
        return bootstrap_interval(values[0] if baseline is None else values[0] - baseline[0], runs.groups)
    run_groups = runs.label_draws if len(set(runs.label_draws)) > 1 else None
    return hierarchical_bootstrap(values, baseline, groups=runs.groups, run_groups=run_groups)


# Writing --------------------------------------------------------------------------------------------------------------


def write_tables(
    rows: Sequence[TableRow],
    comparisons: Sequence[Comparison],
    agreement: Sequence[Agreement],
    looked_at: Sequence[Case],
    output_dir: str | os.PathLike[str],
) -> Path:
    """Write `table.csv`, `comparisons.csv`, `agreement.csv`, `cases.csv` and `table.md`; returns the last.

    CSV files hold figures as they are (shares in [0, 1], nothing where undefined), to six digits.
    """
    folder = Path(output_dir)
    write_csv_atomic(
        folder / "table.csv",
        [
            {"labels": row.labels, "method": row.method, "metric": row.metric, "mean": _cell(row.interval.mean)}
            | {"lower_95": _cell(row.interval.lower), "upper_95": _cell(row.interval.upper)}
            | {"by_draw": " ".join(_cell(value) or "nan" for value in row.by_draw)}
            | {"undefined": row.interval.undefined, "values": row.values}
            for row in rows
        ],
    )
    write_csv_atomic(
        folder / "comparisons.csv",
        [
            {"kind": "primary" if c.primary else "exploratory", "labels": c.labels, "method": c.method}
            | {"baseline": c.baseline, "metric": c.metric, "difference": _cell(c.interval.mean)}
            | {"lower_95": _cell(c.interval.lower), "upper_95": _cell(c.interval.upper)}
            | {"test_lower_95": _cell(c.test.lower), "test_upper_95": _cell(c.test.upper)}
            | {"p_value": _cell(c.test.p_value), "degrees_of_freedom": _cell(c.test.degrees_of_freedom)}
            | {"p_holm": _cell(c.p_holm), "draws": " ".join(map(str, c.draws)), "label_draws": c.test.draws}
            | {"image_groups": c.test.groups, "undefined_distances_set": c.filled, "in_words": in_words(c)}
            for c in comparisons
        ],
        columns=("kind", "labels", "method", "baseline", "metric"),
    )
    write_csv_atomic(
        folder / "agreement.csv",
        [
            {"labels": a.labels, "method": a.method, "unit": a.unit, "pearson_r": _cell(a.r)}
            | {"r_by_draw": " ".join(_cell(value) or "nan" for value in a.r_by_draw), "bias": _cell(a.bias)}
            | {"lower_limit": _cell(a.lower), "upper_limit": _cell(a.upper), "pairs": a.n, "left_out": a.left_out}
            for a in agreement
        ],
    )
    write_csv_atomic(
        folder / "cases.csv",
        [
            {"labels": case.labels, "method": case.method, "kind": case.kind, "id": case.id}
            | {"median_dice": _cell(case.dice), "draw": case.draw}
            for case in looked_at
        ],
    )
    write_text_atomic(folder / "table.md", _markdown(rows, comparisons))
    return folder / "table.md"


def _markdown(rows: Sequence[TableRow], comparisons: Sequence[Comparison]) -> str:
    lines = []
    for labels in dict.fromkeys(row.labels for row in rows):
        own = [row for row in rows if row.labels == labels]
        lines += [f"**{label_words(labels)}**: mean [95% interval]", ""]
        lines += _markdown_line(["method", "runs", *(metric.heading for metric in SHOWN.values())])
        lines += _markdown_line(["---"] * (len(SHOWN) + 2))
        for method in dict.fromkeys(row.method for row in own):
            figures = [row for row in own if row.method == method]
            cells = [with_bounds(SHOWN[row.metric], row.interval) + undefined_words(row) for row in figures]
            lines += _markdown_line([method, str(len(figures[0].by_draw)), *cells])
        lines.append("")
    primary = [comparison for comparison in comparisons if comparison.primary]
    lines += [f"Primary comparison: {in_words(comparison)}" for comparison in primary] or ["No primary comparison."]
    return "\n".join(lines) + "\n"


def with_bounds(metric: Metric, interval: Interval, sign: str = "") -> str:
    if math.isnan(interval.mean) or math.isnan(interval.lower):
        return metric.show(interval.mean, sign)
    return f"{metric.show(interval.mean, sign)} [{bounds_words(metric, interval, sign)}]"


def bounds_words(metric: Metric, interval: Interval, sign: str = "") -> str:
    return f"{metric.show(interval.lower, sign)}, {metric.show(interval.upper, sign)}"


def undefined_words(row: TableRow) -> str:
    if not row.interval.undefined or math.isnan(row.interval.mean):
        return ""
    return f" ({row.interval.undefined} of {row.values} undefined)"


def _markdown_line(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"

"""The figures of a study: told apart by colour, marker and line, also in grey and with red-green blindness."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.report.label_numbers import SCORES
from cmunet_monai.report.study_runs import StudyRuns, finetuning_loss, pretraining_losses, validation_dice
from cmunet_monai.report.study_table import SHOWN, Agreement, TableRow, diameters, label_words

Curve = tuple[np.ndarray, np.ndarray]

# Okabe and Ito 2008, without the yellow, which is too faint on white, and a grey and a wine. The baseline is black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
LINES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)), (0, (9, 2, 3, 2)))
UNFINISHED = "#B0B0B0"  # methods without a finished cell
WIDTH_IN = 7.2
DPI = 200
_SMALL = 8


def styles(methods: Sequence[str], baseline: str) -> dict[str, dict[str, object]]:
    """Colour, marker and line of each method, by its place in the study: the same in every figure."""
    others = [method for method in methods if method != baseline]
    found: dict[str, dict[str, object]] = {
        baseline: {"color": "black", "marker": "x", "linestyle": (0, (1, 1)), "linewidth": 1.4}
    }
    for number, method in enumerate(others):
        colour = COLOURS[number % len(COLOURS)]
        found[method] = {
            "color": colour,
            "markerfacecolor": colour if number < len(COLOURS) else "white",
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINES[number % len(LINES)],
            "linewidth": 1.4,
        }
    return found


def draw_label_numbers(study: StudyRuns, rows: Sequence[TableRow], baseline: str) -> Figure:
    """Dice and clDice against the number of labelled images, with 95% intervals; one line for each method.

    The axis is logarithmic, by the numbers that the fits had, not by the names of the label sets. No label at all has
    no place on it: it stands at the left edge, behind a dotted line, and no curve leads to it.
    Source: Challier et al. 2025, Fig. 3. Deviations: intervals, labelled images instead of ratios, and clDice instead
        of the Hausdorff distance.
    """
    numbers = {key: runs.labelled_images for key, runs in study.runs.items()}
    some = sorted({number for number in numbers.values() if number}) or [2.0]
    left = some[0] / 2  # where those without a label stand
    style, methods = styles(study.methods, baseline), study.methods
    figure = Figure(figsize=(WIDTH_IN, 3.3), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), SCORES, strict=True):
        for number, method in enumerate(methods):
            shift = 1.03 ** (number - (len(methods) - 1) / 2)  # intervals beside each other, not on top
            own = [r for r in rows if (r.method, r.metric) == (method, metric) and not np.isnan(r.interval.mean)]
            own.sort(key=lambda row: numbers[row.labels, row.method])
            for without in (True, False):  # the legend shows the latter
                part = [r for r in own if (numbers[r.labels, method] == 0) == without]
                x = [(numbers[r.labels, method] or left) * shift for r in part]
                means, lower, upper = (
                    np.array([(r.interval.mean, r.interval.lower, r.interval.upper) for r in part]).reshape(-1, 3).T
                )
                reach = np.maximum(np.nan_to_num([means - lower, upper - means]), 0)  # rounding may leave less than 0
                looks = style[method] | ({"linestyle": "none"} if without else {})
                axes.errorbar(x, means, yerr=reach, label=method, markersize=4.5, capsize=2, elinewidth=0.8, **looks)
        _label(axes, "labelled images", SHOWN[metric].heading)
        axes.set_xscale("log")
        ticks = {number: f"{number:g}" for number in some}
        if 0 in numbers.values():
            ticks[left] = "0"
            axes.axvline(left * 2**0.5, color="black", linewidth=0.8, linestyle=":")
        axes.set_xticks(list(ticks), list(ticks.values()), minor=False)
        axes.set_xticks([], minor=True)
        axes.set_xlim(min(ticks) / 1.35, max(ticks) * 1.35)
    _legend(figure, figure.axes[0])
    return figure


def draw_agreement(study: StudyRuns, labels: str, agreement: Sequence[Agreement], baseline: str) -> Figure:
    """Predicted against reference diameters, and their differences against their means, one column a method.

    Source: Challier et al. 2025, Fig. 4; Bland and Altman 1986.
    """
    own = [item for item in agreement if item.labels == labels]
    columns = min(4, max(2, len(own)))
    blocks = -(-len(own) // columns)
    figure = Figure(figsize=(WIDTH_IN, 3.9 * blocks), layout="constrained")
    grid = figure.subplots(2 * blocks, columns, squeeze=False)
    pairs = {item.method: diameters(study.runs[labels, item.method], item.unit) for item in own}
    spans = _spans(list(pairs.values()))
    style = styles(study.methods, baseline)
    for number in range(blocks * columns):
        scatter, difference = (grid[2 * (number // columns) + part, number % columns] for part in (0, 1))
        if number >= len(own) or spans is None:
            scatter.set_axis_off()
            difference.set_axis_off()
            continue
        item = own[number]
        predicted, reference = (values.ravel() for values in pairs[item.method])
        points = {"color": style[item.method]["color"], "s": 6, "alpha": 0.45, "linewidths": 0}
        (low, high), reach = spans
        scatter.plot([low, high], [low, high], color="black", linewidth=0.8)
        scatter.scatter(reference, predicted, **points)
        scatter.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        scatter.set_title(f"{item.method}\nr = {item.r:.2f}", fontsize=_SMALL)
        _label(scatter, f"reference ({item.unit})", f"predicted ({item.unit})")
        difference.scatter((predicted + reference) / 2, predicted - reference, **points)
        difference.axhline(0, color="black", linewidth=0.5)
        difference.axhline(item.bias, color="black", linewidth=1.2)
        for limit in (item.lower, item.upper):
            difference.axhline(limit, color="black", linewidth=1, linestyle="--")
        difference.set(xlim=(low, high), ylim=(-reach, reach))
        difference.set_title(f"bias {item.bias:+.2f}\nlimits {item.lower:+.2f}, {item.upper:+.2f}", fontsize=_SMALL)
        _label(difference, f"mean of both ({item.unit})", f"pred. − ref. ({item.unit})")
        if number % columns:
            scatter.set_ylabel("")
            difference.set_ylabel("")
    figure.suptitle(label_words(labels), fontsize=_SMALL + 1)
    return figure


def draw_pretraining(study: StudyRuns, losses: Mapping[str, Curve], baseline: str) -> Figure:
    """Pre-training loss by epoch, a panel a run, as the losses of two methods cannot be compared."""
    columns = min(3, len(losses))
    rows = -(-len(losses) // columns)
    figure = Figure(figsize=(WIDTH_IN, 2.1 * rows), layout="constrained")
    style = styles(study.methods, baseline)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel()[len(losses) :]:
        axes.set_axis_off()
    for axes, (name, (epochs, loss)) in zip(grid.ravel(), losses.items(), strict=False):
        colour = style.get(name.split(".")[0], {"color": UNFINISHED})["color"]
        axes.plot(epochs, loss, color=colour, linewidth=1.4, marker="." if len(epochs) < 3 else "")
        axes.set_title(name, fontsize=_SMALL)
        _label(axes, "epoch", "loss")
        _epochs(axes)
    return figure


def draw_finetuning(study: StudyRuns, baseline: str) -> Figure:
    """By epoch: above the loss of the final fits, below validation Dice of the chosen rate; a column a label set."""
    style = styles(study.methods, baseline)
    count = len(study.labels)
    figure = Figure(figsize=(WIDTH_IN, 4.6), layout="constrained")
    grid = figure.subplots(2, count, squeeze=False, sharey="row")
    for column, labels in enumerate(study.labels):
        for row, (read, title) in enumerate(((finetuning_loss, "training loss"), (validation_dice, "validation Dice"))):
            axes = grid[row, column]
            for method in study.methods:
                runs = study.runs.get((labels, method))
                curve = read(study, runs) if runs else None
                if curve is not None:
                    every = max(1, len(curve[0]) // 5)
                    axes.plot(*curve, label=method, markersize=4, markevery=every, **style[method])
            _label(axes, "epoch", title if column == 0 else "")
            _epochs(axes)
        grid[0, column].set_title(label_words(labels), fontsize=_SMALL + 1)
    _legend(figure, *grid.ravel())
    return figure


def has_curves(study: StudyRuns) -> bool:
    """Whether `draw_finetuning` would have anything to draw."""
    return any(read(study, runs) for runs in study.runs.values() for read in (finetuning_loss, validation_dice))


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG at a printable size, the same bytes for the same data."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})


def all_figures(
    study: StudyRuns, rows: Sequence[TableRow], agreement: Sequence[Agreement], baseline: str
) -> dict[str, Figure]:
    """File name (without its ending) -> figure; those without data are left out."""
    found = {"label_numbers": draw_label_numbers(study, rows, baseline)}
    for labels in study.labels:
        found[f"diameters_{labels}"] = draw_agreement(study, labels, agreement, baseline)
    losses = pretraining_losses(study)
    if losses:
        found["pretraining_loss"] = draw_pretraining(study, losses, baseline)
    if has_curves(study):
        found["finetuning"] = draw_finetuning(study, baseline)
    return found


def _spans(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[tuple[float, float], float] | None:
    """One range of diameters and one reach of differences for all methods; None where no pair is defined."""
    if all(np.isnan(predicted - reference).all() for predicted, reference in pairs):
        return None
    values = np.concatenate([both.ravel() for pair in pairs for both in pair])
    reach = max(np.nan_to_num(np.abs(predicted - reference)).max() for predicted, reference in pairs)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 1.0
    return (low - margin, high + margin), 1.1 * float(reach) or 1.0


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=_SMALL)
    axes.set_ylabel(y, fontsize=_SMALL)
    axes.tick_params(labelsize=_SMALL - 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)


def _epochs(axes: Axes) -> None:
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _legend(figure: Figure, *axes: Axes) -> None:
    """One legend below all panels."""
    found = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    if found:
        width_em = 7 + 0.65 * max(map(len, found))  # line, gaps, and letters of the usual width
        columns = min(5, len(found), max(1, int(WIDTH_IN * 72 / _SMALL / width_em)))
        figure.legend(
            found.values(),
            found,
            loc="outside lower center",
            ncols=columns,
            fontsize=_SMALL,
            frameon=False,
            handlelength=4,
        )

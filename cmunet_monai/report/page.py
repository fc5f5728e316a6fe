"""One HTML page of a study that holds its pictures and needs no network and no script."""

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cmunet_monai.engines.handlers.evaluation import file_name
from cmunet_monai.files.picture import read_picture
from cmunet_monai.pages import render_page
from cmunet_monai.report.label_numbers import LabelGain
from cmunet_monai.report.label_numbers import in_words as gain_in_words
from cmunet_monai.report.study_runs import Cell, MethodRuns, Source, StudyRuns, last_reconstructions, sources
from cmunet_monai.report.study_table import (
    FEW_DRAWS,
    METRICS,
    SHOWN,
    Agreement,
    Case,
    Comparison,
    Metric,
    Primary,
    TableRow,
    bounds_words,
    counted,
    in_words,
    label_words,
    p_words,
    undefined_words,
    verdict,
)

FAILING_SHOWN = 2
OVERLAY_PX = 640
RECONSTRUCTION_PX = 900


@dataclass(frozen=True)
class Content:
    """What a page shows.

    Attributes:
        not_compared: sentences on comparisons that could not be made.
        primary: None where none is named.
        primary_named: the primary comparison was named on the command line, not the program's default.
        diagonal_px: what stood for an undefined distance; None where there was none.
        plots: name -> PNG file. command: makes the page again.
    """

    study: StudyRuns
    rows: Sequence[TableRow]
    comparisons: Sequence[Comparison]
    not_compared: Sequence[str]
    baseline: str
    primary: Primary | None
    primary_named: bool
    diagonal_px: float | None
    gains: Sequence[LabelGain]
    agreement: Sequence[Agreement]
    cases: Sequence[Case]
    plots: Mapping[str, Path]
    command: str
    pictures: bool


@dataclass(frozen=True)
class Figure:
    """What stands in a cell of a table, and the notes below it."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, None where it is not there, and the words below it."""

    words: str
    source: str | None


Rows = list[tuple[str, Sequence[Figure]]]  # a head and its cells


@dataclass(frozen=True)
class Results:
    """What was measured of the methods on a label set; `by_run` has a line for each run."""

    labels: str
    runs: str
    means: Rows
    by_run: list[tuple[str, list[list[str]]]]


@dataclass(frozen=True)
class Example:
    """Pictures of one method on one label set; none where no overlays were written. failing: how many more failed."""

    method: str
    labels: str
    failing: int
    shown: list[Picture]


def page(content: Content) -> str:
    """The page; every picture in it is a data URI. Raises OSError where a picture cannot be read."""
    study, wanted = content.study, content.primary
    runs = next(iter(study.runs.values()))
    others = [comparison for comparison in content.comparisons if not comparison.primary]
    return render_page(
        "cmunet_monai.report",
        "page.html.jinja",
        content=content,
        study=study,
        images=len(runs.ids),
        groups=len(set(runs.groups)),
        version=version("cmunet_monai"),
        missing=[*study.missing, *content.not_compared],
        primary=next((comparison for comparison in content.comparisons if comparison.primary), None),
        planned=study.planned_draws(wanted.labels, wanted.method, content.baseline) if wanted else 0,
        results=[_results(content, labels) for labels in study.labels],
        gains=[gain_in_words(gain) for gain in content.gains],
        costs=[_cost(labels, method, runs.cells) for labels, method, runs in _by_method(study)],
        choices=_choice_words(study),
        dice_in_words=[in_words(comparison) for comparison in others if comparison.metric == "dice"],
        rest_in_words=[in_words(comparison) for comparison in others if comparison.metric != "dice"],
        tests=sum(not math.isnan(comparison.test.p_value) for comparison in others),
        differences=list(_differences(content)),
        plots=[(path.stem, _uri(path.read_bytes(), "png")) for path in content.plots.values()],
        examples=list(_examples(content)) if content.pictures else [],
        reconstructions=[
            _picture(path, f"{name}: {path.stem.replace('_', ' ')}", RECONSTRUCTION_PX)
            for name, path in (last_reconstructions(study) if content.pictures else {}).items()
        ],
        sources=list(_by_label_set(content, sources(study))),
        headings=_headings,
        sentence=_sentence,
        in_words=in_words,
        counted=counted,
        label_words=label_words,
        **{"METRICS": METRICS, "SHOWN": SHOWN, "FEW_DRAWS": FEW_DRAWS, "FAILING_SHOWN": FAILING_SHOWN},
    )


def _headings(metrics: Mapping[str, Metric]) -> list[str]:
    return [metric.heading for metric in metrics.values()]


def _results(content: Content, labels: str) -> Results:
    study = content.study
    own = {(row.method, row.metric): row for row in content.rows if row.labels == labels}
    cells = {method: study.runs[labels, method].cells for method in study.methods if (labels, method) in study.runs}
    means: Rows = [
        (method, [Figure(str(len(runs))), *(_figure(own[method, name]) for name in SHOWN)])
        for method, runs in cells.items()
    ]
    by_run = [
        (
            method,
            [
                [str(cell.draw) for cell in runs],
                *([SHOWN[name].show(value) for value in own[method, name].by_draw] for name in SHOWN),
            ],
        )
        for method, runs in cells.items()
    ]
    return Results(labels, _runs_words(study, labels), means, by_run)


def _by_method(study: StudyRuns) -> Iterator[tuple[str, str, MethodRuns]]:
    for method in study.methods:
        for labels in study.labels:
            if (labels, method) in study.runs:
                yield labels, method, study.runs[labels, method]


def _cost(labels: str, method: str, cells: Sequence[Cell]) -> tuple[str, list[Figure]]:
    seconds = [cell.seconds for cell in cells]
    spread = (f"{min(seconds):,.0f} to {max(seconds):,.0f}",) if len(cells) > 1 else ()
    return method, [
        Figure(labels),
        _each(_counted_or(cell.pretraining_epochs) for cell in cells),
        _each(_counted_or(cell.pretraining_seconds) for cell in cells),
        _each(str(cell.epochs) for cell in cells),
        Figure(f"{sum(seconds) / len(seconds):,.0f}", spread),
        _each(f"{cell.learning_rate:g}" for cell in cells),
    ]


def _choice_words(study: StudyRuns) -> str:
    """How the rates were chosen, label set by label set."""
    sentences = []
    for labels in study.labels:
        cells = [cell for cell in study.cells if cell.labels == labels]
        folds = " or ".join(counted(number, "fold") for number in sorted({cell.choice_folds for cell in cells}))
        once = any(cell.choice_draw != cell.draw for cell in cells)
        where = "the labelled images of the first draw, for all draws" if once else "the labelled images of each draw"
        sentences.append(f"{_sentence(labels)}: rates were chosen by {folds} inside {where}.")
    return " ".join(sentences)


def _runs_words(study: StudyRuns, labels: str) -> str:
    """How many runs, on how many draws of labels."""
    cells = [cell for cell in study.cells if cell.labels == labels]
    runs, draws = ({getattr(cell, name) for cell in cells} for name in ("draw", "label_draw"))
    words = f"{counted(len(runs), 'run')}, each with its own seed, on {counted(len(draws), 'draw')} of labels."
    one = " All have the same labelled images: intervals are over seeds and groups of images."
    return words + (one if len(draws) == 1 < len(runs) else "")


def _sentence(labels: str) -> str:
    words = label_words(labels)
    return words[:1].upper() + words[1:]


def _figure(row: TableRow) -> Figure:
    metric, undefined = SHOWN[row.metric], undefined_words(row).strip(" ()")
    bounds = [] if math.isnan(row.interval.lower) else [bounds_words(metric, row.interval)]
    return Figure(metric.show(row.interval.mean), (*bounds, *([undefined] if undefined else [])))


def _counted_or(value: float | None) -> str:
    return "not by this study" if value is None else f"{value:,.0f}"


def _each(values: Iterable[str]) -> Figure:
    return Figure(", ".join(dict.fromkeys(values)))


def _differences(content: Content) -> Iterator[tuple[str, Rows]]:
    for labels in content.study.labels:
        own = {(c.method, c.metric): c for c in content.comparisons if c.labels == labels}
        methods = dict.fromkeys(method for method, _ in own)
        if own:
            yield (
                labels,
                [
                    (
                        method,
                        [
                            Figure(str(len(own[method, "dice"].draws))),
                            *(_difference(own[method, name]) for name in METRICS),
                        ],
                    )
                    for method in methods
                ],
            )


def _difference(comparison: Comparison) -> Figure:
    metric, p_value = METRICS[comparison.metric], comparison.p_value
    notes = [] if math.isnan(comparison.interval.lower) else [bounds_words(metric, comparison.interval, "+")]
    notes.append(
        "no test" if math.isnan(p_value) else f"p {p_words(p_value)}{' (primary)' if comparison.primary else ''}"
    )
    said = verdict(comparison).split(":")[0]
    if said in ("higher", "lower", "undecided"):
        notes.append(said)
    if comparison.filled:
        notes.append(f"{comparison.filled} undefined, set")
    return Figure(metric.show(comparison.interval.mean, "+"), tuple(notes))


def _examples(content: Content) -> Iterator[Example]:
    study = content.study
    for (labels, method), runs in study.runs.items():
        own = [case for case in content.cases if (case.labels, case.method) == (labels, method)]
        failing = [case for case in own if case.kind == "failing"]
        cases = [case for case in own if case.kind != "failing"] + failing[:FAILING_SHOWN]
        folders = {cell.draw: study.folder / cell.evaluation / "overlays" for cell in runs.cells}
        drawn = any(folder.is_dir() for folder in folders.values())
        shown = [
            _picture(
                folders[case.draw] / file_name(case.id),
                f"{case.kind}: {case.id}, Dice {case.dice:.3f} (draw {case.draw})",
                OVERLAY_PX,
            )
            for case in cases
        ]
        yield Example(method, labels, len(failing), shown if drawn else [])


def _picture(path: Path, words: str, side_px: int) -> Picture:
    """A scaled-down JPEG of a picture, or a remark that it is not there."""
    if not path.is_file():
        return Picture(f"{words}: {path.name} is not there", None)
    buffer = io.BytesIO()
    small = Image.fromarray(_with_bold_lines(np.asarray(read_picture(path).convert("RGB"))))
    small.thumbnail((side_px, 2 * side_px), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=82)
    return Picture(words, _uri(buffer.getvalue(), "jpeg"))


def _uri(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _with_bold_lines(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with its coloured lines three times as wide: lines of one pixel fade when scaled down."""
    colourful = np.ptp(picture, axis=2, keepdims=True) > 60
    lines = cv2.dilate(np.where(colourful, picture, 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.where(lines.any(axis=2, keepdims=True), lines, picture)


def _by_label_set(content: Content, found: Sequence[Source]) -> Iterator[tuple[str, list[Source]]]:
    pretraining = [source for source in found if source.labels is None]
    if pretraining:
        yield "Pre-training", pretraining
    for labels in content.study.labels:
        yield _sentence(labels), [source for source in found if source.labels == labels]

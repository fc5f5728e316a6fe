"""One HTML page of a study that holds its pictures and needs no network and no script."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cmunet_monai.engines.handlers.evaluation import file_name
from cmunet_monai.readers.picture_file import read_picture
from cmunet_monai.report.label_numbers import MODEL, LabelGain
from cmunet_monai.report.label_numbers import in_words as gain_in_words
from cmunet_monai.report.study_runs import Source, StudyRuns, last_reconstructions, sources
from cmunet_monai.report.study_table import (
    FEW_DRAWS,
    METRICS,
    SHOWN,
    Agreement,
    Case,
    Comparison,
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

_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76em; margin: 2em auto; padding: 0 1.2em; color: #1a1a1a }
h1 { font-size: 1.7em } h2 { margin: 2.2em 0 .4em; border-bottom: 1px solid #999 } h3 { margin: 1.4em 0 .3em }
p, li { max-width: 58em }
table { border-collapse: collapse; margin: .6em 0; font-size: 13.5px; font-variant-numeric: tabular-nums }
th, td { padding: .3em .7em; text-align: right; vertical-align: top; white-space: nowrap }
th, td { border-bottom: 1px solid #ddd } td small b { color: #1a1a1a }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; white-space: normal; font-weight: 600 }
th:first-child, td.text, th.text { text-align: left } td.text { white-space: normal }
tbody th { font-weight: 600 } td small { display: block; color: #555; font-size: 12px }
.wide { overflow-x: auto }
.primary { border: 2px solid #1a1a1a; padding: .2em 1em; margin: 1em 0; max-width: 58em }
.note { border-left: 4px solid #555; padding-left: .8em }
figure { margin: 1.2em 0; break-inside: avoid } figure img { max-width: 100%; height: auto; display: block }
figcaption { font-size: 13px; color: #333; max-width: 64em } img.plot { width: 900px }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(19em, 1fr)); gap: .8em }
.cases figure { margin: 0 }
.cases img { width: 100% } .cases figcaption { overflow-wrap: anywhere }
code, pre { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
summary { cursor: pointer; font-weight: 600; margin: .5em 0 }
td code { white-space: nowrap; overflow-wrap: normal }
@page { size: A4; margin: 14mm }
@media print {
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; color: #000 }
  h2, h3 { break-after: avoid } tr { break-inside: avoid } thead { display: table-header-group }
  table { font-size: 7.6pt } th, td { padding: .2em .35em } td small { font-size: 6.6pt; color: #000 }
  .wide { overflow: visible } td, th { white-space: normal } td small { white-space: nowrap }
  img.plot { width: 100%; max-height: 23cm; object-fit: contain } figcaption { font-size: 8pt; color: #000 }
  .cases { grid-template-columns: repeat(3, 1fr) }
  code, pre { font-size: 6.5pt } td code { white-space: pre-wrap; overflow-wrap: anywhere } a { color: inherit }
}
"""
# the browser itself refuses whatever is not in the page
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PATIENTS = (
    "This page shows frames, and names them by their identifiers. Where the frames are of patients, these pictures are "
    "pictures of patients and remain personal data, pseudonymised or not (GDPR, recital 26): pass the page on only to "
    "those who may see the frames."
)
_WITHOUT = (
    "No frame and no identifier of a frame is on this page, so that it can be passed on. Made with --pictures, it also "
    "shows overlays and reconstructions, which are pictures of patients where the frames are. cases.csv, beside this "
    "page, names the images to look at."
)
_READING = (
    "Every figure is measured per image on the raw label at the frame's full size; no image of the test list chose an "
    "epoch or a rate. A mean is over all finished draws and images; below it stands its 95% interval, by a bootstrap "
    "that draws whole draws of labels (seeds where all runs have the same labels; a single run is not drawn), and "
    "whole groups of images (patients, or near-duplicates).",
    "HD and ADD are undefined where a mask is empty, the pointwise diameter error also where no centreline found a "
    "match: such images are left out of a mean, and counted beside it. Leaving them out of a comparison would reward "
    "an empty mask: there {diagonal} stands for an undefined HD, and the diameter of the label for an undefined "
    "diameter error. Images with an empty label count nowhere.",
    "HD is the modified Hausdorff distance; ADD the difference of the two mean artery diameters, which is near 0 for a "
    "wrong tree of the right mean width: read it with the pointwise diameter error, taken along the reference "
    "centreline, and the share of that centreline that found no match. Failed are images with a Dice below 0.5, empty "
    "masks included. Higher is better for Dice, clDice, IoU; lower for all others.",
    "The test of a paired difference treats draws of labels and groups of images both as samples (Dorfman, Berbaum "
    "and Metz 1992, with the degrees of freedom of Hillis 2007; draws stand where readers do). A method is called "
    "higher or lower only where the bootstrap interval and the test both leave out zero, undecided where only the "
    "interval does. A bootstrap of few draws is too narrow; the test allows for their number, but takes them to be "
    "normally distributed. Neither sees what another pre-training with another seed would give: each method was "
    "pre-trained once.",
)


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


def page(content: Content) -> str:
    """The page; every picture in it is a data URI. Raises OSError where a picture cannot be read."""
    study = content.study
    runs = next(iter(study.runs.values()))
    missing = [*study.missing, *content.not_compared]
    facts = (
        f"{counted(len(study.cells), 'finished cell')} (one method, one run with its draw of labels and seed): "
        f"{counted(len(study.methods), 'method')} ({', '.join(study.methods)}), label sets {', '.join(study.labels)}. "
        f"Measured on {counted(len(runs.ids), 'test image')} of {counted(len(set(runs.groups)), 'group')}. "
        f"Made with cmunet_monai {version('cmunet_monai')}."
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Study report</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
        "<h1>Pre-training compared on few labelled angiograms</h1>",
        f"<p>{escape(facts)}</p>",
        f'<p class="note">{escape(_PATIENTS if content.pictures else _WITHOUT)}</p>',
        f'<p class="note"><b>Not everything is there</b>: {counted(len(missing), "remark")} under '
        '<a href="#missing">What is missing</a>.</p>'
        if missing
        else "",
        _primary(content),
        "<h2>How to read the figures</h2>",
        *(f"<p>{escape(text)}</p>" for text in _reading(content.diagonal_px)),
        *_tables(content),
        "<h2>How many more labels</h2>",
        f"<p>{escape(MODEL)}</p>",
        _list(gain_in_words(gain) for gain in content.gains),
        *_comparisons(content),
        *_plots(content),
        *(_pictures(content) if content.pictures else []),
        '<h2 id="missing">What is missing</h2>',
        _list(missing) if missing else "<p>Nothing that this page needs.</p>",
        *_reproduction(content),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _reading(diagonal_px: float | None) -> list[str]:
    diagonal = "the image diagonal" + ("" if diagonal_px is None else f", {diagonal_px:.0f} px,")
    return [text.replace("{diagonal}", diagonal) for text in _READING]


def _primary(content: Content) -> str:
    wanted = content.primary
    if wanted is None:
        text = f"None is named for {escape(content.baseline)} as baseline: all comparisons are exploratory."
        return f'<div class="primary"><h3>Primary comparison</h3><p>{text}</p></div>'
    named = (
        "Named on the command line of this report; whether before the results were seen, a page cannot show."
        if content.primary_named
        else "It is the program's default, not chosen for these results."
    )
    name = f"{wanted.method} against {content.baseline}, {METRICS[wanted.metric].title}, {label_words(wanted.labels)}"
    made = [comparison for comparison in content.comparisons if comparison.primary]
    if not made:
        text = f"<p><b>Not made</b>: there is no finished cell for {escape(name)}.</p>"
    else:
        test, draws = made[0].test, made[0].draws
        numbers = f"Test: t with {test.degrees_of_freedom:.1f} degrees of freedom, 95% interval "
        numbers += f"{METRICS[wanted.metric].show(test.lower, '+')} to {METRICS[wanted.metric].show(test.upper, '+')}; "
        numbers = numbers if not math.isnan(test.p_value) else ""
        numbers += f"{counted(len(draws), 'shared run')} on {counted(test.draws, 'draw')} of labels, "
        numbers += f"{counted(test.groups, 'group')} of images."
        planned = content.study.planned_draws(wanted.labels, wanted.method, content.baseline)
        interim = f" <b>Interim</b>: {counted(planned, 'run')} of both are planned." if planned > len(draws) else ""
        few = f" With fewer than {FEW_DRAWS} draws, what differs between draws is hardly known."
        numbers += interim + (few if test.draws < FEW_DRAWS else "")
        text = f"<p><b>{escape(in_words(made[0]))}</b></p><p>{numbers}</p>"
    return f'<div class="primary"><h3>Primary comparison</h3>{text}<p>{named} All others are exploratory.</p></div>'


def _tables(content: Content) -> Iterable[str]:
    study = content.study
    yield "<h2>Results by number of labelled images</h2>"
    for labels in study.labels:
        own = {(row.method, row.metric): row for row in content.rows if row.labels == labels}
        methods = [method for method in study.methods if (labels, method) in study.runs]
        yield f"<h3>{escape(_sentence(label_words(labels)))}</h3>"
        yield f"<p>{escape(_runs_words(study, labels))}</p>"
        header = ["method", "runs", *(metric.heading for metric in SHOWN.values())]
        body = [
            [
                escape(method),
                str(len(study.runs[labels, method].cells)),
                *(_figure(own[method, name]) for name in SHOWN),
            ]
            for method in methods
        ]
        yield _table(header, body)
        yield "<p>The same figures of each run, in the order of the runs:</p>"
        body = [
            [escape(method), " ".join(str(cell.draw) for cell in study.runs[labels, method].cells)]
            + ["<br>".join(SHOWN[name].show(value) for value in own[method, name].by_draw) for name in SHOWN]
            for method in methods
        ]
        for line in body:
            line[1] = line[1].replace(" ", "<br>")
        yield _table(["method", "run", *header[2:]], body)
    yield "<h2>What it cost</h2>"
    yield (
        "<p>Seconds on the machine of the run: epochs times the median epoch, without the preparation of the data; "
        f"fine-tuning is the final fit alone, mean and range over draws. {escape(_choice_words(study))}</p>"
    )
    header = ["method", "labelled images", "pre-training epochs", "pre-training (s)", "fine-tuning epochs"]
    body = []
    for method in study.methods:
        for labels in study.labels:
            if (labels, method) in study.runs:
                cells = study.runs[labels, method].cells
                seconds = [cell.seconds for cell in cells]
                spread = f"<small>{min(seconds):,.0f} to {max(seconds):,.0f}</small>" if len(cells) > 1 else ""
                body.append(
                    [
                        *(escape(method), escape(labels)),
                        _each(_counted_or(cell.pretraining_epochs) for cell in cells),
                        _each(_counted_or(cell.pretraining_seconds) for cell in cells),
                        _each(str(cell.epochs) for cell in cells),
                        f"{sum(seconds) / len(seconds):,.0f}{spread}",
                        _each(f"{cell.learning_rate:g}" for cell in cells),
                    ]
                )
    yield _table([*header, "fine-tuning (s)", "chosen rates"], body)


def _choice_words(study: StudyRuns) -> str:
    """How the rates were chosen, label set by label set."""
    sentences = []
    for labels in study.labels:
        cells = [cell for cell in study.cells if cell.labels == labels]
        folds = " or ".join(counted(number, "fold") for number in sorted({cell.choice_folds for cell in cells}))
        once = any(cell.choice_draw != cell.draw for cell in cells)
        where = "the labelled images of the first draw, for all draws" if once else "the labelled images of each draw"
        sentences.append(f"{_sentence(label_words(labels))}: rates were chosen by {folds} inside {where}.")
    return " ".join(sentences)


def _runs_words(study: StudyRuns, labels: str) -> str:
    """How many runs, on how many draws of labels."""
    cells = [cell for cell in study.cells if cell.labels == labels]
    runs, draws = ({getattr(cell, name) for cell in cells} for name in ("draw", "label_draw"))
    words = f"{counted(len(runs), 'run')}, each with its own seed, on {counted(len(draws), 'draw')} of labels."
    one = " All have the same labelled images: intervals are over seeds and groups of images."
    return words + (one if len(draws) == 1 < len(runs) else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figure(row: TableRow) -> str:
    metric = SHOWN[row.metric]
    text = metric.show(row.interval.mean)
    if not math.isnan(row.interval.lower):
        text += f"<small>{bounds_words(metric, row.interval)}</small>"
    undefined = undefined_words(row).strip(" ()")
    return text + (f"<small>{undefined}</small>" if undefined else "")


def _counted_or(value: float | None) -> str:
    return "not by this study" if value is None else f"{value:,.0f}"


def _each(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(escape(value) for value in values))


def _comparisons(content: Content) -> Iterable[str]:
    others = [comparison for comparison in content.comparisons if not comparison.primary]
    yield f"<h2>Exploratory comparisons with {escape(content.baseline)}</h2>"
    if not others:
        yield "<p>None.</p>"
        return
    tests = sum(not math.isnan(comparison.test.p_value) for comparison in others)
    yield (
        "<p>Paired by run and image, over the runs that both methods have: the difference, its bootstrap interval, "
        f"the p-value, corrected for all {counted(tests, 'exploratory test')} together (Holm 1979), and what may be "
        "said. comparisons.csv also has the interval of the test, its degrees of freedom and the uncorrected p-values."
        "</p>"
    )
    for labels in content.study.labels:
        own = {(c.method, c.metric): c for c in content.comparisons if c.labels == labels}
        methods = list(dict.fromkeys(method for method, _ in own))
        if own:
            yield f"<h3>{escape(_sentence(label_words(labels)))}</h3>"
            yield _table(
                ["method", "runs", *(metric.heading for metric in METRICS.values())],
                [
                    [escape(method), str(len(own[method, "dice"].draws))]
                    + [_difference(own[method, name]) for name in METRICS]
                    for method in methods
                ],
            )
    yield "<p>Dice in words:</p>"
    yield _list(in_words(comparison) for comparison in others if comparison.metric == "dice")
    rest = [in_words(comparison) for comparison in others if comparison.metric != "dice"]
    yield f"<details><summary>The other {counted(len(rest), 'comparison')} in words</summary>{_list(rest)}</details>"


def _difference(comparison: Comparison) -> str:
    metric = METRICS[comparison.metric]
    lines = [] if math.isnan(comparison.interval.lower) else [bounds_words(metric, comparison.interval, "+")]
    p_value = comparison.p_value
    lines.append(
        "no test" if math.isnan(p_value) else f"p {p_words(p_value)}{' (primary)' if comparison.primary else ''}"
    )
    said = verdict(comparison).split(":")[0]
    if said in ("higher", "lower"):
        lines.append(f"<b>{said}</b>")
    elif said == "undecided":
        lines.append(said)
    if comparison.filled:
        lines.append(f"{comparison.filled} undefined, set")
    return metric.show(comparison.interval.mean, "+") + "".join(
        f"<small>{line if line.startswith('<b>') else escape(line)}</small>" for line in lines
    )


def _plots(content: Content) -> Iterable[str]:
    yield "<h2>Figures</h2>"
    for name, path in content.plots.items():
        text = escape(caption(name, content))
        source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        yield (
            f'<figure><img class="plot" alt="{text}" src="{source}"><figcaption>{text} ({escape(path.name)})'
            "</figcaption></figure>"
        )


def caption(name: str, content: Content) -> str:
    """What a figure shows."""
    if name == "label_numbers":
        return (
            "Dice and clDice against the number of labelled images: means and 95% bootstrap intervals. The axis is "
            "logarithmic; what had no label stands behind the dotted line."
        )
    if name == "pretraining_loss":
        return "Pre-training loss by epoch. Each method has a loss of its own: only its course can be read."
    if name == "finetuning":
        return (
            "Fine-tuning: loss of the final fits, mean over draws, and Dice on the folds inside the labelled images at "
            "the chosen rate, mean over the folds and draws that chose it (a marker alone where only the last epoch "
            "was validated)."
        )
    labels = name.removeprefix("diameters_")
    left_out = sum(item.left_out for item in content.agreement if item.labels == labels)
    return (
        f"Artery diameters of the masks against those of the labels, {label_words(labels)}, a point for every image "
        "and draw: above with the line of identity and Pearson's r, below Bland-Altman with bias (line) and limits of "
        f"agreement (dashed, 1.96 SD). {counted(left_out, 'pair')} left out, as a mask is empty."
    )


def _pictures(content: Content) -> Iterable[str]:
    study = content.study
    yield "<h2>Examples</h2>"
    yield (
        "<p>Best, median and worst image of each method by its Dice (median over draws), and further failing ones, "
        "worst first; drawn is the draw whose Dice is nearest to that median. Green: agreement; orange: missed; pink: "
        "false.</p>"
    )
    for (labels, method), runs in study.runs.items():
        own = [case for case in content.cases if (case.labels, case.method) == (labels, method)]
        failing = [case for case in own if case.kind == "failing"]
        shown = [case for case in own if case.kind != "failing"] + failing[:FAILING_SHOWN]
        yield f"<h3>{escape(method)}, {escape(label_words(labels))}</h3>"
        folders = {cell.draw: study.folder / cell.evaluation / "overlays" for cell in runs.cells}
        if not any(folder.is_dir() for folder in folders.values()):
            yield "<p>None: the evaluations wrote no overlays.</p>"
            continue
        if len(failing) > FAILING_SHOWN:
            yield f"<p>Of {len(failing)} further failing images {FAILING_SHOWN} are shown.</p>"
        figures = []
        for case in shown:
            words = f"{case.kind}: {case.id}, Dice {case.dice:.3f} (draw {case.draw})"
            figures.append(_picture(folders[case.draw] / file_name(case.id), words, OVERLAY_PX))
        yield f'<div class="cases">{"".join(figures)}</div>'
    reconstructions = last_reconstructions(study)
    yield "<h2>Reconstructions</h2>"
    if not reconstructions:
        yield "<p>None.</p>"
    for name, path in reconstructions.items():
        yield _picture(path, f"{name}: {path.stem.replace('_', ' ')}", RECONSTRUCTION_PX)


def _picture(path: Path, words: str, side_px: int) -> str:
    """A scaled-down JPEG of a picture, or a remark that it is not there."""
    if not path.is_file():
        return f"<figure><figcaption>{escape(words)}: {escape(path.name)} is not there</figcaption></figure>"
    buffer = io.BytesIO()
    small = Image.fromarray(_with_bold_lines(np.asarray(read_picture(path).convert("RGB"))))
    small.thumbnail((side_px, 2 * side_px), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=82)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    text = escape(words)
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>'


def _with_bold_lines(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with its coloured lines three times as wide: lines of one pixel fade when scaled down."""
    colourful = np.ptp(picture, axis=2, keepdims=True) > 60
    lines = cv2.dilate(np.where(colourful, picture, 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.where(lines.any(axis=2, keepdims=True), lines, picture)


def _reproduction(content: Content) -> Iterable[str]:
    found = sources(content.study)
    yield '<h2 id="reproduce">How to reproduce each number</h2>'
    yield (
        "<p>A row of the tables above is computed from the files <code>per_image.csv</code> of its label set and "
        "method, all draws together, listed here; epochs, seconds and rates are from <code>cells.csv</code>. All of "
        f"it again: <code>{escape(content.command)}</code> (the bootstrap is seeded: the "
        "same files give the same page). Facts are those of each run's <code>run.json</code>, digests cut to 12 "
        "digits; sources.csv has them whole. In commands an absolute path is cut to its last two parts.</p>"
    )
    for title, runs in _by_label_set(content, found):
        lines = []
        for source in runs:
            facts = ", ".join(f"{name} {str(value)[:12]}" for name, value in source.facts.items())
            lines.append([escape(source.run), f"<code>{escape(source.file)}</code>", escape(facts)])
        yield f"<h3>{escape(title)}</h3>"
        yield _table(["run", "file", "facts"], lines, text=(1, 2))
        commands = "\n".join(f"# {s.run}\n{s.command or '(no run.json)'}\n" for s in runs)
        yield f"<details><summary>Commands</summary><pre>{escape(commands)}</pre></details>"


def _by_label_set(content: Content, found: Sequence[Source]) -> Iterable[tuple[str, list[Source]]]:
    pretraining = [source for source in found if source.labels is None]
    if pretraining:
        yield "Pre-training", pretraining
    for labels in content.study.labels:
        yield _sentence(label_words(labels)), [s for s in found if s.labels == labels]


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = ()) -> str:
    """A table of cells that are HTML; the first column heads its rows, those in `text` hold words."""
    kinds = [' class="text"' if number in text else "" for number in range(len(header))]
    head = "".join(f'<th scope="col"{kind}>{escape(cell)}</th>' for cell, kind in zip(header, kinds, strict=True))
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'

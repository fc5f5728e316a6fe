"""`cmunet report STUDY_OUTPUT --output DIR`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.options import options_named
from cmunet_monai.report.figures import all_figures, save
from cmunet_monai.report.label_numbers import in_words as gain_in_words
from cmunet_monai.report.label_numbers import label_gains, write_gains
from cmunet_monai.report.page import Content, page
from cmunet_monai.report.study_runs import diameter_unit, has_undefined_distance, largest_diagonal, read_runs, sources
from cmunet_monai.report.study_table import METRICS, Primary, agreements, cases, compare, in_words, table, write_tables
from cmunet_monai.verbs import verb_parser

EPILOG = """\
The page has per-image means with 95% hierarchical bootstrap intervals (draws of labels, then groups of images), one
primary and all other paired comparisons with the baseline, figures, what more labels add, and where each number comes
from. Saved results are read, no model is run.
"""
DEFAULT_BASELINE = "none"  # that of the primary comparison which is the program's default


def main(argv: Sequence[str]) -> int:
    parser = verb_parser("report", EPILOG)
    parser.add_argument("runs", metavar="STUDY_OUTPUT", help="output_dir of a study, finished or not")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="folder of index.html, its figures (PNG), *.csv and table.md",
    )
    parser.add_argument("--test", metavar="NAME", help="one of the study's `further_tests` (default: its test list)")
    parser.add_argument(
        "--baseline", metavar="METHOD", default=DEFAULT_BASELINE, help="method to compare with (default: none)"
    )
    parser.add_argument(
        "--primary",
        metavar="METHOD:METRIC:LABELS",
        help="the primary comparison with the baseline, decided before the results were seen; all others are "
        f"exploratory (default: cm_unet:dice:18 against none; metrics: {', '.join(METRICS)})",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="also show overlays and reconstructions, which show patients if the frames do (default: a page "
        "without any frame, to be passed on)",
    )
    parser.add_argument(
        "--diagonal-px",
        type=_length,
        metavar="PX",
        help="length for undefined Hausdorff distances in paired differences (default: diagonal of the largest frame, "
        "by the saved masks)",
    )
    arguments = parser.parse_args(argv)
    with options_named(parser, vars(arguments)):
        return _report(arguments)


def _report(arguments: argparse.Namespace) -> int:
    study, output = read_runs(arguments.runs, test=arguments.test), Path(arguments.output)
    default = Primary() if arguments.baseline == DEFAULT_BASELINE else None
    primary = default if arguments.primary is None else _primary(arguments.primary)
    known = study.runs.keys() | {(labels, method) for labels, _, method in study.planned}
    if arguments.primary is not None and primary is not None and (primary.labels, primary.method) not in known:
        found = ", ".join(f"{method}:METRIC:{labels}" for labels, method in sorted(known))
        raise ValueError(f"--primary {arguments.primary}: the study has no such method and label set, but {found}")
    diagonal_px = arguments.diagonal_px
    if diagonal_px is None and has_undefined_distance(study):
        diagonal_px = largest_diagonal(study)
    comparisons, absent = compare(study, arguments.baseline, diagonal_px=diagonal_px or 0.0, primary=primary)
    rows, agreement, looked_at = table(study), agreements(study, diameter_unit(study)), cases(study)
    gains = label_gains(study)
    markdown = write_tables(rows, comparisons, agreement, looked_at, output)
    write_gains(gains, output / "label_gains.csv")
    write_csv_atomic(
        output / "sources.csv",
        [{"run": s.run, "file": s.file, "command": s.command, **s.facts} for s in sources(study)],
    )
    plots = {}
    for name, figure in all_figures(study, rows, agreement, arguments.baseline).items():
        plots[name] = output / f"{name}.png"
        save(figure, plots[name])
    content = Content(
        study=study,
        rows=rows,
        comparisons=comparisons,
        not_compared=absent,
        baseline=arguments.baseline,
        primary=primary,
        primary_named=arguments.primary is not None,
        diagonal_px=diagonal_px,
        gains=gains,
        agreement=agreement,
        cases=looked_at,
        plots=plots,
        pictures=arguments.pictures,
        command=_command(arguments),
    )
    write_text_atomic(output / "index.html", page(content))
    print(markdown.read_text(encoding="utf-8"))
    for sentence in (
        *(in_words(c) for c in comparisons if c.metric == "dice" and not c.primary),
        *(gain_in_words(gain) for gain in gains if gain.metric == "dice"),
        *study.missing,
        *absent,
    ):
        print(f"- {sentence}")
    print(f"page: {output / 'index.html'}")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """What makes the page again, with the options that decide its numbers."""
    words = ["cmunet report STUDY_OUTPUT --output DIR"]
    if arguments.test is not None:
        words.append(f"--test {arguments.test}")
    if arguments.baseline != DEFAULT_BASELINE:
        words.append(f"--baseline {arguments.baseline}")
    if arguments.primary is not None:
        words.append(f"--primary {arguments.primary}")
    if arguments.diagonal_px is not None:
        words.append(f"--diagonal-px {arguments.diagonal_px:g}")
    return " ".join(words)


def _length(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of pixels, got {text}")
    return value


def _primary(text: str) -> Primary:
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"--primary must be METHOD:METRIC:LABELS, such as cm_unet:dice:18, got {text!r}")
    return Primary(*parts)

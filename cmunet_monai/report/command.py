"""`python -m cmunet_monai report STUDY_OUTPUT --output DIR`."""

import argparse
from collections.abc import Sequence

from cmunet_monai.report.study_table import compare, largest_diagonal, read_runs, write_table


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cmunet_monai report",
        description="Table of a study: per-image means over draws and images with 95% hierarchical bootstrap intervals "
        "(draws, then groups of images), and paired differences to the baseline. Reads saved results only.",
    )
    parser.add_argument("runs", help="output_dir of a study")
    parser.add_argument("--output", required=True, help="folder of table.csv and table.md")
    parser.add_argument("--baseline", default="none", help="method to compare with (default: none)")
    parser.add_argument(
        "--diagonal-px",
        type=float,
        help="length for undefined distances in paired differences (default: diagonal of the largest frame, by the "
        "saved masks)",
    )
    arguments = parser.parse_args(argv)
    runs = read_runs(arguments.runs)
    diagonal_px = arguments.diagonal_px or largest_diagonal(arguments.runs)
    rows = compare(runs, arguments.baseline, diagonal_px=diagonal_px)
    _, table = write_table(rows, arguments.output)
    print(table.read_text(encoding="utf-8"))
    return 0

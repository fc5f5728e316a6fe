"""`python -m cmunet_monai report STUDY_OUTPUT --output DIR`."""

import argparse
from collections.abc import Sequence

from cmunet_monai.report.study_table import compare, read_runs, write_table


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
        default=512 * 2**0.5,
        help="length for undefined distances in paired differences (default: diagonal of a 512 x 512 frame)",
    )
    arguments = parser.parse_args(argv)
    rows = compare(read_runs(arguments.runs), arguments.baseline, diagonal_px=arguments.diagonal_px)
    _, table = write_table(rows, arguments.output)
    print(table.read_text(encoding="utf-8"))
    return 0

"""`cmunet predict`: arteries in a file or folder, in one line."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.options import options_named
from cmunet_monai.verbs import verb_parser

SOME_PASSED_OVER = 3

EPILOG = f"""
Writes to the output folder: masks/, overlays/, animations/ (of runs with several frames), segments.csv (length, mean
and minimum diameter of each segment between branch points), statistics.json (quality and findings of each frame),
records/ (the same, one file for each frame), passed_over.csv (files and frames that could not be read, measured or
written, if any, with the reason); on request narrowings.csv, uncertainty/, probabilities/, seg/.

Each frame gets a verdict: `ok`, `review` (a person should look) or `refused` (the result is not meaningful).
statistics.json gives the reasons. Results of XA DICOM are named by pseudonym. The secret key is written to OUTPUT.key,
and a table of pseudonyms and patients beside it. To resume, run the same command again. Results of frames that are no
longer selected are deleted.

exit code: 0 if all frames are done; 3 if some were skipped (the tables contain the others); 2 if nothing could be done
(standard error gives the reason). {RESEARCH_USE.capitalize()}, not a medical device.
"""


def main(argv: Sequence[str]) -> int:
    parser = make_parser()
    arguments = parse(argv, parser)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("cmunet_monai").setLevel(logging.INFO)
    from cmunet_monai.prediction.run_bundle import predict  # imports MONAI and torch, which --help does without

    aliases = {"output_dir": "--output", "channels": "--bundle", "image_size": "--bundle"}
    with options_named(parser, arguments, aliases):
        summary = predict(**arguments)
    output = arguments["output"]
    verdicts = ", ".join(f"{count} {name}" for name, count in summary["verdicts"].items())
    print(f"{summary['frames']} frames: {verdicts}; no vessel found in {summary['no_vessel_found']}")
    passed_over = output / "passed_over.csv"
    if not summary["frames"]:
        print(f"error: no frame could be done: {passed_over} says why", file=sys.stderr)
        return 2
    if passed_over.is_file():
        print(f"some files or frames were passed over: {passed_over} says why")
    print(f"overlays: {output / 'overlays'}\nmeasurements: {output / 'segments.csv'}\n{RESEARCH_USE}")
    return SOME_PASSED_OVER if passed_over.is_file() else 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser; options that are not given are left to the bundle's defaults."""
    parser = verb_parser("predict", EPILOG, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("-i", "--input", dest="source", type=Path, required=True, metavar="FILE_OR_DIR",
        help="PNG, NIfTI and XA DICOM files, mixed, folders below included")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--bundle", type=Path, metavar="DIR", help="the segmentation bundle (default: the one installed)")
    add(
        "--weights",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="weights of one or more models, whose predictions are averaged (default: those of the bundle)",
    )
    add(
        "--frames",
        nargs="+",
        metavar="WHICH",
        help="frames of a DICOM run to use: fullest (default), measure (filled, little cardiac motion), all, or "
        "frame numbers from 0",
    )
    add(
        "--tta",
        dest="flips",
        action="store_true",
        help="average over the frame and its three mirror images; slower; writes uncertainty/",
    )
    add("--probability", dest="probabilities", action="store_true", help="write probabilities/ too")
    add("--stenosis", dest="narrowings", action="store_true", help="look for candidate narrowings: narrowings.csv")
    add("--seg", dest="dicom_seg", choices=("pseudonym", "source"), nargs="?", const="pseudonym",
        help="write a DICOM segmentation of each run to seg/; default `pseudonym`; `source` includes the "
        "patient's identity, so "
        "that a PACS can file it")  # fmt: skip
    add(
        "--spacing-mm",
        dest="spacing_mm",
        type=float,
        metavar="MM",
        help="pixel size in mm at the patient, for files that do not contain it",
    )
    add("--any-sop-class", dest="require_xa", action="store_false", help="also read DICOM images other than XA")
    add("--key", type=Path, metavar="FILE", help="secret key of the pseudonyms (default: OUTPUT.key)")
    add("--runtime", choices=("auto", "torch", "onnx", "openvino"), help="default: the fastest that is installed")
    add(
        "--no-overlays",
        dest="overlays",
        action="store_false",
        help="do not draw overlays",
    )
    return parser


def parse(argv: Sequence[str], parser: argparse.ArgumentParser | None = None) -> dict[str, Any]:
    """Arguments of `predict`, by name."""
    parser = make_parser() if parser is None else parser
    arguments = vars(parser.parse_args(argv))
    if "frames" in arguments:
        arguments["frames"] = frames_of(arguments["frames"], parser)
    if "key" in arguments:
        arguments["key"] = str(arguments["key"])
    return arguments


def frames_of(words: Sequence[str], parser: argparse.ArgumentParser) -> str | list[int]:
    """`fullest`, `measure`, `all`, or numbers."""
    if len(words) == 1 and words[0] in ("fullest", "measure", "all"):
        return words[0]
    if not all(word.isdecimal() for word in words):
        parser.error(f"--frames takes fullest, measure, all, or numbers from 0, got {' '.join(words)}")
    return [int(word) for word in words]

"""Options that the verbs which draw synthetic scenes share."""

import argparse

from data_prep.synthetic.frame import DEFAULT_MIN_CALIBRE_MM

MIN_SIZE_PX, MAX_SIZE_PX = 64, 2048


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --size, --seed, --min-calibre-mm and --workers."""
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="width and height in pixels (default: 256)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed; the same seed gives the same data set (default: 0)",
    )
    parser.add_argument(
        "--min-calibre-mm",
        type=float,
        default=DEFAULT_MIN_CALIBRE_MM,
        metavar="MM",
        help="arteries thinner than this are visible in the frame but not in the mask (default: "
        f"{DEFAULT_MIN_CALIBRE_MM})",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes to share the work (default: 1)")


def check_scene_arguments(args: argparse.Namespace) -> None:
    """Refuse values out of range.

    Raises:
        ValueError: it names the option.
    """
    if not MIN_SIZE_PX <= args.size <= MAX_SIZE_PX:
        raise ValueError(f"--size must be {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels, got {args.size}")
    if args.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {args.seed}")
    if not 0 <= args.min_calibre_mm <= 3:
        raise ValueError(f"--min-calibre-mm must be 0 to 3 (then only trunks are left), got {args.min_calibre_mm}")
    if args.workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {args.workers}")

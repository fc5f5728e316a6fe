"""`python -m cmunet_monai study STUDY.json`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from cmunet_monai.study.plan import FOLDS, read_study
from cmunet_monai.study.runner import mistakes, run_study

FORMAT = """\
STUDY is a JSON file; its paths are relative to the current directory:

  {
    "bundle_root": "bundles/coronary_xa_segmentation",
    "dataset_dir": "DATA",                                   folder of the frames
    "output_dir": "STUDY_OUTPUT",                            a folder for each draw and method, and cells.csv
    "methods": {"none": null, "cm_unet": "unet.safetensors"},  weights to start from; null: random
    "draws": ["SPLITS/draw_0", "SPLITS/draw_1"],             as `data_prep split --draws 2` writes them
    "learning_rates": [0.0005, 0.002],                       chosen among by three folds, for each method and draw
    "max_epochs": 150,                                       of the final fit
    "choice_epochs": 50,                                     of a run that chooses (default: max_epochs)
    "configs": ["train.json", "compact.json"],               default; evaluate.json takes the place of the first
    "overrides": {"num_workers": 0}                          further options of every run (default: none)
  }

(without the words on the right). The table of a finished study: python -m cmunet_monai report STUDY_OUTPUT --output DIR
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cmunet_monai study",
        description="Fine-tune every method on every draw, with choices made inside the labelled images, and evaluate. "
        "Run it again after an interruption: finished runs are kept, the interrupted one goes on.",
        epilog=FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", metavar="STUDY", help="JSON file, described below")
    parser.add_argument("--dry-run", action="store_true", help="check the runs, say what would run, and stop")
    arguments = parser.parse_args(argv)
    study = read_study(arguments.study)
    runs = len(study.draws) * len(study.methods)
    print(
        f"{runs} cells ({len(study.draws)} draws x {len(study.methods)} methods), each with "
        f"{len(FOLDS) * len(study.learning_rates)} runs of {study.choice_epochs or study.max_epochs} epochs to choose "
        f"a rate, one fit of {study.max_epochs} epochs and one evaluation; results go to {study.output_dir}"
    )
    found = mistakes(study)
    for mistake in found:
        print(f"error: {mistake}", file=sys.stderr)
    if found:
        return 2
    if not arguments.dry_run:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        run_study(study)
        print(f"done; table: python -m cmunet_monai report {study.output_dir} --output {study.output_dir / 'report'}")
    return 0

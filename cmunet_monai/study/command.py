"""`python -m cmunet_monai study STUDY.json`."""

import argparse
import logging
from collections.abc import Sequence

from cmunet_monai.study.plan import FOLDS, read_study
from cmunet_monai.study.runner import run_study


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cmunet_monai study",
        description="Fine-tune every method on every draw, with choices made inside the labelled images, and evaluate. "
        "Run it again after an interruption: finished runs are kept, the interrupted one goes on.",
    )
    parser.add_argument("study", help="JSON file; cmunet_monai/study/plan.py says what it holds")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    arguments = parser.parse_args(argv)
    study = read_study(arguments.study)
    runs = len(study.draws) * len(study.methods)
    print(
        f"{runs} cells ({len(study.draws)} draws x {len(study.methods)} methods), each with "
        f"{len(FOLDS) * len(study.learning_rates)} runs of {study.choice_epochs or study.max_epochs} epochs to choose "
        f"a rate, one fit of {study.max_epochs} epochs and one evaluation; results go to {study.output_dir}"
    )
    if not arguments.dry_run:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        run_study(study)
        print(f"done; table: python -m cmunet_monai report {study.output_dir} --output {study.output_dir / 'report'}")
    return 0

"""`cmunet study STUDY.json`."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmunet_monai.options import options_named
from cmunet_monai.study.plan import read_study
from cmunet_monai.verbs import program, verb_parser

if TYPE_CHECKING:
    from cmunet_monai.study.estimate import Estimate

FORMAT = """\
Each method is fine-tuned on every draw of few labels, with choices made inside the labelled images, and evaluated.
Run it again after an interruption: finished runs are kept, the interrupted one goes on.

STUDY is a JSON file; its paths are relative to the current directory:

  {
    "bundle_root": "bundles/coronary_xa_segmentation",
    "dataset_dir": "DATA",                           folder of the frames
    "output_dir": "STUDY_OUTPUT",                    pretraining/, a folder for each cell, and cells.csv;
                                                       run.json in each run's folder says what it was
    "methods": {                                     what fine-tuning starts from, by name:
      "none": null,                                    random weights
      "other": "unet.safetensors",                     a file
      "cm_unet": {"overlays": []},                     pre-trained by the study, with overlays of the bundle's method
      "vaso_mim": {
        "overlays": ["methods/vaso_mim.json"],
        "needs": {"segmentor_weights": ["methods/vaso_mim_segmentor.json"]},   made first, given as that option
        "pretraining_overrides": {},                   further options of the pre-training (default: none)
        "finetuning_overrides": {"max_epochs": 300},   further options of its fine-tunings (default: none); max_epochs
                                                       of the final fit alone
        "finetuning_configs": ["mean_teacher.json"],   overlays of its final fit (default: none)
        "rate_of": "none",                             takes over the rate of another method (default: chooses its own)
        "all_draws": true,                             also those behind `shared_draws` (default: false)
        "labels": ["18"]                               label sets that it takes part in (default: all)
      }
    },
    "labels": {                                      label sets by name
      "18": {
        "draws": ["SPLITS/draw_0", "SPLITS/draw_1"],   as `data_prep split --draws 2` writes them; the position is the
                                                       seed, and a folder may stand here several times
        "max_epochs": 150,                             of the final fit; 0: the start itself is evaluated
        "choice_epochs": 75,                           of a run that chooses (default: max_epochs)
        "choice_folds": 1,                             how many folds choose (default: all three)
        "shared_draws": 1                              how many of them every method takes (default: all)
      }
    },
    "learning_rates": [0.0005, 0.002],               chosen among by three folds, for each method and draw; a single one
                                                       is taken as it is
    "choose_once": false,                            true: on the first draw of a label set, for its other draws too
    "pretraining": {                                 needed where methods have `overlays`
      "bundle_root": "bundles/coronary_xa_pretraining",
      "configs": ["train.json", "compact.json"],       default; the overlays come after them
      "overrides": {"max_epochs": 30}                  further options of every pre-training (default: none)
    },
    "configs": ["train.json"],                       default; evaluate.json takes the place of the first
    "overrides": {"num_workers": 0},                 further options of every fine-tuning and evaluation (default: none)
    "finetuning_overrides": {"batch_size": 4},       further options of every fine-tuning alone (default: none)
    "evaluation_overrides": {"overlays": false},     further options of every evaluation alone (default: none); without
                                                       overlays it takes half the time, and a report shows none
    "further_tests": {                               lists on which every cell is evaluated too (default: none)
      "external": {"dataset_dir": "OTHER", "datalist": "OTHER/datalist.json"}    report --test external
    }
  }

(without the words on the right). The table of a finished study: cmunet report STUDY_OUTPUT --output DIR
"""


def main(argv: Sequence[str]) -> int:
    parser = verb_parser("study", FORMAT)
    parser.add_argument("study", metavar="STUDY", help="JSON file, described below")
    parser.add_argument(
        "--dry-run", action="store_true", help="check and list the runs, and estimate how long they take"
    )
    parser.add_argument(
        "--shard", metavar="I/N", default="1/1", help="run every N-th method, beginning with the I-th (for array jobs)"
    )
    arguments = parser.parse_args(argv)
    with options_named(parser, vars(arguments)):
        return _study(arguments)


def _study(arguments: argparse.Namespace) -> int:
    from cmunet_monai.study.estimate import estimate  # imports MONAI and torch, as the next one does
    from cmunet_monai.study.runner import cells_of, mistakes, run_study, shard_of

    match = re.fullmatch(r"(\d+)/(\d+)", arguments.shard)
    if match is None:
        raise ValueError(f"--shard must be I/N, such as 1/4, got {arguments.shard!r}")
    study = read_study(arguments.study)
    methods = shard_of(study, int(match[1]), int(match[2]))
    found = mistakes(study)
    for mistake in found:
        print(f"error: {mistake}", file=sys.stderr)
    if found:
        return 2
    cells = cells_of(study, methods)
    if arguments.dry_run:
        for cell in cells:
            done = (cell.folder(study) / "cell.json").is_file()
            print(f"{cell.labels} labels, draw {cell.draw}, {cell.method}{' (finished)' if done else ''}")
        print(_in_words(estimate(study, methods)))
    print(f"{len(cells)} cells of {len(methods)} methods; results go to {study.output_dir}")
    if not arguments.dry_run:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        run_study(study, methods=methods)
        print(f"done; table: {program()} report {study.output_dir} --output {study.output_dir / 'report'}")
    return 0


def _in_words(times: "Estimate") -> str:
    lines = [
        f"pre-training {name}: " + ("not known before what it needs is there" if seconds is None else _hours(seconds))
        for name, seconds in times.pretraining.items()
    ]
    lines += [f"fine-tuning on {labels} labels: {_hours(seconds)}" for labels, seconds in times.labels.items()]
    return "\n".join([*lines, f"together about {_hours(times.total)} on this machine, with nothing beside it"])


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"

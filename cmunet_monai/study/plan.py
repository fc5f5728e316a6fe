"""What a study consists of, read from its JSON file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

FOLDS = (0, 1, 2)
SET_BY_THE_STUDY = ("seed", "pretrained_weights", "weights", "learning_rate", "max_epochs", "val_interval", "datalist")


@dataclass(frozen=True)
class Study:
    """A comparison of starts on draws of few labelled images.

    Attributes:
        bundle_root: the segmentation bundle.
        dataset_dir: folder of the frames.
        output_dir: where runs, choices and results go.
        methods: name -> weights that fine-tuning starts from; null is a random start.
        draws: folders that `data_prep split` wrote (fold_0..2.json, final.json); the position is the seed of a draw.
        learning_rates: among which three folds inside the labelled images choose, for each method and draw.
        max_epochs: epochs of the final fit on all labelled images.
        choice_epochs: epochs of the runs that choose; None is `max_epochs`.
        configs: files below the bundle's `configs/`, for training; `evaluate.json` takes the place of the first.
        overrides: further settings of every run, the same for all methods.
    """

    bundle_root: Path
    dataset_dir: Path
    output_dir: Path
    methods: Mapping[str, Path | None]
    draws: tuple[Path, ...]
    learning_rates: tuple[float, ...]
    max_epochs: int
    choice_epochs: int | None = None
    configs: tuple[str, ...] = ("train.json", "compact.json")
    overrides: Mapping[str, Any] = field(default_factory=dict)


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study; its paths are relative to the current directory, as on a command line.

    Raises:
        FileNotFoundError: if the study, or a file or folder that it names, is not there.
        ValueError: for broken JSON, unknown or missing settings, or empty lists.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study at {path}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    known = {item.name for item in fields(Study)}
    unknown = sorted(set(settings) - known)
    missing = sorted(known - set(settings) - {"choice_epochs", "configs", "overrides"})
    if unknown or missing:
        raise ValueError(f"{path}: unknown settings {unknown or 'none'}, missing settings {missing or 'none'}")
    for name in ("methods", "draws", "learning_rates"):
        if not settings[name]:
            raise ValueError(f"{path}: `{name}` is empty")
    taken = sorted(set(settings.get("overrides", {})) & set(SET_BY_THE_STUDY))
    if taken:
        raise ValueError(f"{path}: `overrides` may not hold {', '.join(taken)}, which the study sets itself")
    study = Study(
        **settings
        | {name: Path(settings[name]) for name in ("bundle_root", "dataset_dir", "output_dir")}
        | {name: tuple(settings[name]) for name in ("learning_rates", "configs") if name in settings}
        | {
            "draws": tuple(Path(draw) for draw in settings["draws"]),
            "methods": {
                name: None if weights is None else Path(weights) for name, weights in settings["methods"].items()
            },
        }
    )
    named = [study.bundle_root, study.dataset_dir, *(w for w in study.methods.values() if w)]
    named += [draw / f"{name}.json" for draw in study.draws for name in (*(f"fold_{k}" for k in FOLDS), "final")]
    absent = [str(item) for item in named if not item.exists()]
    if absent:
        raise FileNotFoundError(f"{path} names what is not there: {', '.join(absent)}")
    return study

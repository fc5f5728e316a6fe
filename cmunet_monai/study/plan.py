"""What a study consists of, read from its JSON file."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

FOLDS = (0, 1, 2)
SET_BY_THE_STUDY = ("seed", "pretrained_weights", "weights", "learning_rate", "max_epochs", "val_interval", "datalist")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_rates(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(rate) in (int, float) and rate > 0 for rate in value)


def _is_methods(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(re.fullmatch(r"\w[\w.-]*", name) for name in value)
        and all(weights is None or _is_text(weights) for weights in value.values())
    )


# setting -> what it must be, in words and as a test
KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "bundle_root": ("a folder", _is_text),
    "dataset_dir": ("a folder", _is_text),
    "output_dir": ("a folder", _is_text),
    "methods": ('names of letters, digits, "_", "-" and "." with a weights file or null each', _is_methods),
    "draws": ("a list of folders", _is_texts),
    "learning_rates": ("a list of positive numbers", _is_rates),
    "max_epochs": ("a positive whole number", _is_count),
    "choice_epochs": ("a positive whole number or null", lambda value: value is None or _is_count(value)),
    "configs": ("a list of file names", _is_texts),
    "overrides": ("a JSON object", lambda value: isinstance(value, dict)),
}


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
        ValueError: for broken JSON, unknown or missing settings, or one of another kind; it is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study at {path}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    known = {item.name for item in fields(Study)}
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(settings).__name__}")
    unknown = sorted(set(settings) - known)
    missing = sorted(known - set(settings) - {"choice_epochs", "configs", "overrides"})
    if unknown or missing:
        raise ValueError(f"{path}: unknown settings {unknown or 'none'}, missing settings {missing or 'none'}")
    for name, value in settings.items():
        expected, fits = KINDS[name]
        if not fits(value):
            raise ValueError(f"{path}: `{name}` must be {expected}, got {json.dumps(value)}")
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

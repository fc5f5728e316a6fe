"""What a study consists of, read from its JSON file."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

FOLDS = (0, 1, 2)
SET_BY_THE_STUDY = (
    *("seed", "pretrained_weights", "weights", "learning_rate", "max_epochs", "val_interval"),
    *("bundle_root", "dataset_dir", "datalist", "output_dir"),
)


@dataclass(frozen=True)
class Pretraining:
    """How methods are pre-trained: the bundle, its configs before a method's overlays, and further options."""

    bundle_root: Path
    configs: tuple[str, ...] = ("train.json", "compact.json")
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """What fine-tuning starts from; without weights and overlays, a random start.

    Attributes:
        weights: file to start from.
        overlays: of the pre-training that makes the weights; () is the bundle's own method, None: there is none.
        needs: option of that pre-training -> overlays of the run whose weights it names.
        pretraining_overrides: further options of the pre-training.
        finetuning_overrides: further options of its fine-tunings; another `max_epochs` is that of the final fit alone.
        finetuning_configs: overlays of its final fit, such as `mean_teacher.json`.
        rate_of: another method, whose chosen rate it takes over; None: it chooses its own.
        all_draws: take part in all draws of each label set, not in the first `shared_draws` only.
        labels: the label sets that the method takes part in; None: all.
    """

    weights: Path | None = None
    overlays: tuple[str, ...] | None = None
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pretraining_overrides: Mapping[str, Any] = field(default_factory=dict)
    finetuning_overrides: Mapping[str, Any] = field(default_factory=dict)
    finetuning_configs: tuple[str, ...] = ()
    rate_of: str | None = None
    all_draws: bool = False
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LabelSet:
    """Draws of one number of labelled images.

    Attributes:
        draws: folders that `data_prep split` wrote (fold_0..2.json, final.json). The position is the seed of a run; a
            folder that stands several times is run with several seeds.
        max_epochs: of the final fit on all labelled images; 0: nothing is fitted, and the start itself is evaluated.
        choice_epochs: of the runs that choose; None is `max_epochs`.
        choice_folds: how many of the three folds choose, from the front.
        shared_draws: how many of the draws, from the front, every method takes; None: all.
    """

    draws: tuple[Path, ...]
    max_epochs: int
    choice_epochs: int | None = None
    choice_folds: int = len(FOLDS)
    shared_draws: int | None = None


@dataclass(frozen=True)
class TestList:
    """A further list on which every cell is evaluated, such as the frames of another hospital.

    Attributes:
        dataset_dir: folder of its frames.
        datalist: its list `test` is read.
    """

    __test__ = False  # no class of pytest

    dataset_dir: Path
    datalist: Path


@dataclass(frozen=True)
class Study:
    """A comparison of starts on draws of few labelled images.

    Attributes:
        bundle_root: the segmentation bundle.
        dataset_dir: folder of the frames.
        output_dir: where runs, choices and results go.
        methods: by name.
        labels: label sets by name, such as the number of labelled images.
        learning_rates: among which folds inside the labelled images choose, for each method and draw.
        choose_once: choose on the first draw of a label set only, and take that rate for its other draws.
        pretraining: of the methods that the study pre-trains, on the list `pretraining` of the first draw.
        configs: files below the bundle's `configs/`, for training; `evaluate.json` takes the place of the first.
        overrides: further settings of every fine-tuning and evaluation, the same for all methods.
        finetuning_overrides: further settings of every fine-tuning, which an evaluation does not know (`batch_size`).
        evaluation_overrides: further settings of every evaluation, which a fine-tuning does not know (`overlays`).
        further_tests: lists by name on which every cell is evaluated too.
    """

    bundle_root: Path
    dataset_dir: Path
    output_dir: Path
    methods: Mapping[str, Method]
    labels: Mapping[str, LabelSet]
    learning_rates: tuple[float, ...]
    choose_once: bool = False
    pretraining: Pretraining | None = None
    configs: tuple[str, ...] = ("train.json",)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    finetuning_overrides: Mapping[str, Any] = field(default_factory=dict)
    evaluation_overrides: Mapping[str, Any] = field(default_factory=dict)
    further_tests: Mapping[str, TestList] = field(default_factory=dict)

    @property
    def first_draw(self) -> Path:
        return next(iter(self.labels.values())).draws[0]


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study; its paths are relative to the current directory, as on a command line.

    Raises:
        FileNotFoundError: if the study, or a file or folder that it names, is not there.
        ValueError: for broken JSON, unknown or missing settings, one of another kind (it is named), draws whose lists
            `pretraining` differ where methods are pre-trained, or a method that is pre-trained without `pretraining`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study at {path}")
    settings = _json(path)
    try:
        study = _object(Study, settings, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    unknown = sorted({name for method in study.methods.values() for name in method.labels or ()} - study.labels.keys())
    if unknown:
        raise ValueError(f"{path}: methods name label sets that are not among {list(study.labels)}: {unknown}")
    for name, method in study.methods.items():
        chosen_by = study.methods.get(method.rate_of or name)
        if chosen_by is None or (method.rate_of and chosen_by.rate_of):
            raise ValueError(
                f"{path}: `methods.{name}.rate_of` must be a method that chooses its own rate, got {method.rate_of!r}"
            )
    absent = [str(item) for item in _named_paths(study) if not item.exists()]
    if absent:
        raise FileNotFoundError(f"{path} names what is not there: {', '.join(dict.fromkeys(absent))}")
    pretrained = [name for name, method in study.methods.items() if method.overlays is not None]
    if pretrained and study.pretraining is None:
        raise ValueError(f"{path}: `pretraining` must say with which bundle {', '.join(pretrained)} are pre-trained")
    _check_draws(study, path, pretrained=bool(pretrained))
    return study


def _named_paths(study: Study) -> list[Path]:
    named = [study.bundle_root, study.dataset_dir, *(m.weights for m in study.methods.values() if m.weights)]
    if study.pretraining:
        overlays = [m.overlays or () for m in study.methods.values()]
        overlays += [names for m in study.methods.values() for names in m.needs.values()]
        configs = (*study.pretraining.configs, *(name for names in overlays for name in names))
        named += [study.pretraining.bundle_root / "configs" / name for name in configs]
    named += [path for test in study.further_tests.values() for path in (test.dataset_dir, test.datalist)]
    named += [study.bundle_root / "configs" / name for m in study.methods.values() for name in m.finetuning_configs]
    draws = dict.fromkeys(draw for label_set in study.labels.values() for draw in label_set.draws)
    return named + [draw / f"{name}.json" for draw in draws for name in (*(f"fold_{k}" for k in FOLDS), "final")]


def _check_draws(study: Study, path: Path, *, pretrained: bool) -> None:
    """All draws are measured on one test list; one pre-training serves them all, and may hold none of their frames."""
    draws = dict.fromkeys(draw for label_set in study.labels.values() for draw in label_set.draws)
    for label_set in study.labels.values():
        for draw in label_set.draws:
            for fold in FOLDS[: label_set.choice_folds]:
                if not images_of(draw / f"fold_{fold}.json", "validation"):
                    raise ValueError(
                        f"{draw / f'fold_{fold}.json'} has no `validation` rows, by which a rate is chosen"
                    )
    for name in ("test", "pretraining") if pretrained else ("test",):
        images = {draw: images_of(draw / "final.json", name) for draw in draws}
        differing = [str(draw) for draw in draws if images[draw] != images[study.first_draw]]
        if differing:
            raise ValueError(
                f"{path}: {', '.join(differing)} has another list `{name}` than {study.first_draw}: write all draws "
                "by one `data_prep split --draws N --inside M`"
            )


def images_of(datalist: Path, name: str) -> list[str]:
    """The images in one list of a data list.

    Raises:
        ValueError: if the file is not JSON, or not such a list.
    """
    rows = _json(datalist)
    rows = rows.get(name, []) if isinstance(rows, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _is_text(row.get("image")) for row in rows):
        raise ValueError(
            f"{datalist} must hold an object whose `{name}` is a list of rows with an `image` each, as "
            "`data_prep split` writes it"
        )
    return [row["image"] for row in rows]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # UnicodeDecodeError is one too
        raise ValueError(f"{path} is not JSON: {error}") from error


# Settings -------------------------------------------------------------------------------------------------------------


def _object(kind: type[Any], settings: Any, where: str) -> Any:
    """A dataclass from a JSON object whose values are read by `READERS`."""
    if not isinstance(settings, dict):
        raise ValueError(f"{f'`{where}`' if where else 'the file'} must be a JSON object, got {json.dumps(settings)}")
    known = {item.name: item for item in fields(kind)}
    required = {n for n, item in known.items() if item.default is MISSING and item.default_factory is MISSING}
    unknown, missing = sorted(settings.keys() - known.keys()), sorted(required - settings.keys())
    if unknown or missing:
        place = f" in `{where}`" if where else ""
        raise ValueError(f"unknown settings {unknown or 'none'}, missing settings {missing or 'none'}{place}")
    return kind(**{name: _read(name, value, f"{where}.{name}".lstrip(".")) for name, value in settings.items()})


def _read(name: str, value: Any, where: str) -> Any:
    if name == "methods":
        return {key: _method(item, f"{where}.{key}") for key, item in _named(value, where).items()}
    if where == "labels":
        return {key: _object(LabelSet, item, f"{where}.{key}") for key, item in _named(value, where).items()}
    if name == "pretraining":
        return _object(Pretraining, value, where)
    if name == "further_tests":
        return {key: _object(TestList, item, f"{where}.{key}") for key, item in _named(value, where).items()}
    if name == "needs" and isinstance(value, dict) and all(map(_is_names, value.values())):
        return {key: tuple(names) for key, names in value.items()}
    expected, fits, read = KINDS[name]
    if not fits(value):
        raise ValueError(f"`{where}` must be {expected}, got {json.dumps(value)}")
    if name.endswith("overrides"):
        nothing = sorted(key for key, item in value.items() if item is None)
        if nothing:  # MONAI drops it
            raise ValueError(f"`{where}`: {', '.join(nothing)} cannot be null on a command line: leave it out")
        free = set()
        if where == "pretraining.overrides" or name == "pretraining_overrides":
            free = {"max_epochs", "learning_rate", "seed"}
        elif name == "finetuning_overrides" and where.startswith("methods."):
            free = {"max_epochs"}  # of the final fit
        taken = sorted(set(value) & set(SET_BY_THE_STUDY) - free)
        if taken:
            raise ValueError(f"`{where}` may not hold {', '.join(taken)}, which the study sets itself")
    return read(value)


def _method(value: Any, where: str) -> Method:
    if value is None or _is_text(value):
        return Method(weights=None if value is None else Path(value))
    method: Method = _object(Method, value, where)
    if method.weights is not None and method.overlays is not None:
        raise ValueError(f"`{where}` has both `weights` and `overlays`: it starts from a file or is pre-trained")
    ignored = [name for name in ("needs", "pretraining_overrides") if getattr(method, name)]
    if method.overlays is None and ignored:
        raise ValueError(f"`{where}` has {', '.join(ignored)} but no `overlays`, without which nothing is pre-trained")
    return method


def _named(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value or not all(re.fullmatch(r"\w[\w.-]*", name) for name in value):
        raise ValueError(
            f'`{where}` must be an object whose names are of letters, digits, "_", "-" and ".", got {json.dumps(value)}'
        )
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_some_names(value: Any) -> bool:
    return _is_names(value) and bool(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_rates(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(rate) in (int, float) and rate > 0 for rate in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


# setting -> what it must be, in words and as a test, and how it is read
KINDS: Mapping[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    "bundle_root": ("a folder", _is_text, Path),
    "dataset_dir": ("a folder", _is_text, Path),
    "output_dir": ("a folder", _is_text, Path),
    "weights": ("a file", _is_text, Path),
    "overlays": ("a list of file names", _is_names, tuple),
    "finetuning_configs": ("a list of file names", _is_names, tuple),
    "rate_of": ("the name of a method", _is_text, str),
    "needs": ("an object of options with a list of file names each", lambda _: False, dict),
    "draws": ("a list of folders", _is_some_names, lambda names: tuple(map(Path, names))),
    "learning_rates": ("a list of positive numbers", _is_rates, tuple),
    "datalist": ("a file", _is_text, Path),
    "max_epochs": ("a whole number from 0 on", lambda value: value == 0 or _is_count(value), int),
    "choice_epochs": ("a positive whole number or null", _optional(_is_count), lambda value: value),
    "choice_folds": (f"1, 2 or {len(FOLDS)}", lambda value: _is_count(value) and value <= len(FOLDS), int),
    "labels": ("a list of names of label sets", _is_some_names, tuple),
    "shared_draws": ("a positive whole number or null", _optional(_is_count), lambda value: value),
    "choose_once": ("true or false", lambda value: isinstance(value, bool), bool),
    "all_draws": ("true or false", lambda value: isinstance(value, bool), bool),
    "configs": ("a list of file names", _is_some_names, tuple),
    "overrides": ("a JSON object", _is_object, dict),
    "pretraining_overrides": ("a JSON object", _is_object, dict),
    "finetuning_overrides": ("a JSON object", _is_object, dict),
    "evaluation_overrides": ("a JSON object", _is_object, dict),
}

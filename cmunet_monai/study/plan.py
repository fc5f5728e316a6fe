"""What a study consists of, read from its JSON file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StringConstraints, model_validator

from cmunet_monai.study.json_file import JsonObject

FOLDS = (0, 1, 2)
SET_BY_THE_STUDY = (
    *("seed", "pretrained_weights", "weights", "learning_rate", "max_epochs", "val_interval"),
    *("bundle_root", "dataset_dir", "datalist", "output_dir"),
)


def _named(value: Any) -> Any:
    if value == "":
        raise ValueError("must not be an empty text")
    return value


def _options(*free: str) -> AfterValidator:
    """Checks options of a bundle; those of the study itself may be among them only where they are `free`."""

    def check(options: Mapping[str, Any]) -> Mapping[str, Any]:
        nothing = sorted(name for name, value in options.items() if value is None)
        if nothing:  # MONAI drops it
            raise ValueError(f"has {', '.join(nothing)}, which cannot be null on a command line: leave it out")
        taken = sorted({*options} & set(SET_BY_THE_STUDY) - set(free))
        if taken:
            raise ValueError(f"may not hold {', '.join(taken)}, which the study sets itself")
        return options

    return AfterValidator(check)


Text = Annotated[str, BeforeValidator(_named)]
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
File = Annotated[Path, BeforeValidator(_named)]
Count = Annotated[int, Field(strict=True, gt=0)]
Rate = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Options = Annotated[Mapping[str, Any], _options()]
PretrainingOptions = Annotated[Mapping[str, Any], _options("max_epochs", "learning_rate", "seed")]
FittingOptions = Annotated[Mapping[str, Any], _options("max_epochs")]  # that of the final fit
Some = Field(min_length=1)


class Pretraining(JsonObject):
    """How methods are pre-trained: the bundle, its configs before a method's overlays, and further options."""

    bundle_root: File
    configs: Annotated[tuple[Text, ...], Some] = ("train.json", "compact.json")
    overrides: PretrainingOptions = {}


class Method(JsonObject):
    """Initial weights of fine-tuning; random initialisation if neither `weights` nor `overlays` is given.

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

    weights: File | None = None
    overlays: tuple[Text, ...] | None = None
    needs: Mapping[str, tuple[Text, ...]] = {}
    pretraining_overrides: PretrainingOptions = {}
    finetuning_overrides: FittingOptions = {}
    finetuning_configs: tuple[Text, ...] = ()
    rate_of: Text | None = None
    all_draws: StrictBool = False
    labels: Annotated[tuple[Text, ...], Some] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any) -> Any:
        """A file stands for `{"weights": file}`, null for a random start."""
        if value is None:
            return {}
        return {"weights": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _starts_once(self) -> Self:
        if self.overlays is not None and self.weights is not None:
            raise ValueError("has both `weights` and `overlays`: it starts from a file or is pre-trained")
        ignored = [name for name in ("needs", "pretraining_overrides") if getattr(self, name)]
        if self.overlays is None and ignored:
            raise ValueError(
                f"has {', '.join(ignored)}, which need `overlays`: without `overlays` nothing is pre-trained"
            )
        return self


class LabelSet(JsonObject):
    """Draws of one number of labelled images.

    Attributes:
        draws: folders that `data_prep split` wrote (fold_0..2.json, final.json). The position is the seed of a run; a
            folder that stands several times is run with several seeds.
        max_epochs: of the final fit on all labelled images; 0: nothing is fitted, and the start itself is evaluated.
        choice_epochs: of the runs that choose; None is `max_epochs`.
        choice_folds: how many of the three folds choose, from the front.
        shared_draws: how many of the draws, from the front, every method takes; None: all.
    """

    draws: Annotated[tuple[File, ...], Some]
    max_epochs: Annotated[int, Field(strict=True, ge=0)]
    choice_epochs: Count | None = None
    choice_folds: Annotated[Count, Field(le=len(FOLDS))] = len(FOLDS)
    shared_draws: Count | None = None


class TestList(JsonObject):
    """A further list on which every cell is evaluated, such as the frames of another hospital.

    Attributes:
        dataset_dir: folder of its frames.
        datalist: its list `test` is read.
    """

    __test__ = False  # no class of pytest

    dataset_dir: File
    datalist: File


class Study(JsonObject):
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

    bundle_root: File
    dataset_dir: File
    output_dir: File
    methods: Annotated[Mapping[Name, Method], Some]
    labels: Annotated[Mapping[Name, LabelSet], Some]
    learning_rates: Annotated[tuple[Rate, ...], Some]
    choose_once: StrictBool = False
    pretraining: Pretraining | None = None
    configs: Annotated[tuple[Text, ...], Some] = ("train.json",)
    overrides: Options = {}
    finetuning_overrides: Options = {}
    evaluation_overrides: Options = {}
    further_tests: Mapping[Name, TestList] = {}

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
    study = Study.read(path)
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
                "with one `cmunet split --draws N --inside M`"
            )


def images_of(datalist: Path, name: str) -> list[str]:
    """The images in one list of a data list.

    Raises:
        ValueError: if the file is not JSON, or not such a list.
    """
    lists = _json(datalist)
    rows = lists.get(name, []) if isinstance(lists, dict) else None
    found = [row.get("image") if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else [None]
    images = [image for image in found if isinstance(image, str) and image]
    if len(images) < len(found):
        raise ValueError(
            f"{datalist} must hold an object whose `{name}` is a list of rows with an `image` each, as "
            "`data_prep split` writes it"
        )
    return images


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # UnicodeDecodeError is one too
        raise ValueError(f"{path} is not JSON: {error}") from error

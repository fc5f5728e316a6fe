"""About how long a study takes on this machine: one training step is timed, and multiplied."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from monai.bundle import ConfigParser
from torch.utils.data import default_collate

from cmunet_monai.engines.pretrainer import prepare_views
from cmunet_monai.study.plan import FOLDS, Study
from cmunet_monai.study.runner import BundleRun, cells_of, finetuning_run, pretraining_runs

MEASURED_STEPS = 2


@dataclass(frozen=True)
class Estimate:
    """Seconds by pre-training and by label set; None where a run needs weights that are not there yet."""

    pretraining: Mapping[str, float | None]
    labels: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.labels.values()) + sum(seconds or 0.0 for seconds in self.pretraining.values())


def estimate(study: Study, methods: Sequence[str] | None = None) -> Estimate:
    """Time a training step of the fine-tuning and of each pre-training, and count the images of all runs.

    Evaluation counts as a training step an image; what has finished already counts too.
    """
    per_image = _finetuning_seconds(finetuning_run(study, study.output_dir, study.first_draw / "final.json"))
    labels = {}
    for name, label_set in study.labels.items():
        cells = [cell for cell in cells_of(study, methods) if cell.labels == name]
        choosing = {cell.method for cell in cells} if study.choose_once else cells
        images = [_images(draw / "final.json", "training") for draw in label_set.draws]
        test = _images(label_set.draws[0] / "final.json", "test")
        epochs = label_set.choice_epochs or label_set.max_epochs
        # a fold trains on all of the labelled images but its third, and validates that
        folds = label_set.choice_folds / len(FOLDS) * ((len(FOLDS) - 1) * epochs + 1)
        chosen_from = len(choosing) * len(study.learning_rates) * images[0] * folds
        fits = 0
        for cell in cells:
            own = study.methods[cell.method].finetuning_overrides.get("max_epochs", label_set.max_epochs)
            fits += images[cell.draw] * own + test
        labels[name] = per_image * (chosen_from + fits)
    frames = _images(study.first_draw / "final.json", "pretraining")
    pretraining = {
        bundle_run.output.name: _pretraining_seconds(bundle_run, frames)
        for method in methods or study.methods
        for bundle_run in pretraining_runs(study, method)
    }
    return Estimate(pretraining, labels)


def _images(datalist: Path, split: str) -> int:
    return len(json.loads(datalist.read_text(encoding="utf-8")).get(split, []))


def _parser(bundle_run: BundleRun) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(config) for config in bundle_run.configs])
    parser.update(dict(bundle_run.settings))
    return parser


def _finetuning_seconds(bundle_run: BundleRun) -> float:
    """Of an image."""
    parser = _parser(bundle_run)
    network, device = parser.get_parsed_content("network"), parser.get_parsed_content("device")
    batch, size = parser.get_parsed_content("batch_size"), parser.get_parsed_content("image_size")
    images = torch.randn(batch, 1, *size, device=device).contiguous(memory_format=torch.channels_last)
    return _step_seconds(lambda: network(images).square().mean()) / batch


def _pretraining_seconds(bundle_run: BundleRun, frames: int) -> float | None:
    """Of the whole run; None where it needs weights that another run makes first."""
    settings = bundle_run.settings
    if any(name.endswith("weights") and not Path(path).is_file() for name, path in settings.items()):
        return None
    parser = _parser(bundle_run)
    batch, epochs = parser.get_parsed_content("batch_size"), parser.get_parsed_content("max_epochs")
    parser["train#dataset#data"] = parser.get_parsed_content("train#data")[:batch]
    parser["train#dataset#progress"] = False
    dataset, method = parser.get_parsed_content("train#dataset"), parser.get_parsed_content("method")
    method.to(memory_format=torch.channels_last)  # as `Pretrainer` does
    views, _ = prepare_views(default_collate(list(dataset)), parser.get_parsed_content("device"))
    return _step_seconds(lambda: method(views)["loss"]) * (frames // batch) * epochs


def _step_seconds(loss: Callable[[], torch.Tensor]) -> float:
    """Of a forward and a backward pass, the first of which does not count."""
    loss().backward()
    begin = perf_counter()
    for _ in range(MEASURED_STEPS):
        loss().backward()
    return (perf_counter() - begin) / MEASURED_STEPS

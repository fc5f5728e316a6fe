"""About how long a study takes on this machine: one training step is timed, and multiplied."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from torch.utils.data import default_collate

from cmunet_monai.bundle import config_parser, literal
from cmunet_monai.inferers import AutocastInferer
from cmunet_monai.methods.base import prepare_views
from cmunet_monai.study.plan import Study, images_of
from cmunet_monai.study.runner import (
    BundleRun,
    Cell,
    cells_of,
    choice_runs,
    deciding_cell,
    evaluation_runs,
    final_run,
    finetuning_run,
    has_a_choice,
    has_finished,
    is_weights,
    options_of,
    pretraining_runs,
)

MEASURED_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """Seconds by pre-training and by label set; None where a run needs weights that are not there yet."""

    pretraining: Mapping[str, float | None]
    labels: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.labels.values()) + sum(seconds or 0.0 for seconds in self.pretraining.values())


def estimate(study: Study, methods: Sequence[str] | None = None) -> Estimate:
    """Time a training step of the fine-tuning and of each pre-training, and count the images of the runs that are left.

    Validation and evaluation count as a training step an image; what an interrupted run has done counts too.
    """
    per_image = _finetuning_seconds(finetuning_run(study, study.output_dir, study.first_draw / "final.json"))
    labels = dict.fromkeys(study.labels, 0.0)
    for cell in cells_of(study, methods):
        labels[cell.labels] += per_image * _images_left(study, cell)
    frames = _images(study.first_draw / "final.json", "pretraining")
    pretraining = {
        bundle_run.output.name: _pretraining_seconds(bundle_run, frames)
        for method in (study.methods if methods is None else methods)
        for bundle_run in pretraining_runs(study, method)
        if not has_finished(bundle_run.output)
    }
    return Estimate(pretraining, labels)


def _images_left(study: Study, cell: Cell) -> int:
    chooses = has_a_choice(study, cell.labels) and deciding_cell(study, cell) == cell
    choosing = choice_runs(study, cell).values() if chooses else []
    choices = [run for runs in choosing for run in runs if not has_finished(run.output)]
    final = final_run(study, cell)
    fits = [*choices, *([] if has_finished(final.output) else [final])]
    images = sum(_images(run.settings["datalist"], "training") * run.settings["max_epochs"] for run in fits)
    images += sum(_images(run.settings["datalist"], "validation") for run in choices)
    evaluations = evaluation_runs(study, cell, final.output / "model.safetensors").values()
    return images + sum(_images(r.settings["datalist"], "test") for r in evaluations if not has_finished(r.output))


def _images(datalist: str | Path, name: str) -> int:
    return len(images_of(Path(datalist), name))


def _finetuning_seconds(bundle_run: BundleRun) -> float:
    """Of an image."""
    parser = config_parser(bundle_run.configs, options_of(bundle_run))
    network, device = parser.get_parsed_content("network"), parser.get_parsed_content("device")
    batch, size = parser.get_parsed_content("batch_size"), parser.get_parsed_content("image_size")
    images = torch.randn(batch, 1, *size, device=device).contiguous(memory_format=torch.channels_last)
    inferer = AutocastInferer(dtype=parser.get_parsed_content("amp_dtype"))
    return _step_seconds(lambda: inferer(images, network).square().mean(), device) / batch


def _pretraining_seconds(bundle_run: BundleRun, frames: int) -> float | None:
    """Of the whole run; None where it needs weights that another run makes first."""
    settings = bundle_run.settings
    weights = [value for name, value in settings.items() if is_weights(name, value) and value is not None]
    if not all(Path(path).is_file() for path in weights):
        return None
    parser = config_parser(bundle_run.configs, options_of(bundle_run))
    batch, epochs = parser.get_parsed_content("batch_size"), parser.get_parsed_content("max_epochs")
    parser["train#dataset#data"] = literal(parser.get_parsed_content("train#data")[:batch])
    parser["train#dataset#progress"] = False
    with TemporaryDirectory() as folder:
        if "prior_dir" in parser:
            parser["prior_dir"] = literal(folder)  # nothing is left behind
        dataset, method = parser.get_parsed_content("train#dataset"), parser.get_parsed_content("method")
        device = parser.get_parsed_content("device")
        views, _ = prepare_views(default_collate(list(dataset)), device)
    inferer = AutocastInferer(dtype=parser.get_parsed_content("amp_dtype"))
    return _step_seconds(lambda: inferer(views, method)["loss"], device) * (frames // batch) * epochs


def _step_seconds(loss: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Of a forward and a backward pass, the first of which does not count: the fastest is the one least disturbed."""
    seconds = []
    for _ in range(1 + MEASURED_STEPS):
        begin = perf_counter()
        loss().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(perf_counter() - begin)
    return min(seconds[1:])

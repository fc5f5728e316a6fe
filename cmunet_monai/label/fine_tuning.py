"""Training from the server: the bundle's `train.json` from the current weights, which only better ones replace."""

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.bundle import run_workflow
from cmunet_monai.files.atomic import atomic_path, write_text_atomic
from cmunet_monai.files.label import read_label, read_label_of_frame
from cmunet_monai.files.nifti import as_nifti, is_nifti
from cmunet_monai.label.planes import read_planes
from cmunet_monai.label.segmenter import WEIGHTS, Segmenter, mask_of
from cmunet_monai.networks import file_digest

logger = logging.getLogger(__name__)

BEST = "model_best.safetensors"
Row = Mapping[str, str]


@dataclass(frozen=True)
class Training:
    """What one training came to.

    Attributes:
        training, validation: numbers of labelled frames.
        training_groups, validation_groups: numbers of their patients or groups, none in both.
        dice_before, dice_after: mean Dice on the validation frames, of the current and of the new weights.
        best_epoch: whose weights the new ones are.
        replaced: whether the new weights took the place of the others, as only a higher Dice does.
        weights_sha256: of the weights that are used from now on.
        seconds: of the whole training.
        left_out: ids of frames whose label is damaged or none of theirs.
    """

    training: int
    validation: int
    training_groups: int
    validation_groups: int
    dice_before: float
    dice_after: float
    best_epoch: int
    replaced: bool
    weights_sha256: str
    seconds: float
    left_out: list[str] = field(default_factory=list)


def split_by_group(rows: Sequence[Row], *, share: float, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Training and validation rows without a group in both.

    Args:
        rows: with `group`.
        share: of the rows that go to validation, from 0 to 1: groups are taken in a random order until so many are
            reached; at least one group goes either way.
        seed: of the order, which does not depend on the order of the rows.
    Raises:
        ValueError: if there are rows of less than two groups, or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"`val_split` must be between 0 and 1, got {share}")
    groups = sorted({row["group"] for row in rows})
    if len(groups) < 2:
        raise ValueError(
            f"training needs labelled frames of at least two patients or groups, one of them for validation; got "
            f"{len(rows)} labelled frames of {len(groups)}"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen: set[str] = set()
    for index in order[:-1]:
        chosen.add(groups[index])
        if sum(row["group"] in chosen for row in rows) >= share * len(rows):
            break
    return [row for row in rows if row["group"] not in chosen], [row for row in rows if row["group"] in chosen]


def fine_tune(
    bundle: str | os.PathLike[str],
    rows: Sequence[Row],
    output: str | os.PathLike[str],
    *,
    max_epochs: int = 20,
    learning_rate: float = 5e-4,
    val_split: float = 0.25,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Fine-tune from the bundle's current weights; replace them where the validation Dice goes up.

    Both Dice values are of the bundle's own inference on the same frames, at their own size. The one after is that of
    the best epoch on these very frames, and so a little flattering.

    Args:
        bundle: its `models/model.safetensors` is where training starts, and what is replaced.
        rows: `id`, `image`, `label` (paths), `group`; a file of several frames counts where its label has vessel.
        output: folder; gets one more folder with the run, and a line in `history.json`.
        max_epochs: of training.
        learning_rate: the maximum of its one cycle.
        val_split: share of the rows that is set aside, in whole groups, to choose the epoch and to judge by.
        seed: of the split and the training.
        device: of the network.
    Returns:
        The fields of `Training`.
    Raises:
        ValueError: for too few groups, numbers that cannot be, or a frame or label that cannot be read.
    """
    if max_epochs < 1:
        raise ValueError(f"`max_epochs` must be 1 or more, got {max_epochs}")
    if learning_rate <= 0:
        raise ValueError(f"`learning_rate` must be positive, got {learning_rate}")
    begin = time.perf_counter()
    bundle, output = Path(bundle), Path(output)
    rows, left_out = with_whole_labels(rows)
    training, validation = split_by_group(rows, share=val_split, seed=seed)
    run = output / f"{len(read_history(output)):04d}"
    if run.exists():  # of an interrupted training
        shutil.rmtree(run)
    run.mkdir(parents=True)
    lists = {"training": _as_frames(training, run), "validation": _as_frames(validation, run)}
    for name, frames in lists.items():
        if not frames:
            raise ValueError(f"no label of the {name} frames contains vessel: label more frames")
    write_text_atomic(run / "datalist.json", json.dumps(lists, indent=1) + "\n")
    weights = bundle / WEIGHTS
    before = mean_dice(Segmenter(bundle, device=device), lists["validation"], run)
    logger.info("validation Dice before training: %.4f (%d frames)", before, len(lists["validation"]))
    run_bundle(
        bundle, run, max_epochs=max_epochs, learning_rate=learning_rate, seed=seed, device=device,
        batch_size=min(8, len(lists["training"])), pretrained_weights=str(weights), val_interval=1,
    )  # fmt: skip
    after = mean_dice(Segmenter(bundle, weights=run / BEST, device=device), lists["validation"], run)
    replaced = after > before
    logger.info(
        "validation Dice after training: %.4f, before %.4f: %s",
        after,
        before,
        "the new weights are used from now on" if replaced else "no better, THE WEIGHTS STAY AS THEY WERE",
    )
    if replaced:
        _replace(run, weights)
    done = Training(
        training=len(lists["training"]),
        validation=len(lists["validation"]),
        training_groups=len({row["group"] for row in training}),
        validation_groups=len({row["group"] for row in validation}),
        dice_before=round(before, 4),
        dice_after=round(after, 4),
        best_epoch=_best_epoch(run),
        replaced=replaced,
        weights_sha256=str(file_digest(weights)),
        seconds=round(time.perf_counter() - begin, 1),
        left_out=left_out,
    )
    history = [*read_history(output), asdict(done)]
    write_text_atomic(output / "history.json", json.dumps(history, indent=1) + "\n")
    return asdict(done)


def read_history(output: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All trainings so far, oldest first."""
    path = Path(output) / "history.json"
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def mean_dice(segmenter: Segmenter, rows: Sequence[Row], folder: str | os.PathLike[str]) -> float:
    """Mean Dice of the segmenter's masks with the labels, per frame, at the frames' own size.

    Args:
        segmenter: its own threshold is used.
        rows: `image` and `label`, each of one frame.
        folder: what their paths are relative to.
    """
    found = []
    for row in rows:
        probabilities = segmenter.probabilities(Path(folder) / row["image"])
        mask = mask_of(probabilities, threshold=segmenter.threshold) > 0
        found.append(dice(mask, read_label(Path(folder) / row["label"]).classes > 0))
    return float(np.mean(found))


def dice(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape; 1 where both are empty."""
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


def with_whole_labels(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Rows whose label can be used, and the ids of the others, which are logged with their reason."""
    whole: list[Row] = []
    left_out: list[str] = []
    for row in rows:
        try:
            read_label_of_frame(row["label"], row["image"])
        except (OSError, ValueError) as error:
            reason = str(error).replace(row["label"], Path(row["label"]).name)
            logger.warning("%s is left out of training, its label cannot be used: %s", row["id"], reason)
            left_out.append(row["id"])
            continue
        whole.append(row)
    return whole, left_out


def _as_frames(rows: Sequence[Row], run: Path) -> list[dict[str, str]]:
    """Rows of single frames, written below the run; of files with several, the frames in which vessel is labelled."""
    (run / "frames").mkdir(exist_ok=True)
    frames = []
    for row in rows:
        image = read_planes(row["image"])
        label = read_label_of_frame(row["label"], row["image"]).classes > 0
        count = image.shape[2]
        for number in range(count):
            if count > 1 and not label[..., number].any():
                continue
            name = f"{row['id']}_{number:04d}" if count > 1 else row["id"]
            suffix = ".nii.gz" if is_nifti(row["image"]) else ".png"
            paths = {"image": f"frames/{name}{suffix}", "label": f"frames/{name}_label.png"}
            if count > 1:
                nibabel.save(as_nifti(image[..., number].T, None), run / paths["image"])
            else:
                shutil.copyfile(row["image"], run / paths["image"])
            Image.fromarray(label[..., number].T.astype(np.uint8) * np.uint8(255)).save(run / paths["label"])
            frames.append({"id": name, "group": row["group"], **paths})
    return frames


def run_bundle(bundle: Path, run: Path, *, device: str, **settings: Any) -> None:
    """The bundle's own training, with the network of its inference, on the `datalist.json` in `run`.

    Args:
        bundle: its folder.
        run: output folder, which paths in the data list are relative to.
        device: of the network.
        settings: others at the top of `train.json`.
    Raises:
        OSError, ValueError: what a component raises.
    """
    own = json.loads((bundle / "configs" / "inference.json").read_text(encoding="utf-8"))
    options = {
        "bundle_root": bundle,
        "dataset_dir": run,
        "datalist": run / "datalist.json",
        "output_dir": run,
        "channels": own["channels"],
        "image_size": own["image_size"],
        "num_workers": 0,
        "device": torch.device(device),
    }
    run_workflow(bundle / "configs" / "train.json", workflow_type="train", options=options | settings)


def _best_epoch(run: Path) -> int:
    sidecar = json.loads((run / BEST).with_suffix(".json").read_text(encoding="utf-8"))
    return int(sidecar["epoch"])


def _replace(run: Path, weights: Path) -> None:
    """Put the run's best weights in the place of the others, which are kept in the run."""
    shutil.copyfile(weights, run / "replaced.safetensors")
    for suffix in (".json", ".safetensors"):
        with atomic_path(weights.with_suffix(suffix)) as temporary:
            shutil.copyfile((run / BEST).with_suffix(suffix), temporary)

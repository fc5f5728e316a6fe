"""What an evaluation leaves behind: a table with one row an image, a summary, masks and pictures."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.metrics import bland_altman, compute_all, pearson
from cmunet_monai.metrics.intervals import bootstrap_interval, summarise
from cmunet_monai.writers import draw_comparison, write_mask, write_picture

logger = logging.getLogger(__name__)

FAILURE_BELOW_DICE = 0.5
SCORES = ("dice", "iou", "cl_dice")
LENGTHS = {
    "modified_hausdorff": "modified_hausdorff",
    "add": "diameter_difference",
    "artery_diameter": "diameter_pred",
    "artery_diameter_reference": "diameter_ref",
    "pointwise_diameter_error": "pointwise_diameter_error",
}


class EvaluationReport:
    """Measure every mask against its raw label at the frame's full geometry, and write what came out.

    Files in `output_dir`: `per_image.csv`, `summary.json`, `masks/<id>.png`, `overlays/<id>.png`. MONAI's
    `MetricsSaver` writes one value a class and image, without lengths in two units, groups, or intervals.

    Lengths are in pixels, and in mm too (`..._mm`) for rows with a `spacing_mm`. A cell is empty where a metric is
    undefined. `add` is the artery diameter difference |predicted mean - reference mean|. `seconds` is the time of the
    network's forward pass. Intervals are 95% bootstrap intervals over groups (`patient_id`, else `group`, else the
    image itself). A failure is an image with a Dice below 0.5, an empty prediction included.

    Args:
        data: rows of the data list, one for each image that the evaluator sees.
        output_dir: folder of the files.
        overlays: whether to draw overlays, which take as long as the rest of an evaluation without a GPU.
        facts: what `summary.json` says of the run beside the figures, such as weights and split.
    Raises:
        ValueError: if there is no row, two rows have one id or image, or a label has another size than its frame.
        FileExistsError: at the start of the run, if `output_dir` is a file.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        output_dir: str | os.PathLike[str],
        *,
        overlays: bool = True,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.data = {str(row[CommonKeys.IMAGE]): row for row in data}
        if not data:
            raise ValueError("`data` is empty: the data list has no row in this list")
        if len(self.data) < len(data):
            images = Counter(str(row[CommonKeys.IMAGE]) for row in data)
            raise ValueError(f"listed more than once: {', '.join(name for name, n in images.items() if n > 1)}")
        files = Counter(file_name(image_id(row)) for row in data)
        repeated = [image_id(row) for row in data if files[file_name(image_id(row))] > 1]
        if repeated:
            raise ValueError(
                f"ids name the files of an image and must be unique, but {', '.join(repeated[:6])} occur twice"
            )
        self.output_dir = Path(output_dir)
        self.overlays = overlays
        self.facts = dict(facts or {})
        self.rows: list[dict[str, Any]] = []
        self.empty: Counter[str] = Counter()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_STARTED, self.start_clock)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.stop_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.measure)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self.rows = []
        self.empty = Counter()
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def start_clock(self, engine: Engine) -> None:
        self.begin = perf_counter()

    def stop_clock(self, engine: Engine) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = perf_counter() - self.begin

    def measure(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            source = str(output[CommonKeys.IMAGE].meta["filename_or_obj"])
            facts = self.data[source]
            mask, label = output[CommonKeys.PRED].cpu(), output[CommonKeys.LABEL].cpu()
            if mask.shape != label.shape:
                size, expected = tuple(label.shape[1:]), tuple(mask.shape[1:])
                raise ValueError(f"the label of {image_id(facts)} is {size} (W, H), its frame {expected}")
            self.empty += Counter(masks=not mask.any(), labels=not label.any())
            row = measure_pair(mask, label, facts) | {"seconds": self.seconds / len(state.output)}
            self.rows.append(row)
            name = file_name(row["id"])
            write_mask(mask, self.output_dir / "masks" / name)
            if self.overlays:
                title = f"{row['id']}   Dice {row['dice']:.3f}   clDice {row['cl_dice']:.3f}"
                picture = draw_comparison(item["frame"].cpu(), mask, label, title=title)
                write_picture(picture, self.output_dir / "overlays" / name)

    def write(self, engine: Engine) -> None:
        table = [{name: _cell(value) for name, value in row.items()} for row in self.rows]
        write_csv_atomic(self.output_dir / "per_image.csv", table)
        empty = {f"empty_{name}": self.empty[name] for name in ("masks", "labels")}
        summary = self.facts | empty | summarise_rows(self.rows)
        write_text_atomic(self.output_dir / "summary.json", json.dumps(_plain(summary), indent=2) + "\n")
        if self.empty["labels"]:
            logger.warning("%d labels are empty: their images count in no mean", self.empty["labels"])
        dice: Any = summary["metrics"]["dice"]
        lower, upper = dice["interval_95"]
        logger.info(
            "%d images: mean Dice %.4f (95%% interval %.4f to %.4f); tables and masks are in %s",
            len(self.rows),
            dice["mean"],
            lower,
            upper,
            self.output_dir,
        )


def image_id(row: Mapping[str, Any]) -> str:
    """The row's `id`, else the image's file name without its ending."""
    return str(row.get("id") or Path(str(row[CommonKeys.IMAGE])).name.split(".")[0])


def file_name(identity: str) -> str:
    """The PNG name of an image's files."""
    return identity.replace("/", "_").replace("\\", "_") + ".png"


def measure_pair(mask: torch.Tensor, label: torch.Tensor, facts: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table, from (1, W, H) masks and the row of the data list."""
    found = asdict(compute_all(mask[None] > 0, label[None] > 0))
    values = {name: float(value) for name, value in found.items()}
    spacing_mm = facts.get("spacing_mm")
    identity = image_id(facts)
    row: dict[str, Any] = {"id": identity, "group": str(facts.get("patient_id") or facts.get("group") or identity)}
    row |= {name: values[name] for name in SCORES}
    row |= {f"{name}_px": values[field] for name, field in LENGTHS.items()}
    row["unmatched_share"] = values["unmatched_share"]
    if spacing_mm is not None:
        row["spacing_mm"] = float(spacing_mm)
        row |= {f"{name}_mm": values[field] * float(spacing_mm) for name, field in LENGTHS.items()}
    return row


def summarise_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means, tails and intervals of every metric, agreement of the diameters, and which images to look at."""
    units = ["px", *(["mm"] if any("spacing_mm" in row for row in rows) else [])]
    names = [*SCORES, *(f"{name}_{unit}" for unit in units for name in LENGTHS), "unmatched_share", "seconds"]
    groups = [row["group"] for row in rows]
    metrics = {}
    for name in names:
        values = [row.get(name, math.nan) for row in rows]
        interval = bootstrap_interval(values, groups)
        spread = asdict(summarise(values, failure_below=FAILURE_BELOW_DICE if name == "dice" else None))
        metrics[name] = {
            "mean": spread["mean"],
            "interval_95": [interval.lower, interval.upper],
            **{key: value for key, value in spread.items() if key != "mean" and value is not None},
        }
    agreement = {}
    for unit in units:
        predicted, reference = (
            [row.get(f"{name}_{unit}", math.nan) for row in rows]
            for name in ("artery_diameter", "artery_diameter_reference")
        )
        agreement[f"diameter_{unit}"] = {
            "pearson": asdict(pearson(predicted, reference)),
            "bland_altman": asdict(bland_altman(predicted, reference)),
        }
    return {
        "images": len(rows),
        "groups": len(set(groups)),
        "metrics": metrics,
        "agreement": agreement,
        "look_at": picks(rows),
    }


def picks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ids of the best, median and worst image by Dice, and of all that failed, worst first."""
    ranked = sorted((row for row in rows if not math.isnan(row["dice"])), key=lambda row: (row["dice"], row["id"]))
    if not ranked:
        return {"best": None, "median": None, "worst": None, "failing": []}
    return {
        "best": ranked[-1]["id"],
        "median": ranked[len(ranked) // 2]["id"],
        "worst": ranked[0]["id"],
        "failing": [row["id"] for row in ranked if row["dice"] < FAILURE_BELOW_DICE],
    }


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _plain(value: Any) -> Any:
    """JSON has no NaN: undefined is null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

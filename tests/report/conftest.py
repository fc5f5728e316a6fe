"""A study's folder, made by hand: two methods on two draws of 18 labels, three images of 30 x 40 pixels."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.report import command

IDS = ["a", "b", "c"]
SCORES = ["dice", "cl_dice", "iou", "modified_hausdorff_px", "add_px", "pointwise_diameter_error_px", "unmatched_share"]
COLUMNS = ["id", "group", *SCORES, "artery_diameter_px", "artery_diameter_reference_px"]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class StudyFolder:
    """Writes cells as a study does; `cells.csv` lists all that were added and not dropped."""

    def __init__(self, folder):
        self.folder = folder
        self.cells = []

    def add(
        self,
        method,
        draw,
        dice,
        *,
        labels="18",
        labelled_images=None,
        label_draw=None,
        distance=1.0,
        diameters=(2.0, 3.0, 4.0),
    ):
        cell = self.folder / f"labels_{labels}" / f"draw_{draw}" / method
        rows = []
        for name, value, diameter in zip(IDS, dice, diameters, strict=True):
            row = dict.fromkeys(SCORES, 0.0) | {"dice": value, "modified_hausdorff_px": distance if value else ""}
            lengths = {"artery_diameter_px": diameter if value else "", "artery_diameter_reference_px": diameter + 0.5}
            rows.append({"id": name, "group": name} | row | lengths)
            for kind in ("masks", "overlays"):
                path = cell / "evaluation" / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((30, 40), 60, np.uint8)).save(path)
        write_rows(cell / "evaluation" / "per_image.csv", rows)
        own = {"labels": labels, "draw": draw, "method": method}
        for part in ("final", "evaluation"):
            command = ["/opt/secret/bin/python", "-m", "monai.bundle", "run", "--seed", str(draw)]
            made = {"weights": {"sha256": f"{draw}" * 64, "git_revision": "abc123"}, "curves": {"loss": [[1, 1.5]]}}
            kind = "final fit" if part == "final" else part
            self.record(cell / part, kind=kind, command=command, **own, **(made if part == "final" else {}))
        choice = {
            "part": "rate_0.002 fold_0",
            "curves": {"mean_dice": [[5, 0.4]]},
            "settings": {"learning_rate": 0.002},
        }
        self.record(cell / "choice" / "rate_0.002" / "fold_0", kind="choice", **own, **choice)
        facts = {"labels": labels, "draw": draw, "label_draw": draw if label_draw is None else label_draw}
        number = labelled_images if labelled_images is not None else int(labels) if labels.isdigit() else 946
        facts |= {
            "labelled_images": number,
            "method": method,
            "learning_rate": 0.002,
            "dice_in_folds_at_0.002": 0.4,
            "epochs": 60,
        }
        facts |= {"choice_folds": 3, "choice_draw": draw, "datalist_sha256": f"{labels}-{draw}"}
        facts |= {"seconds": 100.0 + draw, "pretraining_epochs": 0, "pretraining_seconds": 0.0}
        facts["per_image"] = (cell / "evaluation" / "per_image.csv").relative_to(self.folder).as_posix()
        if method != "none":
            facts |= {"pretraining_epochs": 2, "pretraining_seconds": 600.0}
            run = self.folder / "pretraining" / method
            self.record(run, kind="pre-training", method=method, curves={"loss": [[1, 2.0], [2, 1.0]]})
            (run / "reconstructions").mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), 90, np.uint8)).save(
                run / "reconstructions" / "reconstruction_epoch_0002.png"
            )
        self.cells.append(facts)
        write_rows(self.folder / "cells.csv", self.cells)

    def record(self, run, **facts):
        run.mkdir(parents=True, exist_ok=True)
        facts = {"folder": run.relative_to(self.folder).as_posix(), "command": ["python"], "settings": {}} | facts
        (run / "run.json").write_text(json.dumps(facts))

    def drop(self, method, draw, labels="18"):
        """The cell is no longer finished; its folder stays."""
        gone = (labels, draw, method)
        self.cells = [cell for cell in self.cells if (cell["labels"], cell["draw"], cell["method"]) != gone]
        write_rows(self.folder / "cells.csv", self.cells)

    def per_image(self, method, draw, labels="18"):
        return self.folder / f"labels_{labels}" / f"draw_{draw}" / method / "evaluation" / "per_image.csv"


@pytest.fixture
def drawn():
    """Asks for real figures, which take seconds."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """One white pixel for each figure, unless the test asks for `drawn`."""
    if "drawn" not in request.fixturenames:
        pixel = Image.fromarray(np.full((1, 1), 255, np.uint8))
        monkeypatch.setattr(command, "save", lambda _, path: pixel.save(path))


@pytest.fixture
def study(tmp_path):
    made = StudyFolder(tmp_path / "study")
    made.add("none", 0, [0.5, 0.6, 0.7])
    made.add("cm_unet", 0, [0.6, 0.7, 0.8])
    made.add("none", 1, [0.4, 0.5, 0.6])
    made.add("cm_unet", 1, [0.6, 0.7, 0.0], distance=2.0)
    return made

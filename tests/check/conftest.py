"""A small bundle that really runs, and ways to spoil it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.check import Report, check_run, parse_arguments

TRAIN: dict[str, Any] = {
    "imports": ["$import os", "$from pathlib import Path"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/data'",
    "datalist": "$@dataset_dir + '/datalist.json'",
    "output_dir": "$os.path.join(@bundle_root, 'runs', 'first')",
    "weights": None,
    "max_epochs": 2,
    "batch_size": 2,
    "learning_rate": 0.001,
    "device": "$torch.device('cpu')",
    "network_def": {
        "_target_": "BasicUNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "features": [4, 4, 4, 4, 4, 4],
    },
    "network": "$@network_def.to(@device)",
    "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"},
    "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
    "train": {
        "transforms": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": ["image", "label"],
                    "reader": "PILReader",
                    "ensure_channel_first": True,
                },
                {"_target_": "ScaleIntensityd", "keys": "image"},
                {"_target_": "AsDiscreted", "keys": "label", "threshold": 1},
            ],
        },
        "data": "$monai.data.load_decathlon_datalist(@datalist, data_list_key='training', base_dir=@dataset_dir)",
        "dataset": {"_target_": "Dataset", "data": "@train#data", "transform": "@train#transforms"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": "@batch_size"},
        "trainer": {
            "_target_": "SupervisedTrainer",
            "device": "@device",
            "max_epochs": "@max_epochs",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "optimizer": "@optimizer",
            "loss_function": "@loss",
        },
    },
    "run": ["$@train#trainer.run()"],
}


def _row(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "image": f"images/{name}.png", "label": f"labels/{name}.png", "group": f"g-{name}", **more}


class SmallBundle:
    """A bundle in `root`, its config and lists held as dictionaries until it is checked or run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = copy.deepcopy(TRAIN)
        self.metadata: dict[str, Any] = {"version": "0.1.0", "required_packages_version": {"pillow": "10.1"}}
        self.overlays: dict[str, dict[str, Any]] = {}
        self.lists: dict[str, Any] = {
            "pretraining": [_row("p1", label=None), _row("p2", label=None)],
            "training": [_row("t1"), _row("t2")],
            "validation": [],
            "test": [_row("x1"), _row("x2")],
        }
        rng = np.random.default_rng(0)
        for folder in ("images", "labels"):
            (root / "data" / folder).mkdir(parents=True)
            for name in ("p1", "p2", "t1", "t2", "x1", "x2"):
                pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
                pixels = pixels if folder == "images" else (pixels > 200).astype(np.uint8) * 255
                Image.fromarray(pixels).save(root / "data" / folder / f"{name}.png")
        (root / "configs").mkdir()

    def row(self, name: str, **more: Any) -> dict[str, Any]:
        """A row of a data list, with image, label and a group of its own."""
        return _row(name, **more)

    def config(self, name: str) -> str:
        """The path of a config file."""
        return str(self.root / "configs" / name)

    def write(self) -> list[str]:
        """Write everything down; return the arguments of a run of `train.json` with all overlays."""
        Path(self.config("metadata.json")).write_text(json.dumps(self.metadata))
        files = {"train.json": self.train, **self.overlays}
        for name, content in files.items():
            Path(self.config(name)).write_text(json.dumps(content, indent=4))
        (self.root / "data" / "datalist.json").write_text(json.dumps(self.lists))
        return ["--bundle_root", str(self.root), "--config_file", str([self.config(name) for name in files])]

    def check(self, *arguments: str) -> Report:
        """What the check says of a run with these further arguments."""
        return check_run(parse_arguments([*self.write(), *arguments]))

    def problems(self, *arguments: str) -> list[str]:
        """The problems alone."""
        return list(self.check(*arguments).problems)


@pytest.fixture
def bundle(tmp_path: Path) -> SmallBundle:
    """A bundle without a mistake."""
    return SmallBundle(tmp_path)


@pytest.fixture
def only_problem(bundle: SmallBundle) -> Callable[..., str]:
    """Check the bundle, require that there is exactly one problem, and return it."""

    def check(*arguments: str) -> str:
        problems = bundle.problems(*arguments)
        assert len(problems) == 1, problems
        return problems[0]

    return check

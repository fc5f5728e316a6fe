"""Learning from unlabelled frames while fine-tuning, run on tiny drawn frames."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle.scripts import run
from PIL import Image
from safetensors.torch import load_file

from cmunet_monai.engines.handlers import StopOnNonFiniteLoss

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "coronary_xa_segmentation"
CONFIGS = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "mean_teacher")]
TINY = {"channels": [4, 8, 16], "image_size": [32, 32], "num_workers": 0, "device": "$torch.device('cpu')"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two labelled and seven unlabelled frames; `no_labels.json` has the latter alone."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(9):
        frame, mask = rng.integers(120, 180, (40, 40)), np.zeros((40, 40), np.uint8)
        mask[5:35, 10 + 2 * number : 14 + 2 * number] = 255
        Image.fromarray((frame - 70 * (mask > 0)).astype(np.uint8)).save(folder / f"f{number}.png")
        Image.fromarray(mask).save(folder / f"l{number}.png")
        rows.append({"id": f"f{number}", "image": f"f{number}.png", "group": f"g{number}"})
    labelled = [row | {"label": f"l{number}.png"} for number, row in enumerate(rows[:2])]
    lists = {"pretraining": rows[2:], "training": labelled, "validation": [], "test": []}
    (folder / "datalist.json").write_text(json.dumps(lists))
    (folder / "validated.json").write_text(json.dumps(lists | {"training": labelled[:1], "validation": labelled[1:]}))
    (folder / "no_labels.json").write_text(json.dumps(lists | {"training": []}))
    return folder


def settings(dataset, output, **overrides):
    counts = {"labelled_per_batch": 1, "batch_size": 4, "max_epochs": 3}
    return TINY | counts | {"dataset_dir": str(dataset), "output_dir": str(output)} | overrides


def train(dataset, output, **overrides):
    run(config_file=CONFIGS, logging_file=False, bundle_root=str(BUNDLE), **settings(dataset, output, **overrides))
    return load_file(output / "model.safetensors")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_the_teacher_and_pictures_of_its_answers(dataset, tmp_path):
    weights = train(dataset, tmp_path, confidence=0.5)
    objects = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["objects"]
    assert all(torch.equal(weights[key], value) for key, value in objects["teacher"].items())
    assert not torch.equal(weights["head.weight"], objects["network"]["head.weight"])
    names = sorted(path.name for path in (tmp_path / "pseudo_labels").iterdir())
    assert names == ["pseudo_labels_epoch_0002.png", "pseudo_labels_epoch_0003.png"]
    assert len(read_csv(tmp_path / "train.csv")) == 3
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 6  # 7 frames, 3 in a batch


def test_the_teacher_is_what_is_validated(dataset, tmp_path):
    train(dataset, tmp_path, datalist=str(dataset / "validated.json"))
    assert [row["epoch"] for row in read_csv(tmp_path / "validation.csv")] == ["1", "2", "3"]
    best = load_file(tmp_path / "model_best.safetensors")
    assert best.keys() == load_file(tmp_path / "model.safetensors").keys()


def test_it_works_without_a_label(dataset, tmp_path):
    weights = train(dataset, tmp_path, datalist=str(dataset / "no_labels.json"), confidence=0.5)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(dataset, tmp_path, monkeypatch):
    whole = train(dataset, tmp_path / "whole", confidence=0.5)

    def interrupt(self, engine):
        if engine.state.iteration == 5:  # 2 iterations an epoch: in the third
            raise InterruptedError("stopped here")

    monkeypatch.setattr(StopOnNonFiniteLoss, "__call__", interrupt)
    with pytest.raises(RuntimeError):
        train(dataset, tmp_path / "parts", confidence=0.5, **{"train#handlers#0#seconds": 0})
    monkeypatch.undo()
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["epoch"] == 2
    parts = train(dataset, tmp_path / "parts", confidence=0.5, num_workers=1)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_two_processes_train_together(dataset, tmp_path):
    overrides = settings(dataset, tmp_path, max_epochs=1, batch_size=3)
    del overrides["device"]
    configs = [*CONFIGS, str(BUNDLE / "configs" / "multi_gpu_train.json")]
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + ["-m", "monai.bundle", "run", "--config_file", str(configs)]
        + [item for key, value in overrides.items() for item in (f"--{key}", str(value))],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 1  # 7 frames, 2 in each of 2


def test_check_names_a_list_of_unlabelled_frames_that_is_missing(dataset, tmp_path):
    (tmp_path / "few.json").write_text(json.dumps({"training": [], "validation": []}))
    words = [sys.executable, "-m", "cmunet_monai", "check", "--bundle_root", str(BUNDLE), "--config_file", str(CONFIGS)]
    words += ["--dataset_dir", str(dataset), "--datalist", str(tmp_path / "few.json"), "--output_dir", str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "pretraining" in result.stdout + result.stderr

"""Every config of the pre-training bundle, run on tiny noise frames."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import run
from PIL import Image

from cmunet_monai.networks import UNet, load_unet_weights

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "coronary_xa_pretraining"
CONFIGS = BUNDLE / "configs"
FRAMES, BATCH = 10, 4
TINY = {
    "channels": [4, 8, 16],
    "image_size": [40, 40],
    "view_size": 32,
    "batch_size": BATCH,
    "max_epochs": 1,
    "warmup_epochs": 0,
    "num_workers": 0,
    "device": "$torch.device('cpu')",
    "method_def#hidden_features": 16,
    "method_def#embedding_features": 8,
    "train#random_transforms#0#max_shift": 8,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(FRAMES):
        shape = (48, 64) if number == 0 else (64, 64)
        Image.fromarray(rng.integers(60, 200, shape, dtype=np.uint8)).save(folder / "images" / f"f{number}.png")
        rows.append({"id": f"f{number}", "image": f"images/f{number}.png", "group": f"g{number}"})
    (folder / "datalist.json").write_text(json.dumps({"pretraining": rows}))
    return folder


def configs(*overlays):
    return [str(CONFIGS / name) for name in ("train.json", *overlays)]


def settings(dataset, output, **overrides):
    return TINY | {"bundle_root": str(BUNDLE), "dataset_dir": str(dataset), "output_dir": str(output)} | overrides


def pretrain(dataset, output, *overlays, **overrides):
    run(config_file=configs(*overlays), **settings(dataset, output, **overrides))
    return output


def command(dataset, output, *overlays, **overrides):
    """The same run as a command line, for a process of its own."""
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs(*overlays))]
    for name, value in settings(dataset, output, **overrides).items():
        words += [f"--{name}", str(value)]
    return words


@pytest.mark.parametrize("overlays", [(), ("compact.json",), ("methods/cm_unet_published.json",)])
def test_each_config_gives_weights_that_fine_tuning_takes(dataset, tmp_path, overlays):
    pretrain(dataset, tmp_path, *overlays)
    report = load_unet_weights(UNet(channels=TINY["channels"]), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}
    facts = json.loads((tmp_path / "unet.json").read_text())
    assert (facts["method"], facts["epoch"], facts["parts"]) == ("CMUNet", 1, ["encoder", "decoder"])
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    with (tmp_path / "training.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["reconstruction"]) > 0
    assert float(row["contrast"]) > 0


def test_the_published_overlay_uses_the_published_variant(dataset, tmp_path):
    parser = ConfigParser()
    parser.read_config(configs("methods/cm_unet_published.json"))
    parser.update(settings(dataset, tmp_path))
    method = parser.get_parsed_content("method_def")
    assert method.pixel_head.out_channels == 2
    assert method.lambda_c == pytest.approx(2 * 0.07)
    assert parser.get_parsed_content("train#dataset").transform.transforms[-3].shift_a is False


def test_the_default_is_the_paper_at_its_scale():
    config = ConfigParser.load_config_file(CONFIGS / "train.json")
    assert config["channels"] == [64, 128, 256, 512, 1024]
    assert (config["batch_size"], config["max_epochs"], config["warmup_epochs"]) == (256, 300, 40)
    assert (config["base_rate"], config["weight_decay"], config["mask_ratio"]) == (1.5e-4, 0.05, 0.65)


def test_monai_finds_the_properties_of_a_training_bundle(dataset, tmp_path):
    workflow = ConfigWorkflow(config_file=configs(), workflow_type="train", **settings(dataset, tmp_path))
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_run_killed_in_an_epoch_and_started_again_ends_bit_equal(dataset, tmp_path, dtype):
    overrides = {"max_epochs": 6, "num_workers": 1, "amp_dtype": dtype, "picture_interval": 100}
    subprocess.run(command(dataset, tmp_path / "whole", "compact.json", **overrides), check=True, capture_output=True)
    killed = tmp_path / "killed"
    words = command(dataset, killed, "compact.json", **overrides)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint.pt").is_file():
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    epochs = torch.load(killed / "checkpoint.pt", weights_only=True)["epoch"]
    assert 1 <= epochs < 6
    subprocess.run(words, check=True, capture_output=True)
    whole, resumed = (tmp_path / name / "unet.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_two_processes_train_one_method_and_share_negatives(dataset, tmp_path):
    words = command(dataset, tmp_path, "compact.json", "multi_gpu_train.json", max_epochs=2)
    words[1:2] = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone", "-m"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    with (tmp_path / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert load_unet_weights(UNet(channels=TINY["channels"]), tmp_path / "unet.safetensors").skipped == ()


def test_a_list_without_frames_is_named(dataset, tmp_path):
    (tmp_path / "empty.json").write_text(json.dumps({"pretraining": []}))
    with pytest.raises(RuntimeError) as caught:
        pretrain(dataset, tmp_path, datalist=str(tmp_path / "empty.json"))
    causes = []
    error = caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any("the list `pretraining` of" in cause and "is empty" in cause for cause in causes)

"""Every config of the pre-training bundle, run on tiny noise frames."""

import csv
import json
import os
import signal
import subprocess
import time

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from cmunet_monai.networks import UNet, load_unet_weights


@pytest.mark.parametrize("overlays", [(), ("compact.json",), ("methods/cm_unet_published.json",)])
def test_each_config_gives_weights_that_fine_tuning_takes(tiny_pretraining, tmp_path, overlays):
    tiny_pretraining.run(tmp_path, *overlays)
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
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


def test_a_compiled_step_trains_as_a_plain_one(tiny_pretraining, tmp_path):
    """By torch's own operations behind the compiler's front, which needs no C++ compiler; in a process of its own."""
    backend = {"backend": "aot_eager", "dynamic": False}
    tiny_pretraining.run(tmp_path / "plain", "methods/mae.json")
    settings = {"compile": True, "train#trainer#compile_kwargs": backend}
    words = tiny_pretraining.command(tmp_path / "compiled", "methods/mae.json", **settings)
    subprocess.run(words, check=True, capture_output=True)
    losses = []
    for name in ("plain", "compiled"):
        with (tmp_path / name / "training.csv").open() as file:
            losses += [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_published_overlay_uses_the_published_variant(tiny_pretraining, tmp_path):
    parser = ConfigParser()
    parser.read_config(tiny_pretraining.configs("methods/cm_unet_published.json"))
    parser.update(tiny_pretraining.settings(tmp_path))
    method = parser.get_parsed_content("method_def")
    assert method.pixel_head.out_channels == 2
    assert method.lambda_c == pytest.approx(2 * 0.07)
    assert parser.get_parsed_content("train#dataset").transform.transforms[-3].shift_a is False


def test_the_default_is_the_paper_at_its_scale(tiny_pretraining):
    config = ConfigParser.load_config_file(*tiny_pretraining.configs())
    assert config["channels"] == [64, 128, 256, 512, 1024]
    assert (config["batch_size"], config["max_epochs"], config["warmup_epochs"]) == (256, 300, 40)
    assert (config["base_rate"], config["weight_decay"], config["mask_ratio"]) == (1.5e-4, 0.05, 0.65)


def test_monai_finds_the_properties_of_a_training_bundle(tiny_pretraining, tmp_path):
    workflow = ConfigWorkflow(
        config_file=tiny_pretraining.configs(), workflow_type="train", **tiny_pretraining.settings(tmp_path)
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_run_killed_in_an_epoch_and_started_again_ends_bit_equal(tiny_pretraining, tmp_path, dtype):
    overrides = {"max_epochs": 6, "num_workers": 1, "amp_dtype": dtype, "picture_interval": 100}
    subprocess.run(
        tiny_pretraining.command(tmp_path / "whole", "compact.json", **overrides), check=True, capture_output=True
    )
    killed = tmp_path / "killed"
    words = tiny_pretraining.command(killed, "compact.json", **overrides)
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


@pytest.mark.parametrize("overlay", ["moco_v2", "models_genesis"])
def test_a_method_with_sgd_takes_the_optimiser_of_the_others_for_short_runs(tiny_pretraining, tmp_path, overlay):
    overlays = ("compact.json", f"methods/{overlay}.json", "adamw.json")
    tiny_pretraining.run(tmp_path, *overlays)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (state["settings"]["learning_rate"], state["settings"]["weight_decay"]) == (0.001, 0.05)
    moments = state["objects"]["optimizer"]["state"][0]
    assert {"exp_avg", "exp_avg_sq"} <= set(moments)
    assert state["objects"]["optimizer"]["param_groups"][1]["weight_decay"] == 0.0


def test_rates_that_go_by_the_batch_go_by_that_of_all_processes_and_others_stay(tiny_pretraining, tmp_path):
    def rate(*overlays):
        parser = ConfigParser()
        parser.read_config(tiny_pretraining.configs(*overlays))
        parser.update(tiny_pretraining.settings(tmp_path, batch_size=8, processes=4))
        return parser.get_parsed_content("learning_rate")

    assert rate() == 1.5e-4 * 8 * 4 / 256
    assert rate("methods/moco_v2.json") == 0.03 * 8 * 4 / 256
    assert rate("compact.json") == 0.001
    assert rate("methods/models_genesis.json") == 0.1


def test_two_processes_train_one_method_and_share_negatives(tiny_pretraining, tmp_path):
    words = tiny_pretraining.command(tmp_path, "compact.json", "multi_gpu_train.json", max_epochs=2)
    words[1:2] = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone", "-m"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    with (tmp_path / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    settings = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["settings"]
    assert (settings["learning_rate"], settings["processes"]) == (0.001, 2)
    assert load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors").skipped == ()


def test_a_list_without_frames_is_named(tiny_pretraining, tmp_path):
    (tmp_path / "empty.json").write_text(json.dumps({"pretraining": []}))
    with pytest.raises(RuntimeError) as caught:
        tiny_pretraining.run(tmp_path, datalist=str(tmp_path / "empty.json"))
    causes = []
    error = caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any("the list `pretraining` of" in cause and "is empty" in cause for cause in causes)

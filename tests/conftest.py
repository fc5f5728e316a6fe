"""Tests run on one thread: frames are tiny, and threads that wait for each other cost more than they give."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle.scripts import run
from PIL import Image

from cmunet_monai.networks import UNet, save_unet_weights

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
torch.set_num_threads(1)

BUNDLES = Path(__file__).parents[1] / "bundles"
# a minute and more each: with a file at a time on every core, they would keep one core busy at the end
LONGEST_FILES = ("test_readme.py", "test_fuzz_dicom.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


def small_disk(folder, *, mib):
    """Words to put before a command: to it, `folder` is a disk of so many MiB, which ends with it.

    In a namespace of its own, a process may mount what others do not see; some systems do not let it, CI's among them.
    """
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={mib}m tmpfs "$0" && exec "$@"'
    tried = shutil.which("unshare") and subprocess.run([*words, mount, folder, "true"], capture_output=True)
    if not tried or tried.returncode:
        pytest.skip("no small disk can be made here: unshare and mount are needed (Linux with user namespaces)")
    return [*words, mount, str(folder)]


@dataclass(frozen=True)
class TinyPretraining:
    """The pre-training bundle on a tiny UNet and ten frames of noise, for one epoch of two batches."""

    dataset: Path
    bundle = BUNDLES / "coronary_xa_pretraining"
    channels = (4, 8, 16)

    def configs(self, *overlays: str) -> list[str]:
        return [str(self.bundle / "configs" / name) for name in ("train.json", *overlays)]

    def settings(self, output: Path, **overrides: object) -> dict[str, object]:
        return {
            "channels": list(self.channels),
            "image_size": [40, 40],
            "view_size": 32,
            "max_shift": 8,
            "batch_size": 4,
            "max_epochs": 1,
            "warmup_epochs": 0,
            "num_workers": 0,
            "device": "$torch.device('cpu')",
            "bundle_root": str(self.bundle),
            "dataset_dir": str(self.dataset),
            "output_dir": str(output),
        } | overrides

    def run(self, output: Path, *overlays: str, **overrides: object) -> Path:
        run(config_file=self.configs(*overlays), **self.settings(output, **overrides))
        return output

    def command(self, output: Path, *overlays: str, **overrides: object) -> list[str]:
        """The same run as a command line, for a process of its own."""
        words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(self.configs(*overlays))]
        for name, value in self.settings(output, **overrides).items():
            words += [f"--{name}", str(value)]
        return words


@pytest.fixture(scope="session")
def tiny_pretraining(tmp_path_factory) -> TinyPretraining:
    folder = tmp_path_factory.mktemp("noise")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(10):
        shape = (48, 64) if number == 0 else (64, 64)
        Image.fromarray(rng.integers(60, 200, shape, dtype=np.uint8)).save(folder / "images" / f"f{number}.png")
        rows.append({"id": f"f{number}", "image": f"images/f{number}.png", "group": f"g{number}"})
    (folder / "datalist.json").write_text(json.dumps({"pretraining": rows}))
    return TinyPretraining(folder)


@pytest.fixture(scope="session")
def dark_detector(tmp_path_factory):
    """Weights, set by hand, of a UNet of 4, 8 and 16 channels that marks every pixel darker than 1.5 standard
    deviations below the mean."""
    path = tmp_path_factory.mktemp("weights") / "dark.safetensors"
    network = UNet(channels=(4, 8, 16))
    state = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    for key in state:
        if key.endswith("running_var") or (key.endswith(".weight") and state[key].ndim == 1):
            state[key].fill_(1.0)
    state["encoder.stages.0.0.weight"][0, 0, 1, 1] = -1.0  # channel 0 is the darkness; ReLU drops what is bright
    state["encoder.stages.0.3.weight"][0, 0, 1, 1] = 1.0
    state["decoder.stages.1.0.weight"][0, 4, 1, 1] = 1.0  # the skip comes after the upsampled channels
    state["decoder.stages.1.3.weight"][0, 0, 1, 1] = 1.0
    state["head.weight"][1, 0] = 50.0
    state["head.bias"][1] = -75.0
    network.load_state_dict(state)
    save_unet_weights(network, path)
    return path

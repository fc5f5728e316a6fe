"""A model that training can make better, and a server that serves it."""

import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from cmunet_monai.networks import UNet, save_unet_weights

MODEL = "coronary_xa_segmentation"
BUNDLE = Path(__file__).parents[2] / "bundles" / MODEL


@pytest.fixture(scope="session")
def eager_detector(dark_detector, tmp_path_factory):
    """Weights that mark every pixel darker than half a standard deviation below the mean: noise too, and not surely."""
    state = load_file(dark_detector)
    state["head.weight"] *= 0.04
    state["head.bias"][1] = -1.0
    network = UNet(channels=(4, 8, 16))
    network.load_state_dict(state)
    path = tmp_path_factory.mktemp("eager") / "model.safetensors"
    save_unet_weights(network, path)
    return path


def picture(seed, width=64, height=48):
    """(H, W) uint8: noise with a dark line whose place depends on the seed, and the line."""
    rng = np.random.default_rng(seed)
    frame = 150 + 12 * rng.standard_normal((height, width))
    rows = (height / 2 + height / 4 * np.sin(np.arange(width) / 9 + seed)).astype(int)
    line = np.zeros((height, width), bool)
    for offset in range(-2, 3):
        line[rows + offset, np.arange(width)] = True
    frame[line] -= 70
    return frame.clip(0, 255).astype(np.uint8), line


def write_bundle(bundle, weights):
    """The segmentation bundle with these weights, of a UNet of 4, 8 and 16 channels."""
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("models", "docs"))
    (bundle / "models").mkdir()
    shutil.copy(weights, bundle / "models" / "model.safetensors")
    path = bundle / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channels": [4, 8, 16], "image_size": [64, 64]}))


@dataclass
class Server:
    url: str
    workspace: Path
    studies: Path
    bundle: Path
    log: Path
    process: subprocess.Popen

    def ask(self, method, path, **options):
        import requests

        return requests.request(method, self.url + path, timeout=600, **options)

    def infer(self, image_id, suffix=None, model=MODEL, **params):
        form = {"params": json.dumps({"result_extension": suffix, **params})}
        return self.ask("POST", f"/infer/{model}?image={image_id}&output=image", data=form)

    def wait(self, task):
        """The state of a background task when it has ended."""
        while (state := self.ask("GET", task).json())["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(1)
        return state


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def label_words(folder, port):
    """The verb and its options, for the studies and the bundle in a folder."""
    words = ["label", "--studies", folder / "studies", "--bundle", folder / MODEL, "--workspace", folder / "workspace"]
    return [str(word) for word in (*words, "--frames", "all", "--port", port)]


def start(folder, *, under=()):
    """A server of the studies and the bundle in a folder that answers; `under` is put before its command."""
    port, log = free_port(), folder / "server.log"
    command = [*under, sys.executable, "-m", "cmunet_monai", *label_words(folder, port)]
    offline = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | offline)
    server = Server(f"http://127.0.0.1:{port}", folder / "workspace", folder / "studies", folder / MODEL, log, process)
    try:
        wait_until_up(server)
    except BaseException:
        process.kill()
        raise
    return server


@contextmanager
def started(folder, *, under=()):
    server = start(folder, under=under)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


def wait_until_up(server):
    import requests

    for _ in range(1200):
        assert server.process.poll() is None, server.log.read_text()[-3000:]
        try:
            if server.ask("GET", "/info/").status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(server.log.read_text()[-3000:])


def read(content, name):
    """((W, H) or (W, H, N) of 0 and 1, affine) of a PNG or NIfTI file's bytes."""
    if name.endswith(".png"):
        return (np.asarray(Image.open(io.BytesIO(content))).T > 0).astype(int), None
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content) if name.endswith(".gz") else content)
    values = np.asarray(image.dataobj)
    return (values[..., 0] if values.shape[2:] == (1,) else values).astype(int), image.affine


def upload(server, name, mask, *, suffix=".png", tag="final"):
    buffer = io.BytesIO()
    if suffix == ".png":
        Image.fromarray(mask.astype(np.uint8)).save(buffer, format="PNG")
    else:
        buffer.write(mask)
    files = {"label": (f"label{suffix}", buffer.getvalue())}
    return server.ask("PUT", f"/datastore/label?image={name}&tag={tag}", files=files, data={"params": "{}"})


def temporary(server):
    return sorted(path.name for path in (server.workspace / "temporary").iterdir())

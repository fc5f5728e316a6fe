"""The real server, killed while labels come in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.label.conftest import (
    MODEL,
    Server,
    free_port,
    label_words,
    read,
    start,
    temporary,
    upload,
    wait_until_up,
    write_bundle,
)

pytestmark = [
    pytest.mark.skipif(find_spec("monailabel") is None, reason="MONAI Label is not installed: make test-label"),
    pytest.mark.timeout(600),
]

SHAPES = {"small": (64, 48), "big": (1000, 900), "cine": (200, 160, 20)}  # (W, H) or (W, H, N)
# noise, which packs badly: tens of bytes, 100 KB, 90 KB
LABELS = {
    name: [(np.random.default_rng(seed).random(shape) > 0.5).astype(np.uint8) for seed in (1, 2)]
    for name, shape in SHAPES.items()
}


@pytest.fixture
def folder(tmp_path, eager_detector, monkeypatch):
    """Studies of three sizes, and a bundle."""
    # the scoring after each start, a process of its own, outlives the server
    monkeypatch.setenv("MONAI_LABEL_AUTO_UPDATE_SCORING", "false")
    (tmp_path / "studies").mkdir()
    for name, shape in SHAPES.items():
        frames = np.full(shape, 120, np.uint8)
        if len(shape) == 3:
            nibabel.save(nibabel.Nifti1Image(frames, np.eye(4)), tmp_path / "studies" / f"{name}.nii.gz")
        else:
            Image.fromarray(frames.T).save(tmp_path / "studies" / f"{name}.png")
    write_bundle(tmp_path / MODEL, eager_detector)
    return tmp_path


def send(server, name, mask):
    if mask.ndim == 2:
        return upload(server, name, mask.T)
    content = nibabel.Nifti1Image(mask, np.eye(4)).to_bytes()
    return upload(server, name, content, suffix=".nii")


def check(server):
    """Every label is one of those that were sent, as a file and as an answer, and nothing else is left."""
    assert temporary(server) == []
    assert list((server.workspace / "frames").rglob(".tmp-*")) == []
    assert set(server.ask("GET", "/datastore/?output=all").json()["objects"]) == set(SHAPES)
    for name in SHAPES:
        suffix = ".nii.gz" if len(SHAPES[name]) == 3 else ".png"
        content = (server.workspace / "frames" / "labels" / "final" / f"{name}{suffix}").read_bytes()
        mask = read(content, suffix)[0]
        assert any(np.array_equal(mask, one) for one in LABELS[name]), name
        answer = server.ask("GET", f"/datastore/label?label={name}&tag=final")
        assert (answer.status_code, answer.content) == (200, content)


def kill_while_labels_come(server, delay_s):
    """Send label after label, and kill the server some time after the first answer."""
    import requests

    answered, others = threading.Event(), []

    def send_for_ever():
        try:
            for turn in range(10**6):
                for name, masks in LABELS.items():
                    status = send(server, name, masks[turn % 2]).status_code
                    others.extend([status] if status != 200 else [])
                    answered.set()
        except requests.RequestException:
            ended.set()

    ended = threading.Event()
    sender = threading.Thread(target=send_for_ever)
    sender.start()
    assert answered.wait(60)
    time.sleep(delay_s)
    server.process.kill()
    server.process.wait(60)
    sender.join(60)
    assert ended.is_set()
    assert others == []


def test_a_killed_server_has_whole_labels_and_starts_again(folder):
    server = start(folder)
    try:
        for name, masks in LABELS.items():
            assert send(server, name, masks[0]).status_code == 200
        for delay_s in (0.05, 0.2, 0.4):
            kill_while_labels_come(server, delay_s)
            server = start(folder)
            check(server)
    finally:
        server.process.kill()
        server.process.wait(60)


class Forked:
    """A server of `WARM`, as `subprocess.Popen` has it."""

    def __init__(self, number):
        self.number = number

    def poll(self):
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return 0
        return None

    def kill(self):
        os.kill(self.number, signal.SIGKILL)

    def wait(self, timeout_s):
        for _ in range(100 * timeout_s):
            if self.poll() is not None:
                return
            time.sleep(0.01)
        raise TimeoutError(f"process {self.number} is still there")


# Servers by the verb `label`, each forked from a process that has imported everything: up in a second, not ten. It
# reads the verb's words, a JSON list in each line, and answers with the id of the server's process
WARM = """
import importlib
import json
import os
import signal
import sys
from contextlib import redirect_stdout

from cmunet_monai.label.command import main, parse


def import_all(words):
    # MONAI Label takes its settings from the environment as it is imported; the server sets the same ones again
    root = parse(words).workspace
    os.environ |= {"MONAI_LABEL_APP_DIR": str(root / "app"), "MONAI_LABEL_STUDIES": str(root / "frames")}
    os.environ |= {"MONAI_LABEL_SESSIONS": "false", "MONAI_LABEL_TRACKING_ENABLED": "false"}
    with redirect_stdout(sys.stderr):
        importlib.import_module("monailabel.app")
    importlib.import_module("cmunet_monai.label.app")


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the servers
for line in sys.stdin:
    words = json.loads(line)[1:]
    import_all(words)
    number = os.fork()
    if number == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(2, 1)
        os._exit(main(words))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@contextmanager
def warm(folder):
    """Gives a function that starts a server."""
    log = folder / "server.log"

    def start_warm():
        port = free_port()
        process.stdin.write(json.dumps(label_words(folder, port)) + "\n")
        process.stdin.flush()
        forked = Forked(int(process.stdout.readline()))
        server = Server(
            f"http://127.0.0.1:{port}", folder / "workspace", folder / "studies", folder / MODEL, log, forked
        )
        wait_until_up(server)
        return server

    command = [sys.executable, "-c", WARM]
    with (
        log.open("a") as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True) as process,
    ):
        try:
            yield start_warm
        finally:
            process.kill()


def test_labels_are_whole_after_kill_at_twenty_moments(folder):
    with warm(folder) as start_warm:
        server = start_warm()
        try:
            for name, masks in LABELS.items():
                assert send(server, name, masks[0]).status_code == 200
            for moment in range(20):
                kill_while_labels_come(server, 0.025 * moment)
                server = start_warm()
                check(server)
        finally:
            server.process.kill()

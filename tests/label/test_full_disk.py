"""The real server on a disk that is really full."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import small_disk
from tests.label.conftest import MODEL, read, started, temporary, upload, write_bundle

pytestmark = [
    pytest.mark.skipif(find_spec("monailabel") is None, reason="MONAI Label is not installed: make test-label"),
    pytest.mark.timeout(600),
]

SIDE = {"a": 256, "b": 1200}  # packed, a label takes 9 KB and 200 KB
MASKS = {
    name: [np.random.default_rng(seed).integers(0, 2, (side, side), np.uint8) for seed in (1, 2)]
    for name, side in SIDE.items()
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, eager_detector):
    """A server whose workspace is a disk of 6 MiB."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "studies").mkdir()
    for name, side in SIDE.items():
        Image.new("L", (side, side), 120).save(folder / "studies" / f"{name}.png")
    write_bundle(folder / MODEL, eager_detector)
    (folder / "workspace").mkdir()
    with started(folder, under=small_disk(folder / "workspace", mib=6)) as running:
        running.workspace = Path(f"/proc/{running.process.pid}/root{running.workspace}")  # as the server sees it
        yield running


def fill(server, left):
    """Leave so many bytes."""
    filler = server.workspace / "filler"
    filler.unlink(missing_ok=True)
    facts = os.statvfs(server.workspace)
    filler.write_bytes(bytes(facts.f_bavail * facts.f_frsize - left))


def label_of(server, name):
    content = (server.workspace / "frames" / "labels" / "final" / f"{name}.png").read_bytes()
    return read(content, ".png")[0].T


@pytest.mark.parametrize("name", SIDE)
@pytest.mark.parametrize("left", [0, 4096, 12288, 2**16, 2**18, 300_000])
def test_a_label_is_the_old_or_the_new_one_and_the_answer_says_what_is_full(server, name, left):
    (server.workspace / "filler").unlink(missing_ok=True)
    old, new = MASKS[name]
    assert upload(server, name, old).status_code == 200
    fill(server, left)
    answer = upload(server, name, new)
    kept = label_of(server, name)
    if answer.status_code == 200:
        np.testing.assert_array_equal(kept, new)
    else:
        assert answer.status_code == 507
        assert "No space left on device (the disk of the server's workspace)" in answer.json()["detail"]
        assert any(np.array_equal(kept, mask) for mask in (old, new))
    assert temporary(server) == []
    assert list((server.workspace / "frames").rglob(".tmp-*")) == []
    (server.workspace / "filler").unlink()
    assert upload(server, name, new).status_code == 200
    np.testing.assert_array_equal(label_of(server, name), new)


def test_no_label_fits_on_a_full_disk(server):
    fill(server, 0)
    for name, (_, new) in MASKS.items():
        assert upload(server, name, new).status_code == 507
    assert server.ask("GET", "/info/").status_code == 200
    (server.workspace / "filler").unlink()


def test_a_mask_that_cannot_be_written_is_no_fault_of_the_servers(server):
    fill(server, 0)
    answer = server.infer("b", ".png")
    assert answer.status_code == 507
    assert "No space left on device" in answer.json()["detail"]
    assert temporary(server) == []
    (server.workspace / "filler").unlink()
    assert server.infer("b", ".png").status_code == 200


def test_a_form_of_more_than_a_mebibyte_is_refused_too(server):
    fill(server, 0)
    side = SIDE["b"]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side), np.uint8))
    assert upload(server, "b", np.asarray(noise)).status_code == 507
    assert temporary(server) == []
    (server.workspace / "filler").unlink()

"""The registry of frames, where MONAI Label is."""

import logging
import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make test-label")

from cmunet_monai.label.datastore import REGISTRY, FrameDatastore, set_damaged_registry_aside
from cmunet_monai.label.refusal import RequestRefusedError

DEEP = '{"objects": {"a": {"image": {"info": {"x": ' + "[" * 300 + "]" * 300 + '}, "ext": ".png"}}}}'


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"5", b"", b"\xff\xfe", b"[" * 100_000, b'{"objects": []}', b'{"objects": {"a": 1}}',
                DEEP.encode()],
    ids=str,
)  # fmt: skip
def test_a_registry_that_cannot_be_read_in_any_way_is_set_aside(tmp_path, content):
    registry = tmp_path / REGISTRY
    registry.write_bytes(content)
    set_damaged_registry_aside(tmp_path)
    assert not registry.exists()
    assert registry.with_suffix(".damaged").read_bytes() == content
    assert FrameDatastore(str(tmp_path), extensions=["*.png"]).list_images() == []


@pytest.fixture
def store(tmp_path):
    for name in ("a", "b"):
        Image.new("L", (30, 20), 9).save(tmp_path / f"{name}.png")
    return FrameDatastore(str(tmp_path), extensions=["*.png"])


def drawn(folder, row, name="upload.png"):
    values = np.zeros((20, 30), np.uint8)
    values[row] = 255
    Image.fromarray(values).save(folder / name)
    return str(folder / name)


def row_of(store):
    return int(np.argwhere(np.asarray(Image.open(store.get_label_uri("a", "final"))))[0, 0])


def test_a_label_is_the_old_one_or_the_new_one_whatever_breaks(store, tmp_path, monkeypatch):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    store.save_label("a", drawn(uploads, 3), "final", {})
    for number, call in enumerate(("PIL.Image.Image.save", "pathlib.Path.replace", "pathlib.Path.chmod")):

        def full(*arguments, **options):
            raise OSError(28, "No space left on device")

        upload = drawn(uploads, 7, f"{number}.png")
        with monkeypatch.context() as patch:
            patch.setattr(call, full)
            with pytest.raises(RequestRefusedError, match="could not be written: No space left") as caught:
                store.save_label("a", upload, "final", {})
        assert caught.value.status == 507
        assert row_of(store) == 3
    assert sorted(path.name for path in uploads.iterdir()) == ["upload.png"]
    assert list((tmp_path / "labels").rglob(".tmp-*")) == []
    store.save_label("a", drawn(uploads, 7), "final", {"by": "ann"})
    assert row_of(store) == 7
    assert store.get_label_info("a", "final")["by"] == "ann"


def save_for_ever(folder, files, upload, ready):
    store = FrameDatastore(str(folder), extensions=["*.png"])
    for number in range(10**6):
        shutil.copy(files[number % 2], upload)
        store.save_label("a", str(upload), "final", {})
        ready.set()


def test_a_label_is_whole_after_kill_at_twenty_moments(store, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    files = [drawn(uploads, row, f"{row}.png") for row in (3, 7)]
    fork = multiprocessing.get_context("fork")
    for moment in range(20):
        ready = fork.Event()
        process = fork.Process(target=save_for_ever, args=(tmp_path, files, uploads / "now.png", ready))
        process.start()
        assert ready.wait(60)
        time.sleep(0.0007 * moment)
        process.kill()
        process.join()
        again = FrameDatastore(str(tmp_path), extensions=["*.png"], read_only=True)
        assert again.get_labeled_images() == ["a"]
        assert row_of(again) in (3, 7)


@pytest.mark.parametrize("name, tag, status", [("nobody", "final", 404), ("../a", "final", 400), ("a", "x/y", 400)])
def test_a_refused_upload_leaves_nothing(store, tmp_path, name, tag, status):
    upload = drawn(tmp_path, 3, "upload.dat.png")
    with pytest.raises(RequestRefusedError) as caught:
        store.save_label(name, upload, tag, {})
    assert caught.value.status == status
    assert not Path(upload).exists()


def test_no_answer_of_the_registry_names_a_path(store, tmp_path):
    store.save_label("a", drawn(tmp_path, 3, "upload.dat.png"), "final", {})
    assert store.get_image_info("a")["path"] == "a.png"
    assert store.datalist() == [{"image": "a.png", "label": "labels/final/a.png"}]


def test_a_damaged_registry_is_kept_aside_and_a_whole_one_stays(tmp_path, caplog):
    registry = tmp_path / REGISTRY
    set_damaged_registry_aside(tmp_path)
    whole = '{"name": "x", "description": "", "objects": {}}'
    registry.write_text(whole)
    set_damaged_registry_aside(tmp_path)
    assert registry.read_text() == whole
    registry.write_text('{"objects": ')
    with caplog.at_level(logging.WARNING):
        set_damaged_registry_aside(tmp_path)
    assert not registry.exists()
    assert registry.with_suffix(".damaged").read_text() == '{"objects": '
    assert "is damaged" in caplog.text

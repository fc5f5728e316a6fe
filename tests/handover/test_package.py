"""What `package` writes."""

import io
import json
import logging
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cmunet_monai.handover import package as package_module
from cmunet_monai.handover.archive import read_archive, read_member
from cmunet_monai.handover.package import build_package
from cmunet_monai.handover.verify import verify_package
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights

ROOT = Path(__file__).parents[2]
NAME = "coronary_xa_segmentation"
BUNDLE = ROOT / "bundles" / NAME
SCHEMA = ROOT / "tests" / "bundles" / "meta_schema_20240725.json"


def files_of(path):
    with path.open("rb") as stream:
        return {member.name.removeprefix(f"{NAME}/"): read_member(stream, member) for member in read_archive(stream)}


def write_weights(path, channels=(4, 8), **sidecar):
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_unet_weights(UNet(channels=channels), path, **sidecar)
    return path


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "model.safetensors")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "package.zip"


# The same bytes -------------------------------------------------------------------------------------------------------

AGAIN = """
import sys
from pathlib import Path
from cmunet_monai.handover import package
output, bundle, weights, key, frame, mask = map(Path, sys.argv[1:])
package._synthesize = lambda folder, network: frame
package.segment_frame = lambda *arguments: mask
package.build_package(bundle, output, weights=weights, image_size=(64, 64), key=key)
"""


def test_same_input_gives_the_same_bytes_in_another_process_and_folder(good, tmp_path):
    """Frame and mask are handed over: that inference gives this mask again is the claim of `--run-test`."""
    for name in ("frame", "mask"):
        (tmp_path / f"{name}.png").write_bytes(good.files[f"test/{name}.png"])
    words = ["again.zip", BUNDLE, good.weights, good.key, tmp_path / "frame.png", tmp_path / "mask.png"]
    command = [sys.executable, "-c", AGAIN, *map(str, words)]
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.zip").read_bytes() == good.path.read_bytes()


def test_other_programs_read_the_zip(good):
    with zipfile.ZipFile(good.path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(f"{NAME}/{name}") for name in good.files} == good.files


# What is in it --------------------------------------------------------------------------------------------------------


def test_configs_are_the_bundles_set_to_the_network_of_the_weights(good):
    for name in ("train", "evaluate", "inference"):
        packed = json.loads(good.files[f"configs/{name}.json"])
        own = json.loads((BUNDLE / "configs" / f"{name}.json").read_text())
        assert packed == own | {"channels": [4, 8], "image_size": [64, 64]}
        assert list(packed) == list(own)


def test_network_of_the_config_takes_all_weights(good, tmp_path):
    parser = ConfigParser(json.loads(good.files["configs/inference.json"]))
    network = parser.get_parsed_content("network_def")
    path = tmp_path / "model.safetensors"
    path.write_bytes(good.files["models/model.safetensors"])
    report = load_unet_weights(network, path)
    assert (report.skipped, report.missing) == ((), ())


def test_overlay_of_another_network_is_left_out(good):
    for path in (BUNDLE / "configs").glob("*.json"):
        config = json.loads(path.read_text())
        if "run" not in config and "channels" in config:
            assert f"configs/{path.name}" not in good.files


def test_metadata_satisfy_monais_schema_and_state_the_size(good, tmp_path):
    path = tmp_path / "metadata.json"
    path.write_bytes(good.files["configs/metadata.json"])
    verify_metadata(meta_file=str(path), filepath=str(SCHEMA))
    metadata = json.loads(path.read_text())
    own = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [64, 64]
    assert (metadata["version"], metadata["changelog"]) == (own["version"], own["changelog"])
    assert "Not for diagnosis" in metadata["intended_use"]


def test_sums_are_those_of_sha256sum(good, tmp_path):
    with zipfile.ZipFile(good.path) as archive:
        archive.extractall(tmp_path)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path / NAME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(good.files) - 2


def test_sidecar_says_where_the_weights_come_from(good):
    assert json.loads(good.files["models/model.json"])["epoch"] == 3
    assert '"epoch": 3' in good.files["docs/MODEL_CARD.md"].decode()


def test_sidecar_with_markup_stays_within_its_block_of_the_card(quick, output, tmp_path):
    """In Markdown a line that begins with three backticks would end the block."""
    evil = {"note": "```\n<script>", "```": ["```", "\u2028```"]}
    weights = write_weights(tmp_path / "evil.safetensors", **evil)
    assert build_package(BUNDLE, output, weights=weights).accepted
    lines = files_of(output)["docs/MODEL_CARD.md"].decode().splitlines()
    start, end = (number for number, line in enumerate(lines) if line.lstrip().startswith("```"))
    assert json.loads("\n".join(lines[start + 1 : end])) == json.loads(files_of(output)["models/model.json"])
    assert "<script>" not in "\n".join(lines[:start] + lines[end:])


def test_pictures_of_documents_lose_their_texts(quick, weights, output, tmp_path):
    bundle = tmp_path / NAME
    for path in BUNDLE.rglob("*"):
        if path.is_file() and "models" not in path.parts:
            (bundle / path.relative_to(BUNDLE)).parent.mkdir(parents=True, exist_ok=True)
            (bundle / path.relative_to(BUNDLE)).write_bytes(path.read_bytes())
    texts = PngInfo()
    texts.add_text("Author", "DOE^JANE")
    Image.new("RGB", (30, 20), (1, 2, 3)).save(bundle / "docs" / "plot.png", pnginfo=texts)
    build_package(bundle, output, weights=weights)
    assert b"DOE^JANE" not in output.read_bytes()
    with Image.open(io.BytesIO(files_of(output)["docs/plot.png"])) as picture:
        assert (picture.size, picture.getpixel((5, 5))) == ((30, 20), (1, 2, 3))


def test_weights_without_a_sidecar_get_one(quick, weights, output):
    weights.with_suffix(".json").unlink()
    build_package(BUNDLE, output, weights=weights)
    sidecar = json.loads(files_of(output)["models/model.json"])
    assert sidecar["architecture"] == {"in_channels": 1, "out_channels": 2, "channels": [4, 8]}


def test_unsigned_package_has_no_signature(quick, weights, output):
    verdict = build_package(BUNDLE, output, weights=weights)
    assert verdict.accepted
    assert (verdict.path, verdict.signed, verdict.has_signature) == (output, False, False)
    assert "SHA256SUMS.sig" not in files_of(output)


def test_weights_of_the_bundle_are_the_default(quick, output, tmp_path):
    bundle = tmp_path / NAME
    for path in BUNDLE.rglob("*"):
        if path.is_file() and "models" not in path.parts:
            (bundle / path.relative_to(BUNDLE)).parent.mkdir(parents=True, exist_ok=True)
            (bundle / path.relative_to(BUNDLE)).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"models/model.safetensors.*--weights"):
        build_package(bundle, output)
    write_weights(bundle / "models" / "model.safetensors")
    assert build_package(bundle, output).accepted


# Image size -----------------------------------------------------------------------------------------------------------


def packed_size(path):
    return json.loads(files_of(path)["configs/inference.json"])["image_size"]


def test_image_size_is_of_the_sidecar_then_as_asked_then_of_the_config(quick, weights, output, tmp_path):
    build_package(BUNDLE, output, weights=weights)
    assert packed_size(output) == json.loads((BUNDLE / "configs" / "inference.json").read_text())["image_size"]
    build_package(BUNDLE, output, weights=weights, image_size=(96, 128))
    assert packed_size(output) == [96, 128]
    stated = write_weights(tmp_path / "stated.safetensors", image_size=[32, 48])
    build_package(BUNDLE, output, weights=stated)
    assert packed_size(output) == [32, 48]
    with pytest.raises(ValueError, match=r"--image-size is \[64, 64\], but the weights were trained at \[32, 48\]"):
        build_package(BUNDLE, output, weights=stated, image_size=(64, 64))


@pytest.mark.parametrize("size", [(8, 64), (64, 5000), (64,), (64.0, 64), (True, 64)])
def test_image_size_that_cannot_be_is_refused(quick, weights, output, size):
    with pytest.raises(ValueError, match="`image_size` must be two whole numbers"):
        build_package(BUNDLE, output, weights=weights, image_size=size)


# Evaluation -----------------------------------------------------------------------------------------------------------


def write_summary(folder, **changes):
    metrics = {"dice": {"mean": 0.61798374, "failure_rate": 0.145}, "add_px": {"mean": None}, "seconds": {"mean": 1}}
    facts = {"weights": "elsewhere", "image_size": [64, 64], "images": 200, "groups": 198, "metrics": metrics}
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(facts | changes))
    return folder


def test_measured_values_go_into_metadata_and_card(quick, weights, output, tmp_path):
    summary = write_summary(tmp_path / "evaluation")
    build_package(BUNDLE, output, weights=weights, image_size=(64, 64), evaluation=summary)
    expected = {"images": 200, "groups": 198, "dice": 0.617984, "add_px": None, "failure_rate": 0.145}
    files = files_of(output)
    assert json.loads(files["configs/metadata.json"])["eval_metrics"] == expected
    assert "| dice | 0.617984 |\n| add_px | undefined |" in files["docs/MODEL_CARD.md"].decode()


def test_evaluation_of_something_else_is_refused(quick, weights, output, tmp_path):
    other = write_weights(tmp_path / "other.safetensors", (4, 16))
    for changes, reason in (
        ({"image_size": [256, 256]}, r"is of images of \[256, 256\]"),
        ({"weights": str(other)}, "was computed with other weights"),
        ({"metrics": {}}, "is not the summary.json of an evaluation"),
    ):
        summary = write_summary(tmp_path / "evaluation", **changes)
        with pytest.raises(ValueError, match=reason):
            build_package(BUNDLE, output, weights=weights, image_size=(64, 64), evaluation=summary)


# The test frame -------------------------------------------------------------------------------------------------------


def test_frame_of_a_file_needs_consent(quick, weights, output, tmp_path):
    frame = tmp_path / "frame.png"
    Image.new("L", (40, 30), 7).save(frame)
    with pytest.raises(ValueError, match=r"may show a patient: give --consent"):
        build_package(BUNDLE, output, weights=weights, test_frame=frame)
    with pytest.raises(ValueError, match="the synthetic one shows nobody"):
        build_package(BUNDLE, output, weights=weights, consent=True)
    build_package(BUNDLE, output, weights=weights, test_frame=frame, consent=True)
    assert json.loads(files_of(output)["test/test.json"])["origin"] == "real, shared with consent"


def test_png_frame_keeps_its_pixels_and_loses_its_texts(quick, weights, output, tmp_path):
    frame = tmp_path / "DOE_JANE.png"
    pixels = np.arange(40 * 30, dtype=np.uint16).reshape(30, 40)
    texts = PngInfo()
    texts.add_text("PatientName", "DOE^JANE")
    Image.fromarray(pixels).save(frame, pnginfo=texts, dpi=(300, 300))
    build_package(BUNDLE, output, weights=weights, test_frame=frame, consent=True)
    content = files_of(output)["test/frame.png"]
    assert (np.asarray(Image.open(io.BytesIO(content))) == pixels).all()
    assert b"DOE^JANE" not in output.read_bytes()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_frame_keeps_its_geometry_and_loses_its_texts(quick, weights, output, tmp_path, ending):
    pixels = np.arange(40 * 30, dtype=np.int16).reshape(40, 30, 1)
    image = nib.Nifti1Image(pixels, np.diag([0.3, 0.3, 1, 1]))
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nib.save(image, tmp_path / f"frame{ending}")
    frame = tmp_path / f"frame{ending}"
    build_package(BUNDLE, output, weights=weights, test_frame=frame, consent=True)
    content = files_of(output)["test/frame.nii"]
    assert b"DOE^JANE" not in output.read_bytes()
    packed = nib.Nifti1Image.from_bytes(content)
    assert (np.asarray(packed.dataobj) == pixels).all()
    assert packed.header.get_zooms() == image.header.get_zooms()
    assert packed.header.get_xyzt_units() == ("mm", "unknown")
    assert "test/mask.nii" in files_of(output)


@pytest.mark.parametrize("name, content", [("a.png", b"x"), ("a.nii", b"x"), ("a.dcm", b"x"), ("a.nii.gz", b"x")])
def test_frame_that_cannot_be_read_is_named(quick, weights, output, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: "):
        build_package(BUNDLE, output, weights=weights, test_frame=tmp_path / name, consent=True)
    with pytest.raises(FileNotFoundError, match="no frame at"):
        build_package(BUNDLE, output, weights=weights, test_frame=tmp_path / f"none-{name}", consent=True)


def test_mask_that_tests_nothing_is_warned_of(quick, weights, output, monkeypatch, caplog):
    def empty(bundle, frame, folder):
        Image.new("L", (64, 48)).save(folder.with_suffix(".png"))
        return folder.with_suffix(".png")

    monkeypatch.setattr(package_module, "segment_frame", empty)
    with caplog.at_level(logging.WARNING):
        build_package(BUNDLE, output, weights=weights)
    assert "the expected mask marks 0 of 3072 pixels" in caplog.text


# Wheels ---------------------------------------------------------------------------------------------------------------


def test_wheels_of_other_packages_need_a_signature(quick, good, weights, output, monkeypatch):
    def download(folder, release):
        folder.mkdir()
        (folder / "fire-0.7.1-py3-none-any.whl").write_bytes(b"any")
        return [folder / "fire-0.7.1-py3-none-any.whl"]

    monkeypatch.setattr(package_module, "_download_wheels", download)
    with pytest.raises(ValueError, match="--wheels needs --sign"):
        build_package(BUNDLE, output, weights=weights, wheels=True)
    build_package(BUNDLE, output, weights=weights, wheels=True, key=good.key)
    assert "wheels/fire-0.7.1-py3-none-any.whl" in verify_package(output, key=good.public).digests
    assert not verify_package(output).accepted


def test_wheels_are_asked_of_pip_in_the_tested_versions(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(package_module, "run_module", lambda words, folder, what: calls.append(words))
    assert package_module._download_wheels(tmp_path / "wheels", package_module.this_release()) == []
    assert calls[0][:2] == ["pip", "download"]
    assert f"monai=={package_module.this_release().tested['monai']}" in calls[0]
    assert not any("cmunet" in word for word in calls[0] if not word.startswith(str(tmp_path)))


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_weights_that_are_no_trained_model_are_refused(quick, output, tmp_path):
    network = UNet(channels=(4, 8))
    save_unet_weights(network, tmp_path / "pretrained.safetensors", parts=("encoder", "decoder"))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "pretrained.safetensors").read_bytes()[:-1])
    for name, reason in (
        ("pretrained.safetensors", r"trained segmentation UNet.*\['head.bias', 'head.weight'\] missing"),
        ("model.pt", "weights must be a .safetensors file; .*convert"),
        ("cut.safetensors", r"head.bias"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: .*{reason}"):
            build_package(BUNDLE, output, weights=tmp_path / name)


def test_sidecar_of_other_weights_is_refused(quick, weights, output, tmp_path):
    other = write_weights(tmp_path / "other.safetensors", (4, 16))
    other.with_suffix(".json").replace(weights.with_suffix(".json"))
    with pytest.raises(ValueError, match=r"model.json: `architecture` is"):
        build_package(BUNDLE, output, weights=weights)


def test_bundle_that_is_not_this_releases_is_refused(quick, weights, output, tmp_path):
    bundle = tmp_path / NAME
    for path in BUNDLE.rglob("*"):
        if path.is_file():
            (bundle / path.relative_to(BUNDLE)).parent.mkdir(parents=True, exist_ok=True)
            (bundle / path.relative_to(BUNDLE)).write_bytes(path.read_bytes())
    config = bundle / "configs" / "train.json"
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(ValueError, match=r"\(train.json differs\).*write_release"):
        build_package(bundle, output, weights=weights)
    with pytest.raises(ValueError, match="is not a bundle of this release; there are"):
        build_package(bundle.rename(tmp_path / "mine"), output, weights=weights)
    with pytest.raises(FileNotFoundError, match="no bundle at"):
        build_package(tmp_path, output, weights=weights)
    assert not output.parent.exists()


def test_output_that_is_no_zip_is_refused(weights, tmp_path):
    with pytest.raises(ValueError, match=r"must end in .zip, got package.tar"):
        build_package(BUNDLE, tmp_path / "package.tar", weights=weights)


def test_package_that_verify_would_refuse_is_not_written(quick, weights, output, monkeypatch):
    monkeypatch.setattr(package_module, "_documents", lambda bundle: {"evil.py": b""})
    with pytest.raises(RuntimeError, match=r"was not written, `verify` would refuse it: 'evil.py'"):
        build_package(BUNDLE, output, weights=weights)
    assert list(output.parent.iterdir()) == []


def test_decompression_of_a_frame_is_bounded(quick, weights, output, tmp_path):
    body = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    frame = tmp_path / "large.png"
    frame.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    with pytest.raises(ValueError, match="100000 x 100000"):
        build_package(BUNDLE, output, weights=weights, test_frame=frame, consent=True)

"""One good package of tiny weights, made once by the command, and ways to make bad ones of it."""

import functools
import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from cmunet_monai.handover import package as package_module
from cmunet_monai.handover import wheel
from cmunet_monai.handover.archive import read_archive, read_member, write_archive
from cmunet_monai.handover.package_command import main as package
from cmunet_monai.handover.signature import read_private_key, sign
from cmunet_monai.networks import UNet, save_unet_weights
from cmunet_monai.writers import write_mask

ROOT = Path(__file__).parents[2]
NAME = "coronary_xa_segmentation"
BUNDLE = ROOT / "bundles" / NAME
CHANNELS = (4, 8)

# Offsets in a central header of a zip
FIELDS = {"flags": (8, "<H"), "method": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I"), "external": (38, "<I")}


@dataclass(frozen=True)
class GoodPackage:
    """A package that `verify` accepts.

    Attributes:
        path: signed with `key`.
        weights: what it was made of.
        key, public: PEM files.
        other_public: PEM file of a key that signed nothing.
        files: path in the package's folder -> content.
    """

    path: Path
    weights: Path
    key: Path
    public: Path
    other_public: Path
    files: dict[str, bytes] = field(repr=False)

    def changed(self, path, changes, *, sums=True, signed=False, folder=NAME):
        """Write the package with other files: name -> content, None to leave out; SHA256SUMS made to fit by default."""
        files = {name: content for name, content in (self.files | changes).items() if content is not None}
        if "SHA256SUMS.sig" not in changes:
            files.pop("SHA256SUMS.sig", None)
        if sums:
            files["SHA256SUMS"] = sums_of(files)
        if signed:
            files["SHA256SUMS.sig"] = sign(files["SHA256SUMS"], read_private_key(self.key))
        with path.open("wb") as stream:
            write_archive(stream, {f"{folder}/{name}" if folder else name: files[name] for name in files})
        return path

    def config(self, path, change, *, name="inference"):
        """Write the package with a config that `change` edited in place."""
        content = json.loads(self.files[f"configs/{name}.json"])
        change(content)
        return self.changed(path, {f"configs/{name}.json": json.dumps(content, indent=4).encode()})

    def patched(self, path, name, **fields):
        """Write the package with other values in the central header of one file."""
        data = bytearray(self.path.read_bytes())
        raw = f"{NAME}/{name}".encode()
        place = data.rindex(raw) - 46
        assert data[place : place + 4] == b"PK\x01\x02"
        for key, value in fields.items():
            offset, form = FIELDS[key]
            struct.pack_into(form, data, place + offset, value)
        path.write_bytes(data)
        return path


def sums_of(files):
    """`sha256sum` of every file but itself and its signature."""
    names = sorted(name for name in files if not name.startswith("SHA256SUMS"))
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names).encode()


def write_weights(path, channels=CHANNELS, seed=0, **sidecar):
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_unet_weights(UNet(channels=channels), path, **sidecar)
    return path


def files_of(path):
    with path.open("rb") as stream:
        return {member.name.removeprefix(f"{NAME}/"): read_member(stream, member) for member in read_archive(stream)}


@pytest.fixture(scope="session", autouse=True)
def _code_is_read_once():
    """Hundreds of verdicts, and one reading of the code that they are held to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheel, "installed_files", functools.cache(wheel.installed_files))
        yield


@pytest.fixture
def quick(monkeypatch):
    """`build_package` without processes: the synthetic frame is grey, its mask a stripe."""

    def synthesize(folder, network):
        Image.new("L", (64, 48), 90).save(folder / "grey.png")
        return folder / "grey.png"

    def segment(bundle, frame, folder):
        assert json.loads((bundle / "configs" / "inference.json").read_text())["channels"]
        assert (bundle / "models" / "model.safetensors").is_file()
        mask = folder.with_suffix(frame.suffix)
        width, height = (nib.load(frame).shape if frame.suffix == ".nii" else Image.open(frame).size)[:2]
        stripe = np.zeros((1, width, height), np.uint8)
        stripe[:, 2:5] = 1
        write_mask(stripe, mask, frame=frame)
        return mask

    monkeypatch.setattr(package_module, "_synthesize", synthesize)
    monkeypatch.setattr(package_module, "segment_frame", segment)


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handover")
    weights = write_weights(folder / "run" / "model.safetensors", seed=1, epoch=3)
    for name in ("key", "other"):
        assert package(["--new-key", str(folder / f"{name}.pem")]) == 0
    path = folder / "coronary.zip"
    words = ["--weights", str(weights), "--image-size", "64", "64", "--sign", str(folder / "key.pem")]
    assert package([str(BUNDLE), *words, "--output", str(path)]) == 0
    public, other = folder / "key.public.pem", folder / "other.public.pem"
    return GoodPackage(path, weights, folder / "key.pem", public, other, files_of(path))

"""What `cmunet doctor` says of an installation."""

import json
import shutil
from importlib.metadata import version

import pytest

from cmunet_monai import doctor
from cmunet_monai.__main__ import main
from cmunet_monai.doctor import Finding, examine_prediction, extras, packages
from cmunet_monai.shipped import SEGMENTATION, shipped_bundle


@pytest.fixture
def without(monkeypatch):
    """Takes distributions away."""
    known = doctor.installed_version

    def take_away(*names):
        monkeypatch.setattr(doctor, "installed_version", lambda name: None if name in names else known(name))

    return take_away


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(
        shipped_bundle(SEGMENTATION), tmp_path / "bundle", ignore=shutil.ignore_patterns("docs"), symlinks=True
    )


def test_where_predict_can_run_the_exit_code_is_0(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"  ok       torch {version('torch')}\n" in said
    assert f"  ok       bundle: {shipped_bundle(SEGMENTATION)}\n" in said
    stated = json.loads((shipped_bundle(SEGMENTATION) / "models" / "model.json").read_text())["sha256"]
    assert f"MB, SHA-256 {stated}\n" in said
    assert said.endswith("`predict` can run\n")


def test_a_needed_package_that_is_missing_is_named_with_the_command_that_brings_it(without, capsys):
    without("nibabel")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "  MISSING  nibabel is not installed, where >=5.2 is asked for: pip install 'nibabel>=5.2'\n" in said
    assert said.endswith("`predict` cannot run: get what is MISSING first\n")


def test_a_package_that_is_too_old_is_named(monkeypatch):
    known = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: "1.5.2" if name == "monai" else known(name))
    (found,) = [finding for finding in packages() if not finding.good]
    assert str(found) == "MISSING  monai 1.5.2, where >=1.6.1 is asked for: pip install 'monai>=1.6.1'"


def test_what_prediction_does_without_is_absent_and_no_failure(without, capsys):
    without("matplotlib", "onnx", "imagecodecs")
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "  absent   matplotlib is not installed" in said
    assert "not installed: onnx: pip install 'cmunet_monai[runtimes]'\n" in said
    assert "JPEG 2000, by imagecodecs, which is not installed: pip install 'cmunet_monai[dicom]'\n" in said


def test_every_extra_of_the_package_but_that_of_developers_is_described():
    from importlib.metadata import metadata

    assert {finding.text.partition(":")[0] for finding in extras()} == set(
        metadata("cmunet_monai").get_all("Provides-Extra")
    ) - {"dev"}


def test_weights_that_are_damaged_are_named(bundle, capsys):
    path = bundle / "models" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["doctor", "--bundle", str(bundle)]) == 1
    assert f"  MISSING  weights: {path} is damaged: its SHA-256 is " in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, expected",
    [("configs/inference.json", "has no configs/inference.json"), ("models/model.safetensors", "weights: none at")],
)
def test_a_bundle_that_lacks_a_file_is_named(bundle, name, expected, capsys):
    (bundle / name).unlink()
    assert main(["doctor", "--bundle", str(bundle)]) == 1
    assert expected in capsys.readouterr().out


def test_code_that_cannot_be_loaded_is_named(monkeypatch):
    def fail(name):
        raise ImportError(f"libtorch is not there, for {name}")

    monkeypatch.setattr(doctor, "import_module", fail)
    *_, found = examine_prediction()
    assert found == Finding(False, "code: libtorch is not there, for cmunet_monai.bundle")

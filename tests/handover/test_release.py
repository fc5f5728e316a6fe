import importlib.metadata
from pathlib import Path

import pytest

import cmunet_monai
from cmunet_monai.handover import release as release_module
from cmunet_monai.handover.release import FILE, REGENERATE, installed_files, this_release
from cmunet_monai.handover.write_release import main, release_text

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "coronary_xa_segmentation"


def test_release_file_is_that_of_this_checkout():
    """Packages are held to it: a change of configs, requirements or tested versions must be written to it."""
    assert FILE.read_text(encoding="utf-8") == release_text([BUNDLE], ROOT), f"out of date; run: {REGENERATE}"


def test_command_writes_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr("cmunet_monai.handover.write_release.FILE", tmp_path / "release.json")
    assert main([str(BUNDLE)]) == 0
    assert (tmp_path / "release.json").read_bytes() == FILE.read_bytes()


def test_release_is_the_version_that_is_installed():
    assert this_release().version == importlib.metadata.version("cmunet_monai")


def test_missing_release_file_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(release_module, "FILE", tmp_path / "release.json")
    this_release.cache_clear()
    with pytest.raises(FileNotFoundError, match="write_release"):
        this_release()
    this_release.cache_clear()


def test_every_file_of_the_package_is_of_a_kind_that_the_wheel_takes():
    """A data file with another ending would be missing on the partner's machine, and be held to nothing."""
    root = Path(cmunet_monai.__file__).parent
    found = {path.relative_to(root.parent) for path in root.rglob("*") if path.is_file()}
    kept = {path.as_posix() for path in found if not any(part.startswith((".", "__pycache__")) for part in path.parts)}
    assert kept == set(installed_files())


def test_bundles_inside_an_installation_are_no_code_of_it(monkeypatch, tmp_path):
    """As pip installs them; what `package` and `verify` compare is then the same as in a clone."""
    package = tmp_path / "cmunet_monai"
    for name in ("__init__.py", "bundles/a/configs/train.json"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    monkeypatch.setattr(cmunet_monai, "__file__", str(package / "__init__.py"))
    assert set(installed_files()) == {"cmunet_monai/__init__.py"}


def test_code_that_runs_from_a_wheel_judges_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(cmunet_monai, "__file__", str(tmp_path / "x.whl" / "cmunet_monai" / "__init__.py"))
    with pytest.raises(RuntimeError, match="obtained separately"):
        installed_files()

"""The bundles that come with the package."""

import configparser
from pathlib import Path

import pytest

from cmunet_monai import shipped
from cmunet_monai.__main__ import main
from cmunet_monai.shipped import BUNDLES, FILES, copy_bundles, shipped_bundle

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package of an installation, where nothing lies yet."""
    package = tmp_path / "site" / "cmunet_monai"
    package.mkdir(parents=True)
    monkeypatch.setattr(shipped.cmunet_monai, "__file__", str(package / "__init__.py"))
    return package


def put_bundle(folder):
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}")
    return folder


def test_a_checkout_has_them_beside_the_package_and_a_wheel_inside(installed):
    beside = put_bundle(installed.parent / "bundles" / BUNDLES[0])
    assert shipped_bundle(BUNDLES[0]) == beside
    inside = put_bundle(installed / "bundles" / BUNDLES[0])
    assert shipped_bundle(BUNDLES[0]) == inside


def test_code_alone_says_where_bundles_are(installed):
    with pytest.raises(FileNotFoundError, match="without the bundle coronary_xa_pretraining: a release's wheel"):
        shipped_bundle(BUNDLES[0])


def test_all_bundles_of_the_checkout_are_shipped():
    assert sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")) == list(BUNDLES)
    assert [shipped_bundle(name) for name in BUNDLES] == [ROOT / "bundles" / name for name in BUNDLES]


def test_the_wheel_and_a_copy_hold_the_same_files():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"]["cmunet_monai.bundles"].split()
    assert sorted(patterns) == sorted(f"*/{pattern}" for pattern in FILES)


def test_without_a_folder_the_verb_prints_where_they_lie(capsys):
    assert main(["bundles"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(ROOT / "bundles" / name) for name in BUNDLES]


def test_a_copy_has_configs_and_weights_and_no_results(tmp_path, capsys):
    assert main(["bundles", str(tmp_path / "new" / "mine")]) == 0
    copies = [tmp_path / "new" / "mine" / name for name in BUNDLES]
    assert capsys.readouterr().out.splitlines()[:2] == [str(copy) for copy in copies]
    assert sorted(path.name for path in copies[0].parent.iterdir()) == list(BUNDLES)
    for name in ("configs/methods/mae.json", "configs/train.json", "LICENSE", "docs/README.md"):
        assert (copies[0] / name).read_bytes() == (ROOT / "bundles" / BUNDLES[0] / name).read_bytes()
    weights = "models/model.safetensors"
    assert (copies[1] / weights).read_bytes() == (ROOT / "bundles" / BUNDLES[1] / weights).read_bytes()
    assert not list(tmp_path.rglob("results"))


def test_nothing_is_overwritten_and_nothing_else_is_copied(tmp_path, capsys):
    (tmp_path / BUNDLES[1]).symlink_to("nowhere")
    assert main(["bundles", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / BUNDLES[1]} is there already, and nothing is overwritten: name another folder\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [BUNDLES[1]]


def test_a_copy_that_is_cut_off_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(shipped.shutil, "copyfile", fail)
    with pytest.raises(OSError, match="no space left"):
        copy_bundles(tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []

"""The verb, where MONAI Label is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from cmunet_monai.__main__ import main
from cmunet_monai.label import doctor
from cmunet_monai.label.command import parse, read_token


@pytest.fixture
def without_monai_label(monkeypatch):
    version = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "monailabel" else version(name))


def test_the_doctor_names_what_is_missing_and_how_to_get_it(without_monai_label, tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    words = ["--studies", str(tmp_path / "nothing"), "--bundle", str(tmp_path / "bundle"), "--host", "0.0.0.0"]
    assert main(["label", "--doctor", "--port", "0", *words]) == 1
    said = capsys.readouterr().out
    assert "MISSING  monailabel is not installed: `make label`" in said
    assert "MISSING  studies: no file or folder at" in said
    assert "MISSING  bundle: models/model.safetensors is missing" in said
    assert "--token-file" in said


def test_without_monai_label_the_server_says_how_to_install_it(without_monai_label, tmp_path, capsys):
    assert main(["label", "--studies", str(tmp_path)]) == 2
    assert "not installed here: monailabel" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_studies_must_be_named(capsys):
    assert main(["label"]) == 2
    assert "--input must name a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, option",
    [
        (["--frames", "1", "1"], "`--frames`"),
        (["--studies", "no/studies"], "--input"),
        (["--bundle", "no/bundle"], "--bundle"),
        (["--token-file", "no/token"], "--token-file"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_its_option(words, option, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cmunet_monai.label.doctor.missing_packages", list)
    monkeypatch.setitem(
        sys.modules, "cmunet_monai.label.server", SimpleNamespace(check_host=lambda *_: None, serve=None)
    )
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a.png")
    assert main(["label", "--studies", str(tmp_path), "--workspace", "w", "--port", "0", *words]) == 2
    assert option in capsys.readouterr().err.splitlines()[-1]


def test_loopback_is_the_default():
    arguments = parse(["-i", "x"])
    assert arguments == parse(["--input", "x"]) == parse(["--studies", "x"])
    assert (arguments.host, arguments.port, arguments.frames) == ("127.0.0.1", 8000, "fullest")


def test_a_token_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text("sixteen letters!\n")
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == "sixteen letters!"
    path.write_text("\n")
    with pytest.raises(ValueError, match="must have 16 characters or more, got 0"):
        read_token(path)
    assert read_token(None) is None


def test_no_page_of_the_server_needs_the_internet():
    text = (Path(doctor.__file__).parent / "page.py").read_text()
    assert "src=" not in text
    assert "http" not in text.replace("http-equiv", "")

import importlib
import importlib.metadata
import os
from types import SimpleNamespace

import pytest

from cmunet_monai.__main__ import main


@pytest.mark.parametrize(
    "verb, given, expected",
    [("predict", None, "passive"), ("predict", "active", "active"), ("study", None, None)],
)
def test_threads_sleep_between_the_frames_of_a_prediction(monkeypatch, verb, given, expected):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")  # undone at the end, whatever main sets
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    seen = []

    def run(arguments):
        seen.append((arguments, os.environ.get("OMP_WAIT_POLICY")))
        return 0

    monkeypatch.setattr("cmunet_monai.__main__.importlib.import_module", lambda _: SimpleNamespace(main=run))
    assert main([verb, "--x"]) == 0
    assert seen == [(["--x"], expected)]


@pytest.mark.parametrize("kind", [OSError, ValueError, RuntimeError])
@pytest.mark.parametrize("verb", ["report", "split"])
def test_every_error_ends_as_one_line_and_exit_code_2(monkeypatch, verb, kind, capsys):
    def fail(*_):
        raise kind("no such thing")

    module = SimpleNamespace(main=fail, run=fail, add_arguments=lambda _: None, __doc__=None)
    known = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: known(name) if name == "data_prep.__main__" else module
    )
    assert main([verb]) == 2
    assert capsys.readouterr().err == "error: no such thing\n"


def test_an_interruption_is_no_error(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cmunet_monai.__main__.importlib.import_module", lambda _: SimpleNamespace(main=interrupt))
    assert main(["predict"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"


@pytest.mark.parametrize(
    "verb, name, expected",
    [
        ("predict", "cv2", "cv2, which is not installed: `python -m cmunet_monai doctor` says how to get it"),
        ("doctor", "cmunet_monai", "this package to be installed, not only its folder: pip install FOLDER"),
        ("--version", "cmunet_monai", "this package to be installed, not only its folder: pip install FOLDER"),
        ("trees", "data_prep", "data_prep, which this installation lacks: a release's wheel and a clone have it"),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch, verb, name, expected, capsys):
    def fail(_):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("cmunet_monai.__main__.importlib.import_module", fail)
    monkeypatch.setattr(importlib.metadata, "version", fail)
    assert main([verb]) == 2
    assert capsys.readouterr().err == f"error: {verb} needs {expected}\n"


def test_a_lost_part_of_the_package_is_no_mistake_of_the_users(monkeypatch):
    def fail(_):
        raise ModuleNotFoundError(name="cmunet_monai.nowhere")

    monkeypatch.setattr("cmunet_monai.__main__.importlib.import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        main(["predict"])


def test_the_version_is_that_of_the_installed_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cmunet_monai {importlib.metadata.version('cmunet_monai')}\n"

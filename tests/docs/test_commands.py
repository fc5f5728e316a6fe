"""Every command that the README, docs/ and the bundles' documentation show is one that its program understands.

bash itself takes each block apart: programs are replaced by one that writes down its arguments. Commands of this
project are then read by their own parsers, and bundle runs by `check`, in a folder that holds the files that they name.
What the README, "Get started", "Train" and "An archive of DICOM" show is also run: `tests/test_readme.py`.
"""

import argparse
import configparser
import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path
from runpy import run_path

import pytest
from monai.bundle import scripts
from torch.distributed.run import get_args_parser

from cmunet_monai.__main__ import main
from cmunet_monai.check import check_run, parse_arguments
from cmunet_monai.networks import UNet, save_unet_weights
from cmunet_monai.study.plan import read_study
from cmunet_monai.verbs import VERBS

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
PAPERS = [ROOT / "README.md", *PAGES, *sorted(ROOT.glob("bundles/*/docs/*.md"))]
PROGRAMS = ("chmod", "cmunet", "make", "pip", "python", "torchrun")
WEIGHTS = ("PAINTED", "PRETRAINED", "PRETRAINING", "runs/pretraining")
MODELS = ("RUN", "START", "runs/finetuning")


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


SHOWN = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}:{number}")
    for path in PAPERS
    for number, block in enumerate(blocks(path, "bash"))
]
STUDIES = [
    pytest.param(block, id=str(path.relative_to(ROOT)))
    for path in PAGES
    for block in blocks(path, "json")
    if '"methods"' in block
]


class ReadError(BaseException):
    """The arguments were understood; what follows is not done. No mistake that a command would catch."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with all that the commands name: frames, data lists, weights."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "bundles").symlink_to(ROOT / "bundles")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    frames = ("--frames", "48", "--size", "64", "--frames-per-patient", "1", "--output", str(folder / "DATA"))
    assert main(["synthesize", *frames]) == 0
    splits = ("--datalist", str(folder / "DATA" / "datalist.json"), "--finetune-images")
    assert main(["split", *splits, "6", "--output", str(folder / "SPLITS")]) == 0
    assert main(["split", *splits, "6", "--draws", "3", "--output", str(folder / "DRAWN")]) == 0
    inside = ("6", "--draws", "3", "--inside", "24", "--output", str(folder / "DRAWS"))
    assert main(["split", *splits, *inside]) == 0
    for draw in (folder / "DRAWN").iterdir():
        shutil.move(draw, folder / "SPLITS" / draw.name)
    assert main(["trees", "--trees", "2", "--size", "64", "--output", str(folder / "TREES")]) == 0
    for copy in ("data", "SYNTHETIC"):
        shutil.copytree(folder / "DATA", folder / copy)
    shutil.copytree(folder / "SPLITS", folder / "splits")
    network = UNet(channels=(16, 32, 64, 128, 256))
    for name in WEIGHTS:
        save_unet_weights(network, folder / name / "unet.safetensors")
    for name in MODELS:
        save_unet_weights(network, folder / name / "model.safetensors")
    segmentor = UNet(out_channels=1, channels=(12, 24, 48, 96))
    save_unet_weights(segmentor, folder / "SEGMENTOR" / "unet.safetensors")
    return folder


def commands(block, folder):
    """The words of each command of a block, as bash gives them to programs."""
    stubs, log = folder / "stubs", folder / "log"
    stubs.mkdir(exist_ok=True)
    log.write_text("")
    for program in PROGRAMS:
        stub = stubs / program
        stub.write_text(f'#!/bin/bash\nprintf "%s\\0" {program} "$@" >> "{log}"\nprintf "\\n" >> "{log}"\n')
        stub.chmod(0o755)
    label = folder / ".venv-label" / "bin"  # the label server's own environment
    label.mkdir(parents=True, exist_ok=True)
    shutil.copy(stubs / "python", label / "python")
    environment = {"PATH": f"{stubs}:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/bash", "-eu"], input=block, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\0") for line in log.read_text().split("\0\n") if line]


def understand(words, monkeypatch):
    """Fail unless the program named by the first word takes the others."""
    program, *rest = words
    if program == "torchrun":
        arguments = get_args_parser().parse_args(rest)
        assert (arguments.module, arguments.training_script) == (True, "monai.bundle")
        understand(["python", "-m", "monai.bundle", *arguments.training_script_args], monkeypatch)
    elif program == "cmunet":
        read_by(main, rest, monkeypatch)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert rest[0] in re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    elif program == "pip":
        assert rest == ["install", "--constraint", "constraints.txt", "."]
    elif program == "chmod":
        assert rest == ["600", "TOKEN"]
    elif rest[0] == "-c":
        compile(rest[1], "shown", "exec")
    elif rest[:3] == ["-m", "monai.bundle", "run"]:
        small = ["--batch_size", "4"] if "train.json" in str(rest) else []  # the frames here are few
        assert list(check_run(parse_arguments([*rest[3:], *small])).problems) == []
    elif rest[:2] == ["-m", "cmunet_monai"]:
        read_by(main, rest[2:], monkeypatch)
    elif rest[:2] == ["-m", "monai.bundle"]:
        taken = inspect.signature(getattr(scripts, rest[2])).parameters
        assert {word.removeprefix("--") for word in rest[3:] if word.startswith("--")} - set(taken) <= {"bundle_root"}
    elif rest[0] == "docs/results/annotator/simulate.py":
        read_by(run_path(str(ROOT / rest[0]))["main"], rest[1:], monkeypatch)
    else:
        assert rest[:2] == ["-m", "venv"], f"nobody knows this command: {words}"


def read_by(program, words, monkeypatch):
    """Fail unless a program's own parser takes the words; `check` has none, and is run."""
    real = argparse.ArgumentParser.parse_args

    def parse(parser, args=None, namespace=None):
        real(parser, args, namespace)
        raise ReadError

    with monkeypatch.context() as patch:
        if words[0] != "check":
            patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        try:
            assert program(words) == 0
        except ReadError:
            return
    assert words[0] == "check", f"{words[0]} read nothing"


@pytest.mark.parametrize("block", SHOWN)
def test_shown_commands_are_understood(block, world, monkeypatch):
    monkeypatch.chdir(world)
    found = commands(block, world)
    assert found or block.startswith("export ")
    for words in found:
        understand(words, monkeypatch)


@pytest.mark.parametrize("block", STUDIES)
def test_shown_study_is_one(block, world, monkeypatch):
    monkeypatch.chdir(world)
    (world / "STUDY.json").write_text(block)
    assert read_study("STUDY.json").methods


def test_an_unknown_option_is_found(world, monkeypatch, capsys):
    monkeypatch.chdir(world)
    with pytest.raises(SystemExit):
        understand(["cmunet", "predict", "-i", "FRAMES", "-o", "RESULTS", "--stenoses"], monkeypatch)
    assert "--stenoses" in capsys.readouterr().err
    segmentation = "bundles/coronary_xa_segmentation"
    run = [
        "--bundle_root",
        segmentation,
        "--config_file",
        f"{segmentation}/configs/train.json",
        "--dataset_dir",
        "DATA",
    ]
    with pytest.raises(AssertionError, match="max_epoch"):
        understand(["python", "-m", "monai.bundle", "run", *run, "--max_epoch", "3"], monkeypatch)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_verbs_make_targets_and_extras_named_in_the_text_exist(path):
    text = path.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    assert set(re.findall(r"`cmunet ([a-z]+)", text)) <= set(VERBS)
    assert set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }
    assert set(re.findall(r"cmunet_monai\[([a-z-]+)\]", text)) <= set(setup["options.extras_require"])


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_json_that_is_shown_is_json(path):
    for block in blocks(path, "json"):
        assert json.loads(block)

"""The wheel, installed by pip where nothing else of this checkout is found, without a network."""

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from cmunet_monai.doctor import NOT_TO_PREDICT
from cmunet_monai.handover.release import installed_files
from cmunet_monai.shipped import BUNDLES, FILES
from data_prep.synthetic import synthesize_frame

ROOT = Path(__file__).parents[1]
INSIDE = "cmunet_monai/bundles/"
# Python imports it at its start: connections are refused, and told; but those between processes of this machine
NO_NETWORK = """
import socket

def refuse(connect):
    def connect_or_refuse(self, address):
        if self.family == getattr(socket, "AF_UNIX", None):
            return connect(self, address)
        with open({told!r}, "a") as file:
            file.write(f"{{address}}\\n")
        raise OSError("the network is refused here")
    return connect_or_refuse

socket.socket.connect = refuse(socket.socket.connect)
socket.socket.connect_ex = refuse(socket.socket.connect_ex)
"""
# Neither the modules nor the distributions of other names than these are found
MINIMAL = """
import sys
from importlib.machinery import PathFinder

class Minimal(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {blocked!r} else PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *arguments, **options):
        found = PathFinder.find_distributions(*arguments, **options)
        return (item for item in found if item.metadata["Name"].lower().replace("_", "-") in {allowed!r})

sys.meta_path[sys.meta_path.index(PathFinder)] = Minimal
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by pip from a copy of what a checkout has, caches included."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, source)
    for name in ("bundles", "cmunet_monai", "data_prep"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    cache = source / "bundles" / BUNDLES[0] / "configs" / "__pycache__" / "a.cpython-311.pyc"
    cache.parent.mkdir()
    cache.touch()
    pip("wheel", "--no-build-isolation", "--wheel-dir", built, source)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A virtual environment with the wheel; what it needs comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip("--python", python(folder), "install", wheel)
    # behind its own packages, and without what is installed here as editable, which another .pth file does
    site_packages(folder).joinpath("needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


def pip(*words):
    words = [sys.executable, "-m", "pip", *words, "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def python(folder):
    return next(path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())


def site_packages(folder):
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))


@pytest.fixture
def cmunet(environment, tmp_path):
    """Runs the command in an empty folder, where connections are refused and, on request, modules not found."""
    own, told = tmp_path / "own", tmp_path / "connections"
    own.mkdir()
    (own / "sitecustomize.py").write_text(NO_NETWORK.format(told=str(told)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words, expected=0, without=None):
        if without is not None:
            with (own / "sitecustomize.py").open("a") as file:
                file.write(without)
        command = [python(environment).with_name("cmunet"), *words]
        variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        done = subprocess.run(
            list(map(str, command)),
            cwd=elsewhere,
            env=variables | {"PYTHONPATH": str(own), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        assert not told.exists(), told.read_text()
        return done.stdout

    run.folder = elsewhere
    return run


def tracked(*folders):
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *folders]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git work tree")
    return set(filter(None, listed.split("\0")))


def test_the_wheel_holds_all_code(wheel):
    """A folder without __init__.py would be missing."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.startswith(INSIDE) and ".dist-info/" not in name}
    assert held >= tracked("cmunet_monai", "data_prep")
    assert {name.split("/")[0] for name in held} == {"cmunet_monai", "data_prep"}


def test_the_wheel_holds_the_bundles_and_no_caches(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("cmunet_monai/") for name in archive.namelist() if name.startswith(INSIDE)}
    assert held == tracked("bundles")


def test_a_connection_would_be_refused_and_told(tmp_path):
    told = tmp_path / "told"
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK.format(told=str(told)))
    program = "import socket; socket.create_connection(('127.0.0.1', 9))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "OSError: the network is refused here" in done.stderr
    assert told.read_text() == "('127.0.0.1', 9)\n"


def test_frames_of_a_dicom_run_get_masks_and_tables(cmunet, environment):
    assert cmunet("--version") == "cmunet_monai 0.1.0\n"
    shape = ("--cine", "--patients", "1", "--runs-per-patient", "1", "--frames", "12", "--size", "96")
    cmunet("synthesize", *shape, "-o", "export")
    assert "1 frames: " in cmunet("predict", "-i", "export/dicom", "-o", "out")
    out = cmunet.folder / "out"
    (mask,) = (out / "masks").iterdir()
    (record,) = json.loads((out / "statistics.json").read_text())["records"]
    assert mask.name == f"{record['id']}.nii.gz"
    with (out / "segments.csv").open(newline="") as file:
        assert {row["id"] for row in csv.DictReader(file)} == {record["id"]}
    assert len(list((out / "overlays").iterdir())) == 1
    stated = json.loads((ROOT / "bundles" / BUNDLES[1] / "models" / "model.json").read_text())["sha256"]
    assert json.loads((out / "statistics.json").read_text())["settings"]["weights_sha256"] == [stated]
    said = cmunet("doctor")
    assert f"cmunet_monai 0.1.0 in {site_packages(environment) / 'cmunet_monai'}\n" in said
    assert f"ok       bundle: {site_packages(environment) / 'cmunet_monai' / 'bundles' / BUNDLES[1]}\n" in said


def test_the_bundles_are_copied_out_to_train_with(cmunet):
    cmunet("bundles", "mine")
    for name in BUNDLES:
        originals = {path for pattern in FILES for path in (ROOT / "bundles" / name).glob(pattern)}
        copies = {path for path in (cmunet.folder / "mine" / name).rglob("*") if path.is_file()}
        assert {path.relative_to(cmunet.folder / "mine") for path in copies} == {
            path.relative_to(ROOT / "bundles") for path in originals
        }
        for path in copies:
            assert path.read_bytes() == (ROOT / "bundles" / path.relative_to(cmunet.folder / "mine")).read_bytes()


def test_packages_made_and_judged_here_are_those_of_a_clone(environment):
    """Both hold the code of a package's wheel to that which runs."""
    program = "from cmunet_monai.handover.release import installed_files; print(sorted(installed_files().items()))"
    command = [python(environment), "-P", "-c", program]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == f"{sorted(installed_files().items())}\n"


def test_what_setup_cfg_requires_is_enough_to_predict_and_less_of_it_too(cmunet):
    requires = [requirement for requirement in _required() if requirement.name not in NOT_TO_PREDICT]
    allowed = _with_what_they_require(requires) | {"cmunet-monai"}
    blocked = {
        module
        for module, names in packages_distributions().items()
        if module not in ("cmunet_monai", "data_prep") and not {_normal(name) for name in names} & allowed
    }
    assert {"matplotlib", "tensorboard", "openvino", "onnxruntime", "imagecodecs", "cryptography"} <= blocked
    Image.fromarray(synthesize_frame(0, 0, 0, size=128).image).save(cmunet.folder / "frame.png")
    cmunet("predict", "-i", "frame.png", "-o", "out", without=MINIMAL.format(blocked=blocked, allowed=allowed))
    assert (cmunet.folder / "out" / "masks" / "frame.png").is_file()
    assert (cmunet.folder / "out" / "segments.csv").is_file()
    said = cmunet("doctor")
    assert "absent   matplotlib is not installed" in said
    assert "ok       runtime: torch (the fastest installed; not installed: openvino, onnx)" in said
    assert "pip install 'cmunet_monai[runtimes]'" in said
    assert "by imagecodecs, which is not installed: pip install 'cmunet_monai[dicom]'" in said


def _required():
    from configparser import ConfigParser

    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return [Requirement(line) for line in setup["options"]["install_requires"].splitlines() if line]


def _with_what_they_require(requirements):
    """Names of distributions: these, and what they require in turn."""
    installed = {_normal(item.metadata["Name"]): item for item in distributions()}
    found, waiting = set(), list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = _normal(requirement.name)
        if (name, *sorted(requirement.extras)) in found or name not in installed:
            continue
        found.add((name, *sorted(requirement.extras)))
        for text in installed[name].requires or ():
            further = Requirement(text)
            extras = ("", *requirement.extras)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    return {name for name, *_ in found}


def _normal(name):
    return name.lower().replace("_", "-")

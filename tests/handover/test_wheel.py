import base64
import configparser
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from cmunet_monai.handover.release import this_release
from cmunet_monai.handover.wheel import build_wheel, requirements_text, wheel_name

ROOT = Path(__file__).parents[2]
VERSION = this_release().version
INFORMATION = f"cmunet_monai-{VERSION}.dist-info"
WHEEL = f"wheels/cmunet_monai-{VERSION}-py3-none-any.whl"


def test_record_lists_every_file_with_its_digest(good):
    """As the wheel format has it: URL-safe base64 of the SHA-256, without padding."""
    with zipfile.ZipFile(io.BytesIO(good.files[WHEEL])) as wheel:
        record = wheel.read(f"{INFORMATION}/RECORD").decode()
        rows = {name: (digest, size) for name, digest, size in csv.reader(record.splitlines())}
        assert rows.keys() == set(wheel.namelist())
        for name, (digest, size) in rows.items():
            if digest:
                content = wheel.read(name)
                raw = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=")
                assert (raw, int(size)) == (hashlib.sha256(content).digest(), len(content))


def test_wheel_holds_the_package_and_not_data_prep(good):
    with zipfile.ZipFile(io.BytesIO(good.files[WHEEL])) as wheel:
        names = wheel.namelist()
    assert "cmunet_monai/networks/unet.py" in names
    assert "cmunet_monai/handover/release.json" in names
    assert {name.split("/")[0] for name in names} == {"cmunet_monai", INFORMATION}


def test_pip_installs_the_wheel_and_python_imports_it(good, tmp_path):
    wheel = tmp_path / WHEEL.split("/")[1]
    wheel.write_bytes(good.files[WHEEL])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True, capture_output=True)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from cmunet_monai.handover.release import this_release, installed_files\n"
        "print(this_release().version, len(installed_files()), importlib.metadata.version('cmunet_monai'))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", "import importlib.metadata\n" + program], capture_output=True)
    with zipfile.ZipFile(io.BytesIO(good.files[WHEEL])) as archive:
        code = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert done.stdout.decode().split() == [VERSION, str(len(code)), VERSION], done.stderr


def test_wheel_brings_the_command_of_the_package(good):
    setup, brought = configparser.ConfigParser(), configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    with zipfile.ZipFile(io.BytesIO(good.files[WHEEL])) as wheel:
        brought.read_string(wheel.read(f"{INFORMATION}/entry_points.txt").decode())
    assert brought.sections() == ["console_scripts"]
    line = setup["options.entry_points"]["console_scripts"].strip()
    assert [f"{name} = {value}" for name, value in brought["console_scripts"].items()] == [line]


def test_wheel_is_the_same_bytes_again(good):
    assert build_wheel(this_release()) == good.files[WHEEL]


def test_requirements_are_exact_versions_of_what_the_wheel_asks_for():
    release = this_release()
    lines = [line for line in requirements_text(release).decode().splitlines() if not line.startswith("#")]
    assert lines[0] == f"./wheels/{wheel_name(release)}"
    pinned = {requirement.name: requirement for requirement in map(Requirement, lines[1:])}
    for text in release.requires:
        wanted = Requirement(text)
        if wanted.marker is None:
            version = str(pinned[wanted.name].specifier).removeprefix("==")
            assert wanted.specifier.contains(version), text

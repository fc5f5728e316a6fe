"""Rules of the repository that no other test would notice broken."""

import ast
import configparser
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TOP_LEVEL_FOLDERS = {".ci", "bundles", "cmunet_monai", "data_prep", "docs", "tests"}
# Folders at the root of a disk whose paths are somebody's own
PERSONAL = ("home", "root", "Users", "work", "mnt", "media", "srv", "scratch")
PERSONAL_PATH = re.compile(r"(?<![\w.@}/~-])/(?:" + "|".join(PERSONAL) + r")/\w")


def _files() -> list[Path]:
    """Files that belong to the repository: tracked, or new and not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git work tree")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def _setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


def _requirements(extra: str | None = None) -> list[Requirement]:
    setup = _setup()
    text = setup["options.extras_require"][extra] if extra else setup["options"]["install_requires"]
    return [Requirement(line) for line in text.splitlines() if line]


def _pins(file: str = "constraints.txt") -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {_normal(item.name): str(item.specifier) for item in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_of_the_package_is_that_of_the_newest_changelog_entry():
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == _setup()["metadata"]["version"]


def test_top_level_folders_are_those_of_the_layout():
    assert {path.relative_to(ROOT).parts[0] for path in _files() if path.parent != ROOT} <= TOP_LEVEL_FOLDERS


def test_no_file_names_a_folder_of_somebodys_machine():
    found = []
    for path in _files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if PERSONAL_PATH.search(line)
        ]
    assert found == []


@pytest.mark.parametrize("name", PERSONAL)
def test_personal_path_rule_knows_paths_from_other_text(name):
    for text in (f"open('/{name}/ann/x')", f"DATA=/{name}/frames", f"cd /{name}/ann"):
        assert PERSONAL_PATH.search(text), text
    for text in (f"https://site.org/{name}/page", f"../{name}/x", f"/{name}space/x", f"train/{name}/x", "/usr/bin/env"):
        assert not PERSONAL_PATH.search(text), text


def test_no_tracked_file_is_larger_than_one_megabyte_or_weights_than_ten():
    limits = {path: (10 if path.suffix == ".safetensors" else 1) * 2**20 for path in _files()}
    assert [str(path.relative_to(ROOT)) for path, limit in limits.items() if path.stat().st_size > limit] == []


def test_tests_are_no_package_and_each_is_collected():
    """A test file with another name, or outside `tests`, would be passed over in silence."""
    for path in _files():
        if path.suffix == ".py" and path.is_relative_to(ROOT / "tests"):
            assert re.match(r"test_|bench_|fuzz_|conftest\.py$", path.name), path
        else:
            assert not path.name.startswith("test_"), path


def test_every_import_is_of_a_declared_package():
    """What is imported but not in setup.cfg works only as long as something else happens to bring it."""
    declared = {_normal(item.name) for item in _requirements()}
    extras = ("dask", "dicom", "handover", "label", "mlflow", "runtimes")
    optional = {_normal(item.name) for extra in extras for item in _requirements(extra)}
    provided = {"nrrd": ["pynrrd"]} | packages_distributions()  # nrrd is installed for the label server alone
    undeclared = set()
    for path in _files():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] not in ("cmunet_monai", "data_prep"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top in sys.stdlib_module_names or top in ("cmunet_monai", "data_prep"):
                    continue
                distributions = {_normal(name) for name in provided.get(top, [top])}
                if not distributions & (declared | optional):
                    undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    assert undeclared == set()


def test_every_requirement_has_a_tested_version_within_its_bounds():
    pins = _pins()
    assert all(re.fullmatch(r"==[\w.]+", pin) for pin in pins.values()), "one exact version each, no local builds"
    names = ("dask", "dev", "dicom", "handover", "runtimes")
    extras = [item for extra in names for item in _requirements(extra)]
    for requirement in [*_requirements(), *extras]:
        if _normal(requirement.name) == "cmunet-monai":
            continue
        pin = pins[_normal(requirement.name)]
        assert requirement.specifier.contains(pin.removeprefix("==")), requirement


def test_environment_of_the_label_server_is_whole_and_has_no_cuda():
    """It is installed without dependencies, so that each must stand in its file."""
    pins = _pins("constraints-monailabel.txt")
    assert all(re.fullmatch(r"==[\w.]+", pin) for pin in pins.values()), "one exact version each, no local builds"
    for requirement in [*_requirements(), *_requirements("label")]:
        assert requirement.specifier.contains(pins[_normal(requirement.name)].removeprefix("==")), requirement
    assert pins["torch"] == _pins()["torch"]
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton", "sam2", "torchvision"))]


def test_package_does_not_import_data_prep():
    for path in (ROOT / "cmunet_monai").rglob("*.py"):
        assert not re.search(r"^\s*(?:from|import) data_prep\b", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_every_bundle_ships_the_licence_of_the_repository():
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    bundles = [path.parent.parent for path in (ROOT / "bundles").glob("*/configs/metadata.json")]
    assert bundles
    for bundle in bundles:
        assert (bundle / "LICENSE").read_text(encoding="utf-8") == licence, bundle.name


def test_version_of_every_bundle_is_in_its_own_changelog():
    for path in (ROOT / "bundles").glob("*/configs/metadata.json"):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        assert metadata["version"] in metadata["changelog"], path


def test_make_help_names_every_command_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True
    )
    named = set(re.findall(r"make ([\w-]+)", shown.stdout))
    assert named == set(phony[1].split()) - {"FORCE"}


def test_ci_calls_make_test_and_passes_its_failure_on(tmp_path):
    """`.ci/run` in a copy with a `make` that records its call and fails."""
    copy = tmp_path / "clone" / ".ci" / "run"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((ROOT / ".ci" / "run").read_bytes())
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\necho "$PWD: make $* ${CMUNET_REAL_DATA:-none}"\nexit 3\n')
    make.chmod(0o755)
    environment = {"PATH": f"{make.parent}:/usr/bin:/bin"}

    def run() -> tuple[int, str]:
        done = subprocess.run(["bash", str(copy)], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout.strip()

    clone = tmp_path.resolve() / "clone"
    assert run() == (3, f"{clone}: make test none")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert run() == (3, f"{clone}: make test {tmp_path.resolve()}/shared/data")


def _code() -> dict[str, str]:
    """Path -> text of the modules of the packages."""
    paths = [path for name in ("cmunet_monai", "data_prep") for path in (ROOT / name).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}


def test_no_import_runs_up_a_storey():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]
    done = subprocess.run([*command, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_ground_runs_without_torch_and_monai():
    """import-linter sees imports in the text; this sees what is imported, by the packages around a module too."""
    ground = [name for name in _code() if name.split("/")[1] in ("files", "measurements", "xa", "pseudonyms.py")]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in ground]
    assert len(modules) > 20
    program = f"import importlib, sys; [importlib.import_module(name) for name in {modules}]"
    program += "; print(sorted({'torch', 'monai', 'ignite'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_no_function_is_longer_than_80_lines():
    lengths = {
        f"{name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in _code().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 80} == {}


# What is so small that it would be looked for elsewhere, if it had no file of its own
SMALL_FILES = {
    "cmunet_monai/check/names.py": "used by check and study, imports no config",
    "cmunet_monai/engines/handlers/non_finite.py": "a handler a file",
    "cmunet_monai/files/frame_size.py": "of PNG and NIfTI, which know nothing of each other",
    "cmunet_monai/handover/refused.py": "raised everywhere in the hand-over, imports nothing",
    "cmunet_monai/label/refusal.py": "raised everywhere in the label server, imports nothing",
    "cmunet_monai/networks/heads.py": "named by the architecture",
    "cmunet_monai/on_demand.py": "used by three packages, imports nothing",
    "cmunet_monai/options.py": "used by every verb, imports nothing",
    "cmunet_monai/pages.py": "fills the templates of three annexes",
    "cmunet_monai/transforms/frame_array.py": "asked by every transform",
}


def test_a_file_of_fewer_than_30_lines_has_its_reason():
    small = {name for name, text in _code().items() if text.count("\n") < 30 and not name.endswith("__init__.py")}
    assert small <= set(SMALL_FILES)

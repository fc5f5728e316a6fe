"""What this release hands over: its configs, what its wheel asks for. From `release.json`, never from a zip."""

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmunet_monai

FILE = Path(__file__).with_name("release.json")
REGENERATE = "python -m cmunet_monai.handover.write_release bundles/coronary_xa_segmentation"
_SUFFIXES = (".py", ".jinja", ".json")
UNCHANGED = ("LICENSE", "configs/logging.conf")


@dataclass(frozen=True)
class BundleFiles:
    """The files of one bundle that a program reads."""

    metadata: dict[str, Any]
    configs: dict[str, dict[str, Any]]  # name -> content of every config but the metadata
    digests: dict[str, str]  # path -> SHA-256 of what a package holds unchanged: UNCHANGED

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "BundleFiles":
        """Those of a bundle's folder; FileNotFoundError where one is missing."""
        paths = sorted((Path(folder) / "configs").glob("*.json"))
        configs = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
        digests = {name: hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() for name in UNCHANGED}
        return cls(configs.pop("metadata.json"), configs, digests)


@dataclass(frozen=True)
class Release:
    """This release of `cmunet_monai`."""

    version: str
    requires_python: str
    requires: tuple[str, ...]  # requirements; those of extras with their marker
    extras: tuple[str, ...]
    tested: dict[str, str]  # package -> the one version that the tests run with
    bundles: dict[str, BundleFiles]


@functools.cache
def this_release() -> Release:
    """The release that runs; FileNotFoundError where the package was installed without its data file."""
    if not FILE.is_file():
        raise FileNotFoundError(f"{FILE.name} is missing beside {__name__}; in a checkout, run: {REGENERATE}")
    content = json.loads(FILE.read_text(encoding="utf-8"))
    content["bundles"] = {name: BundleFiles(**files) for name, files in content["bundles"].items()}
    return Release(**content)


def installed_files() -> dict[str, bytes]:
    """The code of the `cmunet_monai` that runs, by its path in a wheel (`cmunet_monai/bundle.py`), and its data files.

    The bundles, which lie inside where it was installed by pip, are no part of it: a package has its own.

    Raises:
        RuntimeError: where it does not run from a folder; a wheel from a package must not judge that package.
    """
    root = Path(cmunet_monai.__file__ or "").parent
    if not (root / "__init__.py").is_file():
        raise RuntimeError(f"cmunet_monai runs from {root}, which is no folder: install it, obtained separately")
    files = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root.parent)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        bundled = relative.is_relative_to("cmunet_monai/bundles")
        if path.suffix in _SUFFIXES and not hidden and not bundled and path.is_file():
            files[relative.as_posix()] = path.read_bytes()
    return files

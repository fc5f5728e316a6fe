"""What this release hands over: its configs, what its wheel asks for. From `release.json`, never from a zip."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmunet_monai

FILE = Path(__file__).with_name("release.json")
REGENERATE = "python -m cmunet_monai.handover.write_release bundles/coronary_xa_segmentation"
_SUFFIXES = (".py", ".jinja", ".json")


@dataclass(frozen=True)
class BundleFiles:
    """The files of one bundle that a program reads.

    Attributes:
        configs: name -> parsed content of every config but the metadata.
        metadata: content of metadata.json.
        digests: path in the bundle -> SHA-256 of what a package holds unchanged (licence, configuration of the log).
    """

    configs: dict[str, dict[str, Any]]
    metadata: dict[str, Any]
    digests: dict[str, str]


@dataclass(frozen=True)
class Release:
    """This release of `cmunet_monai`.

    Attributes:
        version: of the package.
        requires_python: as `setup.cfg` says.
        requires: what it needs, as requirements; for extras with their marker.
        extras: names of the extras.
        tested: package -> the one version that the tests run with.
        bundles: name -> its files.
    """

    version: str
    requires_python: str
    requires: tuple[str, ...]
    extras: tuple[str, ...]
    tested: dict[str, str]
    bundles: dict[str, BundleFiles]


@functools.cache
def this_release() -> Release:
    """The release that runs.

    Raises:
        FileNotFoundError: where the package was installed without its data file.
    """
    if not FILE.is_file():
        raise FileNotFoundError(f"{FILE.name} is missing beside {__name__}; in a checkout, run: {REGENERATE}")
    content = json.loads(FILE.read_text(encoding="utf-8"))
    bundles = {name: BundleFiles(**files) for name, files in content.pop("bundles").items()}
    requires, extras = tuple(content.pop("requires")), tuple(content.pop("extras"))
    return Release(**content, requires=requires, extras=extras, bundles=bundles)


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

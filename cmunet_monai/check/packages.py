"""The packages that a bundle's metadata ask for, compared as versions, which MONAI does not do."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version


def check_packages(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Name packages of `required_packages_version` that are missing or too old.

    A bare version is the oldest that will do; `>=2,<3` is read as such. `monai_version`, `pytorch_version` and
    `numpy_version` say what the bundle was made with, and are no demand.
    """
    required = metadata.get("required_packages_version", {})
    if not isinstance(required, Mapping):
        yield f"metadata: `required_packages_version` must be a dictionary, got a {type(required).__name__}"
        return
    for name, wanted in required.items():
        try:
            specifiers = SpecifierSet(_as_specifier(str(wanted)), prereleases=True)
        except (InvalidSpecifier, InvalidVersion):
            yield f"metadata: package `{name}` asks for {wanted!r}, which is no version"
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield f"package `{name}` is not installed (version {wanted} is needed)"
            continue
        if not specifiers.contains(installed):
            yield f"package `{name}` is {installed}, but {wanted} is needed"


def _as_specifier(wanted: str) -> str:
    return wanted if wanted.strip()[:1] in "<>=!~" else f">={Version(wanted)}"

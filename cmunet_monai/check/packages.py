"""The packages that a bundle's metadata ask for, compared as versions, which MONAI does not do."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet


def check_packages(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Name packages of `required_packages_version` that are missing or too old.

    A bare version is the oldest that will do; `>=2,<3` is read as such. `monai_version`, `pytorch_version` and
    `numpy_version` say what the bundle was made with, and are no demand.
    """
    for name, wanted in dict(metadata.get("required_packages_version", {})).items():
        try:
            specifier = SpecifierSet(wanted if str(wanted)[:1] in "<>=!~" else f">={wanted}", prereleases=True)
            if not specifier.contains(installed := version(name)):
                yield f"package `{name}` is {installed}, but {wanted} is needed"
        except InvalidSpecifier:
            yield f"metadata: package `{name}` asks for {wanted!r}, which is no version"
        except PackageNotFoundError:
            yield f"package `{name}` is not installed (version {wanted} is needed)"

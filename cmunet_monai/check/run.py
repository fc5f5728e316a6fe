"""What a check does, from the arguments to the report."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from cmunet_monai.check.arguments import RunArguments
from cmunet_monai.check.components import check_calls
from cmunet_monai.check.config import RunConfig
from cmunet_monai.check.files import check_files


@dataclass(frozen=True)
class Report:
    """What a check found: one sentence for each mistake, naming the wrong word or file."""

    problems: tuple[str, ...]  # empty where the run can start
    components: int = 0  # how many were looked up
    rows: dict[str, int] = field(default_factory=dict)  # of each list that the run reads
    remarks: tuple[str, ...] = ()  # what a person should look at before the run


def check_run(arguments: RunArguments) -> Report:
    """Find every mistake in a bundle run that can be seen without running it.

    Reads config files, metadata, the data list, its labels and folder entries, and imports the modules that the config
    names. Nothing is instantiated, and of the `$` expressions only those that join paths and the like are evaluated.
    """
    config = RunConfig(arguments)
    if not config.complete:
        return Report(tuple(config.problems))
    config.check_effects()
    config.check_references()
    folder = Path(arguments.config_files[0]).parent
    sys.path.insert(1, str(folder.parent if folder.name == "configs" else folder))  # as `monai.bundle run` does
    try:
        calls = check_calls(config)
    finally:
        del sys.path[1]
    config.problems += check_packages(config.parser[ConfigParser.meta_key])
    rows, remarks = check_files(config, calls)
    components = sum(ConfigComponent.is_instantiable(value) for _, value in config.items())
    return Report(tuple(dict.fromkeys(config.problems)), components, rows, tuple(dict.fromkeys(remarks)))


def check_packages(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Name packages of `required_packages_version` that are missing or too old, which MONAI compares as texts.

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

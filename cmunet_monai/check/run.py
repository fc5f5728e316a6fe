"""The whole check of one bundle run, in the order in which MONAI would come upon the mistakes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent

from cmunet_monai.check.arguments import RunArguments
from cmunet_monai.check.components import check_components
from cmunet_monai.check.config import MergedConfig
from cmunet_monai.check.files import check_files
from cmunet_monai.check.packages import check_packages


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        problems: one sentence each, naming the wrong word or file; empty where the run can start.
        components: how many components were looked up.
        rows: number of rows of each list that the run reads.
        remarks: one sentence each, what a person should look at before the run.
    """

    problems: tuple[str, ...]
    components: int = 0
    rows: dict[str, int] | None = None
    remarks: tuple[str, ...] = ()


def check_run(arguments: RunArguments) -> Report:
    """Find every mistake in a bundle run that can be seen without running it.

    Reads config files, metadata, the data list, its labels and folder entries, and imports the modules that the config
    names. Nothing is instantiated, and of the `$` expressions only those that join paths and the like are evaluated.
    """
    config = MergedConfig(arguments)
    config.problems[:0] = arguments.problems
    if not config.complete:
        return Report(tuple(config.problems))
    config.check_entry_point()
    config.check_effects()
    config.check_references()
    with _importable(_bundle_folder(arguments)):
        calls = check_components(config)
    config.problems += check_packages(config.parser.get(ConfigParser.meta_key) or {})
    remarks: list[str] = []
    rows = check_files(config, calls, remarks)
    components = sum(ConfigComponent.is_instantiable(value) for _, value in config.items())
    return Report(tuple(dict.fromkeys(config.problems)), components, rows, tuple(dict.fromkeys(remarks)))


def _bundle_folder(arguments: RunArguments) -> Path:
    """The folder that `monai.bundle run` lets Python import from."""
    folder = Path(arguments.config_files[0]).parent
    return folder.parent if folder.name == "configs" else folder


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(1, os.fspath(folder))
    try:
        yield
    finally:
        sys.path[:] = before

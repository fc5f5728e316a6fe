"""The verb: `python -m cmunet_monai check`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai.bundle import ConfigComponent, ConfigParser

from cmunet_monai.check.arguments import RunArguments, parse_arguments
from cmunet_monai.check.components import check_calls
from cmunet_monai.check.config import RunConfig
from cmunet_monai.check.files import check_files
from cmunet_monai.check.packages import check_packages

USAGE = """\
usage: python -m cmunet_monai check --bundle_root B --config_file "['TRAIN.json','OVERLAY.json']" [--ID VALUE ...]

Takes the arguments of `python -m monai.bundle run`, and names every mistake that can be seen before the run:
unknown override and overlay ids (MONAI ignores them in silence) with the nearest right one, files that are not
valid JSON, references to nothing, targets that cannot be imported, arguments that they do not take, missing
packages and files, lists that are empty, overlap or lack labels, labels that cannot be read or mean two things.
Labels with far more or less vessel than the others are noted. Nothing is trained and nothing is written.

It imports the modules that the config names, as a run does: check and run only bundles that you trust.

exit code: 0 where the run can start, 2 where it should not (each mistake on a line of its own)
"""


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


def main(argv: Sequence[str]) -> int:
    """Check one run; print what is wrong to standard error, or one line of summary."""
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    arguments = parse_arguments(argv)
    report = check_run(arguments)
    files = " + ".join(Path(name).name for name in arguments.config_files)
    for kind, texts in (("error", report.problems), ("note", report.remarks)):
        print("".join(f"{kind}: {text}\n" for text in texts), end="", file=sys.stderr)
    if report.problems:
        print(f"{files}: {len(report.problems)} problem(s), not ready to run", file=sys.stderr)
        return 2
    rows = ", rows: " * bool(report.rows) + ", ".join(f"{name} {count}" for name, count in report.rows.items())
    print(f"{files}: ready to run ({report.components} components, {len(arguments.overrides)} override(s){rows})")
    return 0

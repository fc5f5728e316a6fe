"""`cmunet check`, with the arguments of MONAI's own command."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cmunet_monai.verbs import description, program

USAGE = """\
usage: {prog} --bundle_root B --config_file "['TRAIN.json','OVERLAY.json']" [--ID VALUE ...]

{description}

Takes the arguments of `python -m monai.bundle run`, and names every mistake that can be seen before the run:
unknown override and overlay ids (MONAI ignores them in silence) with the nearest right one, files that are not
valid JSON, references to nothing, targets that cannot be imported, arguments that they do not take, missing
packages and files, lists that are empty, overlap or lack labels, labels that cannot be read or mean two things.
Labels with far more or less vessel than the others are noted. Nothing is trained and nothing is written.

It imports the modules that the config names, as a run does: check and run only bundles that you trust.

exit code: 0 where the run can start, 2 where it should not (each mistake on a line of its own)
"""


def main(argv: Sequence[str]) -> int:
    """Check one run; print what is wrong to standard error, or one line of summary."""
    if not argv or {"-h", "--help"} & set(argv):
        print(
            USAGE.format(prog=f"{program()} check", description=description("check")),
            end="",
            file=sys.stdout if argv else sys.stderr,
        )
        return 0 if argv else 2
    from cmunet_monai.check import check_run, parse_arguments  # imports MONAI: seconds

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

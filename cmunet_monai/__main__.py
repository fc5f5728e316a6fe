"""`cmunet VERB`, or `python -m cmunet_monai VERB`: every verb; each is imported only when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

from cmunet_monai.quiet import quiet
from cmunet_monai.verbs import DATA_PREP_VERBS, VERBS, program, unknown_verb, usage


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        Its exit code: 0 for success, 2 for a mistake of the user's, named on standard error; `--help` lists the others.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb not in (*VERBS, "--version"):
        print(f"error: {unknown_verb(verb)}", file=sys.stderr)
        return 2
    if verb == "predict":  # torch is not imported yet: its threads shall leave the cores to reading and writing
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    quiet()
    try:
        if verb == "--version":
            print(f"cmunet_monai {_version()}")
            return 0
        if verb in DATA_PREP_VERBS:
            return int(importlib.import_module("data_prep.__main__").main(arguments, program=program()))
        return int(importlib.import_module(VERBS[verb].module).main(rest))
    except ModuleNotFoundError as error:
        print(f"error: {verb} needs {_missing(error)}", file=sys.stderr)
        return 2
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


def _version() -> str:
    from importlib.metadata import version

    return version("cmunet_monai")


def _missing(error: ModuleNotFoundError) -> str:
    """What is not installed.

    Raises:
        ModuleNotFoundError: where it is a part of this package, which is a defect.
    """
    if error.name == "cmunet_monai":  # its metadata
        return "this package to be installed, not only its folder: pip install FOLDER"
    if error.name == "data_prep":
        return "data_prep, which this installation lacks: a release's wheel and a clone have it"
    if str(error.name).partition(".")[0] in ("cmunet_monai", "data_prep"):
        raise error
    return f"{error.name}, which is not installed: `{program()} doctor` says how to get it"


if __name__ == "__main__":
    sys.exit(main())

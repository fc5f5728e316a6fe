"""`python -m data_prep VERB`: prepares frames and datalists for the bundles. `cmunet VERB` runs the same verbs.

A verb is one module with `add_arguments(parser)` and `run(args)`; it is imported only when it is asked for.
"""

import importlib
import sys
from collections.abc import Sequence

from cmunet_monai.options import options_named
from cmunet_monai.verbs import DATA_PREP_VERBS, Parser, description


def main(argv: Sequence[str] | None = None, *, program: str = "python -m data_prep") -> int:
    """Run one verb.

    Args:
        argv: the verb and its arguments.
        program: how it was called.
    Returns:
        0 on success, 2 where the input cannot be used: the reason stands on stderr as `error: ...`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog=program, description="Prepare frames and datalists.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in DATA_PREP_VERBS.items():
        verb_parser = verbs.add_parser(name, help=verb.summary, description=description(name))
        if arguments[:1] == [name]:
            try:
                module = importlib.import_module(verb.module)
            except ModuleNotFoundError as error:
                if str(error.name).partition(".")[0] in ("cmunet_monai", "data_prep"):
                    raise
                print(f"error: {name} needs {error.name}: pip install 'cmunet_monai[dicom]'", file=sys.stderr)
                return 2
            chosen = verb_parser
            chosen.epilog = (module.__doc__ or "").partition("\n\n")[2]
            module.add_arguments(verb_parser)
    args = parser.parse_args(arguments)
    try:
        with options_named(chosen, vars(args)):
            module.run(args)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

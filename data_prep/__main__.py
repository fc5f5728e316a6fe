"""`python -m data_prep VERB`: prepares frames and datalists for the bundles.

A verb is one module with `add_arguments(parser)` and `run(args)`; it is imported only when it is asked for.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from cmunet_monai.options import options_named

VERBS: dict[str, tuple[str, str]] = {
    "arcade": ("data_prep.arcade", "the published ARCADE folder -> frames, masks and datalist.json"),
    "split": (
        "data_prep.split",
        "datalist.json -> few labels to fine-tune on, folds inside them, the rest to pre-train",
    ),
    "synthesize": (
        "data_prep.synthesize",
        "synthetic coronary angiograms, single frames or XA runs, with exact masks",
    ),
    "trees": ("data_prep.trees", "projected synthetic coronary trees, to paint into unlabelled angiograms"),
    "deidentify": (
        "data_prep.deidentify",
        "an export of XA DICOM -> de-identified copies by pseudonym, and a list of what a person must look at",
    ),
    "dicom": ("data_prep.dicom", "an export of XA DICOM -> frames, datalist.json and a report, by pseudonym"),
}
"""Verb -> (module, what it does in one line)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 on success, 2 where the input cannot be used: the reason stands on stderr as `error: ...`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m data_prep", description="Prepare frames and datalists.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module_name, summary) in VERBS.items():
        verb_parser = verbs.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if arguments[:1] == [name]:
            try:
                module = importlib.import_module(module_name)
            except ModuleNotFoundError as error:
                if str(error.name).partition(".")[0] in ("cmunet_monai", "data_prep"):
                    raise
                print(f"error: {name} needs {error.name}: pip install 'cmunet_monai[dicom]'", file=sys.stderr)
                return 2
            chosen = verb_parser
            chosen.description = module.__doc__
            module.add_arguments(verb_parser)
    args = parser.parse_args(arguments)
    try:
        with options_named(chosen, vars(args)):
            module.run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

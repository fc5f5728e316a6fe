"""`python -m cmunet_monai VERB`: the verbs of this package; each is imported only when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

from cmunet_monai.quiet import quiet

# verb -> (module whose `main(argv)` returns the exit code, what it does)
VERBS = {
    "predict": ("cmunet_monai.prediction.command", "find and measure the arteries in XA DICOM, NIfTI and PNG frames"),
    "check": ("cmunet_monai.check.command", "name every mistake in a bundle run before it starts"),
    "convert": ("cmunet_monai.networks.command", "turn a published checkpoint into weights of this package"),
    "package": ("cmunet_monai.handover.package_command", "make one zip of a bundle and its weights for a partner"),
    "verify": ("cmunet_monai.handover.verify_command", "judge such a zip before anything in it is run"),
    "study": ("cmunet_monai.study.command", "pre-train methods, fine-tune them on several draws of labelled images"),
    "label": ("cmunet_monai.label.command", "serve angiograms to annotators by MONAI Label, and learn from them"),
    "report": ("cmunet_monai.report.command", "one page of a study: tables, paired tests, figures, sources"),
}
# Named here so that they can be found; `python -m data_prep VERB --help` describes them.
DATA_PREP_VERBS = {
    "arcade": "read the published ARCADE layout into frames, masks and a data list",
    "split": "write the data lists of the study protocol from one data list",
    "synthesize": "make synthetic angiograms, single frames or XA runs, with exact masks",
    "deidentify": "make de-identified copies of XA DICOM, by pseudonym",
    "dicom": "turn an export of XA DICOM into frames, a data list and a report, by pseudonym",
}


def usage() -> str:
    """The text of `--help`."""
    lines = ["usage: python -m cmunet_monai VERB [--help | arguments]", ""]
    lines += [f"  {verb:<12}{text}" for verb, (_, text) in VERBS.items()]
    lines += ["", "Data come from a package of their own: python -m data_prep VERB", ""]
    lines += [f"  {verb:<12}{text}" for verb, text in DATA_PREP_VERBS.items()]
    lines += ["", "Training, evaluation and inference run by MONAI: python -m monai.bundle run (see README.md)"]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        Its exit code: 0 for success, 2 for a mistake of the user's, named on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"error: there is no verb `{verb}`; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    if verb == "predict":  # torch is not imported yet: its threads shall leave the cores to reading and writing
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    quiet()
    try:
        return int(importlib.import_module(VERBS[verb][0]).main(rest))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

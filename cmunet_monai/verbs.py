"""The verbs: which there are, what each does, and what all of them share on the command line.

`cmunet VERB` and `python -m cmunet_monai VERB` run every verb, `python -m data_prep VERB` those that prepare frames.
"""

import argparse
import difflib
import sys
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NoReturn


@dataclass(frozen=True)
class Verb:
    """What a verb does, and where.

    Attributes:
        module: imported only when the verb is called. In `cmunet_monai` its `main(argv)` returns the exit code; in
            `data_prep` it has `add_arguments(parser)` and `run(args)`.
        summary: in one line.
    """

    module: str
    summary: str


_GROUPS = {
    "find and measure arteries": {
        "predict": Verb(
            "cmunet_monai.prediction.command", "find and measure the arteries in XA DICOM, NIfTI and PNG frames"
        ),
    },
    "prepare frames": {
        "dicom": Verb(
            "data_prep.dicom", "turn an export of XA DICOM into frames, a data list and a report, by pseudonym"
        ),
        "deidentify": Verb("data_prep.deidentify", "make de-identified copies of XA DICOM, by pseudonym"),
        "arcade": Verb("data_prep.arcade", "read the published ARCADE layout into frames, masks and a data list"),
        "synthesize": Verb(
            "data_prep.synthesize", "make synthetic angiograms, single frames or XA runs, with exact masks"
        ),
        "trees": Verb("data_prep.trees", "make synthetic coronary trees for pre-training with painted arteries"),
        "split": Verb(
            "data_prep.split", "divide a data list into lists for pre-training, cross-validation and the final fit"
        ),
    },
    "train and compare": {
        "bundles": Verb(
            "cmunet_monai.shipped", "print where the bundles are installed, or copy them to a folder for training"
        ),
        "check": Verb("cmunet_monai.check.command", "report mistakes in a bundle run before it starts"),
        "convert": Verb("cmunet_monai.networks.command", "turn a published checkpoint into weights of this package"),
        "study": Verb(
            "cmunet_monai.study.command", "pre-train methods, fine-tune them on several draws of labelled images"
        ),
        "report": Verb(
            "cmunet_monai.report.command",
            "write an HTML page with the results of a study: tables, paired tests, figures, sources",
        ),
    },
    "annotate": {
        "label": Verb(
            "cmunet_monai.label.command",
            "serve angiograms to annotators with MONAI Label, and fine-tune on their labels",
        ),
    },
    "hand a model over": {
        "package": Verb(
            "cmunet_monai.handover.package_command", "make one zip of a bundle and its weights for a partner"
        ),
        "verify": Verb(
            "cmunet_monai.handover.verify_command", "check a zip made by `package` before anything in it is run"
        ),
    },
    "look after the installation": {
        "doctor": Verb("cmunet_monai.doctor", "show what is installed, what is missing, and how to install it"),
    },
}
VERBS = {name: verb for group in _GROUPS.values() for name, verb in group.items()}
DATA_PREP_VERBS = {name: verb for name, verb in VERBS.items() if verb.module.startswith("data_prep.")}

_USAGE = """\
usage: {program} VERB [--help | arguments]
       {program} --version
{groups}

To train and evaluate, use MONAI's own command, python -m monai.bundle run. `{program} bundles DIR` copies the bundles.

exit code:
  0    done
  1    negative result: `verify` rejects the package, or `doctor` finds that `predict` cannot run
  2    a mistake in the command, or nothing could be done: standard error says why, as `error: ...`
  3    partly done: `predict` skipped some files or frames, and lists them in passed_over.csv
  130  interrupted by Ctrl-C; run the same command again to resume"""


def program() -> str:
    """How this program was called."""
    return "cmunet" if PurePath(sys.argv[0]).stem == "cmunet" else "python -m cmunet_monai"


def usage() -> str:
    """The text of `--help`: verbs, grouped by what they are for, and exit codes."""
    lines = []
    for title, verbs in _GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{verb.summary}" for name, verb in verbs.items())]
    return _USAGE.format(program=program(), groups="\n".join(lines))


def unknown_verb(word: str) -> str:
    """What is said of a verb that does not exist."""
    nearest = difflib.get_close_matches(word, VERBS, n=1)
    advice = f"did you mean `{nearest[0]}`?" if nearest else f"there are {', '.join(VERBS)}"
    return f"there is no verb `{word}`; {advice}"


class Parser(argparse.ArgumentParser):
    """A parser whose texts stand as they were written, and whose mistakes end as those of all verbs: `error: ...`."""

    def __init__(self, *, formatter_class: Any = argparse.RawDescriptionHelpFormatter, **settings: Any) -> None:
        super().__init__(formatter_class=formatter_class, **settings)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"error: {message}\n")


def verb_parser(verb: str, epilog: str = "", **settings: Any) -> Parser:
    """Parser of one verb, described as in the list of all.

    Args:
        verb: its name.
        epilog: what stands below the options; `%(prog)s` is the program with the verb.
        settings: further ones of `argparse.ArgumentParser`.
    """
    return Parser(prog=f"{program()} {verb}", description=description(verb), epilog=epilog, **settings)


def add_input(parser: argparse.ArgumentParser, former: str, **settings: Any) -> None:
    """Declare `-i/--input`, which verbs also take by its former name, such as `--source`."""
    parser.add_argument("-i", former, "--input", dest=former.removeprefix("--"), type=Path, **settings)


def description(verb: str) -> str:
    """The summary of a verb as a sentence."""
    summary = VERBS[verb].summary
    return f"{summary[0].upper()}{summary[1:]}."

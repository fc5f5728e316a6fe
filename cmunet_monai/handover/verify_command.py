"""`python -m cmunet_monai verify FILE.zip`."""
# ruff: noqa: T201 (what a person reads at the terminal is printed)

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cmunet_monai

if TYPE_CHECKING:
    from cmunet_monai.handover.verify import Verdict

EXPLANATION = """\
Run it with a cmunet_monai of the package's version that was obtained separately (by pip or from its repository), never
with the wheel in the zip, and best as `python -P -m cmunet_monai verify`: Python then takes nothing from the folder you
are in.

Nothing in the zip is run, imported, unpickled or unpacked before all of it was judged. A package is accepted where
  - it is a zip that can be read in one way only: no compression, symlink, comment, or name that leads elsewhere;
  - it holds the files of a package and no others, each as SHA256SUMS says;
  - every config, the metadata, the configuration of the log, requirements.txt and the model card are, byte for byte,
    what `package` of this release writes for the network of the weights;
  - the weights are tensors (safetensors) of that network, and nothing else;
  - the code in its wheel is that of the cmunet_monai that runs here, or the package is signed by the key you give;
    wheels of other packages are accepted under that signature alone;
  - with --key: it is signed by that key.
Not judged: whether the weights are good, what README.md and the tables in docs/ say, what the weights' sidecar and the
measured values say of themselves. Without a key, anyone may have made them: compare the SHA-256 with one that you got
by another way.

exit code: 0 accepted (and the test frame passed, where it was run), 1 refused, 2 for a mistake in the command
"""


def main(argv: Sequence[str]) -> int:
    """Judge one package."""
    with _without_current_folder():
        return _main(argv)


def _main(argv: Sequence[str]) -> int:
    import argparse  # here, and the others below, so that none is taken from the current folder

    from cmunet_monai.handover.extract import extract_package, run_test
    from cmunet_monai.handover.verify import verify_package
    from cmunet_monai.options import options_named

    parser = argparse.ArgumentParser(
        prog="python -m cmunet_monai verify",
        description="Judge a package of `python -m cmunet_monai package` before anything in it is run.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", metavar="FILE.zip", help="the package")
    parser.add_argument("--key", metavar="KEY.public.pem", help="public Ed25519 key: makes its signature mandatory")
    parser.add_argument("--extract", metavar="DIR", help="where it is accepted, unpack it to DIR/BUNDLE")
    parser.add_argument(
        "--run-test",
        action="store_true",
        help="where it is accepted, run its test frame with the cmunet_monai that is installed here, in a temporary "
        "folder, and compare the mask with the expected one",
    )
    arguments = parser.parse_args(argv)
    with options_named(parser, vars(arguments)):
        verdict = verify_package(arguments.package, key=arguments.key)
    if not verdict.accepted:
        for finding in verdict.findings:
            print(f"refused: {finding}", file=sys.stderr)
        print(f"{verdict.path}: refused; do not unpack or run it", file=sys.stderr)
        return 1
    _print_verdict(verdict)
    if arguments.run_test:
        try:
            test = run_test(verdict)
        except (ValueError, RuntimeError) as error:
            print(f"test frame: failed: {error}", file=sys.stderr)
            return 1
        if not test.passed:
            print(f"test frame: failed: {test}", file=sys.stderr)
            return 1
        print(f"test frame: passed: {test}")
    if arguments.extract is not None:
        with options_named(parser, vars(arguments)):
            print(f"unpacked to {extract_package(verdict, arguments.extract)}")
    return 0


@contextmanager
def _without_current_folder() -> Iterator[None]:
    """Import nothing from where the command is called, unless this package itself lies there (a checkout).

    `python -m` looks there first, and a folder `torch` that came out of some zip may lie beside the package. What
    Python itself imports before this, only `python -P -m` protects.
    """
    before = list(sys.path)
    here = os.path.realpath(os.getcwd())
    own = os.path.realpath(os.path.join(os.path.dirname(cmunet_monai.__file__ or ""), os.pardir))
    if own != here:
        sys.path[:] = [entry for entry in before if os.path.realpath(entry or here) != here]
    try:
        yield
    finally:
        sys.path[:] = before


def _print_verdict(verdict: "Verdict") -> None:
    if verdict.signed:
        print(f"{verdict.path}: accepted, signed by the given key")
    else:
        remark = (
            "it has a signature, which was not checked: give --key" if verdict.has_signature else "it is not signed"
        )
        print(f"{verdict.path}: integrity only ({remark}): whose it is was not judged")
    print(f"SHA-256: {verdict.sha256}")
    network = verdict.facts["network"]
    print(f"network: channels {list(network.channels)}, image_size {list(network.image_size)}")
    print(f"weights: SHA-256 {verdict.digests['models/model.safetensors']}")
    for remark in verdict.remarks:
        print(remark)

"""`cmunet verify FILE.zip`."""
# ruff: noqa: T201 (what a person reads at the terminal is printed)

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cmunet_monai

EXPLANATION = """\
Run it with a cmunet_monai of the package's version that was obtained separately (by pip or from its repository), never
with the wheel in the zip, and as `cmunet verify` or `python -P -m cmunet_monai verify`: Python then takes nothing from
the folder you are in.

Nothing in the zip is run, imported, unpickled or unpacked before all of it was judged. A package is accepted where
  - it is byte-identical to the zip that `package` of this release writes for these weights, this frame, mask,
      documents, measured values and JSON file of the weights; and each of these has the form that `package` gives it;
  - the code in its wheel is that of the cmunet_monai that runs here, or the package is signed by the key you give;
    wheels of other packages are accepted under that signature alone;
  - with --key: it is signed by that key.
Not judged: whether the weights are good, what README.md and the tables in docs/ say, what the weights' sidecar and the
measured values say of themselves. Without a key, anyone may have made them: compare the SHA-256 with one that you got
by another way.

exit code: 0 accepted (and the test frame passed, where it was run), 1 refused, 2 for a mistake in the command
"""


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


@_without_current_folder()
def main(argv: Sequence[str]) -> int:
    """Judge one package."""
    # here, so that none is taken from the current folder
    from cmunet_monai.handover.extract import extract_package, run_test
    from cmunet_monai.handover.verify import verify_package
    from cmunet_monai.options import options_named
    from cmunet_monai.verbs import verb_parser

    parser = verb_parser("verify", EXPLANATION)
    parser.add_argument("package", metavar="FILE.zip", help="the package")
    parser.add_argument("--key", metavar="KEY.public.pem", help="public Ed25519 key: makes its signature mandatory")
    parser.add_argument("--extract", metavar="DIR", help="if the package is accepted, unpack it to DIR/BUNDLE")
    parser.add_argument(
        "--run-test",
        action="store_true",
        help="if the package is accepted, segment its test frame with the cmunet_monai that is installed here, "
        "in a temporary "
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
    unsigned = "it has a signature, which was not checked: give --key" if verdict.has_signature else "it is not signed"
    how = "accepted, signed by the given key"
    print(f"{verdict.path}: {how if verdict.signed else f'integrity only ({unsigned}): whose it is was not judged'}")
    print(verdict)
    if arguments.run_test:
        try:
            test = run_test(verdict)
        except (ValueError, RuntimeError) as error:
            print(f"test frame: failed: {error}", file=sys.stderr)
            return 1
        print(f"test frame: {'passed' if test.passed else 'failed'}: {test}", file=None if test.passed else sys.stderr)
        if not test.passed:
            return 1
    if arguments.extract is not None:
        with options_named(parser, vars(arguments)):
            print(f"unpacked to {extract_package(verdict, arguments.extract)}")
    return 0

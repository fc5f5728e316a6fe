"""`cmunet label`: a MONAI Label server on a folder of angiograms."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.options import options_named
from cmunet_monai.prediction.command import frames_of
from cmunet_monai.pseudonyms import others_can_read
from cmunet_monai.verbs import add_input, verb_parser

EPILOG = f"""
The server never writes to your studies. Frames, labels, the bundle with its trained weights, and the log are written to
the workspace. XA DICOM is named by pseudonym; the key, and a table of pseudonyms and patients, go to WORKSPACE.key and
beside it. PNG and NIfTI frames keep their file names, with `_` in place of dots, so give them pseudonymous names. Run
the same command again to continue with an existing workspace. {RESEARCH_USE.capitalize()}, not a medical device.
"""


def main(argv: Sequence[str]) -> int:
    parser = make_parser()
    arguments = parse(argv, parser)
    with options_named(parser, vars(arguments)):
        return _label(arguments)


def _label(arguments: argparse.Namespace) -> int:
    token = read_token(arguments.token_file)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("cmunet_monai").setLevel(logging.INFO)
    from cmunet_monai.label.doctor import INSTALL, examine, examine_address, missing_packages

    if arguments.doctor:
        found = examine(
            studies=arguments.studies,
            bundle=arguments.bundle,
            host=arguments.host,
            port=arguments.port,
            token=token,
        )
        for finding in found:
            print(finding)
        return 0 if all(finding.good for finding in found) else 1
    if arguments.studies is None:
        print("error: --input must name a folder of angiograms", file=sys.stderr)
        return 2
    if missing := missing_packages():
        print(f"error: not installed here: {', '.join(missing)}; {INSTALL}", file=sys.stderr)
        return 2
    from cmunet_monai.label.server import check_host, serve
    from cmunet_monai.label.workspace import prepare_workspace
    from cmunet_monai.shipped import SEGMENTATION, shipped_bundle

    check_host(arguments.host, token)
    if not (address := examine_address(arguments.host, arguments.port)).good:
        print(f"error: {address.text}", file=sys.stderr)
        return 2
    workspace = prepare_workspace(
        (arguments.workspace or Path(f"{arguments.studies.resolve()}.label")).resolve(),
        arguments.studies,
        arguments.bundle or shipped_bundle(SEGMENTATION),
        frames=arguments.frames,
        groups=arguments.groups,
        require_xa=arguments.require_xa,
    )
    print(f"{len(workspace.groups())} frames, workspace {workspace.root}")
    if (workspace.root / "passed_over.csv").is_file():
        print(f"some files were passed over: {workspace.root / 'passed_over.csv'} says why")
    serve(workspace, host=arguments.host, port=arguments.port, token=token)
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = verb_parser("label", EPILOG)
    add = parser.add_argument
    add_input(parser, "--studies", metavar="DIR", help="PNG, NIfTI and XA DICOM files, mixed, folders below included")
    add(
        "--bundle",
        type=Path,
        metavar="ZIP_OR_DIR",
        help="bundle with weights, as a zip of `cmunet package` or a folder (default: the one installed)",
    )
    add(
        "--workspace",
        type=Path,
        metavar="DIR",
        help="folder for the files that the server writes (default: STUDIES.label)",
    )
    add(
        "--frames",
        nargs="+",
        default=["fullest"],
        metavar="WHICH",
        help="of a DICOM run: fullest (default), measure, all, or numbers from 0",
    )
    add("--groups", type=Path, metavar="FILE", help="data list that names patient or group of PNG and NIfTI files")
    add("--any-sop-class", dest="require_xa", action="store_false", help="take other DICOM images than XA too")
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; any other than 127.0.0.1 needs --token-file (default: 127.0.0.1)",
    )
    add("--port", type=int, default=8000, choices=range(65536), metavar="PORT")
    add("--token-file", type=Path, metavar="FILE", help="secret that every request must bring (password of a login)")
    add("--doctor", action="store_true", help="say what is missing, and change nothing")
    return parser


def parse(argv: Sequence[str], parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Arguments of the verb."""
    parser = make_parser() if parser is None else parser
    arguments = parser.parse_args(argv)
    arguments.frames = frames_of(arguments.frames, parser)
    return arguments


def read_token(path: Path | None) -> str | None:
    """The secret in a file, which others must not be able to read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if others can read it, or it holds less than 16 characters or others than ASCII.
    """
    if path is None:
        return None
    from cmunet_monai.label.guard import LEAST_TOKEN

    if not path.is_file():
        raise FileNotFoundError(f"no token at {path} (--token-file)")
    if others_can_read(path):
        raise ValueError(f"the token {path} can be read by others: chmod 600 it")
    token = path.read_text(encoding="utf-8-sig", errors="replace").strip()
    if not token.isascii():
        raise ValueError(f"the token in {path} must contain only ASCII characters")
    if len(token) < LEAST_TOKEN:
        raise ValueError(f"the token {path} must have {LEAST_TOKEN} characters or more, got {len(token)}")
    return token

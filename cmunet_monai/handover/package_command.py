"""`cmunet package BUNDLE --output FILE.zip`."""
# ruff: noqa: T201 (what a person reads at the terminal is printed)

import argparse
from collections.abc import Sequence

from cmunet_monai.options import options_named
from cmunet_monai.verbs import verb_parser

EXPLANATION = """\
The zip holds one folder in MONAI's layout, which MONAI runs as it is with the weights in it: configs set to the network
of the weights, models/model.safetensors and its sidecar, docs/ with a model card, the wheel of this cmunet_monai,
requirements.txt with tested versions, test/ with a frame and its expected mask, SHA256SUMS, and SHA256SUMS.sig where it
is signed. A config overlay for a network of another size than that of the weights is left out. Files are stored
uncompressed, with fixed dates: the same input gives the same bytes in the same environment.

Consent. A frame of a patient, pseudonymised or not, is personal data, and it leaves your institution with the zip. With
--consent you confirm three things: the patient or your ethics board has agreed, the frame carries no name, and no text
is burned into it. Text in the header of the file is removed, but the picture itself is not checked. The synthetic frame
needs no consent.

The partner verifies with a cmunet_monai of the same version, obtained separately, never with the one in the zip:

  cmunet verify FILE.zip --key KEY.public.pem --extract DIR

Give your public key, or the zip's SHA-256 that is printed, by another way than the zip itself.

examples:
  %(prog)s --new-key KEY.pem
  %(prog)s bundles/coronary_xa_segmentation --weights RUN/model.safetensors --sign KEY.pem \\
      --evaluation RUN/evaluation --output coronary.zip
  PIP_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_EXTRA_INDEX_URL=https://pypi.org/simple \\
      %(prog)s bundles/coronary_xa_segmentation --wheels --sign KEY.pem --output coronary.zip
"""


def main(argv: Sequence[str]) -> int:
    """Write one package, or a key pair."""
    parser = verb_parser("package", EXPLANATION)
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="folder of the bundle")
    parser.add_argument("-o", "--output", metavar="FILE.zip", help="zip to write")
    parser.add_argument(
        "--weights",
        metavar="FILE.safetensors",
        help="weights of a trained model, its sidecar beside them (default: models/model.safetensors of the bundle)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size of the frames that the weights were trained with (default: from the JSON file beside the "
        "weights, else from inference.json)",
    )
    parser.add_argument(
        "--evaluation", metavar="DIR", help="output of evaluate.json with these weights, for the card and metadata.json"
    )
    parser.add_argument(
        "--test-frame",
        default="synthetic",
        metavar="synthetic|FILE",
        help="frame to try the package with: a PNG or NIfTI file, or (default) a synthetic one",
    )
    parser.add_argument(
        "--consent", action="store_true", help="confirm that the frame of a patient may be shared; see below"
    )
    parser.add_argument(
        "--wheels",
        action="store_true",
        help="add the wheels of all dependencies, for a computer without a network but with the same system and "
        "Python; "
        "needs --sign",
    )
    parser.add_argument("--sign", dest="key", metavar="KEY.pem", help="private Ed25519 key to sign with")
    parser.add_argument(
        "--new-key",
        metavar="KEY.pem",
        help="only make a key pair: KEY.pem (keep it secret) and KEY.public.pem (give it to your partner)",
    )
    arguments = parser.parse_args(argv)
    if arguments.new_key is None and (arguments.bundle is None or arguments.output is None):
        parser.error("BUNDLE and --output are needed")
    with options_named(parser, dict(vars(arguments)), {"key": "--sign"}):
        return _package(arguments)


def _package(arguments: argparse.Namespace) -> int:
    from cmunet_monai.handover.package import build_package  # imports what signing and judging need
    from cmunet_monai.handover.signature import new_key

    pair = vars(arguments).pop("new_key")
    if pair is not None:
        public = new_key(pair)
        print(f"{pair}: private key, without a passphrase, for you alone")
        print(f"{public}: public key, for whoever verifies")
        return 0
    verdict = build_package(**vars(arguments))
    print(f"{verdict.path}: {len(verdict.digests)} files, {'signed' if verdict.signed else 'not signed'}")
    print(verdict)
    return 0

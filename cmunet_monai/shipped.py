"""The bundles that come with this package: `cmunet bundles`. In a wheel they lie inside it, in a clone beside it."""
# ruff: noqa: T201 (what a person reads at the terminal is printed)

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cmunet_monai
from cmunet_monai.verbs import program, verb_parser

PRETRAINING, SEGMENTATION = "coronary_xa_pretraining", "coronary_xa_segmentation"
BUNDLES = (PRETRAINING, SEGMENTATION)
FILES = (
    "LICENSE",
    "configs/**/*.json",
    "configs/logging.conf",
    "docs/*.md",
    "models/model.json",
    "models/model.safetensors",
)
"""Of a bundle, what a copy contains; setup.cfg names the same for the wheel."""


def shipped_bundle(name: str) -> Path:
    """The folder of a bundle, wherever this installation has it.

    Raises:
        FileNotFoundError: if it has none, as where the code alone was installed out of a package.
    """
    package = Path(cmunet_monai.__file__).parent
    for bundles in (package / "bundles", package.parent / "bundles"):
        if (bundles / name / "configs" / "metadata.json").is_file():
            return bundles / name
    raise FileNotFoundError(
        f"this installation holds code alone, without the bundle {name}: a release's wheel and a clone have it; "
        "`predict` and `label` take one by --bundle"
    )


def copy_bundles(output: str | os.PathLike[str]) -> list[Path]:
    """Copy the bundles into a folder, each whole or not at all.

    Returns:
        The folders of the copies.
    Raises:
        FileExistsError: if one of them is there already: nothing is overwritten.
        FileNotFoundError: if this installation has no bundles.
    """
    sources = [shipped_bundle(name) for name in BUNDLES]
    targets = [Path(output) / source.name for source in sources]
    for target in targets:
        if os.path.lexists(target):
            raise FileExistsError(f"{target} is there already, and nothing is overwritten: name another folder")
    Path(output).mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=output) as folder:
            copy = Path(folder) / source.name
            for path in sorted(path for pattern in FILES for path in source.glob(pattern)):
                place = copy / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            copy.rename(target)
    return targets


def main(argv: Sequence[str]) -> int:
    """Print where the bundles lie, or copy them; a folder on each line."""
    parser = verb_parser("bundles", "Without DIR it prints where they lie. Nothing is overwritten.")
    parser.add_argument("output", nargs="?", type=Path, metavar="DIR", help="folder to copy them into")
    output = parser.parse_args(argv).output
    if output is None:
        print(*map(shipped_bundle, BUNDLES), sep="\n")
        return 0
    print(*copy_bundles(output), sep="\n")
    print(f"docs/README.md in each says how to train; `{program()} check` finds mistakes in a run before it starts")
    return 0

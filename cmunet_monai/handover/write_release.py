"""Write `release.json`: `python -m cmunet_monai.handover.write_release bundles/coronary_xa_segmentation`.

In a checkout, after a config, metadata.json, logging.conf, the requirements in setup.cfg or constraints.txt changed: a
package is held to what stands there, so a change of it is seen in review.
"""

import argparse
import configparser
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from packaging.requirements import Requirement

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.handover.release import FILE, BundleFiles, Release


def release_text(bundles: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str]) -> str:
    """What `release.json` holds for `bundles` (folders) of the checkout at `root`.

    Raises:
        FileNotFoundError: where one of the files that it is made of is missing.
    """
    setup = configparser.ConfigParser()
    setup.read_string((Path(root) / "setup.cfg").read_text(encoding="utf-8"))
    options = setup["options"]
    # `dev` is for those who change the package: a partner who runs it has no use for it
    extras = {name: text for name, text in setup["options.extras_require"].items() if name != "dev"}
    needed = [Requirement(line) for line in options["install_requires"].split("\n") if line]
    for name, text in extras.items():
        needed += [Requirement(f"{line}; extra == {name!r}") for line in text.split("\n") if line]
    pins = (Path(root) / "constraints.txt").read_text(encoding="utf-8").splitlines()
    release = Release(
        version=setup["metadata"]["version"],
        requires_python=options["python_requires"],
        requires=tuple(map(str, needed)),
        extras=tuple(extras),
        tested=dict(line.split("==", 1) for line in pins if line and not line.startswith("#")),
        bundles={Path(bundle).resolve().name: BundleFiles.read(bundle) for bundle in bundles},
    )
    return json.dumps(asdict(release), indent=1, ensure_ascii=False) + "\n"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cmunet_monai.handover.write_release",
        description="Write what packages of this release are held to, from a checkout.",
    )
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="folder, in a checkout: ROOT/bundles/NAME")
    arguments = parser.parse_args(argv)
    root = Path(arguments.bundles[0]).resolve().parents[1]
    write_text_atomic(FILE, release_text(arguments.bundles, root))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

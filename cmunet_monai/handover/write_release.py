"""Write `release.json`: `python -m cmunet_monai.handover.write_release bundles/coronary_xa_segmentation`.

In a checkout, after a config, metadata.json, logging.conf, the requirements in setup.cfg or constraints.txt changed: a
package is held to what stands there, so a change of it is seen in review.
"""

import argparse
import configparser
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.handover.release import FILE

UNCHANGED = ("LICENSE", "configs/logging.conf")
# For those who change the package; a partner who runs it has no use for them
_LEFT_OUT_EXTRAS = ("dev",)


def release_text(bundles: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str]) -> str:
    """What `release.json` holds for `bundles` (folders) of the checkout at `root`.

    Raises:
        FileNotFoundError: where one of the files that it is made of is missing.
    """
    setup = configparser.ConfigParser()
    with open(Path(root) / "setup.cfg", encoding="utf-8") as file:
        setup.read_file(file)
    options = setup["options"]
    extras = {
        name: text for name, text in setup["options.extras_require"].items() if name not in (*_LEFT_OUT_EXTRAS, "")
    }
    requires = [Requirement(line) for line in options["install_requires"].splitlines() if line]
    for name, text in extras.items():
        for line in filter(None, text.splitlines()):
            requires.append(Requirement(f"{line}; extra == {name!r}"))
    pins = (Path(root) / "constraints.txt").read_text(encoding="utf-8").splitlines()
    content = {
        "version": setup["metadata"]["version"],
        "requires_python": options["python_requires"],
        "requires": [str(requirement) for requirement in requires],
        "extras": list(extras),
        "tested": dict(line.split("==") for line in pins if line and not line.startswith("#")),
        "bundles": {Path(bundle).resolve().name: _bundle(Path(bundle)) for bundle in bundles},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _bundle(folder: Path) -> dict[str, Any]:
    configs = {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "configs").glob("*.json"))
    }
    return {
        "metadata": configs.pop("metadata.json"),
        "configs": configs,
        "digests": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in UNCHANGED},
    }


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

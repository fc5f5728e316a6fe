"""The wheel of this release that a package carries, and whether one is that."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator

from packaging.requirements import Requirement

from cmunet_monai.handover.archive import read_archive, read_member, write_archive
from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import Release, installed_files

_ENTRY_POINTS = "[console_scripts]\ncmunet = cmunet_monai.__main__:main"  # as in setup.cfg


def wheel_name(release: Release) -> str:
    """File name of the wheel."""
    return f"cmunet_monai-{release.version}-py3-none-any.whl"


def wheel_files(release: Release) -> dict[str, bytes]:
    """Everything in the wheel, by name: the code that runs now, and what pip needs to install it."""
    information = f"cmunet_monai-{release.version}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        "Name: cmunet_monai",
        f"Version: {release.version}",
        "License: Apache-2.0",
        f"Requires-Python: {release.requires_python}",
        *(f"Requires-Dist: {requirement}" for requirement in release.requires),
        *(f"Provides-Extra: {name}" for name in release.extras),
    ]
    tags = ["Wheel-Version: 1.0", "Generator: cmunet_monai", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    files = installed_files() | {
        f"{information}/METADATA": _lines(metadata),
        f"{information}/WHEEL": _lines(tags),
        f"{information}/entry_points.txt": _lines([_ENTRY_POINTS]),
    }
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(files.items())]
    return files | {f"{information}/RECORD": _lines([*record, f"{information}/RECORD,,"])}


def build_wheel(release: Release) -> bytes:
    """The wheel: the same bytes for the same code."""
    stream = io.BytesIO()
    write_archive(stream, wheel_files(release))
    return stream.getvalue()


def check_wheel(data: bytes, release: Release, *, any_code: bool) -> Iterator[str]:
    """Say how a wheel differs from that of this release.

    Args:
        data: the wheel.
        release: the one that runs.
        any_code: the content of its files may differ (a signature vouches for it); what kinds of files there are may
            not, so that installing it writes code of `cmunet_monai` and nothing else.
    """
    stream = io.BytesIO(data)
    try:
        files = {member.name: read_member(stream, member) for member in read_archive(stream)}
    except Refused as error:
        yield str(error)
        return
    expected = wheel_files(release)
    command = f"cmunet_monai-{release.version}.dist-info/entry_points.txt"
    for name in sorted(files.keys() | expected.keys()):
        same, known = files.get(name) == expected.get(name), name in expected and name != command
        if not same and not known and name in files and not re.fullmatch(r"cmunet_monai/.+\.(py|jinja|json)", name):
            what = "a wheel of `cmunet_monai` holds its .py, .jinja and .json files, and its own command, alone"
            yield f"{quoted(name)}: {what}"
        elif not same and not any_code:
            what = (
                "is missing, and is in"
                if name not in files
                else "is not in"
                if name not in expected
                else "is not that of"
            )
            yield f"{quoted(name)} {what} the cmunet_monai {release.version} that is installed here"


def requirements_text(release: Release) -> bytes:
    """`requirements.txt` of a package: the wheel in it, and what it needs, in the versions that the tests run with."""
    needed = [Requirement(text) for text in release.requires]
    names = sorted(requirement.name for requirement in needed if requirement.marker is None)
    return _lines(
        [
            "# In this folder: python -m pip install --requirement requirements.txt",
            "# Without a network, where wheels/ holds them all: add --no-index --find-links wheels",
            f"./wheels/{wheel_name(release)}",
            *(f"{name}=={release.tested[name]}" for name in names),
        ]
    )


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

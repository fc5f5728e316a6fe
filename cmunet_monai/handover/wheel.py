"""The wheel of this release that a package carries, and whether one is that."""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement

from cmunet_monai.handover.archive import read_archive, read_member, write_archive
from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import Release, installed_files

MAX_SHOWN = 5
_CODE = (".py", ".jinja", ".json")
_ENTRY_POINTS = b"[console_scripts]\ncmunet = cmunet_monai.__main__:main\n"  # as in setup.cfg


def wheel_name(release: Release) -> str:
    """File name of the wheel."""
    return f"cmunet_monai-{release.version}-py3-none-any.whl"


def wheel_files(release: Release) -> dict[str, bytes]:
    """Everything in the wheel, by name: the code that runs now, and what pip needs to install it."""
    files = dict(installed_files())
    information = f"cmunet_monai-{release.version}.dist-info"
    files[f"{information}/METADATA"] = _metadata(release)
    files[f"{information}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: cmunet_monai\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{information}/entry_points.txt"] = _ENTRY_POINTS
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(files.items())]
    files[f"{information}/RECORD"] = "\n".join([*lines, f"{information}/RECORD,,", ""]).encode()
    return files


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
            not, so that installing it writes code of `cmunet_monai`, its command and nothing else.
    """
    stream = io.BytesIO(data)
    try:
        members = read_archive(stream)
        files = {member.name: read_member(stream, member) for member in members}
    except Refused as error:
        yield f"{error}"
        return
    information = f"cmunet_monai-{release.version}.dist-info/"
    allowed = {information + name for name in ("METADATA", "WHEEL", "RECORD")}
    if files.get(f"{information}entry_points.txt") == _ENTRY_POINTS:
        allowed.add(f"{information}entry_points.txt")
    foreign = [
        name
        for name in files
        if name not in allowed and not (name.startswith("cmunet_monai/") and name.endswith(_CODE))
    ]
    for name in foreign[:MAX_SHOWN]:
        yield f"{quoted(name)}: a wheel of `cmunet_monai` holds its .py, .jinja and .json files and its command alone"
    if not any_code and not foreign:
        yield from _compare(files, wheel_files(release), release)


def _compare(files: Mapping[str, bytes], expected: Mapping[str, bytes], release: Release) -> Iterator[str]:
    here = f"the cmunet_monai {release.version} that is installed here"
    for what, names in (
        (f"is not in {here}", files.keys() - expected.keys()),
        (f"is missing, and is in {here}", expected.keys() - files.keys()),
        (f"is not that of {here}", {name for name in files.keys() & expected.keys() if files[name] != expected[name]}),
    ):
        for name in sorted(names)[:MAX_SHOWN]:
            yield f"{quoted(name)} {what}: code that no signature vouches for must be the same"
        if len(names) > MAX_SHOWN:
            yield f"and {len(names) - MAX_SHOWN} more files of which each {what}"


def _metadata(release: Release) -> bytes:
    lines = [
        "Metadata-Version: 2.1",
        "Name: cmunet_monai",
        f"Version: {release.version}",
        "License: Apache-2.0",
        f"Requires-Python: {release.requires_python}",
        *(f"Requires-Dist: {requirement}" for requirement in release.requires),
        *(f"Provides-Extra: {name}" for name in release.extras),
    ]
    return "\n".join([*lines, ""]).encode()


def requirements_text(release: Release) -> bytes:
    """`requirements.txt` of a package: the wheel in it, and what it needs, in the versions that the tests run with."""
    needed = [Requirement(text) for text in release.requires]
    names = sorted(requirement.name for requirement in needed if requirement.marker is None)
    lines = [
        "# In this folder: python -m pip install --requirement requirements.txt",
        "# Without a network, where wheels/ holds them all: add --no-index --find-links wheels",
        f"./wheels/{wheel_name(release)}",
        *(f"{name}=={release.tested[name]}" for name in names),
    ]
    return "\n".join([*lines, ""]).encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

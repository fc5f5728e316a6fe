"""Names of files in a zip that mean the same file to every system and every program that unpacks."""

import re
from collections.abc import Iterable

from cmunet_monai.handover.refused import Refused, quoted

MAX_LENGTH = 200
MAX_DEPTH = 10
_SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?", re.ASCII)
# Devices of Windows, whatever ending follows them
_RESERVED = {"con", "prn", "aux", "nul", *(f"{device}{number}" for device in ("com", "lpt") for number in range(10))}


def check_name(raw: bytes) -> str:
    """The name of a member of a zip.

    Args:
        raw: as it stands in the zip.
    Returns:
        Its text: one or more parts of letters, digits and `._+-` between single slashes; relative, without `..`.
    Raises:
        Refused: for any other name.
    """
    name = raw.decode("ascii", errors="backslashreplace")
    shown = f"name {quoted(raw.decode('latin-1'))}"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise Refused(f"{shown}: an absolute path, which would be written outside the folder it is unpacked to")
    if "\\" in name and raw.isascii():
        raise Refused(f"{shown}: a backslash separates folders on Windows and nowhere else")
    segments = name.split("/")
    if ".." in segments:
        raise Refused(f"{shown}: `..` leads out of the folder it is unpacked to")
    if name.endswith("/"):
        raise Refused(f"{shown}: a folder of its own; a package lists files alone")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise Refused(
            f"{shown}: its parts must begin with a letter, digit or underscore, hold only these and . + -, and not end "
            "in a dot: other names are read differently from system to system"
        )
    if len(name) > MAX_LENGTH or len(segments) > MAX_DEPTH:
        raise Refused(f"{shown}: longer than {MAX_LENGTH} characters or deeper than {MAX_DEPTH} folders")
    reserved = [segment for segment in segments if segment.split(".")[0].lower() in _RESERVED]
    if reserved:
        raise Refused(f"{shown}: {quoted(reserved[0])} is a device on Windows")
    return name


def check_collisions(names: Iterable[str]) -> None:
    """Every name stands for a file of its own, on systems without upper and lower case too.

    Raises:
        Refused: for a name that stands twice, differs from another in case alone, or is file and folder at once.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        folded = name.lower()
        if folded in seen:
            how = "stands twice" if seen[folded] == name else f"differs from {quoted(seen[folded])} in case alone"
            raise Refused(f"name {quoted(name)} {how}: which of them is unpacked depends on the program")
        seen[folded] = name
        parts = name.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if folders.setdefault(folder.lower(), folder) != folder:
                raise Refused(
                    f"name {quoted(name)}: its folder differs from {quoted(folders[folder.lower()])} in case alone"
                )
    both = sorted(set(seen) & set(folders))
    if both:
        raise Refused(f"name {quoted(seen[both[0]])} is a file and a folder at once")

"""A zip that can be read in one way only, and is the same bytes for the same files.

Files are stored, not compressed, in the order of their names, with one date and one mode, without comments, extra
fields, folders, zip64 or gaps. So nothing in it can unpack to more than the zip's own size, and no two programs read it
differently. Of each file, a reader takes name, size and CRC-32 alone: all else of the zip must be, byte for byte, the
headers that a writer makes of these. `zipfile` reads far more than that, and what it writes depends on its version.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central header), 4.3.16 (end record).
"""

import hashlib
import io
import os
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cmunet_monai.handover.refused import Refused, quoted

_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_VERSION, _DATE = 20, 1 << 5 | 1  # 1 January 1980
_MODE = (stat.S_IFREG | 0o644) << 16

MAX_SIZE = 2**32 - 2  # of the whole zip: beyond, it would need zip64
MAX_MEMBERS = 1000
MAX_DIRECTORY = 2**19
CHUNK = 2**20

MAX_NAME, MAX_DEPTH = 200, 10
# Letters, digits, `_`, and then `.+-`; not a dot at the end, nor a device of Windows, whatever ending follows it
_PART = re.compile(
    r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))[a-z0-9_](?:[a-z0-9._+-]*[a-z0-9_+-])?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Member:
    """One file of a zip: its name, the offset of its first byte, its size in bytes, and its CRC-32."""

    name: str
    offset: int
    size: int
    crc: int


def write_archive(stream: BinaryIO, files: Mapping[str, bytes | Path]) -> None:
    """Write a zip of `files` (name -> content, or the file that holds it).

    Raises:
        Refused: for names that `check_names` refuses, or more than 4 GiB in all.
    """
    names = sorted(files)
    check_names(names)
    directory = b""
    for name in names:
        with open_source(files[name]) as source:
            crc = size = 0
            while chunk := source.read(CHUNK):
                crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            if stream.tell() + size > MAX_SIZE - MAX_DIRECTORY:
                raise Refused(
                    f"the zip would be larger than the {MAX_SIZE} bytes that one without zip64 holds, at "
                    f"{quoted(name)}; where wheels make it so, take torch's wheels for the CPU (PIP_INDEX_URL)"
                )
            local, central = _headers(name.encode(), crc, size, stream.tell())
            directory += central
            stream.write(local)
            source.seek(0)
            shutil.copyfileobj(source, stream)
    stream.write(directory + _end(len(names), len(directory), stream.tell()))


def read_archive(stream: BinaryIO) -> list[Member]:
    """The members of a zip that `write_archive` could have written, in their order. Contents are not looked at.

    Args:
        stream: opened in binary mode, seekable.
    Raises:
        Refused: for any other zip, and anything that is none.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _END.size))
    end = stream.read()
    if size > MAX_SIZE or len(end) < _END.size or end[:4] != _end(0, 0, 0)[:4]:
        raise Refused("not a zip of at most 4 GiB, or cut off, or data follow its end (a comment, too)")
    count, length = struct.unpack_from("<HI", end, 10)
    if not 0 < count <= MAX_MEMBERS or length > MAX_DIRECTORY:
        raise Refused(f"{count} files, where a package has 1 to {MAX_MEMBERS}")
    start = size - _END.size - length
    if start < 0 or end != _end(count, length, start):
        raise Refused("the zip's directory is not where its end says: data stand in front or between (zip64, too)")
    stream.seek(start)
    directory = stream.read(length)
    members: list[Member] = []
    place = offset = 0
    while place < length:
        member, place = _read_member(stream, directory, place, offset)
        members.append(member)
        offset = member.offset + member.size
        if offset > start:
            raise Refused(f"{quoted(member.name)}: {member.size} bytes, more than the zip has for it")
    if (len(members), offset) != (count, start):
        raise Refused(f"{start - offset} bytes of the zip belong to no file, or its end states another number of files")
    names = [member.name for member in members]
    check_names(names)
    if names != sorted(names):
        raise Refused("the files are not in the order of their names, as `package` writes them")
    return members


def check_names(names: Iterable[str]) -> None:
    """Hold names to those that mean one file, and the same, to every system and every program that unpacks.

    Raises:
        Refused: for any other name, and where two would be one file.
    """
    places: dict[str, str] = {}  # path without upper case -> how it is written, of folders with a slash at the end
    for name in names:
        parts = name.split("/")
        if len(name) > MAX_NAME or len(parts) > MAX_DEPTH or not all(map(_PART.fullmatch, parts)):
            raise Refused(
                f"name {quoted(name)}: read differently from system to system, or leads elsewhere; expected letters, "
                f"digits and . _ + - in at most {MAX_NAME} characters and {MAX_DEPTH} folders, no device of Windows"
            )
        folders = ["/".join(parts[:count]) for count in range(1, len(parts))]
        twice = name.lower() in places or any(places.get(path.lower(), f"{path}/") != f"{path}/" for path in folders)
        if twice:
            raise Refused(f"name {quoted(name)}: stands twice, in another case, or as a file and a folder at once")
        places |= {path.lower(): f"{path}/" for path in folders} | {name.lower(): name}


def copy_member(stream: BinaryIO, member: Member, target: BinaryIO | None = None) -> str:
    """Write the bytes of a member to `target`, if there is one; return their SHA-256.

    Raises:
        Refused: at the end, where their CRC-32 is another than the zip says.
    """
    stream.seek(member.offset)
    crc, digest = 0, hashlib.sha256()
    for place in range(0, member.size, CHUNK):
        chunk = stream.read(min(CHUNK, member.size - place))
        crc = zlib.crc32(chunk, crc)
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    if crc != member.crc:
        raise Refused(f"{quoted(member.name)}: damaged, its CRC-32 is {crc:08x} and the zip says {member.crc:08x}")
    return digest.hexdigest()


def read_member(stream: BinaryIO, member: Member) -> bytes:
    """All bytes of a member; its size must have been checked. Raises as `copy_member`."""
    target = io.BytesIO()
    copy_member(stream, member, target)
    return target.getvalue()


def open_source(source: bytes | Path) -> BinaryIO:
    """A file to write: its content, or where that stands."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def digest_of(source: bytes | Path) -> str:
    """SHA-256 of a file to write, as hexadecimal digits."""
    with open_source(source) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _headers(raw: bytes, crc: int, size: int, offset: int) -> tuple[bytes, bytes]:
    """Local and central header of a file whose local header begins at `offset`."""
    facts = (_VERSION, 0, 0, 0, _DATE, crc, size, size, len(raw), 0)
    central = (b"PK\x01\x02", 3 << 8 | _VERSION, *facts, 0, 0, 0, _MODE, offset)
    return _LOCAL.pack(b"PK\x03\x04", *facts) + raw, _CENTRAL.pack(*central) + raw


def _end(count: int, length: int, start: int) -> bytes:
    return _END.pack(b"PK\x05\x06", 0, 0, count, count, length, start, 0)


def _read_member(stream: BinaryIO, directory: bytes, place: int, offset: int) -> tuple[Member, int]:
    """The member whose headers must stand at `place` of the directory and `offset` of the zip, and the next place."""
    if len(directory) < place + _CENTRAL.size:
        raise Refused("the zip's directory is cut off")
    crc, _, size, length = _CENTRAL.unpack_from(directory, place)[7:11]
    end = place + _CENTRAL.size + length
    raw = directory[place + _CENTRAL.size : end]
    local, central = _headers(raw, crc, size, offset)
    name = raw.decode("ascii", errors="backslashreplace")
    check_names([name])
    if directory[place:end] != central:
        raise Refused(
            f"{quoted(name)}: its header in the zip must be that of a plain file of mode 644 at byte {offset}, stored: "
            "not compressed, encrypted, a symlink, of another date, or with an extra field or comment"
        )
    stream.seek(offset)
    if stream.read(len(local)) != local:
        raise Refused(f"{quoted(name)}: its two headers in the zip disagree, so that programs would unpack other files")
    return Member(name, offset + len(local), size, crc), end

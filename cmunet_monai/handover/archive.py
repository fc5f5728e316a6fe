"""A zip that can be read in one way only, and is the same bytes for the same files.

Files are stored, not compressed, in the order of their names, with one date and one mode, without comments, extra
fields, folders, zip64 or gaps. So nothing in it can unpack to more than the zip's own size, and no two programs read it
differently. `zipfile` reads far more than that (data in front, members twice, two headers that disagree), and its
`ZipInfo` leaves more to chance: hence a reader and a writer of our own, of the same few lines.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central header), 4.3.16 (end record).
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cmunet_monai.handover.names import check_collisions, check_name
from cmunet_monai.handover.refused import Refused, quoted

# signature, version needed, flags, method, time, date, CRC-32, compressed size, size, length of name, of extra field
_LOCAL = struct.Struct("<4s5H3I2H")
# signature, version made by, then as above, then length of comment, disk, internal and external attributes, offset
_CENTRAL = struct.Struct("<4s6H3I5H2I")
# signature, disk, disk of the directory, members on the disk, members, size and offset of the directory, comment
_END = struct.Struct("<4s4H2IH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"

_VERSION = 20
_MADE_BY = 3 << 8 | _VERSION  # Unix, so that the mode counts
_DATE = 1 << 5 | 1  # 1 January 1980
_MODE = (stat.S_IFREG | 0o644) << 16

MAX_SIZE = 2**32 - 2  # of the whole zip: beyond, it would need zip64
MAX_MEMBERS = 1000
MAX_DIRECTORY = 2**19
CHUNK = 2**20


@dataclass(frozen=True)
class Member:
    """One file of a zip.

    Attributes:
        name: as `check_name` gives it.
        offset: of its first byte in the zip.
        size: in bytes.
        crc: CRC-32 of its bytes.
    """

    name: str
    offset: int
    size: int
    crc: int


def write_archive(stream: BinaryIO, files: Mapping[str, bytes | Path]) -> None:
    """Write a zip of `files` (name -> content, or the file that holds it).

    Raises:
        Refused: for a name that `check_name` or `check_collisions` refuses, or more than 4 GiB in all.
    """
    directory = []
    names = sorted(files)
    check_collisions(names)
    for name in names:
        raw = name.encode("utf-8")
        check_name(raw)
        source = files[name]
        crc, size = _measure(source)
        offset = stream.tell()
        if offset + size > MAX_SIZE - MAX_DIRECTORY:
            raise Refused(
                f"the zip would be larger than the {MAX_SIZE} bytes that one without zip64 holds, at {quoted(name)} of "
                f"{size} bytes; where wheels make it so, take torch's wheels for the CPU (PIP_INDEX_URL)"
            )
        stream.write(_local_header(raw, crc, size))
        for chunk in _content(source):
            stream.write(chunk)
        directory.append(_central_header(raw, crc, size, offset))
    start = stream.tell()
    central = b"".join(directory)
    stream.write(central)
    stream.write(_END.pack(_END_MARK, 0, 0, len(names), len(names), len(central), start, 0))


def read_archive(stream: BinaryIO) -> list[Member]:
    """The members of a zip that `write_archive` could have written, in their order. Contents are not looked at.

    Args:
        stream: opened in binary mode, seekable.
    Raises:
        Refused: for any other zip, and anything that is none.
    """
    size = stream.seek(0, os.SEEK_END)
    if size > MAX_SIZE:
        raise Refused(f"{size} bytes, more than the {MAX_SIZE} that a package can have")
    count, start, length = _read_end(stream, size)
    stream.seek(start)
    directory = stream.read(length)
    members = []
    place = expected = 0
    for _ in range(count):
        member, place = _read_central(directory, place, expected)
        raw = member.name.encode("ascii")
        header = _local_header(raw, member.crc, member.size)
        stream.seek(expected)
        if stream.read(len(header)) != header:
            raise Refused(
                f"{quoted(member.name)}: its two headers in the zip disagree, so that programs would unpack different "
                "files"
            )
        expected = member.offset + member.size
        members.append(member)
    if place != length:
        raise Refused(f"{length - place} bytes of the zip's directory belong to no file")
    if expected != start:
        raise Refused(f"{start - expected} bytes of the zip belong to no file")
    names = [member.name for member in members]
    check_collisions(names)
    if names != sorted(names):
        raise Refused("the files are not in the order of their names, as `package` writes them")
    return members


def chunks(stream: BinaryIO, member: Member) -> Iterator[bytes]:
    """The bytes of a member, piece by piece.

    Raises:
        Refused: at the end, where their CRC-32 is another than the zip says.
    """
    stream.seek(member.offset)
    left, crc = member.size, 0
    while left:
        chunk = stream.read(min(CHUNK, left))
        if not chunk:
            raise Refused(f"{quoted(member.name)}: the zip is cut off inside it")
        left -= len(chunk)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if crc != member.crc:
        raise Refused(f"{quoted(member.name)}: damaged, its CRC-32 is {crc:08x} and the zip says {member.crc:08x}")


def read_member(stream: BinaryIO, member: Member) -> bytes:
    """All bytes of a member; its size must have been checked.

    Raises:
        Refused: as `chunks`.
    """
    return b"".join(chunks(stream, member))


# Headers --------------------------------------------------------------------------------------------------------------


def _local_header(raw: bytes, crc: int, size: int) -> bytes:
    return _LOCAL.pack(_LOCAL_MARK, _VERSION, 0, 0, 0, _DATE, crc, size, size, len(raw), 0) + raw


def _central_header(raw: bytes, crc: int, size: int, offset: int) -> bytes:
    facts = (_CENTRAL_MARK, _MADE_BY, _VERSION, 0, 0, 0, _DATE, crc, size, size, len(raw), 0, 0, 0, 0, _MODE, offset)
    return _CENTRAL.pack(*facts) + raw


def _read_end(stream: BinaryIO, size: int) -> tuple[int, int, int]:
    """Number of members, offset and length of the directory."""
    stream.seek(0)
    head = stream.read(4)
    stream.seek(max(0, size - _END.size))
    record = stream.read(_END.size)
    if len(record) < _END.size or not record.startswith(_END_MARK) or record[-2:] != b"\0\0":
        stream.seek(max(0, size - 2**16 - _END.size))
        if _END_MARK in stream.read():
            raise Refused("data follow the zip's end, or it has a comment: a package has neither")
        raise Refused("not a zip, or cut off" if head == _LOCAL_MARK else "not a zip")
    _, disk, directory_disk, here, count, length, start, _ = _END.unpack(record)
    if here != count or disk or directory_disk:
        raise Refused("a zip of several parts")
    if count == 2**16 - 1 or 2**32 - 1 in (length, start):
        raise Refused("a zip64 archive, which a package is not")
    if head not in (_LOCAL_MARK, _END_MARK):
        raise Refused("data stand in front of the zip's first file: what it is depends on who reads it")
    if start + length != size - _END.size:
        raise Refused("the zip's directory is not where its end says: data were put in front or between, or cut out")
    if not 0 < count <= MAX_MEMBERS or length > MAX_DIRECTORY:
        raise Refused(f"{count} files, where a package has 1 to {MAX_MEMBERS}")
    return count, start, length


def _read_central(directory: bytes, place: int, expected: int) -> tuple[Member, int]:
    """The member whose central header stands at `place`, and where the next header begins."""
    if len(directory) < place + _CENTRAL.size:
        raise Refused("the zip's directory is cut off")
    facts = _CENTRAL.unpack_from(directory, place)
    mark, made_by, version, flags, method, time, date, crc, packed, size, named, extra, comment = facts[:13]
    disk, internal, external, offset = facts[13:]
    place += _CENTRAL.size
    raw = directory[place : place + named]
    if mark != _CENTRAL_MARK or len(raw) != named:
        raise Refused("the zip's directory is damaged")
    name = check_name(raw)
    shown = quoted(name)
    if flags & 1:
        raise Refused(f"{shown}: encrypted, so that it cannot be verified")
    if method or packed != size:
        raise Refused(
            f"{shown}: compressed ({packed} bytes that say they become {size}); a package stores its files, so that "
            "nothing in it unpacks to more than the zip's own size"
        )
    kind = stat.S_IFMT(external >> 16)
    if kind == stat.S_IFLNK:
        raise Refused(f"{shown}: a symlink, which leads to files outside the package")
    if external != _MODE:
        raise Refused(f"{shown}: not a plain file of mode 644 (attributes {external:#x})")
    if extra or comment:
        raise Refused(f"{shown}: an extra field or comment, in which another name or size (zip64) could stand")
    if (made_by, version, flags, time, date, disk, internal) != (_MADE_BY, _VERSION, 0, 0, _DATE, 0, 0):
        raise Refused(f"{shown}: its header is not as `package` writes it (flags {flags:#x}, date, version)")
    if offset != expected:
        raise Refused(f"{shown}: begins at byte {offset} of the zip, not at {expected}: gaps or overlapping files")
    return Member(name, offset + _LOCAL.size + named, size, crc), place + named


# Contents -------------------------------------------------------------------------------------------------------------


def _content(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _measure(source: bytes | Path) -> tuple[int, int]:
    """CRC-32 and size."""
    crc = size = 0
    for chunk in _content(source):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return crc, size

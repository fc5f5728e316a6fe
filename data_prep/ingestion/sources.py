"""Every file of an export, members of zip archives included."""

import io
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cmunet_monai.files.walk import NotOpened, walk

MAX_MEMBER_BYTES = 4 * 1024**3
_ARCHIVE_SUFFIX = ".zip"
# signature, version, flags, method, time, date, CRC-32, packed size, size, length of name, of extra field
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_MARK = b"PK\x03\x04"


@dataclass(frozen=True)
class Member:
    """Where a member of a zip archive stands, so that the archive's directory is read once, not for each member.

    Attributes:
        offset: of its header in the archive.
        packed, size: in bytes.
        method: of compression.
        crc: CRC-32 of its content.
    """

    offset: int
    packed: int
    size: int
    method: int
    crc: int


@dataclass(frozen=True)
class Source:
    """A file of an export, or a member of an archive in it. Its name may identify a patient: never print it.

    Attributes:
        name: relative to the export, with forward slashes; a member is `archive.zip!member`, and a second one of the
            same name `archive.zip!member!2`.
        path: the file, or the archive.
        member: of an archive; None for a plain file.
        fingerprint: changes when the content does: size and modification time, or size and CRC of a member.
    """

    name: str
    path: Path
    member: Member | None
    fingerprint: str

    def open(self) -> BinaryIO:
        """The content, seekable. A member is unpacked in memory: nothing of an export is written unchanged.

        Raises:
            OSError: if it cannot be read.
            ValueError: if the member is damaged, encrypted or larger than 4 GiB unpacked.
        """
        if self.member is None:
            return self.path.open("rb")
        try:
            content = _unpacked(self.path, self.member)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error):
            # without the text of zipfile's errors, which names the member
            raise ValueError("a zip member cannot be unpacked: it is damaged, or packed in an unknown way") from None
        if len(content) > MAX_MEMBER_BYTES:
            raise ValueError("a zip member is larger than 4 GiB unpacked: unpack it first")
        return io.BytesIO(content)


def _unpacked(path: Path, member: Member) -> bytes:
    """At most one byte more than 4 GiB of a member's content, its CRC-32 checked at the end (PKWARE APPNOTE, 4.3.7)."""
    with path.open("rb") as file:
        file.seek(member.offset)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(_LOCAL_MARK):
            raise zipfile.BadZipFile
        *_, named, extra = _LOCAL.unpack(header)
        file.seek(named + extra, os.SEEK_CUR)
        info = zipfile.ZipInfo()
        info.compress_size, info.file_size = member.packed, member.size
        info.compress_type, info.CRC = member.method, member.crc
        with zipfile.ZipExtFile(file, "r", info) as unpacked:
            return unpacked.read(MAX_MEMBER_BYTES + 1)


@dataclass(frozen=True)
class Unreadable:
    """A folder or archive that could not be looked into, and why (in words that name nothing)."""

    name: str
    reason: str


def find_sources(export: str | os.PathLike[str], *, leave_out: Collection[Path] = ()) -> Iterator[Source | Unreadable]:
    """Every file below a folder (or the file itself), sorted by name within each folder; links are not followed.

    Args:
        export: folder or file.
        leave_out: folders and files that are passed over, such as the output in the same place.
    Raises:
        FileNotFoundError: if there is nothing at `export`.
    """
    root = Path(export)
    if not root.exists():
        raise FileNotFoundError(f"no export at {root}")
    if root.is_file():
        yield from _file(root, root.name)
    else:
        passed_over = frozenset(path.resolve() for path in leave_out)
        for item in walk(root, leave_out=lambda path: path.resolve() in passed_over):
            if isinstance(item, NotOpened):
                yield Unreadable(item.name, item.reason)
            else:
                yield from _file(item[1], item[0])


def _file(path: Path, name: str) -> Iterator[Source | Unreadable]:
    try:
        if path.suffix.lower() == _ARCHIVE_SUFFIX:
            yield from _members(path, name)
        else:
            state = path.stat()
            yield Source(name, path, None, f"{state.st_size}:{state.st_mtime_ns}")
    except OSError as error:
        yield Unreadable(name, f"the file cannot be read ({type(error).__name__})")


def _members(path: Path, name: str) -> Iterator[Source | Unreadable]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [item for item in enumerate(archive.infolist()) if not item[1].is_dir()]  # names may repeat
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        yield Unreadable(name, "the archive is damaged")
        return
    seen: Counter[str] = Counter()
    for _, info in sorted(members, key=lambda item: (item[1].filename, item[0])):
        seen[info.filename] += 1
        repetition = f"!{seen[info.filename]}" if seen[info.filename] > 1 else ""
        full_name = f"{name}!{info.filename}{repetition}"
        if info.filename.lower().endswith(_ARCHIVE_SUFFIX):
            yield Unreadable(full_name, "an archive inside an archive: unpack it")
        elif info.flag_bits & 0x1:
            yield Unreadable(full_name, "an encrypted member of an archive: unpack it")
        else:
            member = Member(info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
            yield Source(full_name, path, member, f"{info.file_size}:{info.CRC:08x}")

"""Every file of an export, members of zip archives included."""

import io
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_MEMBER_BYTES = 4 * 1024**3
_ARCHIVE_SUFFIX = ".zip"


@dataclass(frozen=True)
class Source:
    """A file of an export, or a member of an archive in it. Its name may identify a patient: never print it.

    Attributes:
        name: relative to the export, with forward slashes; a member is `archive.zip!member`.
        path: the file, or the archive.
        member: name inside the archive; None for a plain file.
        fingerprint: changes when the content does: size and modification time, or size and CRC of a member.
    """

    name: str
    path: Path
    member: str | None
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
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as member:
                content = member.read(MAX_MEMBER_BYTES + 1)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, KeyError, zlib.error) as error:
            # without the text of zipfile's errors, which names the member
            raise ValueError(
                f"a zip member cannot be unpacked ({type(error).__name__}: damaged or encrypted)"
            ) from None
        if len(content) > MAX_MEMBER_BYTES:
            raise ValueError("a zip member is larger than 4 GiB unpacked: unpack it first")
        return io.BytesIO(content)


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
        yield from _folder(root, "", frozenset(path.resolve() for path in leave_out))


def _folder(folder: Path, prefix: str, leave_out: frozenset[Path]) -> Iterator[Source | Unreadable]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Unreadable(prefix or ".", f"the folder cannot be listed ({type(error).__name__})")
        return
    for entry in entries:
        name = prefix + entry.name
        if entry.is_symlink():
            yield Unreadable(name, "a link, which is not followed")
        elif Path(entry.path).resolve() in leave_out:
            continue
        elif entry.is_dir():
            yield from _folder(Path(entry.path), name + "/", leave_out)
        elif entry.is_file():
            yield from _file(Path(entry.path), name)
        else:
            yield Unreadable(name, "neither a file nor a folder")


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
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        yield Unreadable(name, "the archive is damaged")
        return
    for info in sorted(members, key=lambda info: info.filename):
        full_name = f"{name}!{info.filename}"
        if info.filename.lower().endswith(_ARCHIVE_SUFFIX):
            yield Unreadable(full_name, "an archive inside an archive: unpack it")
        elif info.flag_bits & 0x1:
            yield Unreadable(full_name, "an encrypted member of an archive: unpack it")
        else:
            yield Source(full_name, path, info.filename, f"{info.file_size}:{info.CRC:08x}")

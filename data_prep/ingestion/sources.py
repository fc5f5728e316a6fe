"""Every file of an export, members of zip archives included."""

import io
import os
import zipfile
import zlib
from collections import Counter
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
        name: relative to the export, with forward slashes; a member is `archive.zip!member`, and a second one of the
            same name `archive.zip!member!2`.
        path: the file, or the archive.
        member: number in the archive's directory, from 0; None for a plain file.
        fingerprint: changes when the content does: size and modification time, or size and CRC of a member.
    """

    name: str
    path: Path
    member: int | None
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
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(archive.infolist()[self.member]) as member,  # names may repeat
            ):
                content = member.read(MAX_MEMBER_BYTES + 1)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, IndexError, zlib.error) as error:
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
    waiting = [_entries(folder, prefix)]  # a stack, not recursion: exports can be nested deeper than Python calls can
    while waiting:
        item = next(waiting[-1], None)
        if item is None:
            waiting.pop()
        elif isinstance(item, Unreadable):
            yield item
        elif item[0].is_symlink():
            yield Unreadable(item[1], "a link, which is not followed")
        elif Path(item[0].path).resolve() in leave_out:
            continue
        elif item[0].is_dir():
            waiting.append(_entries(Path(item[0].path), item[1] + "/"))
        elif item[0].is_file():
            yield from _file(Path(item[0].path), item[1])
        else:
            yield Unreadable(item[1], "neither a file nor a folder")


def _entries(folder: Path, prefix: str) -> Iterator[tuple[os.DirEntry[str], str] | Unreadable]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Unreadable(prefix or ".", f"the folder cannot be listed ({type(error).__name__})")
        return
    for entry in entries:
        yield entry, prefix + entry.name


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
            members = [item for item in enumerate(archive.infolist()) if not item[1].is_dir()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        yield Unreadable(name, "the archive is damaged")
        return
    seen: Counter[str] = Counter()
    for number, info in sorted(members, key=lambda item: (item[1].filename, item[0])):
        seen[info.filename] += 1
        repetition = f"!{seen[info.filename]}" if seen[info.filename] > 1 else ""
        full_name = f"{name}!{info.filename}{repetition}"
        if info.filename.lower().endswith(_ARCHIVE_SUFFIX):
            yield Unreadable(full_name, "an archive inside an archive: unpack it")
        elif info.flag_bits & 0x1:
            yield Unreadable(full_name, "an encrypted member of an archive: unpack it")
        else:
            yield Source(full_name, path, number, f"{info.file_size}:{info.CRC:08x}")

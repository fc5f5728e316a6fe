"""The files below a folder, sorted: links are not followed, and what cannot be opened is named."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NotOpened:
    """A link, a folder that cannot be listed, or what is neither file nor folder.

    Attributes:
        name: relative to the folder that is walked, with forward slashes; it may identify a patient.
        path: where it is.
        reason: in words that name nothing.
    """

    name: str
    path: Path
    reason: str


def walk(root: Path, *, leave_out: Callable[[Path], bool]) -> Iterator[tuple[str, Path] | NotOpened]:
    """Name and path of every file below a folder, sorted by the parts of the path.

    Args:
        root: an existing folder.
        leave_out: says of a file or folder whether it is passed over, with all that is in it.
    """
    waiting = [_entries(root, "")]  # a stack, not recursion: exports can be nested deeper than Python calls can
    while waiting:
        item = next(waiting[-1], None)
        if item is None:
            waiting.pop()
        elif isinstance(item, NotOpened):
            yield item
        elif leave_out(path := Path(item[1].path)):
            continue
        elif item[1].is_symlink():
            yield NotOpened(item[0], path, "a link, which is not followed")
        elif item[1].is_dir():
            waiting.append(_entries(path, item[0] + "/"))
        elif item[1].is_file():
            yield item[0], path
        else:
            yield NotOpened(item[0], path, "neither a file nor a folder")


def _entries(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]] | NotOpened]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        reason = f"the folder cannot be listed ({os.strerror(error.errno or 0)})"
        yield NotOpened(prefix.rstrip("/") or ".", folder, reason)
        return
    for entry in entries:
        yield prefix + entry.name, entry

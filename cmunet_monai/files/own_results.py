"""Folders of results that are known as such: nobody takes what lies in them for frames, or writes among others' files.

A file in the output folder names the folders of results beside it.
"""

import os
from pathlib import Path

from cmunet_monai.files.atomic import write_text_atomic

RESEARCH_USE = "research use only"
"""What stands on every result."""
MARK = ".cmunet_monai"
_TEXT = "# folders of results of cmunet_monai, which hold no frames to read"


def mark_results(folder: str | os.PathLike[str]) -> None:
    """Make a folder for results, and name it in the file beside it; one that is named stays as it is.

    Raises:
        FileExistsError: if it holds something that no run has written: results would stand between other files.
    """
    folder = Path(folder)
    names = _names(folder.parent)
    if folder.name not in names:
        check_free(folder)
        write_text_atomic(folder.parent / MARK, "\n".join([_TEXT, *sorted({*names, folder.name}), ""]))
    folder.mkdir(parents=True, exist_ok=True)


def check_free(folder: str | os.PathLike[str]) -> None:
    """Raise a FileExistsError if a folder holds something, and is no folder of results."""
    folder = Path(folder)
    if folder.is_dir() and not is_marked(folder) and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files that no earlier run has written, and results would go among them: choose another "
            "output folder"
        )


def is_marked(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds results of an earlier run."""
    folder = Path(folder)
    return folder.name in _names(folder.parent)


def _names(parent: Path) -> frozenset[str]:
    """Of the folders of results in a folder."""
    try:
        text = (parent / MARK).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))

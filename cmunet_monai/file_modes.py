"""Who may read a file that is a secret."""

import os
import stat
import sys
from pathlib import Path


def others_can_read(path: str | os.PathLike[str]) -> bool:
    """Whether a file's mode lets group or others at it. On Windows a mode does not tell, and the answer is no."""
    return sys.platform != "win32" and bool(stat.S_IMODE(Path(path).stat().st_mode) & 0o077)

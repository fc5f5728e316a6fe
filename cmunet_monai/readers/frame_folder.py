"""The frames of a folder, as rows of a data list."""

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".nii", ".nii.gz")


def list_frames(
    folder: str | os.PathLike[str], *, leave_out: str | os.PathLike[str] | None = None
) -> list[dict[str, str]]:
    """Every PNG and NIfTI file in a folder and the folders below it, sorted by path.

    Args:
        folder: where the frames are. Hidden files and folders are passed over.
        leave_out: a folder whose files are no frames, such as the output folder of an earlier run in the same place.
    Returns:
        Rows `{"id": path relative to the folder, "image": path}`.
    Raises:
        FileNotFoundError: if there is no such folder, or no frame in it.
        ValueError: if the folder lies in the one that is left out.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    left_out = Path(leave_out).resolve() if leave_out is not None else None
    if left_out is not None and root.resolve().is_relative_to(left_out):
        raise ValueError(f"the frames in {root} lie in the output folder {leave_out}: choose another output folder")
    frames, others = [], 0
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file() or (left_out is not None and path.resolve().is_relative_to(left_out)):
            continue
        if path.name.lower().endswith(SUFFIXES):
            frames.append({"id": relative.as_posix(), "image": str(path)})
        else:
            others += 1
    if not frames:
        raise FileNotFoundError(f"no frame ({', '.join(SUFFIXES)}) in {root}, which holds {others} other files")
    logger.info("%s: %d frames, %d files of other kinds passed over", root, len(frames), others)
    return frames

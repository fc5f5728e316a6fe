"""The size of a frame, without decoding it."""

import os
from pathlib import Path

import nibabel
from PIL import Image


def frame_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height in pixels of a PNG or NIfTI file, from its header alone.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the header cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no frame at {path}")
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            width, height = nibabel.load(path).shape[:2]  # type: ignore[attr-defined]
            return int(width), int(height)
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # PIL, nibabel and gzip raise many kinds, few of which name the file
        raise ValueError(f"{path} is truncated or damaged ({error}): fetch it again") from error

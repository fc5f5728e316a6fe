"""The size of a frame, without decoding it."""

import os
from pathlib import Path

from cmunet_monai.files.nifti import is_nifti, nifti_shape
from cmunet_monai.files.picture import picture_size


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
        width, height = nifti_shape(path)[:2] if is_nifti(path) else picture_size(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}): fetch it again") from error
    return width, height

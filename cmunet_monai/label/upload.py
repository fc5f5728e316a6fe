"""Masks that come from a client: looked at before they are kept."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.files.label import may_fit, planes_shape, read_label_of_frame
from cmunet_monai.files.nifti import is_nifti
from cmunet_monai.label.planes import suffix_of, write_nifti


def check_mask(label: str | os.PathLike[str], image: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The mask in an uploaded file, where it is one of this image.

    Args:
        label: PNG or NIfTI; the sizes in its header are compared before anything is decoded.
        image: the frame or frames that it belongs to.
    Returns:
        (W, H, N) uint8 of 0 and 1, in the order of the image's axes.
    Raises:
        ValueError: if it is another kind of file, damaged, of another size, no label as `read_label` takes one, or,
            where both are NIfTI, lies elsewhere than the image.
    """
    try:
        suffix_of(label)
        shape, expected = planes_shape(label), planes_shape(image)
    except ValueError as error:
        raise ValueError(f"the label cannot be read as PNG or NIfTI: {_without_path(error, label)}") from None
    try:
        if not may_fit(label, image) or shape[2] != expected[2]:
            raise ValueError(
                f"the label must have the size of its image, {expected} (width, height, frames), got {shape}"
            )
        return (read_label_of_frame(label, image).classes > 0).astype(np.uint8)
    except ValueError as error:
        raise ValueError(_without_path(error, label)) from None


def _without_path(error: ValueError, path: str | os.PathLike[str]) -> str:
    return str(error).replace(os.fspath(path), "the file").replace(Path(path).name, "the file")


def write_mask_like(mask: NDArray[np.uint8], path: str | os.PathLike[str], *, image: str | os.PathLike[str]) -> None:
    """Write (W, H, N) of 0 and 1 beside its image: a PNG (0 and 255) of a PNG, NIfTI with its geometry of NIfTI.

    Raises:
        ValueError: if the ending is not that of the image's kind.
    """
    if is_nifti(path) != is_nifti(image):
        raise ValueError(f"the mask of {Path(image).name} must be written in its format, got {Path(path).name}")
    with atomic_path(path) as temporary:
        if is_nifti(image):
            write_nifti(mask, temporary, like=image)
        else:
            Image.fromarray(mask[..., 0].T * np.uint8(255)).save(temporary, format="PNG")

"""Masks that come from a client: looked at before they are kept."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.atomic import atomic_path
from cmunet_monai.label.planes import affine_of, is_nifti, plane_shape, read_planes, suffix_of, write_nifti

AFFINE_TOLERANCE_MM = 1e-2


def check_mask(label: str | os.PathLike[str], image: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The mask in an uploaded file, where it is one of this image.

    Args:
        label: PNG or NIfTI; the sizes in its header are compared before anything is decoded.
        image: the frame or frames that it belongs to.
    Returns:
        (W, H, N) uint8 of 0 and 1.
    Raises:
        ValueError: if it is another kind of file, damaged, of another size, holds anything but whole numbers from 0 to
            255, or, where both are NIfTI, lies elsewhere than the image.
    """
    try:
        if suffix_of(label) == ".png":
            _check_one_channel(label)
        shape, expected = plane_shape(label), plane_shape(image)
    except ValueError as error:
        raise ValueError(f"the label cannot be read as PNG or NIfTI: {_without_path(error, label)}") from None
    if shape != expected:
        raise ValueError(f"the label must have the size of its image, {expected} (width, height, frames), got {shape}")
    if is_nifti(label) and is_nifti(image):
        off = float(np.abs(affine_of(label) - affine_of(image)).max())
        if not off <= AFFINE_TOLERANCE_MM:
            raise ValueError(f"the label must lie where its image lies: their affines differ by {off:g} mm")
    try:
        values = read_planes(label)
    except ValueError as error:
        raise ValueError(_without_path(error, label)) from None
    if values.min() < 0 or values.max() > 255 or (values != np.rint(values)).any():
        raise ValueError("the label must be a mask: whole numbers from 0 to 255, 0 for background")
    return (values > 0).astype(np.uint8)


def _check_one_channel(label: str | os.PathLike[str]) -> None:
    """Colours and palettes have no one meaning as a mask."""
    try:
        with Image.open(label) as picture:
            mode = picture.mode
    except OSError as error:
        raise ValueError(str(error)) from None
    if mode not in ("1", "L", "I", "I;16"):
        raise ValueError(f"a PNG mask must have one grey channel, got mode {mode}")


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

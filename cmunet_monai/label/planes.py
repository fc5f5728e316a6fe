"""Frames and masks of the label server's folder as arrays: a PNG, or a NIfTI file of one frame or several."""

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.files.label import planes_shape
from cmunet_monai.files.label_place import PICTURE_AFFINE
from cmunet_monai.files.nifti import is_nifti, read_nifti, with_geometry_of
from cmunet_monai.transforms import FrameReader

SUFFIXES = (".png", ".nii.gz", ".nii")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """`.png`, `.nii.gz` or `.nii`.

    Raises:
        ValueError: for another ending.
    """
    name = os.fspath(path).lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise ValueError(f"{Path(path).name} must end in {', '.join(SUFFIXES)}")


def read_planes(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The values of a file as (W, H, N), in its own type.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, no grey frame or frames, or holds a value that is not finite.
    """
    shape = planes_shape(path)
    if shape[2] == 1:
        values, _ = FrameReader().get_data((os.fspath(path),))
        values = values[..., None]
    else:
        try:
            values = np.asanyarray(read_nifti(path).dataobj).reshape(shape)
        except ValueError as error:
            raise ValueError(f"{Path(path).name} is truncated or damaged ({error}): fetch it again") from error
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(f"{Path(path).name} must hold finite grey levels, got {values.dtype}")
    return values


def write_nifti(planes: NDArray[Any], path: str | os.PathLike[str], *, like: str | os.PathLike[str]) -> None:
    """Write (W, H, N) as NIfTI with the geometry of another NIfTI file, and none of its texts."""
    source = read_nifti(like)
    nibabel.save(with_geometry_of(source, planes.reshape(source.shape)), path)


def affine_of(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """(4, 4), from (column, row, frame) to mm, right, anterior and superior positive; that of a PNG as ITK reads it."""
    if not is_nifti(path):
        return PICTURE_AFFINE.copy()
    return np.asarray(read_nifti(path).affine, np.float64)

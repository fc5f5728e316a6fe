"""Frames and masks of the label server's folder as arrays: a PNG, or a NIfTI file of one frame or several."""

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.nifti import with_geometry_of
from cmunet_monai.readers.frame_size import frame_size
from cmunet_monai.transforms import FrameReader

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SUFFIXES = (".png", *NIFTI_SUFFIXES)
# ITK, and 3D Slicer with it, takes a picture's axes for left and posterior; NIfTI's are right and anterior
PICTURE_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_nifti(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(NIFTI_SUFFIXES)


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


def plane_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(W, H, N) of a file by its header: N frames, 1 of a PNG.

    Raises:
        ValueError: if the header cannot be read, or the file has more than one axis behind W and H.
    """
    width, height = frame_size(path)
    if not is_nifti(path):
        return width, height, 1
    shape = [*nibabel.load(path).shape[2:]]  # type: ignore[attr-defined]
    while shape and shape[-1] == 1:
        shape.pop()
    if len(shape) > 1:
        raise ValueError(f"{Path(path).name} must be (W, H) or (W, H, frames), got {(width, height, *shape)}")
    return width, height, int(shape[0]) if shape else 1


def read_planes(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The values of a file as (W, H, N), in its own type.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, no grey frame or frames, or holds a value that is not finite.
    """
    shape = plane_shape(path)
    if shape[2] == 1:
        values, _ = FrameReader().get_data((os.fspath(path),))
        values = values[..., None]
    else:
        try:
            values = np.asanyarray(nibabel.load(path).dataobj).reshape(shape)  # type: ignore[attr-defined]
        except Exception as error:  # nibabel and gzip raise many kinds
            raise ValueError(f"{Path(path).name} is truncated or damaged: fetch it again") from error
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(f"{Path(path).name} must hold finite grey levels, got {values.dtype}")
    return values


def write_nifti(planes: NDArray[Any], path: str | os.PathLike[str], *, like: str | os.PathLike[str]) -> None:
    """Write (W, H, N) as NIfTI with the geometry of another NIfTI file, and none of its texts."""
    source: Any = nibabel.load(like)
    nibabel.save(with_geometry_of(source, planes.reshape(source.shape)), path)


def affine_of(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """(4, 4), from (column, row, frame) to mm, right, anterior and superior positive; that of a PNG as ITK reads it."""
    if not is_nifti(path):
        return PICTURE_AFFINE.copy()
    image: Any = nibabel.load(path)
    return np.asarray(image.affine, np.float64)

"""A mask, or a map of values, as a file with the geometry of the frame that it belongs to."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from torch import Tensor

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.files.nifti import as_nifti, read_nifti, with_geometry_of
from cmunet_monai.files.picture import picture_size

NIFTI_SUFFIXES = (".nii.gz", ".nii")


def write_mask(
    mask: Tensor | np.ndarray,
    path: str | os.PathLike[str],
    *,
    frame: str | os.PathLike[str] | None = None,
    spacing_mm: float | None = None,
) -> None:
    """Write a mask in the format that the suffix of `path` names.

    MONAI's `SaveImaged` writes one fixed format, and rebuilds the geometry from metadata instead of taking the frame's.

    Args:
        mask: (1, W, H), first spatial axis along the columns as MONAI's readers give it; 0 is background.
        path: `.png` (8 bits, 0 and 255), or `.nii`, `.nii.gz` (8 bits, 0 and 1, the frame's affine, pixel
            sizes and units; nothing else of its header, since its texts may name a patient).
        frame: the PNG or NIfTI file that the frame was read from, for its geometry; checked for size with PNG. None
            for a frame of a DICOM run: its mask has the geometry of the frame that `data_prep dicom` writes.
        spacing_mm: size of a pixel, for a NIfTI without `frame`; None: unknown, and so is the unit in the file.
    Raises:
        ValueError: if the suffix is another one, or the mask does not have the frame's size.
    """
    vessel = _plane(mask, "mask") > 0
    _write(vessel.astype(np.uint8), vessel.astype(np.uint8) * 255, path, frame, spacing_mm)


def write_map(
    values: Tensor | np.ndarray,
    path: str | os.PathLike[str],
    *,
    frame: str | os.PathLike[str] | None = None,
    spacing_mm: float | None = None,
) -> None:
    """Write a map of values between 0 and 1, such as a probability, beside the mask.

    Args:
        values: (1, W, H), axes as of `write_mask`.
        path: `.png` (16 bits, 65535 is 1), or `.nii`, `.nii.gz` (float32); otherwise as of `write_mask`.
        frame, spacing_mm: as of `write_mask`.
    Raises:
        ValueError: as by `write_mask`.
    """
    plane = _plane(values, "values").astype(np.float32)
    _write(plane, np.rint(plane.clip(0, 1) * 65535).astype(np.uint16), path, frame, spacing_mm)


def _plane(array: Tensor | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 3 or array.shape[0] != 1:
        raise ValueError(f"`{name}` must be (1, W, H), got {array.shape}")
    return array[0]


def _write(
    volume: np.ndarray,
    picture: np.ndarray,
    path: str | os.PathLike[str],
    frame: str | os.PathLike[str] | None,
    spacing_mm: float | None,
) -> None:
    """Write (W, H) `volume` as NIfTI, or `picture` as PNG."""
    path = Path(path)
    suffix = path.name.lower()
    if suffix.endswith(".png"):
        if frame is not None:
            _check_size(picture.shape, picture_size(frame), frame)
        with atomic_path(path) as temporary:
            Image.fromarray(picture.T).save(temporary, format="PNG")
    elif suffix.endswith(NIFTI_SUFFIXES):
        image = as_nifti(volume.T, spacing_mm) if frame is None else _with_geometry_of(frame, volume)
        with atomic_path(path) as temporary:
            nib.save(image, temporary)
    else:
        raise ValueError(f"`path` must end in .png, .nii or .nii.gz, got {path.name}")


def _with_geometry_of(frame: str | os.PathLike[str], volume: np.ndarray) -> nib.Nifti1Image:
    source = read_nifti(frame)
    _check_size((*volume.shape, 1), (*source.shape, 1)[:3], frame)
    return with_geometry_of(source, volume.reshape(source.shape))


def _check_size(size: tuple[int, ...], expected: tuple[int, ...], frame: str | os.PathLike[str]) -> None:
    if size != expected:
        raise ValueError(f"the mask of {Path(frame).name} is {size}, the frame {expected} (W, H)")

"""NIfTI files of single frames: opened safely, and written with the geometry that is known.

There is one opener: bounds are looked at before anything is unpacked, and what is unpacked is counted. nibabel reads
the extensions that a header announces, and unpacks up to where it says that the values begin, before anybody can look
at a size: a small compressed file then takes all memory.

Source: NIfTI-1.1 (nifti1.h) and NIfTI-2 (nifti2.h).
"""

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2**30
MAX_EXTENSION_BYTES = 2**20
SUFFIXES = (".nii", ".nii.gz")
# code of the type of the values -> bytes of one
_VALUE_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
# What this package writes into the header where it knows the size of a pixel. In others' files a unit of mm says
# little: many programs write 1 mm, or the detector's pixel, where they know nothing
KNOWN_SIZE = b"size of a pixel at the patient (cmunet_monai)"


@dataclass(frozen=True)
class NiftiHead:
    """What the header of a NIfTI file says.

    Attributes:
        shape: of the values.
        start: where they begin, in bytes.
        size: of them, in bytes.
        version: 1 or 2.
    """

    shape: tuple[int, ...]
    start: int
    size: int
    version: int


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Whether the name says so."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def nifti_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Shape of the values, of two axes at least, from the header alone.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the header is none of a NIfTI file of one part that holds whole or real numbers, at most 1 GiB of
            them; the text does not name the file.
    """
    with _opened(path) as file:
        return _head(_read(file, 540)).shape


def read_nifti(path: str | os.PathLike[str], *, max_values: int | None = None) -> Any:
    """A NIfTI file as nibabel has it, all of it in memory.

    Args:
        path: `.nii` or `.nii.gz`, whichever its bytes are.
        max_values: how many there may be.
    Returns:
        `nibabel.Nifti1Image` or `Nifti2Image`.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as of `nifti_shape`, and if it is cut or damaged, has too many values, or no place in space.
    """
    with _opened(path) as file:
        content = _read(file, 540)
        head = _head(content)
        if max_values is not None and math.prod(head.shape) > max_values:
            raise ValueError(f"it holds {_times(head.shape)} values, expected {max_values} at most")
        content += _read(file, max(0, head.start + head.size - len(content)))
    if len(content) < head.start + head.size:
        raise ValueError(f"it is cut: it ends after {len(content)} of {head.start + head.size} bytes")
    kind = nibabel.Nifti1Image if head.version == 1 else nibabel.Nifti2Image
    try:
        with np.errstate(all="ignore"):
            image = kind.from_bytes(content[: head.start + head.size])
            affine = np.asarray(image.affine)
    except Exception:  # nibabel raises many kinds on a damaged header
        raise ValueError("its header is damaged") from None
    if not np.isfinite(affine).all():
        raise ValueError("its header is damaged: the affine is not finite")
    return image


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no frame at {path}")
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        raise ValueError("it is cut or damaged: its compressed data end too early or are no gzip data") from None


def _head(content: bytes) -> NiftiHead:
    if not content:
        raise ValueError("it is empty")
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", content.ljust(4, b"\0"))
        if size == 348 and content[344:347] == b"n+1" and len(content) >= 348:
            dimensions = struct.unpack_from(f"{order}8h", content, 40)
            (code,), (start,) = (
                struct.unpack_from(f"{order}h", content, 70),
                struct.unpack_from(f"{order}f", content, 108),
            )
            return _checked(dimensions, code, start, version=1)
        if size == 540 and content[4:7] == b"n+2" and len(content) >= 540:
            dimensions = struct.unpack_from(f"{order}8q", content, 16)
            (code,), (start,) = (
                struct.unpack_from(f"{order}h", content, 12),
                struct.unpack_from(f"{order}q", content, 168),
            )
            return _checked(dimensions, code, start, version=2)
    raise ValueError("it is not a single-file NIfTI image, or its header is truncated or damaged")


def _checked(dimensions: tuple[int, ...], code: int, start: float, *, version: int) -> NiftiHead:
    least = 352 if version == 1 else 544
    sides = dimensions[1 : 1 + dimensions[0]] if 1 <= dimensions[0] <= 7 else ()
    if not sides or min(sides) < 1:
        raise ValueError(f"its header is damaged: it announces an array of {_times(sides) or 'no'} values")
    if code not in _VALUE_BYTES:
        raise ValueError(f"it must hold whole or real numbers, got NIfTI's type {code}: save it as grey levels")
    if not 0 <= start <= least + MAX_EXTENSION_BYTES:
        raise ValueError(f"its values must begin in the first {least + MAX_EXTENSION_BYTES} bytes, got {start:g}")
    size = math.prod(sides) * _VALUE_BYTES[code]
    if size > MAX_BYTES:
        raise ValueError(f"it holds {_times(sides)} values, {size} bytes, expected {MAX_BYTES} at most")
    return NiftiHead((*sides, 1)[: max(2, len(sides))], max(least, int(start)), size, version)


def _times(sides: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in sides)


def as_nifti(frame: NDArray[np.generic], spacing_mm: float | None, *, aspect: float = 1.0) -> nibabel.Nifti1Image:
    """A frame (row, column) as NIfTI (column, row, 1), the axes that MONAI reads a PNG in.

    Whole numbers are stored as such. NIfTI cannot say that a pixel's size is unknown: its width is 1 then, its unit
    unknown.

    Args:
        frame: (H, W), grey levels.
        spacing_mm: size of a pixel at the patient, None where it is not known.
        aspect: height of a pixel over its width.
    """
    whole = bool((frame == np.rint(frame)).all()) and frame.min() >= 0 and frame.max() < 2**16
    kind = (np.uint8 if frame.max() < 2**8 else np.uint16) if whole else np.float32
    size = 1.0 if spacing_mm is None else spacing_mm
    image = nibabel.Nifti1Image(frame.T[..., None].astype(kind), np.diag([size, size * aspect, 1.0, 1.0]))
    image.header.set_xyzt_units("unknown" if spacing_mm is None else "mm")
    if spacing_mm is not None:
        image.header["descrip"] = KNOWN_SIZE
    return image


def known_spacing_mm(header: Any) -> float | None:
    """The size of a pixel at the patient that `as_nifti` wrote into this header; None in any other file.

    Args:
        header: of nibabel.
    """
    if "descrip" not in header or header["descrip"].item() != KNOWN_SIZE:
        return None
    width_mm, height_mm = (float(size) for size in header.get_zooms()[:2])
    return round(width_mm, 6) if width_mm == height_mm and 0 < width_mm < np.inf else None


def with_geometry_of(source: Any, array: NDArray[np.generic]) -> nibabel.Nifti1Image:
    """An array as NIfTI with the affine, pixel sizes, units and codes of another image, and none of its texts.

    Args:
        source: of `nibabel.load`. Not modified.
        array: of the source's shape.
    """
    image = nibabel.Nifti1Image(array, source.affine)
    image.header.set_zooms(source.header.get_zooms())
    image.header.set_xyzt_units(*source.header.get_xyzt_units())
    for form in ("qform", "sform"):
        affine, code = getattr(source, f"get_{form}")(coded=True)
        getattr(image, f"set_{form}")(affine, int(code))
    return image

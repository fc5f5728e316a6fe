"""NIfTI files of single frames."""

from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

# What this package writes into the header where it knows the size of a pixel. In others' files a unit of mm says
# little: many programs write 1 mm, or the detector's pixel, where they know nothing
KNOWN_SIZE = b"size of a pixel at the patient (cmunet_monai)"


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

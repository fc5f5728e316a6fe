"""MONAI's reader of XA DICOM; the decoding is in `cmunet_monai.xa` and needs no MONAI."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from cmunet_monai.xa.errors import (
    DamagedDicomError,
    MissingDecoderError,
    NoFilledTreeError,
    NotAngiographyError,
    UnsupportedDicomError,
    XAReadError,
)
from cmunet_monai.xa.frame_choice import Frames, check_frames, choose_frames
from cmunet_monai.xa.polarity import contrast_may_be_bright
from cmunet_monai.xa.run import XARun, read_frames, read_run
from cmunet_monai.xa.shutter import Shutter, valid_region
from cmunet_monai.xa.spacing import Spacing, check_spacing, spacing_of_run

__all__ = [
    "DamagedDicomError",
    "MissingDecoderError",
    "NoFilledTreeError",
    "NotAngiographyError",
    "Shutter",
    "Spacing",
    "UnsupportedDicomError",
    "XADicomReader",
    "XAReadError",
    "XARun",
    "contrast_may_be_bright",
    "read_frames",
    "read_run",
    "valid_region",
]

_OTHER_FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".nii", ".gz", ".npy", ".npz", ".nrrd", ".json")


class XADicomReader(ImageReader):
    """Read XA DICOM as (frame, row, column) float32, contrast dark, in any bundle: `LoadImaged(reader=...)`.

    MONAI's own readers swap frames and rows of multi-frame XA, give a spacing of 1 where none is known, and apply the
    Modality LUT that XA must be shown without.

    The meta data holds plain values: those of `XARun` under its names (`flags` and `r_wave_frames` as text, a blank
    between; what is unknown is left out, since MONAI cannot batch None), `frame_indices` (numbers from 0 in the file),
    `spacing_mm`, `spacing_source`, `spacing_notes`, `valid_region` (row, column) where a shutter covers a part, and
    MONAI's `affine`: in mm where the spacing is known, else the identity, which then says nothing of mm. The flag
    `contrast_may_be_bright` is added where the frames look so (`xa_polarity`).

    Args:
        frames: `all`; the numbers of frames from 0; `fullest`, the one in which most of the coronary tree is filled;
            `measure`, a filled one in which the heart is still. A single frame is taken as it is.
        require_xa: refuse other SOP classes than X-Ray Angiographic, Enhanced XA and X-Ray Radiofluoroscopic Image.
        spacing_mm: size of a pixel at the patient, for files that do not know it.
    """

    def __init__(
        self,
        frames: Frames = "all",
        *,
        require_xa: bool = True,
        spacing_mm: float | None = None,
    ) -> None:
        super().__init__()
        check_spacing(spacing_mm)
        self.frames = check_frames(frames)
        self.require_xa = require_xa
        self.spacing_mm = spacing_mm

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """DICOM files have many endings (`.dcm`, `.ima`, `.0001`) or none: all fit but those of other formats."""
        return not any(os.fspath(path).lower().endswith(_OTHER_FORMATS) for path in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str, ...]:
        """The path of the file, for `get_data`: `LoadImage` takes an error raised here for a reader that fits not."""
        return tuple(os.fspath(path) for path in ensure_tuple(data))

    def get_data(self, img: tuple[str, ...]) -> tuple[np.ndarray, dict]:
        """Read the file at the path that `read` gave.

        Returns:
            (frame, row, column) float32, also for a single frame, and the meta data. Frames are MONAI's channels.
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if there are several paths, or a frame asked for is not in the file.
            XAReadError: if the file gives no frames; `NoFilledTreeError` if no frame shows a filled tree. The text
                begins with the path.
        """
        if len(img) != 1:
            raise ValueError(f"one file makes a run, got {len(img)}: {', '.join(img)}")
        path = img[0]
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no file at {path}")
        try:
            return self._frames_and_meta(path)
        except XAReadError as error:
            raise type(error)(f"{path}: {error}", path=path) from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _frames_and_meta(self, path: str) -> tuple[np.ndarray, dict]:
        run = read_run(path, require_xa=self.require_xa, spacing_mm=self.spacing_mm)
        indices = choose_frames(path, run, self.frames, require_xa=self.require_xa)
        array = np.empty((len(indices), run.rows, run.columns), np.float32)
        for number, frame in enumerate(read_frames(path, indices, require_xa=self.require_xa)):
            array[number] = frame
        return array, _meta(run, indices, array)


def _meta(run: XARun, indices: tuple[int, ...], array: np.ndarray) -> dict[str, Any]:
    spacing = spacing_of_run([run.frame_spacing[number] for number in indices]) if run.frame_spacing else run.spacing
    flags = list(run.flags)
    if contrast_may_be_bright(array):
        flags.append("contrast_may_be_bright")
    mm = 1.0 if spacing.value_mm is None else spacing.value_mm
    affine = np.diag([mm, mm, 1.0, 1.0])
    known = {name: value for name, value in asdict(run).items() if isinstance(value, str | int | float)}
    meta = known | {
        "affine": affine,
        "original_affine": affine.copy(),
        "spatial_shape": np.asarray(array.shape[1:]),
        "original_channel_dim": 0,
        "frame_indices": list(indices),
        "spacing_source": spacing.source,
        "spacing_notes": " ".join(spacing.notes),
        "flags": " ".join(flags),
    }
    if spacing.value_mm is not None:
        meta["spacing_mm"] = spacing.value_mm
    if run.r_wave_frames is not None:
        meta["r_wave_frames"] = " ".join(str(number) for number in run.r_wave_frames)
    if run.shutter is not None:
        meta["valid_region"] = valid_region(run.shutter, run.rows, run.columns)
    return meta

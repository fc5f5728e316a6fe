"""One frame of a PNG, NIfTI or XA DICOM file."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, MapTransform

from cmunet_monai.readers.frame_reader import FrameReader
from cmunet_monai.readers.xa_errors import XAReadError
from cmunet_monai.readers.xa_run import read_frames


class LoadFramed(MapTransform):
    """Load the frame of a row that `cmunet_monai.readers.list_frames` gives.

    A row with a `frame_index` is of a DICOM file, of which MONAI's `LoadImaged` cannot be asked for one frame; any
    other is read by `LoadImage` with `FrameReader`. The grey levels are those that `data_prep dicom` writes (without a
    window), so that a frame gives the same mask from DICOM as from its NIfTI file.

    Args:
        keys: path of the file; becomes (1, W, H) as a `MetaTensor`, first spatial axis along the columns. Its meta data
            holds `frame_id`, the row's `id`.
        index_key: number of the frame from 0, in rows of DICOM files.
        require_xa: as of `list_frames`.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if the frame cannot be read; a DICOM frame is named by its `id`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        index_key: str = "frame_index",
        require_xa: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.index_key = index_key
        self.require_xa = require_xa
        self.load = LoadImage(reader=FrameReader(), image_only=True, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[key] = self.load(row[key]) if row.get(self.index_key) is None else self._dicom_frame(row, key)
            row[key].meta["frame_id"] = row["id"]
        return row

    def _dicom_frame(self, row: Mapping[Hashable, Any], key: Hashable) -> MetaTensor:
        try:
            (frame,) = read_frames(row[key], [row[self.index_key]], require_xa=self.require_xa, windowed=False)
        except XAReadError as error:
            raise ValueError(f"{row['id']}: {error}") from None
        spacing_mm = row.get("spacing_mm")
        size = 1.0 if spacing_mm is None else spacing_mm
        affine = torch.from_numpy(np.diag([size, size, 1.0, 1.0]))
        pixels = torch.from_numpy(np.ascontiguousarray(frame.T[None]))
        return MetaTensor(pixels, affine=affine, meta={"filename_or_obj": row[key]})

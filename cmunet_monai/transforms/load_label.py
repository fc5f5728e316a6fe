"""The label of a frame, in the frame's order of axes."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from cmunet_monai.files.label import read_label
from cmunet_monai.files.label_place import in_order_of_frame
from cmunet_monai.files.nifti import is_nifti


class LoadLabeld(MapTransform):
    """Load the label of a frame that was loaded before: classes, never luminance, in the frame's order of axes.

    MONAI's `LoadImaged` with `LabelReader` gives the same classes, but does not know the frame: a NIfTI label whose
    affine turns or mirrors its axes would be used out of place.

    Args:
        keys: path of the label; becomes (1, W, H) as a `MetaTensor` of float32, with the affine of the frame.
        image_key: the frame, a `MetaTensor` of (1, W, H) as it was loaded.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if the label cannot be read, has another size or lies in another place than its frame.
    """

    def __init__(self, keys: KeysCollection, *, image_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        frame = row[self.image_key]
        (source,) = ensure_tuple(frame.meta["filename_or_obj"])
        for key in self.key_iterator(row):
            label = read_label(row[key])
            try:
                classes = in_order_of_frame(
                    label.classes,
                    label.affine,
                    frame_shape=(*frame.shape[1:], 1),
                    frame_affine=_affine(frame) if is_nifti(source) else None,
                )
            except ValueError as error:
                raise ValueError(f"{row[key]}: {error}") from None
            pixels = torch.from_numpy(classes[None, ..., 0].astype(np.float32))
            row[key] = MetaTensor(pixels, affine=frame.affine, meta={"filename_or_obj": str(row[key])})
        return row


def _affine(frame: MetaTensor) -> np.ndarray:
    return np.asarray(frame.affine, np.float64)

"""Labelled and unlabelled frames in one batch."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class FillLabeld(MapTransform):
    """Say whether a frame has a label, and give an empty one to a frame that has none.

    Args:
        keys: the label, of the frame's shape, or absent.
        image_key: the frame, whose shape an empty label takes.
        flag_key: where a bool tensor goes: True where there was a label.
    """

    def __init__(self, keys: KeysCollection, *, image_key: str = "image", flag_key: str = "labelled") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image_key = image_key
        self.flag_key = flag_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.keys:
            row[self.flag_key] = torch.tensor(key in row)
            if key not in row:
                row[key] = torch.zeros_like(torch.as_tensor(row[self.image_key]))
        return row

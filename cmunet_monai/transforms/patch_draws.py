"""Random numbers for patches, for a method that knows only later which it hides."""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from cmunet_monai.transforms.patch_mask import patch_grid


class RandPatchDrawsd(MapTransform, Randomizable):
    """Draw uniform numbers for each patch of an image.

    A method that masks by its own state (VasoMIM) turns them into a mask without randomness of its own: drawn here they
    depend on seed, epoch and sample alone, so that a resumed run draws the same.

    Args:
        keys: the image, (C, H, W); it is not changed.
        draws_key: where the numbers go, (number, H / patch_size, W / patch_size) float32 in [0, 1].
        patch_size: side of a patch in pixels.
        number: of numbers for each patch.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if a side of the image is no multiple of `patch_size`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        draws_key: str = "draws",
        patch_size: int = 16,
        number: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.draws_key = draws_key
        self.patch_size = patch_size
        self.number = number

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            shape = (self.number, *patch_grid(row, key, self.patch_size))
            row[self.draws_key] = torch.from_numpy(self.R.random_sample(shape).astype(np.float32))
        return row

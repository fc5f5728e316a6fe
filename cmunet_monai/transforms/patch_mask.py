"""Which patches of an image are hidden."""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor


def random_patch_mask(rows: int, columns: int, ratio: float, generator: np.random.RandomState) -> Tensor:
    """(1, rows, columns) bool with exactly int(ratio * rows * columns) patches True = hidden.

    Source: Challier et al. 2025, section IV-C: 65% of 14 x 14 patches, that is 127 of 196.
    """
    mask = np.zeros(rows * columns, dtype=bool)
    mask[generator.permutation(mask.size)[: int(ratio * mask.size)]] = True
    return torch.from_numpy(mask.reshape(1, rows, columns))


def patch_grid(row: Mapping[Hashable, Tensor], key: Hashable, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of the image (C, H, W) under a key.

    Raises:
        ValueError: if a side of the image is no multiple of `patch_size`.
    """
    height, width = row[key].shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(f"`{key}` must have sides in multiples of the patch size {patch_size}, got {height} x {width}")
    return height // patch_size, width // patch_size


class RandPatchMaskd(MapTransform, Randomizable):
    """Draw one mask of hidden patches for each image.

    Args:
        keys: the image (C, H, W) that is masked; it is not changed, since methods hide in their own way.
        mask_key: where the (1, H / patch_size, W / patch_size) bool mask goes; True = hidden.
        patch_size: side of a patch in pixels.
        ratio: share of the patches that is hidden.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if `ratio` is not between 0 and 1, or a side of the image is no multiple of `patch_size`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        mask_key: str = "mask",
        patch_size: int = 16,
        ratio: float = 0.65,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 < ratio < 1:
            raise ValueError(f"`ratio` must be between 0 and 1, got {ratio}")
        self.mask_key = mask_key
        self.patch_size = patch_size
        self.ratio = ratio

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        row = dict(data)
        for key in self.key_iterator(row):
            row[self.mask_key] = random_patch_mask(*patch_grid(row, key, self.patch_size), self.ratio, self.R)
        return row

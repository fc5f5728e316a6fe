"""Two overlapping views of one frame, a few pixels apart."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from cmunet_monai.transforms.resized_crop import Box, random_crop_box, resized_crop


class RandPairedViewsd(MapTransform, Randomizable):
    """Views A and B of a frame: one random resized crop and flip for both, then a shifted crop and, for B, noise.

    Args:
        keys: the frame, (1, H, W) float, z-scored.
        view_keys: where views A and B go, each (1, view_size, view_size) float32.
        base_size: side in pixels of the shared random resized crop.
        view_size: side in pixels of a view.
        max_shift: largest offset of a view in the base, in pixels along each axis; drawn for A and B apart.
        shift_a: False keeps A at offset 0, as the authors' code does; the paper shifts both.
        area: smallest and largest share of the frame's area in the random resized crop.
        aspect: smallest and largest ratio of its sides.
        flip_prob: probability of a flip along the first spatial axis (MONAI reads frames as (x, y): left and right).
        noise_std: standard deviation of B's Gaussian noise, in those of the frame.
        with_view_a: further maps of the frame's size, and where their part in view A goes: `{"prior": "view_a_prior"}`.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if a shifted view would leave the base, the frame is not (1, H, W), or a further map has another
            size.
    Source: Challier et al. 2025, section III-A1; sizes, area and aspect from the authors' code.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        view_keys: tuple[str, str] = ("view_a", "view_b"),
        base_size: int = 256,
        view_size: int = 224,
        max_shift: int = 31,
        shift_a: bool = True,
        area: tuple[float, float] = (0.2, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        noise_std: float = 0.1,
        with_view_a: Mapping[str, str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 <= max_shift <= base_size - view_size:
            raise ValueError(
                f"`max_shift` must be in 0 .. base_size - view_size = {base_size - view_size}, got {max_shift}"
            )
        self.view_keys = tuple(view_keys)
        self.base_size = base_size
        self.view_size = view_size
        self.max_shift = max_shift
        self.shift_a = shift_a
        self.area = (area[0], area[1])
        self.aspect = (aspect[0], aspect[1])
        self.flip_prob = flip_prob
        self.noise_std = noise_std
        self.with_view_a = dict(with_view_a or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = np.asarray(row[key], dtype=np.float32)
            if image.ndim != 3 or image.shape[0] != 1:
                raise ValueError(f"`{key}` must be (1, H, W), got {image.shape}")
            box = random_crop_box(image.shape[1], image.shape[2], self.area, self.aspect, self.R)
            flips = self.R.random_sample() < self.flip_prob
            base = self._base(image, box, flips=flips)
            corners = []
            for name, shifts in zip(self.view_keys, (self.shift_a, True), strict=True):
                top, left = self.R.randint(self.max_shift + 1, size=2) if shifts else (0, 0)
                corners.append((top, left))
                view = self._view(base, top, left)
                if name == self.view_keys[1]:
                    view += self.noise_std * self.R.standard_normal(view.shape).astype(np.float32)
                row[name] = torch.from_numpy(view[None])
            for source, target in self.with_view_a.items():
                further = np.asarray(row[source], dtype=np.float32)
                if further.shape != image.shape:
                    raise ValueError(f"`{source}` must be {image.shape} as `{key}`, got {further.shape}")
                view = self._view(self._base(further, box, flips=flips), *corners[0])
                row[target] = torch.from_numpy(view[None])
        return row

    def _base(self, image: np.ndarray, box: Box, *, flips: bool) -> np.ndarray:
        base = resized_crop(image[0], box, self.base_size)
        return base[::-1] if flips else base

    def _view(self, base: np.ndarray, top: int, left: int) -> np.ndarray:
        return base[top : top + self.view_size, left : left + self.view_size].copy()

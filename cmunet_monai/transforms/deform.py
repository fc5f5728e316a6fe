"""Scale, rotate, shift and bend a frame and its label alike, in one resampling."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple

from cmunet_monai.transforms.frame_array import frame_array


def deform(
    image: np.ndarray,
    *,
    scale: float = 1.0,
    rotation_rad: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    bend: np.ndarray | None = None,
) -> np.ndarray:
    """Move the content of an image about its middle; 0 comes in from outside. (H, W) float32, linear interpolation.

    Args:
        image: (H, W). Not modified.
        scale: above 1 the content grows.
        rotation_rad: from the first axis towards the second.
        shift: along the two axes, in pixels.
        bend: (N, M, 2) further displacements along the two axes at a coarse grid over the image, in pixels; smooth
            between.
    """
    rows, columns = map_back(image.shape, scale=scale, rotation_rad=rotation_rad, shift=shift, bend=bend)
    return _resample(image, rows, columns)


def map_back(
    shape: tuple[int, ...],
    *,
    scale: float = 1.0,
    rotation_rad: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    bend: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the result, where it comes from along the two axes; (H, W) float32 each. See `deform`."""
    height, width = shape
    rows = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2 - shift[0]
    columns = np.arange(width, dtype=np.float32)[None, :] - (width - 1) / 2 - shift[1]
    cosine, sine = np.cos(rotation_rad) / scale, np.sin(rotation_rad) / scale
    from_rows = cosine * rows + sine * columns + (height - 1) / 2
    from_columns = cosine * columns - sine * rows + (width - 1) / 2
    if bend is not None:
        smooth = cv2.resize(bend.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        from_rows, from_columns = from_rows + smooth[..., 0], from_columns + smooth[..., 1]
    return from_rows.astype(np.float32), from_columns.astype(np.float32)


def _resample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    image = np.ascontiguousarray(image, dtype=np.float32)
    return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0))


class RandDeformd(MapTransform, Randomizable):
    """Scale, rotate, shift and bend by random amounts, the same for all keys.

    MONAI's `Rand2DElasticd` does the same in many times the time of a training step's share (tests/benchmarks), and its
    `RandAffined` and crops resample a frame once each.

    Args:
        keys: images, each (1, H, W), of one H and W. A float32 tensor of the same shape comes out.
        label_keys: those among the keys that hold 0 and 1, and keep to it.
        scale: smallest and largest, drawn evenly on a logarithmic scale; above 1 the content grows.
        rotation_deg: largest, either way.
        shift: largest, as a share of the side.
        bend: standard deviation of the displacements at the grid, as a share of the side.
        grid: nodes of the grid along a side.
        prob: probability that anything is done.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: if an image is not (1, H, W), or the images differ in size.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        label_keys: KeysCollection = (),
        scale: tuple[float, float] = (0.75, 1.2),
        rotation_deg: float = 20.0,
        shift: float = 0.075,
        bend: float = 0.0125,
        grid: int = 6,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"`scale` must be (smallest, largest), both above 0, got {tuple(scale)}")
        if grid < 2:
            raise ValueError(f"`grid` must be 2 nodes or more, got {grid}")
        self.label_keys = ensure_tuple(label_keys)
        self.scale = (scale[0], scale[1])
        self.rotation_deg = rotation_deg
        self.shift = shift
        self.bend = bend
        self.grid = grid
        self.prob = prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        images = {key: frame_array(row[key], channels=1)[0] for key in self.key_iterator(row)}
        shapes = {key: image.shape for key, image in images.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"images must be of one size, got {shapes}")
        moves = self.R.random_sample() < self.prob
        if moves:
            rows, columns = map_back(next(iter(shapes.values())), **self._draw(next(iter(shapes.values()))))
        for key, image in images.items():
            moved = _resample(image, rows, columns) if moves else image.astype(np.float32)
            if key in self.label_keys:
                moved = (moved > 0.5).astype(np.float32)
            row[key] = torch.from_numpy(moved[None])
        return row

    def _draw(self, shape: tuple[int, ...]) -> dict[str, Any]:
        rotation, side = np.deg2rad(self.rotation_deg), np.array(shape)
        shift = self.R.uniform(-self.shift, self.shift, 2) * side
        return {
            "scale": float(np.exp(self.R.uniform(*np.log(self.scale)))),
            "rotation_rad": self.R.uniform(-rotation, rotation),
            "shift": (shift[0], shift[1]),
            "bend": self.R.standard_normal((self.grid, self.grid, 2)) * self.bend * side,
        }

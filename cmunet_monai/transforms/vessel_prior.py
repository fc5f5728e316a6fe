"""Where a frame shows vessels, by a ridge filter: what pre-training can know of the anatomy without labels."""

import hashlib
import logging
import os
from collections.abc import Hashable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage
from skimage.filters import sato

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.transforms.frame_array import frame_array

logger = logging.getLogger(__name__)

SIGMAS_PX = (1, 2, 3, 4)
BORDER_PX = 4
COLLIMATOR_DEPTH = 1 / 8
COLLIMATOR_EDGE_PX = 4
FILTER_SETTINGS = (SIGMAS_PX, BORDER_PX, COLLIMATOR_DEPTH, COLLIMATOR_EDGE_PX)
WHITE_PERCENTILE = 99.5


def dark_ridges(image: np.ndarray, field: np.ndarray | None = None) -> np.ndarray:
    """How much of a dark line each pixel is part of (Sato et al. 1998, scikit-image's; sigma 1 to 4 px).

    What lies outside the field, or under a collimator (`inside_collimator`), is filled with the nearest value of the
    rest first, so that its edge is no ridge.

    Args:
        image: (H, W), finite. Not modified.
        field: (H, W) bool, True where the frame is valid; None is everywhere.
    Returns:
        (H, W) float32 from 0, in the image's own unit of contrast; 0 outside, in the 4 px at the edge of the field and
        of the frame, and for an image that is constant but for rounding.
    """
    image = np.asarray(image, np.float32)
    field = inside_collimator(image, np.ones(image.shape, dtype=bool) if field is None else field)
    if not field.any() or np.ptp(image[field]) <= 1e-6 * np.abs(image).max():
        return np.zeros(image.shape, np.float32)
    nearest = ndimage.distance_transform_edt(~field, return_distances=False, return_indices=True)
    ridges = sato(image[tuple(nearest)], sigmas=SIGMAS_PX, black_ridges=True)
    inside = ndimage.distance_transform_edt(np.pad(field, 1))[1:-1, 1:-1] > BORDER_PX
    return np.where(inside, ridges, 0).astype(np.float32)


def inside_collimator(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The field without the dark bands that a collimator leaves along its sides; (H, W) bool.

    A band ends where the median along a side rises by more than a standard deviation of the field within 4 px, no
    further from the side than 1/8 of the field; it counts as 4 px wide at least. `CornerInpaint` leaves bands that are
    grey, not black.

    Tried on 60 frames of ARCADE: 39 have such bands. Without this what grows from the strongest pixel misses the
    labelled vessels in 12 frames, with it in 4 (a pacemaker, wires, vessels that are not labelled).
    """
    if not field.any():
        return field
    rows, columns = (np.flatnonzero(field.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    least = image[field].std()
    inside = field.copy()
    for turns in range(4):
        side = np.rot90(image[box], turns)
        depth, ends = (int(COLLIMATOR_DEPTH * length) for length in side.shape)
        profile = np.median(side[: depth + COLLIMATOR_EDGE_PX, ends : side.shape[1] - ends], axis=1)
        rise = profile[COLLIMATOR_EDGE_PX:] - profile[:-COLLIMATOR_EDGE_PX]
        if rise.size and rise.max() > least:
            np.rot90(inside[box], turns)[: int(rise.argmax()) + COLLIMATOR_EDGE_PX] = False
    return inside


def scale_response(ridges: np.ndarray) -> np.ndarray:
    """(H, W) from 0 -> (H, W) float32 in 0..1: 1 from the 99.5th percentile on; all 0 if that is 0."""
    white = np.percentile(ridges, WHITE_PERCENTILE)
    return np.clip(ridges / white, 0, 1).astype(np.float32) if white > 0 else np.zeros(ridges.shape, np.float32)


def vessel_response(image: np.ndarray, field: np.ndarray | None = None) -> np.ndarray:
    """`dark_ridges` of an image, clipped between 0 and their 99.5th percentile and scaled to 0..1.

    Args, Returns: as `dark_ridges`; whatever the scale of the image, the response is the same.
    """
    return scale_response(dark_ridges(image, field))


def grow_vessels(response: np.ndarray, share: float = 0.08) -> np.ndarray:
    """The strongest pixels, as far as they are connected (8 neighbours) to the strongest of all.

    Args:
        response: (H, W) from 0; not clipped (`dark_ridges`), since of several strongest pixels the first is taken.
        share: of the pixels that are kept before growing.
    Returns:
        (H, W) bool; at most `share` of the pixels but for ties; none where the response is 0 everywhere.
    Raises:
        ValueError: if `share` is not between 0 and 1.
    Source: Huang et al. 2025 (VasoMIM), with a Sato instead of a Frangi filter.
    """
    pieces = ridge_pieces(response, share)
    return (pieces == pieces.flat[int(np.argmax(response))]) & (pieces > 0)


def ridge_pieces(response: np.ndarray, share: float) -> np.ndarray:
    """(H, W) the number of the piece (8 neighbours) that each of the strongest pixels belongs to, from 1; 0 elsewhere.

    Args, Raises: as of `grow_vessels`.
    """
    if not 0 < share < 1:
        raise ValueError(f"`share` must be between 0 and 1, got {share}")
    strong = (response > 0) & (response >= np.quantile(response, 1 - share))
    pieces: np.ndarray = ndimage.label(strong, structure=np.ones((3, 3)))[0]
    return pieces


class VesselPriord(MapTransform):
    """Add what a ridge filter says of a frame's vessels; the frame stays as it is.

    Stands after the resize, so that widths are those which the network sees, whatever the size of the file.

    Args:
        keys: the frame, (1, H, W), vessels dark.
        prior_key: where the prior goes, (1, H, W) float32.
        field_key: key of the valid field, (1, H, W), not 0 where the frame is valid; None is the whole frame.
        grown_share: None gives `vessel_response`, 0..1; a share the 0/1 of `grow_vessels`.
        cache_dir: folder of filtered frames, named by the SHA-256 of their pixels, field and filter settings: a frame
            is filtered once for all runs that name this folder, in 4 bytes a pixel. Nothing is ever removed. None
            filters anew.
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: for a share outside 0 to 1, or a frame or field of another shape.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prior_key: str = "prior",
        *,
        field_key: str | None = None,
        grown_share: float | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if grown_share is not None and not 0 < grown_share < 1:
            raise ValueError(f"`grown_share` must be between 0 and 1, or None, got {grown_share}")
        self.prior_key = prior_key
        self.field_key = field_key
        self.grown_share = grown_share
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = frame_array(row[key], channels=1)
            field = np.ones(image.shape) if self.field_key is None else frame_array(row[self.field_key], channels=1)
            if field.shape != image.shape:
                raise ValueError(f"`{self.field_key}` must be {image.shape} as `{key}`, got {field.shape}")
            ridges = self._ridges(np.ascontiguousarray(image[0], dtype=np.float32), field[0] > 0)
            prior = scale_response(ridges) if self.grown_share is None else grow_vessels(ridges, self.grown_share)
            row[self.prior_key] = torch.from_numpy(prior.astype(np.float32)[None])
        return row

    def _ridges(self, image: np.ndarray, field: np.ndarray) -> np.ndarray:
        if self.cache_dir is None:
            return dark_ridges(image, field)
        settings = repr((image.shape, FILTER_SETTINGS, version("scikit-image")))
        content = settings.encode() + image.tobytes() + np.packbits(field).tobytes()
        path = self.cache_dir / f"{hashlib.sha256(content).hexdigest()}.npy"
        ridges = _read(path, image.shape) if path.is_file() else None
        if ridges is None:
            ridges = dark_ridges(image, field)
            with atomic_path(path) as temporary:
                np.save(temporary, ridges)
        return ridges


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """A filtered frame of the cache; None, and a warning, where the file is damaged."""
    try:
        ridges = np.load(path, allow_pickle=False)
        if ridges.shape != shape or ridges.dtype != np.float32:
            raise ValueError(f"holds {ridges.dtype} {ridges.shape}, not float32 {shape}")
    except (OSError, EOFError, ValueError) as error:
        logger.warning("%s is damaged and is made anew: %s", path, error)
        return None
    return ridges

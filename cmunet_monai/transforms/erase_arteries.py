"""Erase from an unlabelled angiogram the arteries that a ridge filter detects."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from cmunet_monai.transforms.frame_array import frame_array
from cmunet_monai.transforms.vessel_prior import ridge_pieces

FILL_SIGMAS_PX = (3.0, 6.0, 12.0, 24.0, 48.0)
TEXTURE_SIGMA_PX = 1.5
FEATHER_PX = 1.5
GRAIN_LIMIT = 3.5  # of the median size of the detail


def artery_region(response: np.ndarray, *, share: float, least_px: int = 40, margin_px: int = 3) -> np.ndarray:
    """Where arteries may be: connected pieces of the strongest ridges, grown by a margin; (H, W) bool.

    Args:
        response: (H, W) from 0, as `vessel_response` gives it.
        share: of the pixels that count as ridges; where fewer respond at all, those.
        least_px: smaller pieces (8 neighbours) are noise.
        margin_px: radius by which the pieces grow, since a vessel is wider than its ridge.
    """
    pieces = ridge_pieces(response, share)
    large = np.bincount(pieces.ravel()) >= least_px
    large[0] = False
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin_px + 1,) * 2)
    return cv2.dilate(large[pieces].astype(np.uint8), disc).astype(bool)


def erase(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Fill a region from its surroundings and give it their grain; (H, W) float32.

    The fill is the mean of the pixels outside the region under a Gaussian, the narrowest one that reaches enough of
    them: unlike a grey closing it leaves no bright hollow. The grain is that of another part of the frame, since the
    region's own holds the edges of the artery.

    Args:
        image: (H, W), finite. Not modified.
        region: (H, W) bool. An image that is region all over comes back as it is.
    """
    image = np.ascontiguousarray(image, dtype=np.float32)
    if not region.any() or region.all():
        return image.copy()
    outside = (~region).astype(np.float32)
    filled, known = np.zeros_like(image), np.zeros_like(image)
    for sigma in FILL_SIGMAS_PX:
        reached = _blur(outside, sigma)
        share = np.minimum(2 * reached, 1) * (1 - known)
        filled += share * _blur(image * outside, sigma) / np.maximum(reached, 1e-6)
        known += share
    filled = np.where(known > 0, filled / np.maximum(known, 1e-6), image[~region].mean())
    weight = _blur(region.astype(np.float32), FEATHER_PX)
    return image + weight * (filled + _grain_from_elsewhere(image, region) - image)


def _grain_from_elsewhere(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """(H, W) the fine detail of the frame, moved so that as little as possible of it comes from the region itself."""
    height, width = image.shape
    moves = [(down * height // 4, right * width // 4) for down in range(4) for right in range(4)][1:]
    down, right = min(moves, key=lambda move: int((np.roll(region, move, (0, 1)) & region).sum()))
    detail = image - _blur(image, TEXTURE_SIGMA_PX)
    limit = GRAIN_LIMIT * float(np.median(np.abs(detail[~region])))  # edges of devices and collimators are no grain
    return np.roll(np.where(region, 0, np.clip(detail, -limit, limit)), (down, right), (0, 1))


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


class EraseArteriesd(MapTransform):
    """Add a copy of a frame whose arteries are erased; the frame itself stays.

    Args:
        keys: the frame, (1, H, W), vessels dark.
        response_key: what a ridge filter says of it, (1, H, W) from 0, as `VesselPriord` writes it.
        erased_key: where the erased frame goes, (1, H, W) float32.
        share: of the pixels that count as ridges (`artery_region`).
        allow_missing_keys: as in MONAI.
    Raises:
        ValueError: for a share outside 0 to 1, or a frame or response of another shape.
    """

    def __init__(
        self,
        keys: KeysCollection,
        response_key: str = "prior",
        erased_key: str = "erased",
        *,
        share: float = 0.12,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 < share < 1:
            raise ValueError(f"`share` must be between 0 and 1, got {share}")
        self.response_key = response_key
        self.erased_key = erased_key
        self.share = share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image, response = frame_array(row[key], channels=1)[0], frame_array(row[self.response_key], channels=1)[0]
            if response.shape != image.shape:
                raise ValueError(f"`{self.response_key}` must be {image.shape} as `{key}`, got {response.shape}")
            erased = erase(image, artery_region(response, share=self.share))
            row[self.erased_key] = torch.from_numpy(erased[None])
        return row

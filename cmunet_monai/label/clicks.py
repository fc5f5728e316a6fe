"""Clicks on and off the vessel that correct a mask around them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import black_tophat, distance_transform_edt, gaussian_filter
from skimage.segmentation import random_walker

REACH_PX = 40
SEED_RADIUS_PX = 2
VESSEL, BACKGROUND = 1, 2
BETA = 6000.0
SURELY_NONE = 0.05  # probability, and darkness, below which a pixel is no vessel unless a click says so


def correct_mask(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8],
    *,
    frame: NDArray[np.generic],
    on: Sequence[tuple[int, int]],
    off: Sequence[tuple[int, int]],
    reach_px: float = REACH_PX,
) -> NDArray[np.uint8]:
    """Correct a mask where a person says what is vessel and what is not.

    A random walk (Grady 2006, by scikit-image) over the probability and the darkness of the frame's thin structures
    decides each pixel near a click. Its seeds are a disc of 2 px around each click, what the mask says beyond the
    reach, what no click disputes (vessel nearest to a click on vessel, background nearest to one off it), and, as
    background, what is neither probable nor dark. Clicks on vessel can only add, clicks off it only remove; farther
    than the reach from every click nothing changes.

    Args:
        probability: (W, H) of vessel, from 0 to 1. Not modified.
        mask: (W, H) of 0 and 1 that is corrected. Not modified.
        frame: (W, H) grey levels. Not modified.
        on, off: (first, second) index of each click on and off the vessel.
        reach_px: how far from a click the mask may change.
    Returns:
        (W, H) uint8 of 0 and 1.
    Raises:
        ValueError: if the three differ in shape, or a click lies outside or is both on and off.
    """
    if not probability.shape == mask.shape == frame.shape or probability.ndim != 2:
        raise ValueError(
            f"`probability`, `mask` and `frame` must be (W, H) of one size, got "
            f"{probability.shape}, {mask.shape}, {frame.shape}"
        )
    if set(on) & set(off):
        raise ValueError(f"a click must be on or off the vessel, got both at {sorted(set(on) & set(off))[0]}")
    corrected = mask.copy()
    if not on and not off:
        return corrected
    to_on, to_off = _distance(on, mask.shape), _distance(off, mask.shape)
    from_click = np.minimum(to_on, to_off)
    window = _window(from_click <= reach_px + 1)
    dark = _darkness(frame)
    seeds = _seeds(mask, to_on, to_off, reach_px)
    seeds[(seeds == 0) & (probability < SURELY_NONE) & (dark < SURELY_NONE)] = BACKGROUND
    seeds = seeds[window]
    free = from_click[window] <= reach_px
    kinds = set(np.unique(seeds)) - {0}
    if len(kinds) > 1:
        data = np.stack([probability[window].astype(np.float64), dark[window]], axis=-1)
        # whether the probabilities are exact does not matter, but which of the two is larger
        options = {"mode": "cg_j", "tol": 1e-4, "prob_tol": np.inf}
        vessel = random_walker(data, seeds, beta=BETA, channel_axis=-1, **options) == VESSEL
    else:  # every walk ends at the one kind of seed there is
        vessel = np.full(seeds.shape, kinds == {VESSEL})
    before = mask[window] > 0
    after = np.where((to_on <= to_off)[window], before | vessel, before & vessel)
    corrected[window] = np.where(free, after, before)
    return corrected


def _seeds(
    mask: NDArray[np.uint8], to_on: NDArray[np.float64], to_off: NDArray[np.float64], reach_px: float
) -> NDArray[np.int32]:
    """(W, H): 1 and 2 where the walk starts, 0 where it decides."""
    said = np.where(mask > 0, VESSEL, BACKGROUND)
    seeds = np.where(np.minimum(to_on, to_off) > reach_px, said, 0).astype(np.int32)
    # what a click does not dispute stays: vessel near a click on vessel, background near one on background
    seeds[(mask > 0) & (to_on < to_off)] = VESSEL
    seeds[(mask == 0) & (to_off < to_on)] = BACKGROUND
    seeds[to_on <= SEED_RADIUS_PX] = VESSEL
    seeds[(to_off <= SEED_RADIUS_PX) & (to_off < to_on)] = BACKGROUND
    return seeds


def _distance(points: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(W, H): distance in pixels to the nearest point; infinite without points."""
    away: NDArray[np.bool_] = np.ones(shape, bool)
    for point in points:
        if len(point) != 2 or not all(0 <= x < size for x, size in zip(point, shape, strict=True)):
            raise ValueError(f"a click must lie within {shape}, got {point}")
        away[point] = False
    return np.full(shape, np.inf) if away.all() else distance_transform_edt(away)


def _window(near: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The rectangle around what is near."""
    found = np.nonzero(near)
    return tuple(slice(int(index.min()), int(index.max()) + 1) for index in found)


def _darkness(frame: NDArray[np.generic]) -> NDArray[np.float64]:
    """(W, H) from 0 to 1: how much darker than its surroundings what is thinner than 1/16 of the side is."""
    hat = black_tophat(gaussian_filter(np.asarray(frame, np.float64), 1), size=round(min(frame.shape) / 16) | 1)
    high = np.percentile(hat, 99)
    return np.clip(hat / high, 0, 1) if high > 0 else np.zeros_like(hat)

"""A frame's fitness for segmentation: ok, review or refused, with reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.xa.polarity import line_polarity

Verdict = Literal["ok", "review", "refused"]

# Chosen on frames of ARCADE's `train`, of two XA runs, and pictures that are no angiograms, with the weights that the
# segmentation bundle carries; see its documentation.
MIN_POLARITY = 0.0
MAX_SATURATED_SHARE = 0.10
MIN_FIELD_SHARE = 0.30
MIN_SURE_SHARE = 0.3
MAX_PIECES = 4.0
MIN_AGREEMENT = 0.65
MIN_VESSEL_SHARE = 0.015
FULL_VESSEL_SHARE = 0.02
TREE_PIECES = 3.0
_BLACK = 0.03

# reason -> how bad it is
REASONS: Mapping[str, Verdict] = {
    "contrast_not_dark": "refused",
    "tiny_field": "refused",
    "saturated": "review",
    "subtracted": "review",
    "no_contrast": "review",
    "not_coronary": "review",
    "views_disagree": "review",
    "anisotropic": "review",
}


@dataclass(frozen=True)
class Quality:
    """What is to be said of a frame, and of what was found in it.

    Attributes:
        verdict: `refused` where the result means nothing, `review` where a person should look, else `ok`.
        reasons: words of `REASONS`.
        measures: what they were taken from, by name; None where it was not measured.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    measures: Mapping[str, float | None]


def assess_frame(
    frame: NDArray[Any],
    probability: NDArray[Any],
    *,
    concerns: Sequence[str] = (),
    agreement: float | None = None,
) -> Quality:
    """Assess the quality of a frame from its grey levels and the network's probability map.

    Args:
        frame: (H, W) grey levels from 0, contrast dark. Not modified.
        probability: (H, W) of vessel, 0 to 1. Not modified.
        concerns: what the header says: `subtracted` and `anisotropic` (pixels that are not square, so that lengths in
            px mean little) are reasons, other words are not.
        agreement: Dice between the pixels that all test-time views mark as vessel and those that any view marks; None
            if there is only one view.
    Raises:
        ValueError: if the two are not (H, W) of one size.
    """
    if frame.ndim != 2 or frame.shape != probability.shape:
        raise ValueError(f"frame and probability must be (H, W) of one size, got {frame.shape}, {probability.shape}")
    grey = np.asarray(frame, np.float32)
    low, high = float(grey.min()), float(grey.max())
    polarity = line_polarity(grey)
    saturated_share = float((grey >= high).mean()) if high > low else 1.0
    field_share = float((grey > low + _BLACK * (high - low)).mean())
    likeness = vessel_likeness(probability, field_share=field_share)
    found = {
        "contrast_not_dark": polarity < MIN_POLARITY,
        "tiny_field": field_share < MIN_FIELD_SHARE,
        "saturated": saturated_share > MAX_SATURATED_SHARE,
        "subtracted": "subtracted" in concerns,
        "no_contrast": likeness.sure_share < MIN_SURE_SHARE or likeness.vessel_share < MIN_VESSEL_SHARE,
        "not_coronary": likeness.pieces > MAX_PIECES,
        "views_disagree": agreement is not None and agreement < MIN_AGREEMENT,
        "anisotropic": "anisotropic" in concerns,
    }
    reasons = tuple(word for word, holds in found.items() if holds)
    worst = {REASONS[word] for word in reasons}
    verdict: Verdict = "refused" if "refused" in worst else "review" if worst else "ok"
    measures = {
        "polarity": polarity,
        "saturated_share": saturated_share,
        "field_share": field_share,
        "sure_share": likeness.sure_share,
        "vessel_share": likeness.vessel_share,
        "pieces": likeness.pieces,
        "fitness": likeness.fitness,
        "agreement": agreement,
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in measures.items()}
    return Quality(verdict, reasons, rounded)


@dataclass(frozen=True)
class VesselLikeness:
    """How much what was found looks like a filled coronary tree.

    Attributes:
        sure_share: of the area that may be vessel (probability 0.1 or more), the share that surely is (0.9 or more); 0
            where nothing may be.
        pieces: effective number of pieces of the mask, the inverse Simpson index of their areas (Simpson, Nature 1949):
            n for n pieces of one size, near 1 for one large piece and specks; 0 of an empty mask.
        vessel_share: how much of the field is vessel (probability 0.5 or more): a filled tree covers 2% or more, a
            catheter less.
    """

    sure_share: float
    pieces: float
    vessel_share: float

    @property
    def fitness(self) -> float:
        """0 to 1: the sure share, less where there are more pieces, or less vessel, than of a filled coronary tree."""
        if not self.pieces:
            return 0.0
        return self.sure_share * min(1.0, TREE_PIECES / self.pieces) * min(1.0, self.vessel_share / FULL_VESSEL_SHARE)


def vessel_likeness(probability: NDArray[Any], *, field_share: float = 1.0) -> VesselLikeness:
    """Judge a probability map.

    Args:
        probability: (H, W) of vessel, 0 to 1. Not modified.
        field_share: how much of the frame is field.
    """
    possible, sure = np.count_nonzero(probability >= 0.1), np.count_nonzero(probability >= 0.9)
    count, _, facts, _ = cv2.connectedComponentsWithStats((probability >= 0.5).astype(np.uint8), connectivity=8)
    areas = facts[1:, cv2.CC_STAT_AREA].astype(np.float64)
    pieces = float(areas.sum() ** 2 / np.square(areas).sum()) if count > 1 else 0.0
    vessel_share = float(areas.sum()) / probability.size / field_share if field_share else 0.0
    return VesselLikeness(sure / possible if possible else 0.0, pieces, vessel_share)

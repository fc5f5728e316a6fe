"""Which frame to label next: where the model is unsure along the vessels' borders, spread over patients."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

BORDER_PX = 3


def entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Binary entropy in bits of each probability, of any shape: 1 at 0.5, 0 at 0 and 1. The input is not modified."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1 - 1e-12)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def border_entropy(probability: NDArray[np.float32], *, threshold: float = 0.5, border_px: int = BORDER_PX) -> float:
    """Mean entropy of the probability near the border of the mask, in bits from 0 to 1.

    Over the whole frame the mean would follow how much vessel there is; on the border it follows how sure the model is
    of where vessels end.

    Args:
        probability: (W, H), of views or networks the mean. Not modified.
        threshold: from which probability on a pixel is vessel.
        border_px: pixels on either side of the border that count.
    Returns:
        The mean; where no vessel is found, the largest entropy of the frame, since there is no border.
    Raises:
        ValueError: if `probability` is not (W, H).
    """
    if probability.ndim != 2:
        raise ValueError(f"`probability` must be (W, H), got {probability.shape}")
    vessel = probability >= threshold
    bits = entropy(probability)
    if not vessel.any():
        return float(bits.max())
    band = binary_dilation(vessel, iterations=border_px) & ~binary_erosion(vessel, iterations=border_px)
    return float(bits[band].mean()) if band.any() else float(bits.max())


def choose_next(
    scores: Mapping[str, float | None], groups: Mapping[str, str], taken: Iterable[str], served: Mapping[str, float]
) -> str | None:
    """The frame whose annotation is expected to teach most.

    Args:
        scores: of the frames without a label, larger is better; None where it is not known yet.
        groups: patient or group of frames; one without counts as its own.
        taken: frames that are labelled, or asked for just now.
        served: when a frame was last given to an annotator, in seconds; frames never given come first.
    Returns:
        Of the frames given least recently, one of a patient with the fewest taken frames; among these the one with the
        highest score, frames without a score last, ties by name. None if there is no frame.
    """
    count = Counter(groups.get(name, name) for name in taken)

    def rank(name: str) -> tuple[float, int, float, str]:
        score = scores[name]
        return served.get(name, 0.0), count[groups.get(name, name)], -score if score is not None else np.inf, name

    return min(scores, key=rank, default=None)

"""Made-up X-ray systems: what they look like, how they store, and what their headers tell."""

from dataclasses import dataclass
from typing import Literal

from data_prep.synthetic.scanner import LOOKS, Look

_FLAT, _EDGE, _SMOOTH, _INTENSIFIER = LOOKS


@dataclass(frozen=True)
class Vendor:
    """One X-ray system."""

    name: str
    model: str
    look: Look
    bits_stored: int
    intensity_relationship: Literal["LIN", "LOG", "DISP"]
    frame_time_ms: float
    spacing: Literal["distances", "factor", "calibrated", "none"]
    """What a reader can find the spacing at the patient by."""
    tells_r_waves: bool
    tells_ecg: bool
    tells_shutter: bool


VENDORS = (
    Vendor("Synthetic Scanner A", "Flat 8", _FLAT, 8, "LIN", 66.7, "distances", True, True, False),
    Vendor("Synthetic Scanner B", "Edge 12", _EDGE, 12, "LOG", 66.7, "factor", True, False, False),
    Vendor("Synthetic Scanner C", "Smooth 8", _SMOOTH, 8, "DISP", 33.3, "calibrated", False, True, True),
    Vendor("Synthetic Scanner D", "Intensifier 8", _INTENSIFIER, 8, "LIN", 80.0, "none", False, False, False),
    Vendor("Synthetic Scanner E", "Flat 12", _FLAT, 12, "LIN", 66.7, "distances", True, True, True),
)
"""Patient n has the system n modulo their number."""

"""The contrast agent in time: it arrives from the ostium outwards, stays, and is washed out in the same order."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.synthetic.motion import smooth_step

FILLED_CONCENTRATION = 0.25
"""From this share of the undiluted agent on, an artery counts as filled."""


@dataclass(frozen=True)
class Bolus:
    """One injection; times in ms from the first frame."""

    start_ms: float
    duration_ms: float
    speed_mm_per_ms: float
    """Of the front along the vessels; 0.1 to 0.25 in people."""
    rise_ms: float
    """From the first agent at a place to the full concentration."""
    washout_ms: float
    """Time constant of the fall."""

    def concentration(self, time_ms: float, distance_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) share of the undiluted agent, 0 to 1, so far from the ostium along the vessels.

        It is 0 until the front arrives, `start_ms + distance_mm / speed_mm_per_ms`.
        """
        since_arrival = time_ms - self.start_ms - distance_mm / self.speed_mm_per_ms
        rise = smooth_step(since_arrival / self.rise_ms)
        return rise * np.exp(-np.maximum(since_arrival - self.duration_ms, 0) / self.washout_ms)

    def injection(self, time_ms: float) -> float:
        """0 before and after the agent leaves the catheter, 1 between, smooth over `rise_ms`."""
        begun = (time_ms - self.start_ms) / self.rise_ms + 1
        ended = (time_ms - self.start_ms - self.duration_ms) / self.rise_ms
        return float(smooth_step(np.array(begun)) * (1 - smooth_step(np.array(ended))))


def draw_bolus(rng: Generator, run_ms: float, longest_mm: float) -> Bolus:
    """An injection that fills a tree of `longest_mm` and has left most of it by the end of a run of `run_ms`."""
    return Bolus(
        start_ms=run_ms * rng.uniform(0.08, 0.14),
        duration_ms=run_ms * rng.uniform(0.38, 0.44),
        speed_mm_per_ms=longest_mm / (run_ms * rng.uniform(0.2, 0.3)),
        rise_ms=0.06 * run_ms,
        washout_ms=run_ms * rng.uniform(0.06, 0.09),
    )

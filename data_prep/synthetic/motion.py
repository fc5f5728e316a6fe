"""How the heart beats and the chest breathes during a run, and the electrocardiogram to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.synthetic.tree import Heart

# Breathing in moves the heart to the feet and somewhat to the front (patient axes: left, back, head).
_INSPIRATION = np.array([0.0, -0.3, -1.0])


@dataclass(frozen=True)
class Motion:
    """Positions of heart and chest at every frame of a run."""

    frame_time_ms: float
    period_ms: float
    """From one R wave to the next."""
    first_r_wave_ms: float
    """From the first frame; less than `period_ms`."""
    contraction: NDArray[np.float64]
    """(F,) share by which the heart's radius is smaller than at the end of diastole, 0 or more."""
    descent_mm: NDArray[np.float64]
    """(F,) way of the valve plane to the apex; the apex stays."""
    breathing_mm: NDArray[np.float64]
    """(F, 3) displacement of the whole heart."""

    @property
    def r_wave_frames(self) -> tuple[int, ...]:
        """The frames nearest to the R waves."""
        count = len(self.contraction)
        times = np.arange(self.first_r_wave_ms, count * self.frame_time_ms, self.period_ms)
        frames = np.rint(times / self.frame_time_ms).astype(int)
        return tuple(int(frame) for frame in frames if frame < count)

    def move(self, points_mm: NDArray[np.float64], heart: Heart, frame: int) -> NDArray[np.float64]:
        """(N, 3) points of the heart at the end of diastole → where they are at `frame`."""
        beaten = heart.contracted_mm(points_mm, self.contraction[frame])
        from_apex = 1 - np.clip(beaten @ heart.axes[2] / heart.length_mm + 0.35, 0, 1)
        descent = self.descent_mm[frame] * from_apex[:, None] * heart.axes[2]
        return np.asarray(beaten + descent + self.breathing_mm[frame])


def still(frames: int, frame_time_ms: float) -> Motion:
    """No motion, and an R wave every second."""
    zeros = np.zeros(frames)
    return Motion(frame_time_ms, 1000.0, 0.0, zeros, zeros, np.zeros((frames, 3)))


def draw_motion(rng: Generator, frames: int, frame_time_ms: float) -> Motion:
    """55 to 95 beats a minute, contracting by 8 to 14%; breath held (it drifts) in two of three runs."""
    period_ms = 60_000 / rng.uniform(55, 95)
    first_r_wave_ms = rng.uniform(0, period_ms)
    times_ms = np.arange(frames) * frame_time_ms
    stroke = stroke_share(((times_ms - first_r_wave_ms) / period_ms) % 1.0)
    if rng.random() < 0.65:
        inspired_mm = rng.uniform(0.5, 2.5) * np.sin(2 * np.pi * (times_ms / rng.uniform(6_000, 12_000) + rng.random()))
    else:
        inspired_mm = rng.uniform(2, 4.5) * (
            1 - np.cos(2 * np.pi * (times_ms / rng.uniform(3_000, 5_000) + rng.random()))
        )
    return Motion(
        frame_time_ms,
        period_ms,
        first_r_wave_ms,
        contraction=rng.uniform(0.08, 0.14) * stroke,
        descent_mm=rng.uniform(5, 9) * stroke,
        breathing_mm=inspired_mm[:, None] * _INSPIRATION,
    )


def stroke_share(phase: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) contraction, 0 to 1, at a phase from 0 (R wave) to 1 (the next one).

    Fast in systole (phase 0.05 to 0.32), less fast back (0.4 to 0.65), nearly still in diastasis, a last step as the
    atria contract.
    """
    systole, relaxation, atria = (smooth_step((phase - start) / width) for start, width in _STROKE)
    return systole - 0.93 * relaxation - 0.07 * atria


_STROKE = ((0.05, 0.27), (0.40, 0.25), (0.88, 0.12))


def electrocardiogram(motion: Motion, rate_hz: int) -> tuple[int, ...]:
    """Samples of 12 bits about 2048: P, QRS and T waves at the R waves of `motion`."""
    duration_ms = len(motion.contraction) * motion.frame_time_ms
    times_ms = np.arange(int(duration_ms * rate_hz / 1000)) * 1000 / rate_hz
    # From the nearest R wave on: -0.5 to 0.5 of a period.
    since_ms = ((times_ms - motion.first_r_wave_ms) / motion.period_ms + 0.5) % 1.0 * motion.period_ms
    since_ms -= motion.period_ms / 2
    curve = np.zeros_like(since_ms)
    for height, centre_ms, width_ms in ((120, -160, 25), (-100, -25, 8), (1000, 0, 10), (-200, 25, 9), (250, 280, 45)):
        curve += height * np.exp(-(((since_ms - centre_ms) / width_ms) ** 2))
    return tuple(int(value) for value in np.rint(2048 + curve))


def smooth_step(x: NDArray[Any]) -> NDArray[Any]:
    """0 up to 0, 1 from 1 on, without corners."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)

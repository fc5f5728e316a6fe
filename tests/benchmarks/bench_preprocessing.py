"""Time of preparing a 512x512 frame: the usual chain of scikit-image, OpenCV and python loops beside this package's.

    python tests/benchmarks/bench_preprocessing.py

Both chains find dark corners, fill them (OpenCV's Telea, radius 3), sharpen (unsharp mask, radius 60, amount 1) and
take the z-score over the field. The reference finds corners as plain code does, growing a region in python from
each corner, and blurs with scikit-image at full size. Frames are synthetic: a slope, dark bands, noise; with the
corners of a round image intensifier, with the thin dark rim of a detector's shutters, or with neither. Both chains
run in turn on the same frames, and their results are compared.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections import deque
from collections.abc import Callable

import cv2
import numpy as np
import torch
from skimage.filters import unsharp_mask

from cmunet_monai.transforms import CornerInpaint, UnsharpMask, ZScore

SIZE = 512
REPEATS = 11
BAND = SIZE // 4
THRESHOLD = 20
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
GOAL = 8


def frame(kind: str) -> np.ndarray:
    """(1, SIZE, SIZE) float32 of 8-bit grey levels."""
    noise = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    image = 90 + 100 * COLUMNS / SIZE + 12 * cv2.GaussianBlur(noise, (0, 0), 1)
    image[(ROWS + 2 * COLUMNS) % 90 < 6] -= 50
    image = image.clip(30, 255)
    if kind == "round corners":
        image[np.hypot(ROWS - SIZE / 2, COLUMNS - SIZE / 2) > 0.55 * SIZE] = 4
    elif kind == "large round corners":
        image[np.hypot(ROWS - SIZE / 2, COLUMNS - SIZE / 2) > 0.5 * SIZE] = 4
    elif kind == "dark rim":
        image[:3] = image[-3:] = image[:, :3] = image[:, -3:] = 4
    return np.rint(image).astype(np.float32)[None]


def grown_corners(image: np.ndarray) -> np.ndarray:
    """Dark pixels of the border band that are connected to a corner, by growing a region from each corner."""
    height, width = image.shape
    region = np.zeros((height, width), dtype=bool)
    for corner in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)):
        if image[corner] >= THRESHOLD or region[corner]:
            continue
        region[corner] = True
        waiting = deque([corner])
        while waiting:
            row, column = waiting.popleft()
            for r in range(max(row - 1, 0), min(row + 2, height)):
                for c in range(max(column - 1, 0), min(column + 2, width)):
                    inside = BAND <= r < height - BAND and BAND <= c < width - BAND
                    if not inside and not region[r, c] and image[r, c] < THRESHOLD:
                        region[r, c] = True
                        waiting.append((r, c))
    return region


def reference_corners(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    region = cv2.dilate(grown_corners(image).astype(np.uint8), np.ones((5, 5), np.uint8))
    return cv2.inpaint(image, region, 3, cv2.INPAINT_TELEA), region == 0


def reference_sharp(image: np.ndarray) -> np.ndarray:
    return unsharp_mask(image, radius=60, amount=1, preserve_range=True)


def reference_z_score(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    values = image[field]
    return np.where(field, (image - values.mean()) / values.std(), 0)


class Chain:
    """The three steps of a chain, with the time that each took."""

    def __init__(self, *steps: Callable) -> None:
        self.corners, self.sharpen, self.z_score = steps
        self.seconds: dict[str, list[float]] = {"corners": [], "unsharp mask": [], "z-score": [], "chain": []}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        times = [time.perf_counter()]
        filled, field = self.corners(image)
        times.append(time.perf_counter())
        sharp = self.sharpen(filled)
        times.append(time.perf_counter())
        result = self.z_score(sharp, field)
        times.append(time.perf_counter())
        for name, seconds in zip(self.seconds, [*np.diff(times), times[-1] - times[0]], strict=True):
            self.seconds[name].append(float(seconds))
        return np.asarray(result).reshape(SIZE, SIZE)

    def medians_ms(self) -> dict[str, float]:
        """Without the first run, which warms up."""
        return {name: 1000 * statistics.median(seconds[1:]) for name, seconds in self.seconds.items()}


def compare(kind: str, repeats: int = REPEATS) -> None:
    image = frame(kind)
    reference = Chain(reference_corners, reference_sharp, reference_z_score)
    ours = Chain(CornerInpaint().fill, UnsharpMask(), ZScore())
    telea: list[float] = []
    region = cv2.dilate(grown_corners(image[0]).astype(np.uint8), np.ones((5, 5), np.uint8))
    for _ in range(repeats + 1):
        expected = reference(image[0])
        result = ours(image)
        start = time.perf_counter()
        cv2.inpaint(image[0], region, 3, cv2.INPAINT_TELEA)
        telea.append(time.perf_counter() - start)
    print(f"{kind}: {100 * region.mean():.1f}% of the frame are filled; median of {repeats} repeats")
    theirs_ms, ours_ms = reference.medians_ms(), ours.medians_ms()
    for name in theirs_ms:
        ratio = theirs_ms[name] / ours_ms[name]
        print(
            f"  {name:13s} reference {theirs_ms[name]:7.1f} ms   ours {ours_ms[name]:6.1f} ms   "
            f"{ratio:5.1f} times faster"
        )
    telea_ms = 1000 * statistics.median(telea[1:])
    print(f"  of which OpenCV's Telea, the same in both: {telea_ms:.1f} ms")
    print(f"  largest difference of the results: {np.abs(result - expected).max():.4f} standard deviations")


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"chain of corners, unsharp mask and z-score on a {SIZE}x{SIZE} frame, one thread")
    print(f"goal: at least {GOAL} times faster on frames with dark corners")
    for kind in ("round corners", "large round corners", "dark rim", "no dark corners"):
        compare(kind)


if __name__ == "__main__":
    main()
